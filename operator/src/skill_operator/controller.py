"""The work queue, its workers, the resync and the sweeper: everything that turns a key into a pass."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from skill_operator import naming
from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.reconcile.egress_proxy import EgressProxy
from skill_operator.reconcile.reconciler import Reconciler
from skill_operator.settings import Settings
from skill_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)


class Controller:
    """Works the queue until it is cancelled."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        reconciler: Reconciler,
        queue: WorkQueue,
        watch_health: WatchHealth,
        proxy: EgressProxy,
    ) -> None:
        self._proxy = proxy
        self._cluster = cluster
        self._watch_health = watch_health
        self._settings = settings
        self._reconciler = reconciler
        self.queue = queue
        self._last_resync = time.monotonic()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._settings.workers):
                tasks.create_task(self._worker())
            tasks.create_task(self._repeat(self._resync, self._settings.resync_seconds))
            tasks.create_task(self._repeat(self._sweep, min(60, self._settings.resync_seconds)))

    def problem(self) -> str | None:
        """For the health check: what keeps this controller from seeing the world."""
        silence = time.monotonic() - self._last_resync
        if silence > 3 * self._settings.resync_seconds:
            return f"no list of Skills succeeded for {silence:.0f} s"
        return self._watch_health.find_problem()

    async def _worker(self) -> None:
        while True:
            key, waited = await self.queue.take()
            metrics.record_queue_wait(waited, len(self.queue))
            began = time.monotonic()
            try:
                after = await self._reconciler.reconcile(key)
            except ClusterError as error:
                if not error.retryable:
                    log.warning(
                        "the API server refuses: %s", error.message, extra={"key": f"{key.namespace}/{key.name}"}
                    )
                self.queue.add_failed(key)
                metrics.record_reconcile_error("cluster")
            except Exception:  # one Skill's surprise must not end the others' worker
                log.exception("a pass failed", extra={"key": f"{key.namespace}/{key.name}"})
                self.queue.add_failed(key)
                metrics.record_reconcile_error("bug")
            else:
                self.queue.forget(key)
                if after is not None:
                    self.queue.add_after(key, after)
            finally:
                self.queue.done(key)
                metrics.observe_reconcile_duration(time.monotonic() - began)

    async def _repeat(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            try:
                await work()
            except ClusterError as error:
                log.warning("%s failed: %s", work.__name__.strip("_"), error.message)
            await asyncio.sleep(seconds * random.uniform(0.9, 1.1))

    def _namespaces(self) -> list[str | None]:
        return [*self._settings.watch_namespaces] or [None]

    async def _skills(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for namespace in self._namespaces():
            found += await self._cluster.list("Skill", namespace)
        for body in self._watch_health.observe_read(found):  # the watch may be late, or deaf
            self.queue.add(_key(body))
        return found

    async def look_again(self) -> None:
        """At all Skills: something changed that concerns each of them. Raises ClusterError."""
        await self._resync()

    async def _resync(self) -> None:
        """Events can be lost; a list cannot."""
        for body in await self._skills():
            self.queue.add(_key(body))
        self._last_resync = time.monotonic()

    async def _sweep(self) -> None:
        """What no owner reference reaches: builds and books of dead Skills, the cage of a namespace without skills."""
        builds = await self._cluster.list("Job", self._settings.builder_namespace, naming.MANAGED)
        maps = await self._cluster.list("ConfigMap", self._settings.builder_namespace, naming.MANAGED)
        books = await self._cluster.list(
            "ConfigMap", self._settings.namespace, naming.MANAGED | {naming.COMPONENT: naming.LEDGER}
        )
        skills = await self._skills()  # after the builds: a build listed above belongs to a Skill that is listed here
        metrics.set_skill_conditions(
            Counter((c["type"], c["status"]) for s in skills for c in s.get("status", {}).get("conditions", []))
        )
        if not any(way.get("host") for body in skills for way in body["spec"].get("egress", ())):
            await self._proxy.rest()
        alive = {body["metadata"]["uid"] for body in skills}
        inhabited = {body["metadata"]["namespace"] for body in skills}
        for kind, objects in (("Job", builds), ("ConfigMap", maps), ("ConfigMap", books)):
            for obj in objects:
                if obj["metadata"]["labels"].get(naming.UID_LABEL) not in alive:
                    await self._cluster.delete(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
        for namespace in self._namespaces():
            await self._sweep_cages(namespace, inhabited)

    async def _sweep_cages(self, namespace: str | None, inhabited: set[str]) -> None:
        """The cage goes last: not while a pod of a skill still ends."""
        mine = naming.MANAGED
        for kind, name in (("NetworkPolicy", naming.SHARED_POLICY), ("ResourceQuota", naming.SHARED_QUOTA)):
            for obj in await self._cluster.list(kind, namespace, mine):
                where = obj["metadata"]["namespace"]
                if obj["metadata"]["name"] != name or where in inhabited:
                    continue
                if not await self._cluster.list("Pod", where, mine):
                    await self._cluster.delete(kind, where, name, obj["metadata"]["uid"])


def _key(body: Object) -> SkillKey:
    return SkillKey(body["metadata"]["namespace"], body["metadata"]["name"])
