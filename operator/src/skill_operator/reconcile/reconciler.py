"""One reconcile of one Skill: observe, run the stages in order, write what they want, report once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from skill_operator import naming
from skill_operator.api import conditions as api
from skill_operator.api.dropped_nulls import find_dropped_nulls
from skill_operator.api.egress_networks import BlockedNetwork
from skill_operator.api.listed_tool import describe_changes
from skill_operator.api.v1alpha1 import Condition, Rejection, Skill, SkillStatus
from skill_operator.api.validation import advice
from skill_operator.generation.author import Author
from skill_operator.generation.typed_dicts import types_module
from skill_operator.isolation.cluster_networks import ClusterNetworksUnknown
from skill_operator.k8s.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound
from skill_operator.k8s.events import EventRecorder
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.observability.logs import context as log_context
from skill_operator.reconcile import registry_away
from skill_operator.reconcile.archive import (
    archived_conditions,
    delete_archived,
    restore_cause,
    restoring_condition,
)
from skill_operator.reconcile.context import ReconcileContext, StageContext
from skill_operator.reconcile.deletion import DELETING, deleting_conditions
from skill_operator.reconcile.job_queue import JobQueues
from skill_operator.reconcile.late_rejection import earlier_requests, find_answered, with_rejection
from skill_operator.reconcile.narrowing import END_SECONDS, REVIEW_SECONDS, LiveState, Narrowing, narrow, read_live
from skill_operator.reconcile.observed import Observed, observe
from skill_operator.reconcile.preflight import Preflight, Prerequisites, check_suspended, parse
from skill_operator.reconcile.refusals import OBJECT_REFUSED, NotWritten, RefusalTracker, equal_words, refusals_of
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result, StatusPatch
from skill_operator.reconcile.serving import served_contract
from skill_operator.reconcile.stages import Stage, select_stages
from skill_operator.reconcile.stages.isolation import isolation_condition
from skill_operator.reconcile.stages.review import REJECTED
from skill_operator.reconcile.stages.scale import drain_token, may_scale_to_zero
from skill_operator.reconcile.stages.source import describe_rejection
from skill_operator.reconcile.status import summarize, transitions
from skill_operator.reconcile.usage_collector import UsageCollector
from skill_operator.reconcile.writer import NAME_TAKEN, Writer, apply_changed, delete, evict
from skill_operator.resources.network_policy import default_deny
from skill_operator.resources.quota import quota
from skill_operator.settings import Settings
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
USAGE_AGE_SECONDS = 1.0
MAX_MESSAGE_CHARACTERS = 1000  # of an event
STATUS_ATTEMPTS = 3  # where others change the Skill at the same time
MIN_REFUSAL_RETRY_SECONDS, MAX_REFUSAL_RETRY_SECONDS = 60.0, 90.0


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
        job_queues: JobQueues,
        watch_health: WatchHealth,
        usage_collector: UsageCollector,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._author = author
        self._recorder = recorder
        self._context = context
        self._clock = clock
        self._job_queues = job_queues
        self._watch_health = watch_health
        self._usage_collector = usage_collector
        self._refusals = RefusalTracker()
        self._preflight = Preflight(settings, context)
        self._writer = Writer(cluster, settings.builder_namespace, author.start_call)

    def hold_refused_writes(self, clock: Callable[[], float]) -> None:
        """Hold back what was refused until it is due again, whatever event comes before. `clock` tells seconds."""
        self._refusals = RefusalTracker(clock)

    async def reconcile(self, key: SkillKey) -> float | None:
        """Reconcile one Skill. Return seconds until the next reconcile, or None where only an event can change it."""
        try:
            after = await self._reconcile(key)
        except BaseException:
            self._job_queues.reconcile_failed(key)
            raise
        await self._job_queues.reconcile_ended(key)
        return after

    async def _reconcile(self, key: SkillKey) -> float | None:
        with log_context(skill=key.name, namespace=key.namespace):
            body = await self._cluster.get("Skill", key.namespace, key.name)
            try:
                if body is not None and "deletionTimestamp" not in body["metadata"]:
                    return await self._reconcile_present(key, body)
                self._author.cancel(key)
                self._usage_collector.set_archived(key)
                await self._delete_builds(key)
                if body is not None:  # somebody's finalizer may keep it for ever
                    return await self._end(body)
                self._refusals.forget(key)
            except _Untold as untold:
                return untold.after
            except NotWritten as problem:
                return self._tell_by_event(key, body, problem)
        return None

    def _tell_by_event(self, key: SkillKey, body: Object | None, problem: NotWritten) -> float:
        """Tell once of what no condition can tell: the status itself is refused, or the Skill is being deleted."""
        if (after := self._refusals.quick_retry_seconds(key, problem)) is not None:
            return after
        if self._refusals.is_news(key, problem):
            log.warning("a write is refused: %s", problem.message)
            if body is not None:
                self._recorder.record(body, "Warning", problem.reason, problem.message)
        return self._refusals.retry_seconds(key, problem, MIN_REFUSAL_RETRY_SECONDS)

    async def _end(self, body: Object) -> float | None:
        """End what a Skill runs that is being deleted, and report it. The garbage collector waits until it is gone."""
        skill, _ = parse(body)
        live = await read_live(self._cluster, skill)
        owned = naming.MANAGED | {naming.UID_LABEL: skill.metadata.uid}
        checks = await self._cluster.list("Job", skill.metadata.namespace, owned)
        narrowing = narrow(skill, live, self._settings, ends=True)
        await self._take_away(body, narrowing)
        for job in checks:
            await delete(self._cluster, job)
        conditions = deleting_conditions(body)
        await self._report(skill, body, conditions, Result.waiting(*conditions), {}, self._clock())
        return narrowing.after

    async def _delete_builds(self, key: SkillKey) -> None:
        """Delete the builds of a deleted Skill. No Skill can own them where they live, so they would keep a place."""
        labels = {naming.SKILL_LABEL: naming.truncate(key.name), naming.NAMESPACE_LABEL: key.namespace}
        for job in await self._cluster.list("Job", self._settings.builder_namespace, naming.MANAGED | labels):
            await delete(self._cluster, job)

    async def _reconcile_present(self, key: SkillKey, body: Object) -> float | None:
        now = self._clock()
        skill, unreadable = parse(body)
        narrowed: tuple[ConditionUpdate, ...] = ()
        review_after = REVIEW_SECONDS if skill.spec.secrets else None  # even where nothing can be read
        live = LiveState()
        try:
            live = await read_live(self._cluster, skill)
            reserved = self._preflight.check_namespace(skill)
            blocked = await self._blocked_networks(skill, live)
            narrowing = narrow(skill, live, self._settings, blocked, ends=reserved is not None)
            narrowed, review_after = narrowing.conditions, narrowing.after
            live = await self._take_away(body, narrowing)
            if live.runs:
                await self._isolate_namespace(key, live)
            refusal = reserved or unreadable or check_suspended(skill)
            if refusal is None and (refusal := self._preflight.check_spec(skill, body)) and refusal.conditions:
                self._author.cancel(key)
            if skill.status.observed_generation != skill.metadata.generation:
                self._advise(skill, body, is_refused=refusal is not None)
            if refusal is None:
                refusal = await self._keep_archived(skill, live)
            found: Observed | Result = refusal or await self._prepare(skill, body, live, now)
        except (NotWritten, Forbidden, Invalid) as problem:
            found = self._refused(problem, skill, api.GENERATED, now)
        try:
            if isinstance(found, Observed):
                after = await self._run_stages(found, narrowed, now)
            else:
                after = found.after
                await self._report_refusal(skill, body, live, narrowed, found, now)
        except NotWritten as problem:  # of the status itself
            after = self._tell_by_event(key, body, problem)
        return min((each for each in (after, review_after) if each is not None), default=None)

    async def _keep_archived(self, skill: Skill, live: LiveState) -> Result | None:
        """Return the state of an archived Skill, of which no more is left than that needs; None where it is in use.

        Raises Conflict where a call has just scaled its Deployment up.
        """
        archive, key = skill.status.archive, _key(skill)
        if archive is None:
            self._usage_collector.set_archived(key)
            return None
        self._usage_collector.set_archived(key, skill.metadata.uid, archive.token)
        if self._restore_cause(skill, live.deployment):
            return None
        await delete_archived(self._cluster, skill, live)
        return Result.done(*archived_conditions(skill))

    def _restore_cause(self, skill: Skill, deployment: Object | None) -> str:
        """Return in words why an archived Skill comes back; empty while it does not."""
        archive = skill.status.archive
        called = archive is not None and self._usage_collector.asks_to_restore(skill.metadata.uid, archive.token)
        return restore_cause(skill, deployment, called=called)

    def _advise(self, skill: Skill, body: Object, *, is_refused: bool) -> None:
        """Record events about what a new spec lost on its way, and about what it says in vain if it is not refused."""
        if dropped := find_dropped_nulls(body):
            message = (
                f"client-side apply dropped the null of {', '.join(dropped)}; use kubectl apply --server-side, which "
                "keeps it"
            )
            self._recorder.record(body, "Warning", "NullsDropped", printable(message, MAX_MESSAGE_CHARACTERS))
        if not is_refused and (lines := [str(problem) for problem in advice(skill.spec)]):
            self._recorder.record(body, "Warning", "KeywordIgnored", "\n".join(lines))

    def _refused(
        self, problem: NotWritten | Forbidden | Invalid, skill: Skill, condition: str, now: datetime
    ) -> Result:
        """Return the result of what was refused: a write, or a request of the operator. Raises _Untold.

        No event announces that it is allowed now, so that it is tried again.
        """
        if not isinstance(problem, NotWritten):
            message = f"the cluster refuses a request of the operator: {problem.message}"
            problem = NotWritten(OBJECT_REFUSED, message, problem)
        key = _key(skill)
        if (after := self._refusals.quick_retry_seconds(key, problem)) is not None:
            raise _Untold(after)
        known = api.get_condition(skill.status.conditions, condition)
        seconds, message = MIN_REFUSAL_RETRY_SECONDS, problem.message
        if known is not None and known.reason == problem.reason:
            seconds = max(seconds, (now - known.last_transition_time).total_seconds())  # doubles the time since then
            message = known.message if equal_words(known.message, message) else message
        after = self._refusals.retry_seconds(key, problem, min(MAX_REFUSAL_RETRY_SECONDS, seconds))
        update = ConditionUpdate(condition, "False", problem.reason, message)
        taken = problem.reason == NAME_TAKEN
        return Result.stalled(update, after=after) if taken else Result.failed(update, retry_after=after)

    async def _prepare(self, skill: Skill, body: Object, live: LiveState, now: datetime) -> Observed | Result:
        """Return what the stages build on, or what is missing."""
        found = await self._preflight.check_installation(skill)
        if isinstance(found, Result):
            return found
        if not live.runs:
            await self._isolate_namespace(_key(skill), live)
        return await self._observe(skill, body, live, found, now)

    async def _blocked_networks(self, skill: Skill, live: LiveState) -> tuple[BlockedNetwork, ...]:
        """Return the networks that the live policy must not open, as far as they are known."""
        if not live.opens_networks or not skill.spec.networks:
            return ()
        try:
            return await self._context.blocked_networks()
        except (ClusterNetworksUnknown, ClusterError):  # the end of a Secret does not wait for them
            return ()

    async def _take_away(self, body: Object, narrowing: Narrowing) -> LiveState:
        """Write what narrowing decided, and return what still runs. Raises NotWritten, after all else was written."""
        for event in narrowing.events:
            self._recorder.record(body, event.type, event.reason, event.message)
        writes: list[Awaitable[object]] = [apply_changed(self._cluster, narrowing.policy)] if narrowing.policy else []
        writes += [self._end_pods(narrowing)]
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return narrowing.remaining

    async def _end_pods(self, narrowing: Narrowing) -> None:
        """Delete what makes pods, then evict the pods: else others took their place."""
        for ended in narrowing.delete:
            await delete(self._cluster, ended)
        for pod in narrowing.ending:
            await evict(self._cluster, pod, END_SECONDS)

    async def _report_refusal(
        self,
        skill: Skill,
        body: Object,
        live: LiveState,
        narrowed: Sequence[ConditionUpdate],
        refusal: Result,
        now: datetime,
    ) -> None:
        """Report why no stage is run. What still runs is told of its isolation all the same."""
        if not refusal.conditions and not narrowed:
            return
        conditions = [*narrowed, *refusal.conditions]
        if live.deployment is not None:
            node_features, verdict = await self._context.node_features(), self._context.isolation()
            isolation = self._settings.isolation
            user_namespace = node_features.user_namespace(isolation, skill.spec.runtime_class_name)
            conditions.insert(0, isolation_condition(self._settings, live.foreign_policies, verdict, user_namespace))
        await self._report(skill, body, conditions, refusal, {}, now)

    async def _isolate_namespace(self, key: SkillKey, live: LiveState) -> None:
        """Apply what isolates a namespace before its first pod is made."""
        check = partial(self._refusals.check, key)
        policy = default_deny(key.namespace)
        await apply_changed(self._cluster, policy, live.find_policy(policy["metadata"]["name"]), check)
        if self._settings.priority_class_name:
            await apply_changed(self._cluster, quota(self._settings, key.namespace), check=check)

    async def _observe(
        self, skill: Skill, body: Object, live: LiveState, prerequisites: Prerequisites, now: datetime
    ) -> Observed:
        networks = prerequisites.blocked_networks
        node_features, isolation = await self._context.node_features(), self._context.isolation()
        egress_proxy_ready = await self._context.start_egress_proxy(networks) if skill.spec.hosts else True
        observed = await observe(
            self._cluster,
            self._settings,
            body,
            live,
            prerequisites,
            now,
            isolation,
            node_features,
            egress_proxy_ready,
        )
        self._watch_health.observe_read(observed.watched())
        observed = observed.with_pinned_revision()
        observed = replace(observed, exceeded_limit=self._usage_collector.exceeded_limit(skill.metadata.uid))
        if not may_scale_to_zero(observed, now):
            return observed
        age = 0 if drain_token(observed) else USAGE_AGE_SECONDS
        return replace(observed, usage=await self._usage_collector.snapshot(age))

    async def _run_stages(self, observed: Observed, narrowed: Sequence[ConditionUpdate], now: datetime) -> float | None:
        """Run the stages until one is not done, and those that tolerate it; then write the status once."""
        skill, key = observed.skill, _key(observed.skill)
        context = StageContext(self._settings, now, self._author, self._job_queues, self._context.is_image_lost)
        progress = Progress(types=types_module(skill.spec.input, skill.spec.output))
        progress.status["approval_request"] = None  # unless the review stage asks now
        answered = find_answered(skill, now)  # before any stage lets its code go on
        observed, kept = with_rejection(observed, answered)
        progress.status.update(kept)
        conditions = [*narrowed]
        if skill.status.archive is not None:
            progress.status["archive"] = None
            if observed.deployment is None:
                conditions.append(restoring_condition(self._restore_cause(skill, observed.deployment)))
        delays: list[float] = []
        blocked_at: Stage | None = None
        refused = is_applied = False
        last = Result.done()
        for stage in select_stages(skill):
            if blocked_at is not None and blocked_at.name not in stage.tolerates:
                continue
            result = stage.decide(observed, progress, context)
            try:
                if result.create and observed.registry.problem is not None:  # nothing could be pulled or pushed
                    result = registry_away.hold(stage.condition, observed.registry.problem)
                elif stage.confirm is not None:
                    result = await stage.confirm(result, observed, progress, context)
                observed = await self._writer.write(observed, result, partial(self._refusals.check, key))
            except (NotWritten, Forbidden, Invalid) as problem:
                result, refused = self._refused(problem, skill, stage.condition, now), True
            for event in result.events:
                self._recorder.record(observed.body, event.type, event.reason, event.message)
            conditions += result.conditions
            delays += [] if result.after is None else [result.after]
            is_applied = is_applied or (stage.name == "run" and not refused)
            if not result.is_done:
                blocked_at, last = stage, result
        outcome = "stalled" if last.is_stalled else "done" if last.is_done else "waiting"
        metrics.record_reconcile(blocked_at.name if blocked_at else "run", outcome)
        if progress.scaled_to_zero:
            metrics.record_scale_to_zero()
        progress.status["serving"] = served_contract(observed, progress, is_applied=is_applied)
        progress.status["earlier_requests"] = earlier_requests(skill, progress.status["approval_request"], answered)
        self._tell_late(observed.body, answered, conditions)
        await self._report(skill, observed.body, conditions, last, progress.status, now)
        if not refused:
            self._refusals.forget(key)
        return min(delays, default=None)

    def _tell_late(self, body: Object, answered: Rejection | None, conditions: Sequence[ConditionUpdate]) -> None:
        """Record an event about a rejection that no condition shows, since its code waits no longer."""
        if answered is not None and all(update.reason != REJECTED for update in conditions):
            self._recorder.record(body, "Warning", REJECTED, describe_rejection(answered))

    async def _report(
        self,
        skill: Skill,
        body: Object,
        conditions: Sequence[ConditionUpdate],
        last: Result,
        patch: StatusPatch,
        now: datetime,
    ) -> None:
        """Write the status, if it changed, and an event for each condition that did.

        Raises NotWritten where that is refused.
        """
        status = summarize(skill, conditions, last, now, patch)
        wire = status.wire()
        if body.get("status", {}) == wire:
            return
        is_deleting = skill.metadata.deletion_timestamp is not None
        meta = {"name": skill.metadata.name, "namespace": skill.metadata.namespace}
        wanted: Object = {"apiVersion": naming.API_VERSION, "kind": "Skill", "metadata": meta, "status": wire}
        self._refusals.check(_key(skill), wanted)
        with refusals_of(wanted):
            if not await self._write_status(wanted, body):
                return
        _count_archive(skill.status, status)
        for changed in transitions(skill.status.conditions, status.conditions):
            self._announce(body, changed, status)
        if is_deleting:  # its generation is new, and its spec is not
            return
        if skill.status.observed_generation != skill.metadata.generation and (changes := describe_changes(skill)):
            self._recorder.record(body, "Normal", "ToolAdapted", changes)

    async def _write_status(self, wanted: Object, body: Object) -> bool:
        """Write the status of this very object. Return False where it is gone. Raises ClusterError.

        The next Skill of its name may be there by now, and must not get the status of this one. A uid would not do,
        since the API server does not compare that of a status.
        """
        read, attempts = body["metadata"], 0
        while True:
            versioned = wanted["metadata"] | {"resourceVersion": read["resourceVersion"]}
            try:
                await self._cluster.apply_status(wanted | {"metadata": versioned})
            except NotFound:
                return False
            except Conflict:  # a person may have annotated it meanwhile
                attempts += 1
                live = await self._cluster.get("Skill", read["namespace"], read["name"])
                if live is None or live["metadata"]["uid"] != read["uid"]:
                    return False
                if attempts == STATUS_ATTEMPTS:
                    raise
                read = live["metadata"]
            else:
                return True

    def _announce(self, body: Object, changed: Condition, status: SkillStatus) -> None:
        warn = changed.status == "False" and changed.type != api.ACTIVE and changed.reason != DELETING
        if changed.reason == "BuildFailed" and changed.type == api.BUILT:
            metrics.record_build("failed")
        log.info(
            "condition changed",
            extra={"stage": changed.type, "reason": changed.reason, "revision": status.revision},
        )
        self._recorder.record(body, "Warning" if warn else "Normal", changed.reason, changed.message or changed.type)


def _count_archive(before: SkillStatus, after: SkillStatus) -> None:
    if before.archive is None and after.archive is not None:
        metrics.record_archive()
    if before.archive is not None and after.archive is None:
        metrics.record_restore()


def _key(skill: Skill) -> SkillKey:
    return SkillKey(skill.metadata.namespace, skill.metadata.name)


class _Untold(Exception):
    """_Untold ends a reconcile whose refusal nobody needs to read. It comes again in `after` seconds."""

    def __init__(self, after: float) -> None:
        super().__init__()
        self.after = after
