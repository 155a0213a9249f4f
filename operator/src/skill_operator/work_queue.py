"""The work queue: keys of Skills that want a reconcile, each at most once, with delays and back-off.

It works as the rate-limiting work queue of client-go.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time

from skill_operator.naming import SkillKey

MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.05, 300.0


class WorkQueue:
    """WorkQueue holds keys that want a reconcile.

    A key waits at most once, is worked on by one worker at a time, and comes again if it was added meanwhile.
    """

    def __init__(self) -> None:
        self._ready: asyncio.Queue[SkillKey] = asyncio.Queue()
        self._ready_since: dict[SkillKey, float] = {}
        self._processing: set[SkillKey] = set()
        self._dirty: set[SkillKey] = set()  # were added while they were worked on
        self._delayed: list[tuple[float, int, SkillKey]] = []  # a heap
        self._due: dict[SkillKey, float] = {}  # the earliest time that counts for each
        self._order = itertools.count()
        self._failures: dict[SkillKey, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._ready_since)

    def add(self, key: SkillKey) -> None:
        """Queue the key now."""
        if key in self._processing:
            self._dirty.add(key)
        elif key not in self._ready_since:
            self._ready_since[key] = time.monotonic()
            self._ready.put_nowait(key)

    def add_after(self, key: SkillKey, seconds: float) -> None:
        """Queue the key in `seconds`. The earliest of several calls counts."""
        due = time.monotonic() + seconds
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._delayed, (due, next(self._order), key))
        self._set_timer()

    def add_failed(self, key: SkillKey) -> None:
        """Queue the key ever later, with jitter, so that what failed for all does not come back for all at once."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        backoff = min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2 ** min(failures, 20))
        self.add_after(key, backoff * random.uniform(0.8, 1.2))

    def reset_backoff(self, key: SkillKey) -> None:
        """Forget the failures of a key that was reconciled."""
        self._failures.pop(key, None)

    async def take(self) -> tuple[SkillKey, float]:
        """Return the next key, and how many seconds it waited."""
        key = await self._ready.get()
        since = self._ready_since.pop(key)
        self._processing.add(key)
        return key, time.monotonic() - since

    def done(self, key: SkillKey) -> None:
        """Note that the worker is done with the key. It must follow each `take`."""
        self._processing.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._delayed:
            delay = max(0.0, self._delayed[0][0] - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        now = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:  # else an earlier call has been served since
                del self._due[key]
                self.add(key)
        self._timer = None
        self._set_timer()
