"""The run stage applies the Deployment and all around it, what isolates its pods first."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from skill_operator import naming
from skill_operator.api.conditions import ACTIVE, DEPLOYED, ISOLATED, get_condition, is_true
from skill_operator.api.granted_hosts import deployed_hosts, granted_hosts
from skill_operator.api.usage_report import ExceededLimit
from skill_operator.api.v1alpha1 import Revision
from skill_operator.isolation.cluster_networks import FRESH_SECONDS
from skill_operator.isolation.monitor import PROVEN
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.reconcile import rollout
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import POD_START_SECONDS, Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Ref, Result
from skill_operator.reconcile.stages.isolation import isolated_condition
from skill_operator.resources import kept_revision
from skill_operator.resources.contract import COMPONENT as CONTRACT
from skill_operator.resources.contract import config_map, fingerprint
from skill_operator.resources.network_policy import skill_policy
from skill_operator.resources.service import service
from skill_operator.resources.service_account import service_account
from skill_operator.settings import Settings

EGRESS_PROXY_RETRY_SECONDS = 1.0
POD_PROBLEM_RETRY_SECONDS = 30.0
_SEVERAL = frozenset({CONTRACT, naming.KEPT_REVISION})  # components of ConfigMaps of which a Skill may have several


def run(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Run the revision. Done when a pod of this revision and contract answers; asleep (scaled to zero) is as good."""
    kept = None
    if observed.pinned is None:  # the spec is what the code was accepted under
        kept = kept_revision.config_map(observed.skill, progress.revision, progress.source)
    _record_revision(observed, progress, context, kept)
    settings, live = context.settings, observed.deployment
    wanted = (*_wanted(observed, progress, settings), *filter(None, (kept,)))
    delete = _unneeded_maps(observed, progress, wanted)
    # A node may join the cluster, and what is granted must not open a way to it.
    after = FRESH_SECONDS if observed.skill.spec.egress else None
    if live is None and not observed.egress_proxy_ready:
        message = f"the egress proxy, deployment {settings.egress_proxy.deployment}, is not available yet"
        starting = ConditionUpdate(DEPLOYED, "Unknown", "EgressProxyStarting", message)
        return Result.waiting(starting, after=EGRESS_PROXY_RETRY_SECONDS)
    if live is not None and live["spec"].get("replicas") == 0:
        return Result.done(
            ConditionUpdate(DEPLOYED, "True", "Deployed", "asleep; the next call wakes it"),
            ConditionUpdate(ACTIVE, "False", "Asleep", "no pod runs"),
            isolated_condition(observed, settings),
            after=after,
            apply=wanted,
            delete=delete,
        )
    pods = [pod for pod in observed.pods if _is_current(pod, observed, progress)]
    if any(pod_status.is_ready(pod) for pod in pods):
        active, news_seconds = _active_condition(observed, context.now)
        return Result.done(
            ConditionUpdate(DEPLOYED, "True", "Deployed", _describe(observed, progress)),
            active,
            isolated_condition(observed, settings),
            after=min(filter(None, (after, news_seconds)), default=None),
            apply=wanted,
            delete=delete,
        )
    if _is_waking(observed, progress) and not any(observed.problem(pod) for pod in pods):
        return Result.done(
            ConditionUpdate(DEPLOYED, "True", "Deployed", f"revision {naming.shorten(progress.revision)} is waking"),
            ConditionUpdate(ACTIVE, "False", "Waking", "a pod is starting"),
            after=POD_START_SECONDS,
            apply=wanted,
        )
    return replace(_not_ready(observed, pods, wanted, settings), evict=tuple(filter(observed.could_pull_now, pods)))


def _describe(observed: Observed, progress: Progress) -> str:
    """Return which revision answers, and whether it takes over without a trial."""
    label = naming.shorten(progress.revision)
    if rollout.is_granted(observed) and observed.skill.spec.examples:
        return (
            f"revision {label} answers; its pods are never tried with the examples, since egress or secrets are granted"
        )
    return f"revision {label} answers"


def _record_revision(observed: Observed, progress: Progress, context: StageContext, kept: Object | None) -> None:
    """Put the revision into the status, at the head of the history."""
    skill, meta = observed.skill, observed.skill.metadata
    label, identity = naming.shorten(progress.revision), (progress.revision, progress.image)
    past = [r for r in skill.status.history if r.revision_digest != progress.revision]
    known = next((r for r in skill.status.history if (r.revision_digest, r.image) == identity), None)
    entry = known or Revision(revision=label, revision_digest=progress.revision, image=progress.image, time=context.now)
    if progress.provenance is not None:
        entry = entry.model_copy(update={"provenance": progress.provenance})
    if progress.review is not None:
        entry = entry.model_copy(update={"review": progress.review})
    if observed.pinned is None:
        digest = "" if kept is None else kept_revision.content_digest(kept)
        approved = progress.status.get("approved")
        entry = entry.model_copy(update={"content_digest": digest, "approved": approved})
    progress.status["url"] = f"{context.settings.gateway_url}/v1/skills/{meta.namespace}/{meta.name}"
    progress.status["revision"], progress.status["revision_digest"] = label, progress.revision
    progress.status["image"] = progress.image
    progress.status["history"] = [entry, *past][: skill.spec.revision_history_limit + 1]


