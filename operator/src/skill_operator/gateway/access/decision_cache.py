"""What somebody else decides, asked once at a time, kept for seconds."""

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
Ask = Callable[[], Awaitable[V]]
AGAIN_SECONDS = 5.0  # after a failure


@dataclass
class _Kept(Generic[V]):
    value: V
    asked: float
    until: float
    renew: float  # from then on, who uses it has it asked again beside


class DecisionCache(Generic[K, V]):
    """A bounded cache of answers that can be had from the API server alone.

    `seconds` says how long an answer holds. One that is in use is asked again before it ends, so that a busy caller
    never waits for the API server. While that cannot answer, what it said last holds for up to `stale` seconds more:
    a caller who was allowed does not lose a skill that is awake because the control plane restarts. (Until it is quite
    up it says that the gateway may not even ask.) What was never answered stays unanswered: the error is raised.
    """

    def __init__(
        self,
        seconds: Callable[[V], float],
        stale: Callable[[V], float],
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._stale = stale
        self._most = most
        self._clock = clock
        self._kept: OrderedDict[K, _Kept[V]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def peek(self, key: K, ask: Ask[V]) -> V | None:
        """The answer, if it is at hand and holds. For the hot path: a look into a dict."""
        kept = self._kept.get(key)
        now = self._clock()
        if kept is None or now >= kept.until:
            return None
        if now >= kept.renew and key not in self._asking:
            self._start(key, ask).add_done_callback(_heed)
        return kept.value

    async def get(self, key: K, ask: Ask[V]) -> V:
        """The answer. Raises ClusterError where there is none and none can be had."""
        found = self.peek(key, ask)
        if found is not None:
            return found
        # A task of its own: the caller who asked first may leave, those who wait with him must not suffer for it.
        asking = self._asking.get(key) or self._start(key, ask)
        return await asyncio.shield(asking)

    def _start(self, key: K, ask: Ask[V]) -> asyncio.Task[V]:
        task = asyncio.create_task(self._learn(key, ask))
        self._asking[key] = task
        return task

    async def _learn(self, key: K, ask: Ask[V]) -> V:
        try:
            value = await ask()
        except ClusterError as error:
            kept = self._kept.get(key)
            now = self._clock()
            if kept is None or now >= kept.asked + self._stale(kept.value):
                raise
            log.warning("the API server cannot be asked, what it said last still holds: %s", error.message)
            kept.until = min(now + AGAIN_SECONDS, kept.asked + self._stale(kept.value))
            kept.renew = now + AGAIN_SECONDS / 2
            return kept.value
        else:
            self._keep(key, value)
            return value
        finally:
            del self._asking[key]

    def _keep(self, key: K, value: V) -> None:
        now, holds = self._clock(), self._seconds(value)
        self._kept[key] = _Kept(value, now, now + holds, now + holds / 2)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


def _heed(task: asyncio.Task[V]) -> None:
    """Of a question that nobody waits for: the next caller asks, and is told."""
    if not task.cancelled() and (error := task.exception()):
        log.warning("the API server could not be asked: %s", error)
