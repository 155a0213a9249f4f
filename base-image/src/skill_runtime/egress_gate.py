"""The egress gate: proof, from inside, that the pod's way out is shut, before anything foreign is loaded.

A NetworkPolicy that stands before the pod is enforced only some time after its start. Two addresses tell the two states
apart, since every pod reaches them but a caged one: the API server's cluster IP, and the operator's beacon, which is a
pod behind a Service (SKILL_BEACON). Both must be seen refused, by a rejection, a reset or silence, again and again.

This module is imported first and imports little: the proof takes its time while the rest of PID 1 is loaded.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Mapping, Sequence

ATTEMPTS = 3
SPACING = 0.02
"""Seconds between attempts of a round: a round spans at least 40 ms."""
PATIENCE = 0.1
"""Seconds in which an open way would have answered each attempt."""
DEADLINE = 10.0
OPTIONAL_DEADLINE = 1.0

_REFUSED = frozenset(
    (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)
)
"""A reset in answer to the first packet is ECONNREFUSED. ECONNRESET is not here: that one was let in before."""

Target = tuple[socket.AddressFamily, tuple[str, int]]


class EgressNotBlockedError(Exception):
    """The way out is open, or nobody can tell."""

    def __init__(self, target: str, why: str) -> None:
        super().__init__(f"egress is not blocked: {why}")
        self.target = target


class Proof:
    """The gate at work in a thread of its own, while PID 1 loads code of ours."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.required = environment.get("SKILL_ISOLATION", "required") != "optional"
        self.seconds = 0.0
        """How long it took."""
        self._environment = environment
        self._deadline = DEADLINE if self.required else OPTIONAL_DEADLINE
        self._error: EgressNotBlockedError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return once egress was seen blocked. Raises EgressNotBlockedError."""
        self._thread.join()
        if self._error:
            raise self._error

    def again(self) -> None:
        """Look once more, much later. One answer from outside is enough to know. Raises EgressNotBlockedError."""
        try:
            reached = _reached(targets(self._environment), 1)
        except (OSError, ValueError) as error:
            raise EgressNotBlockedError("", f"no attempt could be made: {error}") from error
        if reached is not None:
            raise EgressNotBlockedError(
                named(reached), f"{named(reached)} could be reached while the skill was running"
            )

    def _run(self) -> None:
        began = time.monotonic()
        try:
            wanted = targets(self._environment)
            reached = blocked(wanted, self._deadline)
        except (OSError, ValueError) as error:
            self._error = EgressNotBlockedError("", f"no attempt could be made: {error}")
        else:
            if reached is not None:
                why = f"{named(reached)} could be reached for {self._deadline:.0f} s"
                self._error = EgressNotBlockedError(named(reached), why)
        self.seconds = time.monotonic() - began


def targets(environment: Mapping[str, str]) -> list[Target]:
    """What must be out of reach. Raises ValueError, OSError: of no target nothing can be proven."""
    found = [resolve(environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443"))]
    if beacon := environment.get("SKILL_BEACON", ""):
        host, _, port = beacon.rpartition(":")
        found.append(resolve(host.strip("[]"), port))
    return found


def resolve(host: str, port: str) -> Target:
    """An IP address and a port as they stand; names are not looked up. Raises ValueError, OSError."""
    if not host:
        raise ValueError("KUBERNETES_SERVICE_HOST is not set")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.inet_pton(family, host)
    number = int(port)
    if not 0 < number < 65536:
        raise ValueError(f"{port} is no port")
    return family, (host, number)


def named(target: Target) -> str:
    """As it stands in messages."""
    family, (host, port) = target
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


def blocked(wanted: Sequence[Target], deadline: float) -> Target | None:
    """None once a whole round of attempts failed; else what was still within reach at the deadline."""
    end = time.monotonic() + deadline
    while (reached := _reached(wanted, ATTEMPTS)) is not None:
        if time.monotonic() >= end:
            return reached
        time.sleep(SPACING)
    return None


def _reached(wanted: Sequence[Target], rounds: int) -> Target | None:
    """The first target that answers in as many attempts, if one does.

    Attempts begin SPACING apart and overlap: where packets are dropped, each in turn would make a wake late.
    """
    attempts: list[tuple[socket.socket, Target]] = []
    try:
        for number in range(rounds):
            attempts += [(_begin(*target), target) for target in wanted]
            last = number == rounds - 1
            reached = _first_to_connect(attempts, PATIENCE if last else SPACING, settle=last)
            if reached is not None:
                return reached
        return None
    finally:
        for attempt, _ in attempts:
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


def _first_to_connect(
    attempts: Sequence[tuple[socket.socket, Target]], seconds: float, *, settle: bool
) -> Target | None:
    """Watch attempts for that long, or with `settle` until each has failed."""
    end = time.monotonic() + seconds
    pending = {attempt.fileno(): (attempt, target) for attempt, target in attempts if attempt.fileno() >= 0}
    while pending or not settle:
        poll = select.poll()
        for number in pending:
            poll.register(number, select.POLLOUT)
        left = max(0.0, end - time.monotonic())  # a last look after it, too: this process may have been held up
        events = poll.poll(left * 1000)
        for number, _ in events:
            attempt, target = pending.pop(number)
            if attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) not in _REFUSED:
                return target
            attempt.close()
        if not left and not events:
            return None
    return None
