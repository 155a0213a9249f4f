"""A cache of the API server's decisions: each is fetched once at a time and kept for seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from skill_operator.k8s.errors import ClusterError

log = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Fetch = Callable[[], Awaitable[V]]
RETRY_SECONDS = 5.0  # after a failure


@dataclass
class _CachedDecision(Generic[V]):
    value: V
    fetched_at: float
    expires_at: float
    refresh_at: float  # from then on, its next use fetches it again in the background


class DecisionCache(Generic[K, V]):
    """DecisionCache is a bounded cache of decisions that only the API server can make.

    `ttl` returns for how many seconds a decision holds. One that is in use is fetched again before it ends, so that a
    busy caller never waits for the API server. While that is unavailable, its last decision holds for up to `stale_ttl`
    seconds: a caller who was allowed does not lose a skill that is awake because the control plane restarts. (Until
    that is quite up, it says that the gateway may not even ask.) Where there is no decision yet, the error is raised.

    Refusals, which anybody can cause, have a place of their own, so that they never push out what was allowed. And what
    was allowed to one owner pushes out its own oldest: an owner has a tenth of the cache.
    """

    def __init__(
        self,
        ttl: Callable[[V], float],
        stale_ttl: Callable[[V], float],
        owner: Callable[[K, V], str | None],
        bounds: tuple[int, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`owner` returns whom a decision allows something, or None for a refusal; `bounds` are for these two."""
        self._ttl = ttl
        self._stale_ttl = stale_ttl
        self._owner = owner
        self._max_entries, self._max_refusals = bounds
        self._clock = clock
        self._decisions: OrderedDict[K, _CachedDecision[V]] = OrderedDict()
        self._refusals: OrderedDict[K, _CachedDecision[V]] = OrderedDict()
        self._owners: dict[str, OrderedDict[K, None]] = {}
        self._tasks: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._decisions) + len(self._refusals)

    def __contains__(self, key: K) -> bool:
        """Tell whether the last decision allowed it, even where that holds no longer."""
        return key in self._decisions

    def peek(self, key: K, fetch: Fetch[V]) -> V | None:
        """Return the decision if it is at hand and holds. For the hot path: a look into a dict."""
        decision = self._decisions.get(key) or self._refusals.get(key)
        now = self._clock()
        if decision is None or now >= decision.expires_at:
            return None
        if now >= decision.refresh_at and key not in self._tasks:
            self._start(key, fetch).add_done_callback(_log_failure)
        return decision.value

    async def get(self, key: K, fetch: Fetch[V]) -> V:
        """Return the decision. Raises ClusterError where there is none and none can be fetched."""
        value = self.peek(key, fetch)
        if value is not None:
            return value
        # A task of its own: the caller who came first may leave, and the others who wait must not suffer for it.
        task = self._tasks.get(key) or self._start(key, fetch)
        return await asyncio.shield(task)

    def _start(self, key: K, fetch: Fetch[V]) -> asyncio.Task[V]:
        task = asyncio.create_task(self._refresh(key, fetch))
        self._tasks[key] = task
        return task

    async def _refresh(self, key: K, fetch: Fetch[V]) -> V:
        try:
            value = await fetch()
        except ClusterError as error:
            decision = self._decisions.get(key) or self._refusals.get(key)
            now = self._clock()
            if decision is None or now >= decision.fetched_at + self._stale_ttl(decision.value):
                raise
            log.warning("the API server is unavailable, its last decision still holds: %s", error.message)
            decision.expires_at = min(now + RETRY_SECONDS, decision.fetched_at + self._stale_ttl(decision.value))
            decision.refresh_at = now + RETRY_SECONDS / 2
            return decision.value
        else:
            self._store(key, value)
            return value
        finally:
            del self._tasks[key]

    def _store(self, key: K, value: V) -> None:
        now, ttl, owner = self._clock(), self._ttl(value), self._owner(key, value)
        decision = _CachedDecision(value, now, now + ttl, now + (ttl / 2 if owner is not None else ttl))
        self._refusals.pop(key, None)
        self._forget(key)
        if owner is None:
            self._refusals[key] = decision
            if len(self._refusals) > self._max_refusals:
                self._refusals.popitem(last=False)
            return
        self._decisions[key] = decision
        own = self._owners.setdefault(owner, OrderedDict())
        own[key] = None
        if len(own) > max(1, self._max_entries // 10):
            self._forget(next(iter(own)))
        if len(self._decisions) > self._max_entries:
            self._forget(next(iter(self._decisions)))

    def _forget(self, key: K) -> None:
        """Remove what was allowed."""
        decision = self._decisions.pop(key, None)
        if decision is None or (owner := self._owner(key, decision.value)) is None:
            return
        own = self._owners[owner]
        del own[key]
        if not own:
            del self._owners[owner]


def _log_failure(task: asyncio.Task[V]) -> None:
    """Log the error of a fetch that nobody waits for: the next caller fetches again, and gets the error."""
    if not task.cancelled() and (error := task.exception()):
        log.warning("the API server is unavailable: %s", error)
