"""Who has waited long enough. One sweep over all of them each tenth of a second: a timer for each call costs more."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

SWEEP_SECONDS = 0.1


class TimeoutListener(Protocol):
    def late(self) -> None:
        """Its time is over. Told once."""


class Deadlines:
    """Each has one deadline at most. They are told of it at most a sweep late, and never early."""

    def __init__(self) -> None:
        self._ends: dict[TimeoutListener, float] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def set(self, who: TimeoutListener, seconds: float) -> None:
        self._ends[who] = time.monotonic() + seconds
        if self._sweeping is None:
            self._go_on()

    def clear(self, who: TimeoutListener) -> None:
        self._ends.pop(who, None)

    def _go_on(self) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep) if self._ends else None

    def _sweep(self) -> None:
        now = time.monotonic()
        try:
            for who in [who for who, end in self._ends.items() if end <= now]:
                if self._ends.get(who, now + 1) <= now:  # one may have ended another's wait
                    del self._ends[who]
                    who.late()
        finally:  # where one fails, the others are told by the next sweep
            self._go_on()