def _unneeded_maps(observed: Observed, progress: Progress, wanted: tuple[Object, ...]) -> tuple[Ref, ...]:
    """Return what was kept of revisions that left the history, and contracts that no pod has any more."""
    meta = observed.skill.metadata
    history = progress.status.get("history", [])
    needed = {naming.kept_revision(meta.name, meta.uid, entry.revision_digest) for entry in history}
    needed |= {obj["metadata"]["name"] for obj in wanted if obj["kind"] == "ConfigMap"}
    specs = [pod.get("spec", {}) for pod in observed.pods]
    specs += [] if observed.deployment is None else [observed.deployment["spec"].get("template", {}).get("spec", {})]
    volumes = [volume for spec in specs for volume in spec.get("volumes", [])]
    needed |= {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    return tuple(
        Ref("ConfigMap", meta.namespace, name)
        for name, obj in observed.config_maps.items()
        if name not in needed and obj["metadata"]["labels"].get(naming.COMPONENT) in _SEVERAL
    )


def _wanted(observed: Observed, progress: Progress, settings: Settings) -> tuple[Object, ...]:
    skill = observed.skill
    return (
        skill_policy(skill, settings, observed.blocked_networks, observed.outdated),
        service_account(skill),
        config_map(skill),
        rollout.make_deployment(observed, progress, settings),
        service(skill),
    )


def _is_waking(observed: Observed, progress: Progress) -> bool:
    """Tell whether the Skill wakes from sleep, which is as healthy: this very revision has answered before."""
    status = observed.skill.status
    active = get_condition(status.conditions, ACTIVE)
    slept = active is not None and active.status == "False" and status.revision_digest == progress.revision
    deployed = is_true(status.conditions, DEPLOYED, observed.skill.metadata.generation)
    return slept and deployed and pod_status.replica_failure(observed.deployment) is None


def _active_condition(observed: Observed, now: datetime) -> tuple[ConditionUpdate, float | None]:
    """Return Active of a Skill that answers, with what its pods or calls went through lately, and for how long yet."""
    incidents = pod_status.incidents(observed.pods)
    if observed.exceeded_limit is not None:
        limit, seconds_ago = observed.exceeded_limit
        incidents.append(_exceeded_limit(observed, limit, now - timedelta(seconds=seconds_ago)))
    at, latest = max(incidents, key=lambda each: each[0], default=(now, None))
    left = pod_status.INCIDENT_MEMORY_SECONDS - (now - at).total_seconds()
    if latest is None or left <= 0:
        return ConditionUpdate(ACTIVE, "True", "Awake", ""), None
    return ConditionUpdate(ACTIVE, "True", latest.reason, latest.message), left


def _exceeded_limit(observed: Observed, limit: ExceededLimit, at: datetime) -> tuple[datetime, pod_status.PodProblem]:
    """Return the incident to the minute, which is enough: to the second, each call that fails would be a write."""
    timeout = f"{observed.skill.spec.call_timeout_seconds} s"
    reason, event, advice = {
        "timeout": (
            "CallTimeout",
            f"was not answered in {timeout}",
            "raise spec.callTimeoutSeconds, or ask for less",
        ),
        "out-of-memory": ("OOMKilled", "used more memory than it may", "raise spec.resources.limits.memory"),
        "disk-full": ("DiskFull", "filled /tmp", "raise spec.resources.limits.ephemeral-storage"),
        "too-many-processes": ("TooManyProcesses", "started more processes and threads than it may", "use fewer"),
    }[limit]
    return at, pod_status.PodProblem(
        reason, f"the Skill still works; a call {event}, last at {at:%Y-%m-%dT%H:%MZ}: {advice}"
    )


def _is_current(pod: Object, observed: Observed, progress: Progress) -> bool:
    """Tell whether the pod is one of this revision and contract, and may call all hosts that are granted now."""
    meta, skill = pod["metadata"], observed.skill
    labels, annotations = meta["labels"], meta.get("annotations", {})
    return (
        bool(labels.get(naming.COMPONENT) == "skill")
        and bool(annotations.get(naming.REVISION_DIGEST) == progress.revision)
        and bool(annotations.get(naming.CONTRACT_HASH) == fingerprint(skill))
        and granted_hosts(skill.spec) <= deployed_hosts(meta)
    )


def _not_ready(observed: Observed, pods: list[Object], wanted: tuple[Object, ...], settings: Settings) -> Result:
    # While isolation is unproven, no pod proves its own.
    doubt = () if observed.isolation == PROVEN else (isolated_condition(observed, settings),)
    for pod in pods:
        if (problem := observed.problem(pod)) is not None:
            return _pod_failed(problem, doubt, wanted)
    if (message := pod_status.replica_failure(observed.deployment)) is not None:
        return _pod_failed(pod_status.explain_refusal(message), doubt, wanted)
    starting = ConditionUpdate(DEPLOYED, "Unknown", "Starting", "a pod is starting")
    return Result.waiting(starting, *doubt, after=POD_START_SECONDS, apply=wanted)


def _pod_failed(
    problem: pod_status.PodProblem, doubt: tuple[ConditionUpdate, ...], wanted: tuple[Object, ...]
) -> Result:
    failed = [ConditionUpdate(DEPLOYED, "False", problem.reason, problem.message), *doubt]
    if problem.reason == "EgressNotBlocked":
        failed.append(ConditionUpdate(ISOLATED, "False", problem.reason, problem.message))
    if problem.lasting:
        return Result.stalled(*failed, after=POD_PROBLEM_RETRY_SECONDS, apply=wanted)
    return Result.failed(*failed, retry_after=POD_PROBLEM_RETRY_SECONDS, apply=wanted)
