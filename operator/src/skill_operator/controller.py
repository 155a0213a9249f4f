"""The workers that reconcile the Skills of the work queue, and the regular lists that make up for lost events."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.reconcile.reconciler import Reconciler
from skill_operator.settings import Settings
from skill_operator.sweeper import Sweeper
from skill_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)
MAX_SWEEP_INTERVAL_SECONDS = 60.0
MAX_MISSED_RESYNCS = 3


class Resync:
    """Resync lists all Skills and queues them: events can be lost, a list cannot."""

    def __init__(self, cluster: Cluster, settings: Settings, queue: WorkQueue, watch_health: WatchHealth) -> None:
        self._cluster = cluster
        self._settings = settings
        self._queue = queue
        self._watch_health = watch_health
        self._succeeded_at = time.monotonic()

    async def list_skills(self) -> list[Object]:
        """List all Skills, and queue those that no watch reported, or of which none reported some object.

        Raises ClusterError.
        """
        skills: list[Object] = []
        for namespace in self._settings.namespace_scopes:
            skills += await self._cluster.list("Skill", namespace)
        news = {body["metadata"]["uid"] for body in self._watch_health.observe_read(skills)}
        unreported = news | self._watch_health.overdue_skills()  # the watch may be late, or dead
        for body in skills:
            if body["metadata"]["uid"] in unreported:
                self._queue.add(_key(body))
        return skills

    async def queue_all(self) -> None:
        """Queue all Skills, as after a change that concerns each of them. Raises ClusterError."""
        for body in await self.list_skills():
            self._queue.add(_key(body))
        self._succeeded_at = time.monotonic()

    def find_problem(self) -> str | None:
        """Return what keeps this controller from seeing the cluster, for the health check."""
        silence = time.monotonic() - self._succeeded_at
        if silence > MAX_MISSED_RESYNCS * self._settings.resync_seconds:
            return f"no list of Skills succeeded for {silence:.0f} s"
        return self._watch_health.find_problem()


class Controller:
    """Controller works the queue until it is cancelled, and repeats resync and sweep."""

    def __init__(
        self, settings: Settings, reconciler: Reconciler, queue: WorkQueue, resync: Resync, sweeper: Sweeper
    ) -> None:
        self._settings = settings
        self._reconciler = reconciler
        self._queue = queue
        self._resync = resync
        self._sweeper = sweeper

    async def run(self) -> None:
        """Run workers, resync and sweep. Never returns; raises what nobody expected."""
        interval = self._settings.resync_seconds
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._settings.workers):
                tasks.create_task(self._work())
            tasks.create_task(_repeat("resync", self._resync.queue_all, interval))
            tasks.create_task(_repeat("sweep", self._sweeper.sweep, min(MAX_SWEEP_INTERVAL_SECONDS, interval)))

    async def _work(self) -> None:
        """Reconcile one Skill after another, forever."""
        while True:
            key, waited_seconds = await self._queue.take()
            metrics.record_queue_wait(waited_seconds, len(self._queue))
            started_at = time.monotonic()
            try:
                after = await self._reconciler.reconcile(key)
            except ClusterError as error:
                if not error.retryable:
                    log.warning(
                        "the API server refuses: %s", error.message, extra={"key": f"{key.namespace}/{key.name}"}
                    )
                self._queue.add_failed(key)
                metrics.record_reconcile_error("cluster")
            except Exception:  # one Skill's surprise must not end the others' worker
                log.exception("a reconcile failed", extra={"key": f"{key.namespace}/{key.name}"})
                self._queue.add_failed(key)
                metrics.record_reconcile_error("bug")
            else:
                self._queue.reset_backoff(key)
                if after is not None:
                    self._queue.add_after(key, after)
            finally:
                self._queue.done(key)
                metrics.observe_reconcile_duration(time.monotonic() - started_at)


async def _repeat(name: str, run: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Run it forever, `seconds` apart, give or take a tenth."""
    while True:
        try:
            await run()
        except ClusterError as error:
            log.warning("%s failed: %s", name, error.message)
        await asyncio.sleep(seconds * random.uniform(0.9, 1.1))


def _key(body: Object) -> SkillKey:
    return SkillKey(body["metadata"]["namespace"], body["metadata"]["name"])
