"""The queues of builds and of checks: how many of their Jobs run at once, and whose turn it is.

The truth is the Jobs in the cluster; only those that wait for one are in memory. After a restart every Skill is
reconciled again, and whoever wants a Job queues anew.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from skill_operator import naming
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.settings import Settings

RESERVATION_SECONDS = 30.0  # for which a free place is kept for the Skill whose turn it is
BUILD_LABELS = naming.MANAGED | {naming.COMPONENT: "build"}
CHECK_LABELS = naming.MANAGED | {naming.COMPONENT: "check"}
CountJobs = Callable[[], Awaitable[Counter[str]]]
"""Returns how many Jobs run for the Skills of each namespace."""
WakeSkill = Callable[[SkillKey], None]


class JobQueue:
    """JobQueue gives turns: a reconcile requests one, creates its Job, and reports its own end."""

    def __init__(
        self,
        count_jobs: CountJobs,
        concurrency: int,
        wake: WakeSkill,
        *,
        per_namespace: int | None = None,
        set_waiting: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The queue lets `concurrency` Jobs run at once, and `per_namespace` of one namespace, where that is given.

        `wake` requests a reconcile of the Skill whose turn it is. `set_waiting` publishes how many wait.
        """
        self._count_jobs = count_jobs
        self._concurrency = concurrency
        self._per_namespace = concurrency if per_namespace is None else per_namespace
        self._wake = wake
        self._set_waiting = set_waiting
        self._clock = clock
        self._lock = asyncio.Lock()
        self._waiting: dict[SkillKey, bool] = {}  # in order of arrival: whether somebody waits for the Job's result
        self._reserved: dict[SkillKey, float] = {}  # until when its place is kept
        self._admitted: set[SkillKey] = set()  # may make its Job, which may not exist yet
        self._requests: set[SkillKey] = set()  # of the reconciles that are under way

    async def request(self, key: SkillKey, *, urgent: bool = True) -> int:
        """Return 0 if the Skill may make its Job now, else its position in the queue. Raises ClusterError.

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
        """Note that a reconcile ended. A Skill that requested no turn in it wants none any more."""
        self._admitted.discard(key)
        if key in self._requests:
            self._requests.discard(key)
            if key in self._reserved:  # while the reconcile went on
                self._wake(key)
        else:
            self._waiting.pop(key, None)
            self._reserved.pop(key, None)
        self._set_waiting(len(self._waiting))
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
        busy = await self._count_jobs()
        busy.update(key.namespace for key in {*self._reserved, *self._admitted, *admitted})
        # Who runs more than may be, since the bound was lowered or a Job was forged, takes no place of others.
        free = self._concurrency - sum(min(number, self._per_namespace) for number in busy.values())
        for key in self._order(busy):
            if free <= 0:
                break
            if busy[key.namespace] >= self._per_namespace:
                continue
            busy[key.namespace] += 1
            free -= 1
            del self._waiting[key]
            self._reserved[key] = self._clock() + RESERVATION_SECONDS
            if key not in self._requests:
                self._wake(key)

    def _order(self, busy: Counter[str]) -> list[SkillKey]:
        groups = ([key for key, is_urgent in self._waiting.items() if is_urgent is first] for first in (True, False))
        return [key for group in groups for key in fair_order(group, busy)]


def fair_order(queue: Iterable[SkillKey], busy: Counter[str]) -> list[SkillKey]:
    """Return whose turn it is, in order. `busy` counts the Jobs of each namespace.

    The namespace with the fewest Jobs is next, so that one with a thousand Skills does not hold up the others;
    within a namespace, and among equals, whoever came first.
    """
    waiting: defaultdict[str, deque[tuple[int, SkillKey]]] = defaultdict(deque)
    for position, key in enumerate(queue):
        waiting[key.namespace].append((position, key))
    heap = [(busy[namespace], keys[0][0], namespace) for namespace, keys in waiting.items()]
    heapq.heapify(heap)
    order = []
    while heap:
        jobs, _, namespace = heapq.heappop(heap)
        order.append(waiting[namespace].popleft()[1])
        if waiting[namespace]:
            heapq.heappush(heap, (jobs + 1, waiting[namespace][0][0], namespace))
    return order


@dataclass(frozen=True)
class JobQueues:
    """JobQueues are the two queues of an installation."""

    builds: JobQueue
    checks: JobQueue

    async def reconcile_ended(self, key: SkillKey) -> None:
        """Note in each queue that a reconcile ended."""
        await self.builds.reconcile_ended(key)
        await self.checks.reconcile_ended(key)

    def reconcile_failed(self, key: SkillKey) -> None:
        """Note in each queue that a reconcile raised."""
        self.builds.reconcile_failed(key)
        self.checks.reconcile_failed(key)


def make_job_queues(cluster: Cluster, settings: Settings, wake: WakeSkill) -> JobQueues:
    """Return the queues, bounded as the chart says."""
    check = settings.check
    return JobQueues(
        make_build_queue(cluster, settings, wake),
        JobQueue(
            partial(_count_checks, cluster, settings),
            check.concurrency,
            wake,
            per_namespace=check.namespace_concurrency,
            set_waiting=metrics.set_checks_waiting,
        ),
    )


def make_build_queue(cluster: Cluster, settings: Settings, wake: WakeSkill) -> JobQueue:
    """Return the queue of builds."""
    count = partial(_count_builds, cluster, settings.builder_namespace)
    return JobQueue(count, settings.build.concurrency, wake, set_waiting=metrics.set_builds_waiting)


async def _count_builds(cluster: Cluster, namespace: str) -> Counter[str]:
    jobs = await cluster.list("Job", namespace, BUILD_LABELS)
    return Counter(str(job["metadata"]["labels"].get(naming.NAMESPACE_LABEL, "")) for job in _running(jobs))


async def _count_checks(cluster: Cluster, settings: Settings) -> Counter[str]:
    lists = [await cluster.list("Job", namespace, CHECK_LABELS) for namespace in settings.namespace_scopes]
    return Counter(str(job["metadata"]["namespace"]) for jobs in lists for job in _running(jobs))


def _running(jobs: list[Object]) -> Iterator[Object]:
    """Yield the Jobs whose pods may run. One that is being deleted may still run."""
    return (job for job in jobs if not pod_status.job_finished(job))
