"""The work queue, its workers, the resync and the sweeper: everything that turns a key into a pass."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from skill_operator import naming
from skill_operator.k8s.client import Cluster, ClusterError, Object
from skill_operator.observability import metrics
from skill_operator.observability.hearing import Hearing
from skill_operator.reconcile.egress_proxy import EgressProxy
from skill_operator.reconcile.reconciler import Reconciler
from skill_operator.reconcile.result import Key
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
SHORTEST_RETRY, LONGEST_RETRY = 0.05, 300.0


class WorkQueue:
    """Keys that want a pass. A key waits at most once, is worked on by one worker at a time, and comes again if it was
    added meanwhile."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: dict[Key, float] = {}  # since when
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._later: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._order = itertools.count()
        self._failures: dict[Key, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Key) -> None:
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = time.monotonic()
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """The earliest of several wishes counts."""
        due = time.monotonic() + seconds
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._later, (due, next(self._order), key))
        self._arm()

    def add_failed(self, key: Key) -> None:
        """Ever later, with jitter, so that what broke for all does not come back for all at once."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait = min(LONGEST_RETRY, SHORTEST_RETRY * 2 ** min(failures, 20))
        self.add_after(key, wait * random.uniform(0.8, 1.2))

    def forget(self, key: Key) -> None:
        self._failures.pop(key, None)

    async def take(self) -> tuple[Key, float]:
        """The next key, and how long it waited, in seconds."""
        key = await self._ready.get()
        since = self._waiting.pop(key)
        self._working.add(key)
        return key, time.monotonic() - since

    def done(self, key: Key) -> None:
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


class Controller:
    """Works the queue until it is cancelled."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        reconciler: Reconciler,
        queue: WorkQueue,
        hearing: Hearing,
        proxy: EgressProxy,
    ) -> None:
        self._proxy = proxy
        self._cluster = cluster
        self._hearing = hearing
        self._settings = settings
        self._reconciler = reconciler
        self.queue = queue
        self._last_resync = time.monotonic()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._settings.workers):
                tasks.create_task(self._worker())
            tasks.create_task(self._repeat(self._resync, self._settings.resyncSeconds))
            tasks.create_task(self._repeat(self._sweep, min(60, self._settings.resyncSeconds)))

    def problem(self) -> str | None:
        """For the health check: what keeps this controller from seeing the world."""
        silence = time.monotonic() - self._last_resync
        if silence > 3 * self._settings.resyncSeconds:
            return f"no list of Skills succeeded for {silence:.0f} s"
        return self._hearing.problem()

    async def _worker(self) -> None:
        while True:
            key, waited = await self.queue.take()
            metrics.taken(waited, len(self.queue))
            began = time.monotonic()
            try:
                after = await self._reconciler.reconcile(key)
            except ClusterError as error:
                if not error.retryable:
                    log.warning(
                        "the API server refuses: %s", error.message, extra={"key": f"{key.namespace}/{key.name}"}
                    )
                self.queue.add_failed(key)
                metrics.failed("cluster")
            except Exception:  # one Skill's surprise must not end the others' worker
                log.exception("a pass failed", extra={"key": f"{key.namespace}/{key.name}"})
                self.queue.add_failed(key)
                metrics.failed("bug")
            else:
                self.queue.forget(key)
                if after is not None:
                    self.queue.add_after(key, after)
            finally:
                self.queue.done(key)
                metrics.worked(time.monotonic() - began)

    async def _repeat(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            try:
                await work()
            except ClusterError as error:
                log.warning("%s failed: %s", work.__name__.strip("_"), error.message)
            await asyncio.sleep(seconds * random.uniform(0.9, 1.1))

    def _namespaces(self) -> list[str | None]:
        return [*self._settings.watchNamespaces] or [None]

    async def _skills(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for namespace in self._namespaces():
            found += await self._cluster.list("Skill", namespace)
        for body in self._hearing.read(found):  # the watch may be late, or deaf
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
        builds = await self._cluster.list("Job", self._settings.builderNamespace, {naming.MANAGED_BY: naming.MANAGER})
        maps = await self._cluster.list(
            "ConfigMap", self._settings.builderNamespace, {naming.MANAGED_BY: naming.MANAGER}
        )
        books = await self._cluster.list(
            "ConfigMap", self._settings.namespace, {naming.MANAGED_BY: naming.MANAGER, naming.COMPONENT: naming.LEDGER}
        )
        skills = await self._skills()  # after the builds: a build listed above belongs to a Skill that is listed here
        metrics.skills(
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
        mine = {naming.MANAGED_BY: naming.MANAGER}
        for kind, name in (("NetworkPolicy", naming.SHARED_POLICY), ("ResourceQuota", naming.SHARED_QUOTA)):
            for obj in await self._cluster.list(kind, namespace, mine):
                where = obj["metadata"]["namespace"]
                if obj["metadata"]["name"] != name or where in inhabited:
                    continue
                if not await self._cluster.list("Pod", where, mine):
                    await self._cluster.delete(kind, where, name, obj["metadata"]["uid"])


def _key(body: Object) -> Key:
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])
