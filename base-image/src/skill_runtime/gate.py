"""The egress gate: proof, from inside, that the pod's way out is shut, before anything foreign is loaded.

A NetworkPolicy that stands before the pod is enforced only some time after its start. The API server's cluster IP is an
address that every cluster has and no cage allows, so connecting to it tells the two states apart.

This module is imported first and imports little: the proof takes its time while the rest of PID 1 is loaded.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Mapping

ATTEMPTS = 3
SPACING = 0.03
"""Seconds between attempts of a round: a round spans at least 60 ms."""
PATIENCE = 0.1
"""Seconds in which an open way would have answered each attempt."""
DEADLINE = 10.0
OPTIONAL_DEADLINE = 1.0

_REFUSED = frozenset(
    (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)
)


class EgressNotBlockedError(Exception):
    """The way out is open, or nobody can tell."""

    def __init__(self, target: str, why: str) -> None:
        super().__init__(f"egress is not blocked: {why}")
        self.target = target


class Proof:
    """The gate at work in a thread of its own, while PID 1 loads code of ours."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        host = environment.get("KUBERNETES_SERVICE_HOST", "")
        port = environment.get("KUBERNETES_SERVICE_PORT", "443")
        self.required = environment.get("SKILL_ISOLATION", "required") != "optional"
        deadline = DEADLINE if self.required else OPTIONAL_DEADLINE
        self._target = f"{host}:{port}"
        self._error: EgressNotBlockedError | None = None
        self._thread = threading.Thread(target=self._run, args=(host, port, deadline), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return once egress was seen blocked. Raises EgressNotBlockedError."""
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self, host: str, port: str, deadline: float) -> None:
        try:
            shut = blocked(*resolve(host, port), deadline)
        except (OSError, ValueError) as error:
            self._error = EgressNotBlockedError(self._target, f"no attempt could be made: {error}")
        else:
            if not shut:
                why = f"{self._target} could be reached for {deadline:.0f} s"
                self._error = EgressNotBlockedError(self._target, why)


def resolve(host: str, port: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """An IP address and a port as they stand; names are not looked up. Raises ValueError, OSError."""
    if not host:
        raise ValueError("KUBERNETES_SERVICE_HOST is not set")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.inet_pton(family, host)
    number = int(port)
    if not 0 < number < 65536:
        raise ValueError(f"{port} is no port")
    return family, (host, number)


def blocked(family: socket.AddressFamily, address: tuple[str, int], deadline: float) -> bool:
    """Whether a whole round of attempts failed before the deadline."""
    end = time.monotonic() + deadline
    while not _round_fails(family, address):
        if time.monotonic() >= end:
            return False
        time.sleep(SPACING)
    return True


def _round_fails(family: socket.AddressFamily, address: tuple[str, int]) -> bool:
    """Attempts begin SPACING apart and overlap: where packets are dropped, each in turn would make a wake late."""
    attempts: list[socket.socket] = []
    try:
        for number in range(ATTEMPTS):
            attempts.append(_begin(family, address))
            last = number == ATTEMPTS - 1
            if _any_connects(attempts, PATIENCE if last else SPACING, settle=last):
                return False
        return True
    finally:
        for attempt in attempts:
            attempt.close()


def _begin(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    attempt = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    code = attempt.connect_ex(address)
    if code in _REFUSED:  # at once: what is left open would look like an attempt under way
        attempt.close()
    elif code not in (0, errno.EINPROGRESS):
        attempt.close()
        raise OSError(code, errno.errorcode.get(code, str(code)))
    return attempt


def _any_connects(attempts: list[socket.socket], seconds: float, *, settle: bool) -> bool:
    """Watch attempts for that long, or with `settle` until each has failed."""
    end = time.monotonic() + seconds
    pending = {attempt.fileno(): attempt for attempt in attempts if attempt.fileno() >= 0}
    while pending or not settle:
        poll = select.poll()
        for number in pending:
            poll.register(number, select.POLLOUT)
        left = end - time.monotonic()
        if left <= 0:
            return False
        for number, _ in poll.poll(left * 1000):
            attempt = pending.pop(number)
            if attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) not in _REFUSED:
                return True
            attempt.close()
    return False
