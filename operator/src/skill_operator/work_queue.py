"""The work queue: keys of Skills that want a reconcile, each at most once, with delays and back-off.

It works as the rate-limiting work queue of client-go, but namespaces take turns, and a key rests after its turn.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections import Counter

from skill_operator.naming import SkillKey

REST_SECONDS = 0.2  # a stage takes seconds, the events about its end some milliseconds
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.05, 45.0  # also after a failure a grant is reviewed each minute


class WorkQueue:
    """WorkQueue holds keys that want a reconcile.

    A key waits at most once, is worked on by one worker at a time, and comes again if it was added meanwhile.

    Namespaces take turns, and within a namespace whoever came first is first: however many keys one namespace adds,
    each other namespace waits for at most one of them. With `workers`, one of these is never left to a single one.

    A key that was worked on rests for `rest_seconds`: what happens to one Skill comes as a handful of events within a
    moment, of its Job, its pod and its own status, and one look at all of them is enough.
    """

    def __init__(self, workers: int = 0, rest_seconds: float = 0.0) -> None:
        self._rest_seconds = rest_seconds
        self._limit = max(1, workers - 1) if workers else float("inf")  # of keys of one namespace that are worked on
        self._ready: dict[str, dict[SkillKey, float]] = {}  # namespaces in the order of their turns, keys since when
        self._ready_count = 0
        self._changed = asyncio.Event()
        self._held: set[SkillKey] = set()  # are worked on, or rest after that
        self._busy: Counter[str] = Counter()  # keys of each namespace that are worked on
        self._dirty: set[SkillKey] = set()  # were added while they were held
        self._delayed: list[tuple[float, int, SkillKey]] = []  # a heap
        self._due: dict[SkillKey, float] = {}  # the earliest time that counts for each
        self._order = itertools.count()
        self._failures: dict[SkillKey, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._ready_count

    def add(self, key: SkillKey) -> None:
        """Queue the key now, or once it has rested."""
        if key in self._held:
            self._dirty.add(key)
        elif key not in self._ready.get(key.namespace, ()):
            self._ready.setdefault(key.namespace, {})[key] = time.monotonic()
            self._ready_count += 1
            self._changed.set()

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
        """Return the key whose turn it is, and how many seconds it waited."""
        while (namespace := self._next_namespace()) is None:
            self._changed.clear()
            await self._changed.wait()
        keys = self._ready.pop(namespace)
        key = next(iter(keys))
        since = keys.pop(key)
        if keys:
            self._ready[namespace] = keys  # behind all others
        self._ready_count -= 1
        self._held.add(key)
        self._busy[namespace] += 1
        return key, time.monotonic() - since

    def done(self, key: SkillKey) -> None:
        """Note that the worker is done with the key. It must follow each `take`."""
        self._busy[key.namespace] -= 1
        if not self._busy[key.namespace]:
            del self._busy[key.namespace]
        self._changed.set()
        if self._rest_seconds:
            asyncio.get_running_loop().call_later(self._rest_seconds, self._release, key)
        else:
            self._release(key)

    def _release(self, key: SkillKey) -> None:
        self._held.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)

    def _next_namespace(self) -> str | None:
        """Return the namespace whose turn it is, or None while none may have another worker."""
        return next((namespace for namespace in self._ready if self._busy[namespace] < self._limit), None)

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
