"""Cold starts: the activator scales a Skill from zero and waits until its pod accepts a connection.

It waits for neither Ready nor an EndpointSlice nor kube-proxy: a pod answers in a third of the time that these take.
One patch, then the pod's address the moment it is published, then probes until it opens. The scale is the lock:
whoever turns 0 into 1 has woken the Skill, all others see that it is done.
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
PROBE_TIMEOUT_SECONDS = 0.1
"""A pod whose network is not set up yet drops what is sent to it: TCP itself would try again only after a second."""
PROBE_INTERVAL_SECONDS = 0.02
RECHECK_SECONDS = 0.5
GRACE_SECONDS = 3.0  # for an API server that does not respond, and for what may yet recover
PATCH_TIMEOUT_SECONDS = 2.0
# The scale says nothing at all of zero replicas. Where another has woken it, the test fails, and the patch with it.
SCALE_FROM_ZERO_PATCH: Items = [
    {"op": "test", "path": "/spec", "value": {}},
    {"op": "add", "path": "/spec/replicas", "value": 1},
]
_TRANSIENT_REASONS = frozenset({"Unschedulable"})  # an autoscaler may be bringing a node


class _Activation:
    """_Activation is the task that wakes one Skill, and the number of calls that wait for it."""

    def __init__(self, task: asyncio.Task[str]) -> None:
        self.task = task
        self.waiting = 0


class Activator:
    """Activator holds calls until a pod accepts them."""

    def __init__(self, cluster: Cluster, directory: Directory, pool: ConnectionPool, settings: WakeSettings) -> None:
        self.usage = UsageTracker()
        self._cluster = cluster
        self._directory = directory
        self._pool = pool
        self._settings = settings
        self._activations: dict[str, _Activation] = {}
        self.waiting: Counter[str] = Counter()  # calls that wait, by uid of the Skill

    async def wait_for_pod(
        self, entry: SkillEntry, request_id: str, on_cold_start: Callable[[], Awaitable[None]] | None = None
    ) -> str:
        """Return the address of a pod that accepted a connection, which is in the pool now. Raises Problem.

        `on_cold_start` is awaited once, before anything that takes time.
        """
        uid, seconds = entry.meta.uid, self._settings.seconds
        if self.waiting[uid] >= self._settings.queue:
            detail = f"{self.waiting[uid]} calls wait for it to wake (gateway.wake.queue of the chart); call again"
            raise Problem("wake-queue-full", detail, 1)
        self.waiting[uid] += 1
        metrics.set_calls_waiting(self.waiting.total())
        try:
            if on_cold_start is not None:
                await on_cold_start()
            async with asyncio.timeout(seconds):
                return await self._join_activation(entry.meta, request_id)
        except TimeoutError as error:
            detail = f"no pod of it answered within {seconds:g} s: {self._describe_state(entry.meta)}; call again"
            raise Problem("wake-timeout", detail, 5) from error
        finally:
            self.waiting[uid] -= 1
            if not self.waiting[uid]:
                del self.waiting[uid]
            metrics.set_calls_waiting(self.waiting.total())

    async def _join_activation(self, meta: ObjectMeta, request_id: str) -> str:
        """Wait for the one task that all calls of the Skill share; it ends with the last of them."""
        activation = self._activations.get(meta.uid)
        if activation is None or activation.task.done():
            task = asyncio.create_task(self._activate(meta, request_id))
            activation = self._activations[meta.uid] = _Activation(task)
        activation.waiting += 1
        try:
            return await asyncio.shield(activation.task)
        finally:
            activation.waiting -= 1
            if not activation.waiting:
                activation.task.cancel()
                if self._activations.get(meta.uid) is activation:
                    del self._activations[meta.uid]

    async def _activate(self, meta: ObjectMeta, request_id: str) -> str:
        loop = asyncio.get_running_loop()
        start_time = loop.time()
        patched: ScaleState | None = None
        patched_at: float | None = None
        published_at: float | None = None
        api_grace = _GracePeriod(GRACE_SECONDS)
        while True:
            changed = self._directory.next_change(meta)
            entry = self._directory.entries.get(SkillKey(meta.namespace, meta.name))
            if entry is None or entry.meta.uid != meta.uid:
                raise Problem("skill-not-found", "the skill was deleted while the call waited")
            if (address := await self._probe_pods(meta)) is not None:
                _record_cold_start(start_time, patched_at, published_at)
                return address
            if published_at is None and patched_at is not None and self._directory.backends(meta):
                published_at = loop.time()
            scale = self._directory.scale(meta)
            if (problem := self._blocking_problem(entry, scale, loop.time() - start_time)) is not None:
                metrics.record_activation(problem.slug)
                raise problem
            asleep = scale is not None and not scale.replicas and scale is not patched
            if scale is not None and asleep and await self._scale_from_zero(meta, scale, request_id, api_grace):
                patched, patched_at = scale, loop.time()
                continue  # its pod may be there already
            pause = PROBE_INTERVAL_SECONDS if self._directory.backends(meta) else RECHECK_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await changed.wait()
            except TimeoutError:
                if patched is not None and loop.time() - start_time > GRACE_SECONDS:
                    patched = None  # the watch should have brought the change: perhaps the Skill sleeps again

    async def _probe_pods(self, meta: ObjectMeta) -> str | None:
        """Return the address of the first pod that accepts a connection, or None."""
        for backend in self._directory.backends(meta):
            try:
                self._pool.put(await self._pool.connect(backend.address, PROBE_TIMEOUT_SECONDS))
            except OSError:
                continue
            return backend.address
        return None

    async def _scale_from_zero(
        self, meta: ObjectMeta, scale: ScaleState, request_id: str, api_grace: _GracePeriod
    ) -> bool:
        """Return whether the Skill is awake now. Raises Problem where the API server rejects it or stays silent."""
        try:
            async with asyncio.timeout(PATCH_TIMEOUT_SECONDS):
                await self._cluster.patch("Deployment", meta.namespace, scale.name, SCALE_FROM_ZERO_PATCH, "scale")
        except Invalid:
            return True
        except (ClusterError, TimeoutError) as error:
            message = error.message if isinstance(error, ClusterError) else f"no answer in {PATCH_TIMEOUT_SECONDS:g} s"
            if not api_grace.expired():  # one that is only just up refuses what it will allow in a moment
                return False
            if isinstance(error, ClusterError) and not error.retryable:
                detail = f"the API server refuses to start a pod of it: {printable(message, 400)}"
                raise Problem("wake-rejected", detail, 30) from error
            detail = (
                f"the API server does not answer, and only it can start a pod: {printable(message, 400)}; call again"
            )
            raise Problem("api-server-unavailable", detail, 5) from error
        self.usage.record_activation(meta, request_id)
        log.info("woken", extra={"namespace": meta.namespace, "skill": meta.name})
        return True

    def _blocking_problem(self, entry: SkillEntry, scale: ScaleState | None, waited_seconds: float) -> Problem | None:
        """Return why there is no use in waiting, and what would help; None while there is."""
        if entry.skill is None or scale is None:
            return pod_not_accepting() if self._directory.backends(entry.meta) else skill_asleep(entry)
        conditions = entry.skill.status.conditions
        if not scale.replicas and (
            entry.skill.spec.suspend or (is_true(conditions, STALLED) and not is_true(conditions, DEPLOYED))
        ):
            return skill_asleep(entry)
        problem = self._directory.pod_problem(entry.meta)
        transient = problem is not None and problem.reason in _TRANSIENT_REASONS
        if problem is not None and scale.replicas and (not transient or waited_seconds > GRACE_SECONDS):
            return _pod_not_running(problem)
        if scale.creation_error and scale.replicas and waited_seconds > RECHECK_SECONDS:
            detail = f"the cluster creates no pod for it: {printable(scale.creation_error, 600)}"
            if "exceeded quota" in scale.creation_error:
                return Problem("quota-exceeded", detail, 30)
            return Problem("pod-creation-failed", detail, 30)
        return None

    def _describe_state(self, meta: ObjectMeta) -> str:
        scale = self._directory.scale(meta)
        if scale is None:
            return "it has no Deployment"
        if not scale.replicas:
            return "it is asleep"
        if (problem := self._directory.pod_problem(meta)) is not None:
            return printable(problem.message, 400)
        return "its pod takes no connection yet" if self._directory.backends(meta) else "its pod has no address yet"


class _GracePeriod:
    """_GracePeriod begins with the first failure, and ends some seconds later."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def expired(self) -> bool:
        """Return whether the period is over; the first call begins it."""
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        return now - self._since > self._seconds


