"""One reconcile of one Skill: observe, run the stages in order, write what they want, report once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from skill_operator import naming
from skill_operator.api import conditions as api
from skill_operator.api.v1alpha1 import Condition, Skill, SkillStatus
from skill_operator.generation.author import Author
from skill_operator.generation.typed_dicts import types_module
from skill_operator.k8s.errors import NotFound
from skill_operator.k8s.events import EventRecorder
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.observability.logs import context as log_context
from skill_operator.reconcile.build_queue import BuildQueue
from skill_operator.reconcile.context import ReconcileContext, StageContext
from skill_operator.reconcile.observed import Observed, observe
from skill_operator.reconcile.preflight import Preflight, Prerequisites, check_suspended, parse
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result, StatusPatch
from skill_operator.reconcile.stages import STAGES, Stage
from skill_operator.reconcile.stages.scale import drain_token, may_scale_to_zero
from skill_operator.reconcile.status import summarize, transitions
from skill_operator.reconcile.usage_collector import UsageCollector
from skill_operator.reconcile.writer import Writer, apply_changed
from skill_operator.resources.network_policy import default_deny
from skill_operator.resources.quota import quota
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
USAGE_AGE_SECONDS = 1.0


class Reconciler:
    """Reconciler is level-triggered: it never asks what woke it, and over an unchanged cluster it writes nothing."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        author: Author,
        recorder: EventRecorder,
        context: ReconcileContext,
        clock: Callable[[], datetime],
        build_queue: BuildQueue,
        watch_health: WatchHealth,
        usage_collector: UsageCollector,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._author = author
        self._recorder = recorder
        self._context = context
        self._clock = clock
        self._build_queue = build_queue
        self._watch_health = watch_health
        self._usage_collector = usage_collector
        self._preflight = Preflight(settings, context)
        self._writer = Writer(cluster, settings.builder_namespace, author.start_call)

    async def reconcile(self, key: SkillKey) -> float | None:
        """Reconcile one Skill. Return seconds until the next reconcile, or None where only an event can change it."""
        try:
            after = await self._reconcile(key)
        except BaseException:
            self._build_queue.reconcile_failed(key)
            raise
        await self._build_queue.reconcile_ended(key)
        return after

    async def _reconcile(self, key: SkillKey) -> float | None:
        body = await self._cluster.get("Skill", key.namespace, key.name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            self._author.cancel(key)
            await self._delete_builds(key)
            return None
        with log_context(skill=key.name, namespace=key.namespace):
            return await self._reconcile_present(body)

    async def _delete_builds(self, key: SkillKey) -> None:
        """Delete the builds of a deleted Skill. No Skill can own them where they live, so they would keep a place."""
        labels = {naming.SKILL_LABEL: naming.truncate(key.name), naming.NAMESPACE_LABEL: key.namespace}
        for job in await self._cluster.list("Job", self._settings.builder_namespace, labels):
            await self._cluster.delete("Job", self._settings.builder_namespace, job["metadata"]["name"])

    async def _reconcile_present(self, body: Object) -> float | None:
        now = self._clock()
        skill, refusal = parse(body)
        refusal = refusal or check_suspended(skill)
        if refusal is None and (refusal := self._preflight.check_spec(skill)) is not None:
            self._author.cancel(SkillKey(skill.metadata.namespace, skill.metadata.name))
        found = refusal or await self._preflight.check_installation(skill)
        if isinstance(found, Prerequisites):
            await self._isolate_namespace(skill.metadata.namespace)
            return await self._run_stages(await self._observe(skill, body, found, now), now)
        if found.conditions:
            await self._report(skill, body, found.conditions, found, {}, now)
        return found.after

    async def _isolate_namespace(self, namespace: str) -> None:
        """Apply what isolates a namespace before its first pod is made."""
        await apply_changed(self._cluster, default_deny(namespace))
        if self._settings.priority_class_name:
            await apply_changed(self._cluster, quota(self._settings, namespace))

    async def _observe(self, skill: Skill, body: Object, prerequisites: Prerequisites, now: datetime) -> Observed:
        networks = prerequisites.blocked_networks
        node_features, isolation = await self._context.node_features(), self._context.isolation()
        egress_proxy_ready = await self._context.start_egress_proxy(networks) if skill.spec.hosts else True
        observed = await observe(
            self._cluster,
            self._settings,
            body,
            prerequisites.base,
            now,
            networks,
            isolation,
            node_features,
            egress_proxy_ready,
        )
        self._watch_health.observe_read(observed.watched())
        observed = replace(observed, exceeded_limit=self._usage_collector.exceeded_limit(skill.metadata.uid))
        if not may_scale_to_zero(observed, now):
            return observed
        age = 0 if drain_token(observed) else USAGE_AGE_SECONDS
        return replace(observed, usage=await self._usage_collector.snapshot(age))

    async def _run_stages(self, observed: Observed, now: datetime) -> float | None:
        """Run the stages until one is not done, and those that tolerate it; then write the status once."""
        skill = observed.skill
        context = StageContext(self._settings, now, self._author, self._build_queue)
        progress = Progress(types=types_module(skill.spec.input, skill.spec.output))
        conditions: list[ConditionUpdate] = []
        delays: list[float] = []
        blocked_at: Stage | None = None
        last = Result.done()
        for stage in STAGES:
            if blocked_at is not None and blocked_at.name not in stage.tolerates:
                continue
            result = stage.decide(observed, progress, context)
            if stage.confirm is not None:
                result = await stage.confirm(result, observed, progress, context)
            observed = await self._writer.write(observed, result)
            for event in result.events:
                self._recorder.record(observed.body, event.type, event.reason, event.message)
            conditions += result.conditions
            delays += [] if result.after is None else [result.after]
            if not result.is_done:
                blocked_at, last = stage, result
        outcome = "stalled" if last.is_stalled else "done" if last.is_done else "waiting"
        metrics.record_reconcile(blocked_at.name if blocked_at else "run", outcome)
        if "last_active_time" in progress.status:
            metrics.record_scale_to_zero()
        await self._report(skill, observed.body, conditions, last, progress.status, now)
        return min(delays, default=None)

    async def _report(
        self,
        skill: Skill,
        body: Object,
        conditions: Sequence[ConditionUpdate],
        last: Result,
        patch: StatusPatch,
        now: datetime,
    ) -> None:
        """Write the status, if it changed, and an event for each condition that did."""
        status = summarize(skill, conditions, last, now, patch)
        wire = status.wire()
        if body.get("status", {}) == wire:
            return
        meta = {"name": skill.metadata.name, "namespace": skill.metadata.namespace}
        with contextlib.suppress(NotFound):  # deleted meanwhile
            await self._cluster.apply_status(
                {"apiVersion": naming.API_VERSION, "kind": "Skill", "metadata": meta, "status": wire}
            )
        for changed in transitions(skill.status.conditions, status.conditions):
            self._announce(body, changed, status)

    def _announce(self, body: Object, changed: Condition, status: SkillStatus) -> None:
        warn = changed.status == "False" and changed.type != api.ACTIVE
        if changed.type == api.BUILT and changed.status != "Unknown":
            metrics.record_build("built" if changed.status == "True" else "failed")
        log.info(
            "condition changed",
            extra={"stage": changed.type, "reason": changed.reason, "revision": status.revision},
        )
        self._recorder.record(body, "Warning" if warn else "Normal", changed.reason, changed.message or changed.type)
