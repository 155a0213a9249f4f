"""A circuit breaker for one endpoint: when it fails for everyone, it is left alone, then tried by one call."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Final, Literal

FAILURES: Final = 5  # in a row, of whichever Skills
SHORTEST, LONGEST = timedelta(seconds=10), timedelta(minutes=5)

State = Literal["closed", "open", "half-open"]


class CircuitBreaker:
    """Closed: calls go out. Open: none do, for a while. Half-open: one does, and decides."""

    def __init__(self) -> None:
        self._failures = 0
        self._opened = 0  # how often in a row
        self._until: datetime | None = None
        self._trial_ends: datetime | None = None
        self._cause = ""

    def state(self, now: datetime) -> State:
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half-open"

    def wait(self, now: datetime) -> float:
        """Seconds until a call may be made."""
        if self._until is None:
            return 0.0
        ends = max(self._until, self._trial_ends or self._until)
        return max(0.0, (ends - now).total_seconds())

    def begin(self, now: datetime, patience: timedelta) -> None:
        """A call goes out. If it is the trial, the next one has to wait for its outcome, so long at most."""
        if self._until is not None:
            self._trial_ends = now + patience

    def succeeded(self) -> None:
        self._failures = self._opened = 0
        self._until = self._trial_ends = None
        self._cause = ""

    def failed(self, now: datetime, cause: str, retry_after: float | None) -> None:
        """`retry_after`: seconds, where the endpoint said so."""
        self._failures += 1
        self._cause = cause
        self._trial_ends = None
        if self._failures < FAILURES or (self._until is not None and now < self._until):
            return
        pause = min(LONGEST, SHORTEST * 2**self._opened) * random.uniform(1.0, 1.3)
        self._opened = min(self._opened + 1, 10)
        self._until = now + max(pause, timedelta(seconds=retry_after or 0))

    def message(self, now: datetime) -> str:
        """Why no call goes out."""
        if self._until is not None and now < self._until:
            return (
                f"the circuit is open after {self._failures} failures in a row; one call tries again at "
                f"{self._until:%H:%M:%S} UTC. {self._cause}"
            )
        return f"the circuit is half-open after {self._failures} failures in a row: one call tries. {self._cause}"