def _record_cold_start(start_time: float, patched_at: float | None, published_at: float | None) -> None:
    """Record the phases of a cold start that this gateway itself began."""
    if patched_at is None:
        return
    now = asyncio.get_running_loop().time()
    metrics.record_activation("awake")
    metrics.observe_cold_start("patch", patched_at - start_time)
    metrics.observe_cold_start("pod", (published_at or now) - patched_at)
    metrics.observe_cold_start("answer", now - (published_at or now))
    metrics.observe_cold_start("total", now - start_time)


def _pod_not_running(problem: PodProblem) -> Problem:
    message = printable(problem.message, 600)
    if problem.reason == "Unschedulable":
        return Problem("unschedulable", message, 10)
    if problem.reason == PULL_FAILED:
        return Problem("image-pull-failed", message, 10)
    return Problem("pod-start-failed", f"{problem.reason}: {message}", 10)


def skill_asleep(entry: SkillEntry) -> Problem:
    """Return why the Skill has no pod to call, from its spec and its own condition."""
    if entry.skill is not None and entry.skill.spec.suspend:
        detail = "no pod of it runs, and none is started while spec.suspend is true; set it to false"
        return Problem("suspended", detail, 60)
    ready = entry.ready
    if ready and ready.status != "True":
        return skill_not_ready(entry, f"{ready.reason}: {ready.message}")
    return skill_not_ready(entry, "no pod of it runs at the moment")


def skill_not_ready(entry: SkillEntry, message: str) -> Problem:
    """Return the problem for a Skill that cannot be called, for the reason that `message` gives."""
    command = f"kubectl describe skill -n {entry.meta.namespace} {entry.meta.name}"
    return Problem("not-ready", f"{printable(message, 600)} — see {command}", 5)


def pod_not_accepting() -> Problem:
    """Return the problem for a Skill whose pod exists and accepts no connection."""
    return Problem("pod-not-accepting", "a pod of it exists and accepts no calls yet; call again", 1)
