"""Timeouts of connections and calls. One sweep over all of them each tenth of a second: a timer for each costs more."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

SWEEP_SECONDS = 0.1


class TimeoutListener(Protocol):
    """TimeoutListener waits for something, at most until its deadline."""

    def on_timeout(self) -> None:
        """Handle the end of the deadline; it is called once."""


class Deadlines:
    """Deadlines holds at most one deadline for each listener. Calls come at most a sweep late, and never early."""

    def __init__(self) -> None:
        self._deadlines: dict[TimeoutListener, float] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None

    def set(self, listener: TimeoutListener, seconds: float) -> None:
        """Set the listener's deadline to so many seconds from now; it replaces the former one."""
        self._deadlines[listener] = time.monotonic() + seconds
        if self._sweep_timer is None:
            self._schedule()

    def clear(self, listener: TimeoutListener) -> None:
        """Remove the listener's deadline, if it has one."""
        self._deadlines.pop(listener, None)

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep_timer = loop.call_later(SWEEP_SECONDS, self._sweep) if self._deadlines else None

    def _sweep(self) -> None:
        now = time.monotonic()
        try:
            for listener in [listener for listener, deadline in self._deadlines.items() if deadline <= now]:
                if self._deadlines.get(listener, now + 1) <= now:  # one may have ended another's wait
                    del self._deadlines[listener]
                    listener.on_timeout()
        finally:  # where one raises, the next sweep calls the others
            self._schedule()
