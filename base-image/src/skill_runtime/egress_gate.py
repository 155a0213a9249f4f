"""The egress gate: a proof, from inside, that the pod's egress is blocked, before anything foreign is loaded.

A NetworkPolicy that exists before the pod is enforced only some time after its start. Two addresses tell the two states
apart, since every pod reaches them but an isolated one: the API server's cluster IP, and the operator's beacon, which
is a pod behind a Service (SKILL_BEACON). Both must refuse, by a rejection, a reset or silence, again and again.

This module is imported first and imports little: the proof takes its time while the rest of PID 1 is loaded.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Mapping, Sequence

from skill_runtime import operator_contract as oc

ATTEMPTS = 3
ATTEMPT_INTERVAL_SECONDS = 0.02
"""The time between attempts of a round: a round spans at least 40 ms."""
ATTEMPT_TIMEOUT_SECONDS = 0.1
"""The time in which open egress would have answered each attempt."""
DEADLINE_SECONDS = 10.0
OPTIONAL_DEADLINE_SECONDS = 1.0

_REFUSED = frozenset(
    (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)
)
"""A reset in answer to the first packet is ECONNREFUSED. ECONNRESET is not here: that one was let in before."""

Target = tuple[socket.AddressFamily, tuple[str, int]]


class EgressNotBlockedError(Exception):
    """The pod's egress is open, or nothing can be proven about it."""

    def __init__(self, target: str, reason: str) -> None:
        super().__init__(f"egress is not blocked: {reason}")
        self.target = target


class EgressProof:
    """The gate at work in a thread of its own, while PID 1 loads code of ours."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.required = environment.get(oc.ENV_ISOLATION, "required") != oc.ISOLATION_OPTIONAL
        self.duration_seconds = 0.0
        self._environment = environment
        self._deadline_seconds = DEADLINE_SECONDS if self.required else OPTIONAL_DEADLINE_SECONDS
        self._error: EgressNotBlockedError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return once egress is proven blocked. Raises EgressNotBlockedError."""
        self._thread.join()
        if self._error:
            raise self._error

    def recheck(self) -> None:
        """Try again, much later. One answer from outside is enough to know. Raises EgressNotBlockedError."""
        try:
            reachable = _find_reachable(egress_targets(self._environment), 1)
        except (OSError, ValueError) as error:
            raise EgressNotBlockedError("", f"no attempt could be made: {error}") from error
        if reachable is not None:
            name = format_target(reachable)
            raise EgressNotBlockedError(name, f"{name} could be reached while the skill was running")

    def _run(self) -> None:
        start = time.monotonic()
        try:
            targets = egress_targets(self._environment)
            reachable = wait_until_blocked(targets, self._deadline_seconds)
        except (OSError, ValueError) as error:
            self._error = EgressNotBlockedError("", f"no attempt could be made: {error}")
        else:
            if reachable is not None:
                reason = f"{format_target(reachable)} could be reached for {self._deadline_seconds:.0f} s"
                self._error = EgressNotBlockedError(format_target(reachable), reason)
        self.duration_seconds = time.monotonic() - start


def egress_targets(environment: Mapping[str, str]) -> list[Target]:
    """Return what must be out of reach.

    Raises ValueError or OSError where no target can be determined: without one nothing can be proven.
    """
    targets = [
        parse_target(environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443"))
    ]
    if beacon := environment.get(oc.ENV_BEACON, ""):
        host, _, port = beacon.rpartition(":")
        targets.append(parse_target(host.strip("[]"), port))
    return targets


def parse_target(host: str, port: str) -> Target:
    """Parse an IP address and a port; names are not looked up. Raises ValueError or OSError."""
    if not host:
        raise ValueError("KUBERNETES_SERVICE_HOST is not set")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.inet_pton(family, host)
    number = int(port)
    if not 0 < number < 65536:
        raise ValueError(f"{port} is no port")
    return family, (host, number)


def format_target(target: Target) -> str:
    """Return `host:port` for messages, with brackets around an IPv6 address."""
    family, (host, port) = target
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


def wait_until_blocked(targets: Sequence[Target], timeout_seconds: float) -> Target | None:
    """Return None once a whole round of attempts failed, or what was still reachable at the deadline."""
    deadline = time.monotonic() + timeout_seconds
    while (reachable := _find_reachable(targets, ATTEMPTS)) is not None:
        if time.monotonic() >= deadline:
            return reachable
        time.sleep(ATTEMPT_INTERVAL_SECONDS)
    return None


def _find_reachable(targets: Sequence[Target], rounds: int) -> Target | None:
    """Return the first target that answers in as many attempts, if one does.

    Attempts begin ATTEMPT_INTERVAL_SECONDS apart and overlap: where packets are dropped, waiting for each in turn would
    delay a cold start.
    """
    attempts: list[tuple[socket.socket, Target]] = []
    try:
        for number in range(rounds):
            attempts += [(_start_attempt(*target), target) for target in targets]
            last = number == rounds - 1
            seconds = ATTEMPT_TIMEOUT_SECONDS if last else ATTEMPT_INTERVAL_SECONDS
            reachable = _first_to_connect(attempts, seconds, settle=last)
            if reachable is not None:
                return reachable
        return None
    finally:
        for attempt, _ in attempts:
            attempt.close()


def _start_attempt(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
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
    deadline = time.monotonic() + seconds
    pending = {attempt.fileno(): (attempt, target) for attempt, target in attempts if attempt.fileno() >= 0}
    while pending or not settle:
        poll = select.poll()
        for number in pending:
            poll.register(number, select.POLLOUT)
        remaining = max(0.0, deadline - time.monotonic())  # one poll after it, too: this process may have been held up
        events = poll.poll(remaining * 1000)
        for number, _ in events:
            attempt, target = pending.pop(number)
            if attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) not in _REFUSED:
                return target
            attempt.close()
        if not remaining and not events:
            return None
    return None
