"""The queue of builds: how many run at once, and whose turn it is.

The truth is the Jobs in the builder namespace; only those that wait for one are in memory. After a restart every Skill
is reconciled again, and whoever wants a build queues anew.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable

from skill_operator import naming
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.settings import Settings

RESERVATION_SECONDS = 30.0  # for which a free place is kept for the Skill whose turn it is
BUILD_LABELS = naming.MANAGED | {naming.COMPONENT: "build"}


class BuildQueue:
    """BuildQueue gives turns: a reconcile requests one, creates its Job, and reports its own end."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        wake: Callable[[SkillKey], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wake` requests a reconcile of the Skill whose turn it is."""
        self._cluster = cluster
        self._settings = settings
        self._wake = wake
        self._clock = clock
        self._lock = asyncio.Lock()
        self._waiting: dict[SkillKey, bool] = {}  # in order of arrival: whether somebody waits for the image
        self._reserved: dict[SkillKey, float] = {}  # until when its place is kept
        self._admitted: set[SkillKey] = set()  # may build; the Job may not exist yet
        self._requests: set[SkillKey] = set()  # of the reconciles that are under way

    async def request(self, key: SkillKey, *, urgent: bool = True) -> int:
        """Return 0 if the Skill may build now, else its position in the queue. Raises ClusterError.

        All that is `urgent` comes first. What is not renews an image that nobody needs at the moment.
        """
        async with self._lock:
            self._requests.add(key)
            self._expire()
            if key not in self._reserved:
                self._waiting[key] = urgent
                await self._reserve()
            if key in self._reserved:
                del self._reserved[key]
                self._admitted.add(key)
                return 0
            return self._order(Counter()).index(key) + 1

    async def reconcile_ended(self, key: SkillKey) -> None:
        """Note that a reconcile ended. A Skill that requested no turn in it wants no build any more."""
        self._admitted.discard(key)
        if key in self._requests:
            self._requests.discard(key)
            if key in self._reserved:  # while the reconcile went on
                self._wake(key)
        else:
            self._waiting.pop(key, None)
            self._reserved.pop(key, None)
        metrics.set_builds_waiting(len(self._waiting))
        if self._waiting:
            async with self._lock:
                self._expire()
                await self._reserve()

    def reconcile_failed(self, key: SkillKey) -> None:
        """Note that a reconcile raised. It comes again, and the Skill keeps its position."""
        self._admitted.discard(key)
        self._requests.discard(key)

    def _expire(self) -> None:
        now = self._clock()
        for key in [key for key, until in self._reserved.items() if until < now]:
            del self._reserved[key]  # it queues again with its next reconcile

    async def _reserve(self) -> None:
        """Reserve what is free for those whose turn it is, and wake them."""
        admitted = set(self._admitted)  # a Job that is made while the list is on its way may be in neither
        jobs = await self._cluster.list("Job", self._settings.builder_namespace, BUILD_LABELS)
        # A Job that is being deleted may still run.
        busy = Counter(_namespace(job) for job in jobs if not pod_status.job_finished(job))
        busy.update(key.namespace for key in {*self._reserved, *self._admitted, *admitted})
        free = self._settings.build.concurrency - busy.total()
        for key in self._order(busy)[: max(0, free)]:
            del self._waiting[key]
            self._reserved[key] = self._clock() + RESERVATION_SECONDS
            if key not in self._requests:
                self._wake(key)

    def _order(self, busy: Counter[str]) -> list[SkillKey]:
        groups = ([key for key, is_urgent in self._waiting.items() if is_urgent is first] for first in (True, False))
        return [key for group in groups for key in fair_order(group, busy)]


def fair_order(queue: Iterable[SkillKey], busy: Counter[str]) -> list[SkillKey]:
    """Return whose turn it is, in order. `busy` counts the builds of each namespace.

    The namespace with the fewest builds is next, so that one with a thousand Skills does not hold up the others;
    within a namespace, and among equals, whoever came first.
    """
    waiting: defaultdict[str, deque[tuple[int, SkillKey]]] = defaultdict(deque)
    for position, key in enumerate(queue):
        waiting[key.namespace].append((position, key))
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
