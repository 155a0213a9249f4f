"""How many builds run at once, and whose turn it is.

The truth is the Jobs in the builder namespace; in memory is only the line before them. After a restart every Skill
passes again, and whoever wants a build lines up anew.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable

from skill_operator import naming
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.settings import Settings

HELD = 30.0  # seconds that a free place is kept for the one whose turn it is
BUILDS = naming.MANAGED | {naming.COMPONENT: "build"}


class BuildQueue:
    """A build is asked for in a pass, and the pass says when it has ended: `ask`, create the Job, `ended`."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        wake: Callable[[SkillKey], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._wake = wake
        self._clock = clock
        self._lock = asyncio.Lock()
        self._line: dict[SkillKey, None] = {}  # in order of arrival
        self._offered: dict[SkillKey, float] = {}  # until when its place is kept
        self._taken: set[SkillKey] = set()  # allowed to build; the Job may not exist yet
        self._asked: set[SkillKey] = set()

    async def ask(self, key: SkillKey) -> int:
        """0: build now. Otherwise the place in the line."""
        async with self._lock:
            self._asked.add(key)
            self._expire()
            if key not in self._offered:
                self._line.setdefault(key)
                await self._offer()
            if key in self._offered:
                del self._offered[key]
                self._taken.add(key)
                return 0
            return self._order(Counter()).index(key) + 1

    async def ended(self, key: SkillKey) -> None:
        """A pass over this Skill is over. What did not ask in it wants no build any more."""
        self._taken.discard(key)
        if key in self._asked:
            self._asked.discard(key)
            if key in self._offered:  # while the pass went on
                self._wake(key)
        else:
            self._line.pop(key, None)
            self._offered.pop(key, None)
        metrics.set_builds_waiting(len(self._line))
        if self._line:
            async with self._lock:
                self._expire()
                await self._offer()

    def failed(self, key: SkillKey) -> None:
        """A pass broke off; it comes again and keeps its place in the line."""
        self._taken.discard(key)
        self._asked.discard(key)

    def _expire(self) -> None:
        now = self._clock()
        for key in [key for key, until in self._offered.items() if until < now]:
            del self._offered[key]  # it lines up again when it comes

    async def _offer(self) -> None:
        """Give what is free to whose turn it is, and wake them."""
        began = set(self._taken)  # a Job that is made while the list is on its way may be in neither
        jobs = await self._cluster.list("Job", self._settings.builder_namespace, BUILDS)
        busy = Counter(_namespace(job) for job in jobs if not _finished(job))
        busy.update(key.namespace for key in {*self._offered, *self._taken, *began})
        free = self._settings.build.concurrency - busy.total()
        for key in self._order(busy)[: max(0, free)]:
            del self._line[key]
            self._offered[key] = self._clock() + HELD
            if key not in self._asked:
                self._wake(key)

    def _order(self, busy: Counter[str]) -> list[SkillKey]:
        return in_turn(self._line, busy)


def in_turn(line: Iterable[SkillKey], busy: Counter[str]) -> list[SkillKey]:
    """The namespace with the fewest builds is next, so that one with a thousand Skills does not hold up the others;
    within a namespace, and among equals, whoever came first."""
    waiting: defaultdict[str, deque[tuple[int, SkillKey]]] = defaultdict(deque)
    for place, key in enumerate(line):
        waiting[key.namespace].append((place, key))
    heap = [(busy[namespace], keys[0][0], namespace) for namespace, keys in waiting.items()]
    heapq.heapify(heap)
    order = []
    while heap:
        builds, _, namespace = heapq.heappop(heap)
        order.append(waiting[namespace].popleft()[1])
        if waiting[namespace]:
            heapq.heappush(heap, (builds + 1, waiting[namespace][0][0], namespace))
    return order


def _namespace(job: Object) -> str:
    return str(job["metadata"]["labels"].get(naming.NAMESPACE_LABEL, ""))


def _finished(job: Object) -> bool:
    """Whether its pod has ended. What is being deleted may still run."""
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] in {"Complete", "Failed"} and c["status"] == "True" for c in conditions)
