"""From asleep to answering: one patch, then the pod's address the moment it is published, then knocking until it opens.

Neither Ready nor an EndpointSlice nor kube-proxy is waited for: a pod answers in a third of the time that these take.
The scale is the lock: whoever turns 0 into 1 has woken it, all others see that it is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from skill_operator.api.conditions import DEPLOYED, STALLED, is_true
from skill_operator.api.v1alpha1 import ObjectMeta
from skill_operator.gateway.pods.connection import ConnectionPool
from skill_operator.gateway.pods.directory import Directory, ScaleState, SkillEntry
from skill_operator.gateway.pods.usage_tracker import UsageTracker
from skill_operator.gateway.problems import Problem
from skill_operator.k8s.errors import ClusterError, Invalid
from skill_operator.k8s.interface import Cluster, Items
from skill_operator.k8s.pod_status import PULL_FAILED, PodProblem
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.settings import WakeSettings
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
KNOCK_SECONDS = (
    0.1  # a pod that is not fenced in yet drops what is sent to it: TCP itself would try again after a second
)
PAUSE_SECONDS = 0.02
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 3.0  # with the API server, and with what may yet mend itself
PATCH_SECONDS = 2.0
# The scale says nothing at all of zero replicas. Another's wake makes the test fail, and the patch with it.
ROUSE: Items = [{"op": "test", "path": "/spec", "value": {}}, {"op": "add", "path": "/spec/replicas", "value": 1}]


class _Wake:
    """Of one Skill: the task, and how many wait for it."""

    def __init__(self, task: asyncio.Task[str]) -> None:
        self.task = task
        self.waiting = 0


class Activator:
    """Holds calls until a pod takes them."""

    def __init__(self, cluster: Cluster, directory: Directory, pool: ConnectionPool, settings: WakeSettings) -> None:
        self.activity = UsageTracker()
        self._cluster = cluster
        self._directory = directory
        self._pool = pool
        self._settings = settings
        self._wakes: dict[str, _Wake] = {}
        self.held: Counter[str] = Counter()  # by uid

    async def pod(self, entry: SkillEntry, request: str, waking: Callable[[], Awaitable[None]] | None = None) -> str:
        """The address of one that took a connection, which is in the pool now. Raises Problem.

        `waking` is awaited once, before anything that takes time.
        """
        uid, seconds = entry.meta.uid, self._settings.seconds
        if self.held[uid] >= self._settings.queue:
            detail = f"{self.held[uid]} calls wait for it to wake (gateway.wake.queue of the chart); call again"
            raise Problem("wake-queue-full", detail, 1)
        self.held[uid] += 1
        metrics.set_calls_waiting(self.held.total())
        try:
            if waking is not None:
                await waking()
            async with asyncio.timeout(seconds):
                return await self._shared(entry.meta, request)
        except TimeoutError as error:
            detail = f"no pod of it answered within {seconds:g} s: {self._state(entry.meta)}; call again"
            raise Problem("wake-timeout", detail, 5) from error
        finally:
            self.held[uid] -= 1
            if not self.held[uid]:
                del self.held[uid]
            metrics.set_calls_waiting(self.held.total())

    async def _shared(self, meta: ObjectMeta, request: str) -> str:
        """One task for all who wait; it ends with the last of them."""
        wake = self._wakes.get(meta.uid)
        if wake is None or wake.task.done():
            wake = self._wakes[meta.uid] = _Wake(asyncio.create_task(self._wake(meta, request)))
        wake.waiting += 1
        try:
            return await asyncio.shield(wake.task)
        finally:
            wake.waiting -= 1
            if not wake.waiting:
                wake.task.cancel()
                if self._wakes.get(meta.uid) is wake:
                    del self._wakes[meta.uid]

    async def _wake(self, meta: ObjectMeta, request: str) -> str:
        loop = asyncio.get_running_loop()
        began = loop.time()
        patched: ScaleState | None = None
        patched_at: float | None = None
        published: float | None = None
        api = _Patience(PATIENCE_SECONDS)
        while True:
            changed = self._directory.changed(meta)
            entry = self._directory.entries.get(SkillKey(meta.namespace, meta.name))
            if entry is None or entry.meta.uid != meta.uid:
                raise Problem("skill-not-found", "the skill was deleted while the call waited")
            if (address := await self._knock(meta)) is not None:
                _measure(began, patched_at, published)
                return address
            if published is None and patched_at is not None and self._directory.backends(meta):
                published = loop.time()
            scale = self._directory.scale(meta)
            if (problem := self._refusal(entry, scale, loop.time() - began)) is not None:
                metrics.record_activation(problem.slug)
                raise problem
            sleeps = scale is not None and not scale.replicas and scale is not patched
            if scale is not None and sleeps and await self._rouse(meta, scale, request, api):
                patched, patched_at = scale, loop.time()
                continue  # it may be there already
            pause = PAUSE_SECONDS if self._directory.backends(meta) else LOOK_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await changed.wait()
            except TimeoutError:
                if patched is not None and loop.time() - began > PATIENCE_SECONDS:
                    patched = None  # the news of it should be here: perhaps it sleeps again

    async def _knock(self, meta: ObjectMeta) -> str | None:
        for backend in self._directory.backends(meta):
            try:
                self._pool.put(await self._pool.connect(backend.address, KNOCK_SECONDS))
            except OSError:
                continue
            return backend.address
        return None

    async def _rouse(self, meta: ObjectMeta, scale: ScaleState, request: str, api: _Patience) -> bool:
        """Whether it is awake now. Raises Problem where the API server refuses or is away for too long."""
        try:
            async with asyncio.timeout(PATCH_SECONDS):
                await self._cluster.patch("Deployment", meta.namespace, scale.name, ROUSE, "scale")
        except Invalid:
            return True
        except (ClusterError, TimeoutError) as error:
            said = error.message if isinstance(error, ClusterError) else f"no answer within {PATCH_SECONDS:g} s"
            if not api.over():  # one that is only just up refuses what it will allow in a moment
                return False
            if isinstance(error, ClusterError) and not error.retryable:
                detail = f"the API server refuses to start a pod of it: {printable(said, 400)}"
                raise Problem("wake-rejected", detail, 30) from error
            detail = f"the API server does not answer, and only it can start a pod: {printable(said, 400)}; call again"
            raise Problem("api-server-unavailable", detail, 5) from error
        self.activity.woken(meta, request)
        log.info("woken", extra={"namespace": meta.namespace, "skill": meta.name})
        return True

    def _refusal(self, entry: SkillEntry, scale: ScaleState | None, waited: float) -> Problem | None:
        """Why there is no use in waiting, and what would help."""
        if entry.skill is None or scale is None:
            return not_answering() if self._directory.backends(entry.meta) else asleep(entry)
        conditions = entry.skill.status.conditions
        if not scale.replicas and (
            entry.skill.spec.suspend or (is_true(conditions, STALLED) and not is_true(conditions, DEPLOYED))
        ):
            return asleep(entry)
        trouble = self._directory.trouble(entry.meta)
        if trouble is not None and scale.replicas and (trouble.reason not in _MENDING or waited > PATIENCE_SECONDS):
            return _does_not_run(trouble)
        if scale.refused and scale.replicas and waited > LOOK_SECONDS:
            detail = f"the cluster makes no pod for it: {printable(scale.refused, 600)}"
            if "exceeded quota" in scale.refused:
                return Problem("quota-exceeded", detail, 30)
            return Problem("pod-creation-failed", detail, 30)
        return None

    def _state(self, meta: ObjectMeta) -> str:
        scale = self._directory.scale(meta)
        if scale is None:
            return "it has no Deployment"
        if not scale.replicas:
            return "it is asleep"
        if (trouble := self._directory.trouble(meta)) is not None:
            return printable(trouble.message, 400)
        return "its pod takes no connection yet" if self._directory.backends(meta) else "its pod has no address yet"


class _Patience:
    """Ends some seconds after the first time that it was asked."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def over(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        return now - self._since > self._seconds


