"""The work queue: keys of Skills that want a reconcile, each at most once, with delays and back-off."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time

from skill_operator.naming import SkillKey

SHORTEST_RETRY, LONGEST_RETRY = 0.05, 300.0


class WorkQueue:
    """Keys that want a pass. A key waits at most once, is worked on by one worker at a time, and comes again if it was
    added meanwhile."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[SkillKey] = asyncio.Queue()
        self._waiting: dict[SkillKey, float] = {}  # since when
        self._working: set[SkillKey] = set()
        self._again: set[SkillKey] = set()
        self._later: list[tuple[float, int, SkillKey]] = []
        self._due: dict[SkillKey, float] = {}
        self._order = itertools.count()
        self._failures: dict[SkillKey, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: SkillKey) -> None:
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = time.monotonic()
            self._ready.put_nowait(key)

    def add_after(self, key: SkillKey, seconds: float) -> None:
        """The earliest of several wishes counts."""
        due = time.monotonic() + seconds
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._later, (due, next(self._order), key))
        self._arm()

    def add_failed(self, key: SkillKey) -> None:
        """Ever later, with jitter, so that what broke for all does not come back for all at once."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait = min(LONGEST_RETRY, SHORTEST_RETRY * 2 ** min(failures, 20))
        self.add_after(key, wait * random.uniform(0.8, 1.2))

    def forget(self, key: SkillKey) -> None:
        self._failures.pop(key, None)

    async def take(self) -> tuple[SkillKey, float]:
        """The next key, and how long it waited, in seconds."""
        key = await self._ready.get()
        since = self._waiting.pop(key)
        self._working.add(key)
        return key, time.monotonic() - since

    def done(self, key: SkillKey) -> None:
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._later:
            wait = max(0.0, self._later[0][0] - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._fire)

    def _fire(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            due, _, key = heapq.heappop(self._later)
            if self._due.get(key) == due:  # no earlier wish has been served since
                del self._due[key]
                self.add(key)
        self._timer = None
        self._arm()
