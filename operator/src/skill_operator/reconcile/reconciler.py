"""One pass over one Skill: observe, run the stages in order, write what they want, report once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from skill_operator import naming
from skill_operator.api import conditions as api
from skill_operator.api.v1alpha1 import Revision, Skill, SkillSpec
from skill_operator.api.validation import SpecProblem, never_granted, problems
from skill_operator.generation.store import source_map
from skill_operator.generation.typed_dicts import types_module
from skill_operator.isolation.cluster_networks import ClusterNetworksUnknown
from skill_operator.k8s import pod_status
from skill_operator.k8s.errors import Invalid, NotFound
from skill_operator.k8s.events import Recorder
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.observability.logs import context
from skill_operator.reconcile.build_queue import BuildQueue
from skill_operator.reconcile.context import ReconcileContext
from skill_operator.reconcile.observed import Observed, observe
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result
from skill_operator.reconcile.stages.build import build
from skill_operator.reconcile.stages.check import check
from skill_operator.reconcile.stages.grants import grants
from skill_operator.reconcile.stages.isolation import caged
from skill_operator.reconcile.stages.review import review
from skill_operator.reconcile.stages.run import run
from skill_operator.reconcile.stages.scale import mark_of, may_sleep, scale
from skill_operator.reconcile.stages.source import Author
from skill_operator.reconcile.status import summarize, transitions
from skill_operator.reconcile.usage_collector import UsageCollector
from skill_operator.reconcile.writer import apply_changed, create_absent
from skill_operator.registry import client
from skill_operator.registry.client import BaseImage, RegistryUnavailable
from skill_operator.resources import build as build_resource
from skill_operator.resources.network_policy import default_deny
from skill_operator.resources.quota import quota
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
REGISTRY_WAIT = 5.0
PICTURE_AGE = 1.0
LINE_WAIT = 15.0  # for the number in the status alone: whose turn it is, is woken
RANGES_WAIT = 60.0


class Reconciler:
    """Level-triggered: a pass asks not what woke it, and a second one over an unchanged world writes nothing."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        author: Author,
        recorder: Recorder,
        around: ReconcileContext,
        clock: Callable[[], datetime],
        slots: BuildQueue,
        watch_health: WatchHealth,
        gateways: UsageCollector,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._author = author
        self._recorder = recorder
        self._around = around
        self._clock = clock
        self._slots = slots
        self._watch_health = watch_health
        self._gateways = gateways
        self._base: BaseImage | None = None

    async def reconcile(self, key: SkillKey) -> float | None:
        """Returns seconds until the next look, or None where only an event can change anything."""
        try:
            after = await self._pass(key)
        except BaseException:
            self._slots.failed(key)
            raise
        await self._slots.ended(key)
        return after

    async def _pass(self, key: SkillKey) -> float | None:
        body = await self._cluster.get("Skill", key.namespace, key.name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            self._author.forget(key.namespace, key.name)
            await self._abandon(key)
            return None
        with context(skill=key.name, namespace=key.namespace):
            return await self._present(body)

    async def _abandon(self, key: SkillKey) -> None:
        """Its builds have no owner, since no Skill can own them where they live: they would go on, and hold a place."""
        mine = {naming.SKILL_LABEL: naming.truncate(key.name), naming.NAMESPACE_LABEL: key.namespace}
        for job in await self._cluster.list("Job", self._settings.builder_namespace, mine):
            await self._cluster.delete("Job", self._settings.builder_namespace, job["metadata"]["name"])

    async def _present(self, body: Object) -> float | None:
        now = self._clock()
        try:
            skill = Skill.model_validate(body)
        except ValidationError as error:  # stored before a rule was there; the API server refuses it today
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            log.warning("a stored Skill does not fit its own schema", extra={"where": where})
            bare = Skill.model_validate({**body, "spec": {"description": "?", "input": {}, "output": {}}, "status": {}})
            return await self._report(bare, body, [], _invalid(f"{where}: {first['msg']}"), Progress(), now)
        if skill.spec.suspend:
            note = ConditionUpdate(
                api.READY, "False", "Suspended", "spec.suspend is true: nothing is changed until it is false"
            )
            return await self._report(skill, body, [], Result((note,), stalled=True), Progress(), now)
        if found := [*problems(skill.spec), *self._not_allowed(skill.spec)]:
            self._author.forget(skill.metadata.namespace, skill.metadata.name)
            text = "\n".join(f"{problem.path}: {problem.message}" for problem in found)
            return await self._report(skill, body, [], _invalid(text), Progress(), now)
        try:
            blocked_networks = await self._around.blocked_networks() if skill.spec.egress else ()
        except ClusterNetworksUnknown as error:
            note = ConditionUpdate(api.GENERATED, "False", "ClusterRangesUnknown", f"spec.egress: {error}")
            return await self._report(
                skill, body, [], Result((note,), stalled=True, after=RANGES_WAIT), Progress(), now
            )
        if found := never_granted(skill.spec, blocked_networks):
            return await self._report(skill, body, [], _invalid("\n".join(map(str, found))), Progress(), now)
        try:
            base = self._base = self._base or await self._around.base()
        except RegistryUnavailable as error:
            log.warning("no base image yet: %s", error)
            if api.is_true(skill.status.conditions, api.READY, skill.metadata.generation):
                return REGISTRY_WAIT  # it runs; what it was made of is needed for changes alone
            note = ConditionUpdate(api.GENERATED, "Unknown", error.reason, str(error))
            return await self._report(skill, body, [], Result((note,), after=REGISTRY_WAIT), Progress(), now)
        await self._shared(skill.metadata.namespace)
        nodes, cage = await self._around.nodes(), self._around.cage()
        proxied = await self._around.proxy(blocked_networks) if skill.spec.hosts else True
        seen = await observe(self._cluster, self._settings, body, base, now, blocked_networks, cage, nodes, proxied)
        self._watch_health.observe_read(seen.watched())
        seen = replace(seen, failure=self._gateways.failure(skill.metadata.uid))
        return await self._stages(seen, now)

    def _not_allowed(self, spec: SkillSpec) -> Iterator[SpecProblem]:
        """A Skill must not choose a weaker cage than the installation's."""
        allowed = {"", self._settings.isolation.runtime_class_name, *self._settings.isolation.runtime_class_names}
        if spec.runtime_class_name not in allowed:
            names = ", ".join(sorted(allowed - {""})) or "none"
            message = f"is not one of those that isolation.runtimeClassNames of the chart allows: {names}"
            yield SpecProblem("spec.runtimeClassName", message)
        if not self._settings.egress_proxy.address:
            for index, host, _ in spec.hosts:
                message = (
                    f"{host} is called through the egress proxy, which is not there: set egressProxy.enabled: true "
                )
                yield SpecProblem(f"spec.egress[{index}].host", f"{message}in the chart's values, or grant a cidr")

    async def _stages(self, seen: Observed, now: datetime) -> float | None:
        skill, work = seen.skill, Progress()
        work.types = types_module(skill.spec.input, skill.spec.output)
        findings: list[ConditionUpdate] = []
        last = Result(())
        asked = may_sleep(seen, now)
        picture = await self._gateways.look(0 if mark_of(seen) else PICTURE_AGE) if asked else None
        looks: list[float] = []
        for stage in (_grants, self._source, caged(self._settings), self._check, review, self._build, self._run):
            last = stage(seen, work, now)
            last = await self._unless_lost(last, work)
            last = await self._in_turn(seen, last)
            findings += last.findings
            seen = await self._keep(seen, last)
            await self._write(last)
            for note in last.notes:
                self._recorder.event(seen.body, note.type, note.reason, note.message)
            looks += [] if last.after is None else [last.after]
            if not last.done:
                metrics.record_reconcile(stage.__name__.strip("_"), "stalled" if last.stalled else "waiting")
                break
        else:
            metrics.record_reconcile("run", "done")
        if last.done or stage != self._run:  # what an earlier revision left running sleeps as well
            rest = scale(seen, work, now, picture)
            await self._write(rest)
            if "last_active_time" in work.status:
                metrics.record_scale_to_zero()
            findings += rest.findings
            looks += [] if rest.after is None else [rest.after]
        last = replace(last, after=min(looks, default=None))
        return await self._report(skill, seen.body, findings, last, work, now)

    async def _unless_lost(self, result: Result, work: Progress) -> Result:
        """A registry may lose images, by a disk or a sweep too many: what cannot be pulled is then built again."""
        unpulled = any(found.reason == pod_status.PULL_FAILED for found in result.findings)
        if not unpulled or not work.image or not await client.is_lost(self._settings, work.image):
            return result
        work.status |= {"image": "", "history": []}
        note = ConditionUpdate(
            api.DEPLOYED, "False", "ImageLost", f"the registry no longer has {work.image}: it is built again"
        )
        return Result((note,), after=0.1)

    async def _in_turn(self, seen: Observed, result: Result) -> Result:
        """Builds are few at once, however many Skills want one."""
        if all(wanted["metadata"]["namespace"] != self._settings.builder_namespace for wanted in result.create):
            return result
        meta = seen.skill.metadata
        if not (place := await self._slots.ask(SkillKey(meta.namespace, meta.name))):
            return result
        limit = self._settings.build.concurrency
        text = f"number {place} of those that wait for a build; {limit} run at once (build.concurrency of the chart)"
        return Result((ConditionUpdate(api.BUILT, "Unknown", "Queued", text),), after=LINE_WAIT + place)

    def _source(self, seen: Observed, work: Progress, now: datetime) -> Result:
        return self._author.source(seen, work, now)

    def _check(self, seen: Observed, work: Progress, now: datetime) -> Result:
        result, report = check(seen, work, self._settings, now)
        if report is None:
            return result
        judged = self._author.judged(seen, work, report, result, now)
        if judged.done:  # for people to read, and to approve
            judged = replace(judged, apply=(*judged.apply, source_map(seen.skill, work.source)))
        return judged

    def _build(self, seen: Observed, work: Progress, now: datetime) -> Result:
        result = build(seen, work, self._settings, now)
        if result.done and work.image != seen.skill.status.image:
            for job in seen.builds.values():
                for pod in seen.pods_of(job["metadata"]["name"]):
                    if (end := pod_status.terminated(pod)) is not None and end.get("exitCode") == 0:
                        began = pod_status.moment(job["metadata"]["creationTimestamp"])
                        metrics.observe_build_duration((pod_status.moment(end["finishedAt"]) - began).total_seconds())
        return result

    def _run(self, seen: Observed, work: Progress, now: datetime) -> Result:
        result = run(seen, work, self._settings, now)
        work.status |= {"revision": work.revision, "image": work.image}
        past = [r for r in seen.skill.status.history if r.revision != work.revision]
        known = next((r for r in seen.skill.status.history if r.revision == work.revision), None)
        entry = known or Revision(revision=work.revision, image=work.image, time=now)
        work.status["history"] = [entry, *past][: seen.skill.spec.revision_history_limit + 1]
        return result

    async def _shared(self, namespace: str) -> None:
        """The cage of a namespace stands before its first pod."""
        await apply_changed(self._cluster, default_deny(namespace))
        if self._settings.priority_class_name:
            await apply_changed(self._cluster, quota(self._settings, namespace))

    async def _keep(self, seen: Observed, result: Result) -> Observed:
        """The record first, and nothing else of the pass if somebody wrote it meanwhile; then the call that it tells
        of, before anything can come in between."""
        for wanted in result.record:
            known = "resourceVersion" in wanted["metadata"]
            live = await (self._cluster.apply(wanted) if known else self._cluster.create(wanted))
            if live["metadata"]["name"] == naming.ACCOUNT:
                seen = replace(seen, account=live)
            else:
                seen = replace(seen, ledger=live)
        if result.call is not None:
            self._author.start(result.call)
        return seen

    async def _write(self, result: Result) -> None:
        for patch in result.patch:
            try:
                await self._cluster.patch(patch.kind, patch.namespace, patch.name, list(patch.operations))
            except (Invalid, NotFound) as error:  # its event brings the next pass
                log.info("not patched, for it has changed: %s", error.message)
        for ref in result.delete:
            await self._cluster.delete(ref.kind, ref.namespace, ref.name)
        for wanted in result.apply:
            await apply_changed(self._cluster, wanted)
        for wanted in result.create:
            made = await create_absent(self._cluster, wanted)
            if made is not None and made["metadata"]["namespace"] == self._settings.builder_namespace:
                for context_map in result.apply:  # a build's context goes with its Job
                    meta = context_map["metadata"] | {"ownerReferences": [build_resource.owner(made)]}
                    await self._cluster.apply(context_map | {"metadata": meta})

    async def _report(
        self, skill: Skill, body: Object, findings: list[ConditionUpdate], last: Result, work: Progress, now: datetime
    ) -> float | None:
        status = summarize(skill, findings or list(last.findings), last, now, **work.status)
        wire = status.wire()
        if body.get("status", {}) != wire:
            stamp = {"name": skill.metadata.name, "namespace": skill.metadata.namespace}
            with contextlib.suppress(NotFound):  # deleted meanwhile
                await self._cluster.apply_status(
                    {"apiVersion": naming.API_VERSION, "kind": "Skill", "metadata": stamp, "status": wire}
                )
            for changed in transitions(skill.status.conditions, status.conditions):
                warn = changed.status == "False" and changed.type != api.ACTIVE
                if changed.type == api.BUILT and changed.status != "Unknown":
                    metrics.record_build("built" if changed.status == "True" else "failed")
                log.info(
                    "condition changed",
                    extra={"stage": changed.type, "reason": changed.reason, "revision": status.revision},
                )
                self._recorder.event(
                    body, "Warning" if warn else "Normal", changed.reason, changed.message or changed.type
                )
        return last.after


def _invalid(text: str) -> Result:
    return Result((ConditionUpdate(api.GENERATED, "False", "SpecInvalid", text),), stalled=True)


def _grants(seen: Observed, work: Progress, now: datetime) -> Result:
    return grants(seen)
