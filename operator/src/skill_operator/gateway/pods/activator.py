"""Cold starts: the activator scales a Skill from zero and probes its pod until that accepts a connection.

It waits for neither Ready nor an EndpointSlice nor kube-proxy: a pod answers in a third of the time that these take.
One patch, then the pod's address the moment it is published, then probes until it opens. The scale is the lock:
whoever turns 0 into 1 has woken the Skill, all others see that it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from asyncio import FIRST_COMPLETED
from collections.abc import Collection

from skill_operator.api.conditions import DEPLOYED, STALLED, is_true
from skill_operator.api.v1alpha1 import ObjectMeta
from skill_operator.gateway.pods.connection import CONNECT_TIMEOUT_SECONDS, ConnectionPool
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
PROBE_INTERVAL_SECONDS = 0.02  # between attempts at a pod that refuses them
PROBE_OVERLAP_SECONDS = 0.1
"""A pod whose network is not set up yet drops what is sent to it: TCP itself would try again only after a second. So
another attempt begins after this time, and those before it go on, for the answer of a distant node may take longer."""
RECHECK_SECONDS = 0.5
GRACE_SECONDS = 3.0  # for an API server that does not respond, and for what may yet recover
PATCH_TIMEOUT_SECONDS = 2.0
# The scale says nothing at all of zero replicas. Where another has woken it, the test fails, and the patch with it.
SCALE_FROM_ZERO_PATCH: Items = [
    {"op": "test", "path": "/spec", "value": {}},
    {"op": "add", "path": "/spec/replicas", "value": 1},
]
_REASONS_FOR_PEOPLE = frozenset({"AwaitingApproval"})  # which a call need not wait for
_TRANSIENT_REASONS = frozenset({"Unschedulable"})  # an autoscaler may be bringing a node


class _PodProber:
    """_PodProber tries to connect to pods, again and again, until one accepts.

    A new attempt at a pod begins while the earlier ones still wait: neither what a pod drops nor a slow network holds
    up a wake.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._attempts: dict[asyncio.Task[bool], str] = {}
        self._start_times: dict[str, float] = {}  # of the last attempt at each address

    def probe(self, addresses: Collection[str]) -> None:
        """Begin the attempts that are due."""
        now = asyncio.get_running_loop().time()
        pending = set(self._attempts.values())
        for address in addresses:
            interval = PROBE_OVERLAP_SECONDS if address in pending else PROBE_INTERVAL_SECONDS
            if now - self._start_times.get(address, -math.inf) >= interval:
                self._start_times[address] = now
                self._attempts[asyncio.create_task(self._connect(address))] = address

    async def _connect(self, address: str) -> bool:
        try:
            self._pool.put(await self._pool.connect(address))
        except OSError:
            return False
        return True

    async def wait(self, changed: asyncio.Event, seconds: float) -> str | None:
        """Return the address of the first pod that accepts; None after so many seconds, or when the event is set."""
        end_time = asyncio.get_running_loop().time() + seconds
        change = asyncio.create_task(changed.wait())
        try:
            while (left := end_time - asyncio.get_running_loop().time()) > 0 and not change.done():
                done, _ = await asyncio.wait({change, *self._attempts}, timeout=left, return_when=FIRST_COMPLETED)
                ended = {attempt: self._attempts.pop(attempt) for attempt in [*self._attempts] if attempt in done}
                accepted = next((address for attempt, address in ended.items() if attempt.result()), None)
                if accepted is not None:
                    return accepted
        finally:
            change.cancel()
        return None

    @property
    def pending(self) -> bool:
        """True while an attempt waits for its answer."""
        return bool(self._attempts)

    def close(self) -> None:
        """Give up the attempts that still wait."""
        for attempt in self._attempts:
            attempt.cancel()