_MENDING = frozenset({"Unschedulable"})  # an autoscaler may be bringing a node


def _measure(began: float, patched: float | None, published: float | None) -> None:
    """The phases of a wake that this gateway did itself."""
    if patched is None:
        return
    now = asyncio.get_running_loop().time()
    metrics.record_activation("awake")
    metrics.observe_cold_start("patch", patched - began)
    metrics.observe_cold_start("pod", (published or now) - patched)
    metrics.observe_cold_start("answer", now - (published or now))
    metrics.observe_cold_start("total", now - began)


def _does_not_run(trouble: PodProblem) -> Problem:
    said = printable(trouble.message, 600)
    if trouble.reason == "Unschedulable":
        return Problem("unschedulable", said, 10)
    if trouble.reason == PULL_FAILED:
        return Problem("image-pull-failed", said, 10)
    return Problem("pod-start-failed", f"{trouble.reason}: {said}", 10)


def asleep(entry: SkillEntry) -> Problem:
    """Why there is no pod to call, as the Skill itself says it."""
    if entry.skill is not None and entry.skill.spec.suspend:
        detail = "no pod of it runs, and none is started while spec.suspend is true; set it to false"
        return Problem("suspended", detail, 60)
    ready = entry.ready
    said = f"{ready.reason}: {ready.message}" if ready and ready.status != "True" else "no pod of it runs at the moment"
    return not_ready(entry, said)


def not_ready(entry: SkillEntry, said: str) -> Problem:
    how = f"kubectl describe skill -n {entry.meta.namespace} {entry.meta.name}"
    return Problem("not-ready", f"{printable(said, 600)} — see {how}", 5)


def not_answering() -> Problem:
    detail = "no pod of it takes calls yet, though one is there; call again"
    return Problem("pod-not-accepting", detail, 1)
