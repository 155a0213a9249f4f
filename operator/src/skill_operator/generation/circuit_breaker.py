"""A circuit breaker pauses all calls of an endpoint that fails for every Skill, then lets one trial call decide."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Final, Literal

FAILURE_THRESHOLD: Final = 5  # in a row, of any Skills
MIN_OPEN_TIME: Final = timedelta(seconds=10)
MAX_OPEN_TIME: Final = timedelta(minutes=5)

CircuitState = Literal["closed", "open", "half-open"]


class CircuitBreaker:
    """CircuitBreaker guards one endpoint.

    Closed: calls are made. Open: none is made for a while. Half-open: one trial call is made, and its outcome decides.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._openings = 0  # in a row
        self._open_until: datetime | None = None
        self._trial_deadline: datetime | None = None
        self._trial_call = ""
        self._cause = ""

    def state(self, now: datetime) -> CircuitState:
        """Return the state of the circuit."""
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half-open"

    def seconds_until_call(self, now: datetime) -> float:
        """Return the seconds until a call may be made; 0 where it may be made now."""
        if self._open_until is None:
            return 0.0
        blocked_until = max(self._open_until, self._trial_deadline or self._open_until)
        return max(0.0, (blocked_until - now).total_seconds())

    def record_start(self, call_id: str, now: datetime, timeout: timedelta) -> None:
        """Record that a call starts. If it is the trial, the next call waits for its outcome, at most `timeout`."""
        if self._open_until is not None:
            self._trial_call, self._trial_deadline = call_id, now + timeout

    def record_cancelled(self, call_id: str) -> None:
        """Let another call be the trial, if it was this one: it has no outcome."""
        if self._trial_call == call_id:
            self._trial_deadline = None

    def record_success(self) -> None:
        """Close the circuit."""
        self._failures = self._openings = 0
        self._open_until = self._trial_deadline = None
        self._cause = ""

    def record_failure(self, now: datetime, cause: str, retry_after_seconds: float | None) -> None:
        """Count a failure, and open the circuit at the threshold.

        `retry_after_seconds` is what the endpoint asked for, if it did.
        """
        self._failures += 1
        self._cause = cause
        self._trial_deadline = None
        if self._failures < FAILURE_THRESHOLD or (self._open_until is not None and now < self._open_until):
            return
        open_time = min(MAX_OPEN_TIME, MIN_OPEN_TIME * 2**self._openings) * random.uniform(1.0, 1.3)
        self._openings = min(self._openings + 1, 10)
        self._open_until = now + max(open_time, timedelta(seconds=retry_after_seconds or 0))

    def describe(self, now: datetime) -> str:
        """Return why no call is made."""
        if self._open_until is not None and now < self._open_until:
            return (
                f"the circuit is open after {self._failures} failures in a row; one call tries again at "
                f"{self._open_until:%H:%M:%S} UTC. {self._cause}"
            )
        return f"the circuit is half-open after {self._failures} failures in a row: one call tries. {self._cause}"