class Activator:
    """Activator wakes Skills, and finds a pod that accepts connections."""

    def __init__(self, cluster: Cluster, directory: Directory, pool: ConnectionPool, settings: WakeSettings) -> None:
        self.usage = UsageTracker()
        self._cluster = cluster
        self._directory = directory
        self._pool = pool
        self.settings = settings

    async def activate(self, meta: ObjectMeta, request_id: str) -> str:
        """Return the address of a pod of the Skill that accepted a connection, which is in the pool now.

        Where none runs, the Skill is woken, for the call with this id. It takes however long it takes. Raises Problem.
        """
        with contextlib.closing(_PodProber(self._pool)) as prober:
            return await self._activate(meta, request_id, prober)

    async def _activate(self, meta: ObjectMeta, request_id: str, prober: _PodProber) -> str:
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
            addresses = [backend.address for backend in self._directory.backends(meta)]
            if published_at is None and patched_at is not None and addresses:
                published_at = loop.time()
            prober.probe(addresses)
            if addresses and (address := await prober.wait(changed, PROBE_INTERVAL_SECONDS)) is not None:
                _record_cold_start(start_time, patched_at, published_at)
                return address
            scale = self._directory.scale(meta)
            waited_seconds = loop.time() - start_time
            if (problem := self._blocking_problem(entry, scale, waited_seconds, prober.pending)) is not None:
                metrics.record_activation(problem.slug)
                raise problem
            asleep = scale is not None and not scale.replicas and scale is not patched
            if scale is not None and asleep and await self._scale_from_zero(meta, scale, request_id, api_grace):
                patched, patched_at = scale, loop.time()
                continue  # its pod may be there already
            if scale is None and entry.archive and self.usage.request_restore(meta, request_id, entry.archive):
                log.info("needed back from the archive", extra={"namespace": meta.namespace, "skill": meta.name})
            if not addresses:
                await prober.wait(changed, RECHECK_SECONDS)
            if patched is not None and not changed.is_set() and loop.time() - start_time > GRACE_SECONDS:
                patched = None  # the watch should have brought the change: perhaps the Skill sleeps again

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

    def _blocking_problem(
        self, entry: SkillEntry, scale: ScaleState | None, waited_seconds: float, probing: bool
    ) -> Problem | None:
        """Return why there is no use in waiting, and what would help; None while there is."""
        if entry.skill is None or scale is None:
            if not self._directory.backends(entry.meta):
                return None if _comes_back(entry, waited_seconds) else skill_asleep(entry)
            return None if probing and waited_seconds < CONNECT_TIMEOUT_SECONDS else pod_not_accepting()
        conditions = entry.skill.status.conditions
        is_failed = is_true(conditions, STALLED) and not is_true(conditions, DEPLOYED)
        has_earlier_revision = entry.skill.status.trial is not None  # which serves while another one fails
        if not scale.replicas and (entry.skill.spec.suspend or (is_failed and not has_earlier_revision)):
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

    def timeout_problem(self, meta: ObjectMeta) -> Problem:
        """Return the problem for a call that has waited for a pod as long as it may."""
        seconds = self.settings.seconds
        entry = self._directory.entries.get(SkillKey(meta.namespace, meta.name))
        if entry is not None and (entry.archive or entry.restoring):
            ready = entry.ready
            state = (
                f"{ready.reason}: {ready.message}" if ready and ready.status != "True" else "no controller has begun"
            )
            detail = f"it comes back from the archive, which took longer than {seconds:g} s; call again. Now: {state}"
            return Problem("restoring", printable(detail, 600), 5)
        return Problem(
            "wake-timeout", f"no pod of it answered within {seconds:g} s: {self.describe_state(meta)}; call again", 5
        )

    def describe_state(self, meta: ObjectMeta) -> str:
        """Return what a Skill without a pod that answers waits for."""
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


def _comes_back(entry: SkillEntry, waited_seconds: float) -> bool:
    """Return whether a Skill without a Deployment gets one by itself: out of the archive, into which it may just go."""
    skill, ready = entry.skill, entry.ready
    if entry.meta.deletion_timestamp is not None:
        return False
    if skill is None or skill.spec.suspend or is_true(skill.status.conditions, STALLED):
        return False
    if entry.archive or entry.restoring:
        return ready is None or ready.reason not in _REASONS_FOR_PEOPLE
    # The Deployment may go from this directory before the word of the archive comes.
    return bool(skill.spec.archive_after_seconds and entry.current and waited_seconds < GRACE_SECONDS)


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
