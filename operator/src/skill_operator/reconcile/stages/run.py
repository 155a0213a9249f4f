"""run: the Deployment and all around it, the cage first."""

from __future__ import annotations

from datetime import datetime, timedelta

from skill_operator import naming
from skill_operator.api.conditions import ACTIVE, DEPLOYED, ISOLATED, get_condition, is_true
from skill_operator.api.usage_report import ExceededLimit
from skill_operator.isolation.cluster_networks import FRESH_SECONDS
from skill_operator.isolation.monitor import PROVEN
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.reconcile.observed import LATE, Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result
from skill_operator.reconcile.stages.isolation import isolated
from skill_operator.resources.contract import config_map, fingerprint
from skill_operator.resources.deployment import deployment
from skill_operator.resources.network_policy import skill_policy
from skill_operator.resources.service import service
from skill_operator.resources.service_account import service_account
from skill_operator.settings import Settings

PROXY_WAIT = 1.0


def run(seen: Observed, work: Progress, settings: Settings, now: datetime) -> Result:
    """Ready when a pod of this revision and contract answers; asleep (scaled to zero) is as good."""
    skill = seen.skill
    live = seen.deployment
    wanted = (
        skill_policy(skill, settings, seen.blocked_networks),
        service_account(skill),
        config_map(skill),
        deployment(
            skill,
            settings,
            work.revision,
            work.image,
            replicas=1 if live is None else None,
            own_users=seen.users(settings).own,
        ),
        service(skill),
    )
    meta = skill.metadata
    after = FRESH_SECONDS if skill.spec.egress else None  # a node may join, and must stay shut
    work.status["url"] = f"{settings.gateway_url}/v1/skills/{meta.namespace}/{meta.name}"
    if live is None and not seen.proxied:
        why = f"deployment {settings.egress_proxy.deployment}, which hosts are called through, does not answer yet"
        return Result((ConditionUpdate(DEPLOYED, "Unknown", "EgressProxyStarting", why),), after=PROXY_WAIT)
    if live is not None and live["spec"].get("replicas") == 0:
        notes: tuple[ConditionUpdate, ...] = (
            ConditionUpdate(DEPLOYED, "True", "Deployed", "asleep; the next call wakes it"),
            ConditionUpdate(ACTIVE, "False", "Asleep", "no pod runs"),
            isolated(seen, settings),
        )
        return Result(notes, done=True, apply=wanted, after=after)
    mine = [pod for pod in seen.pods if _current(pod, seen, work)]
    if any(pod_status.ready(pod) for pod in mine):
        active, news = _active(seen, now)
        notes = (
            ConditionUpdate(DEPLOYED, "True", "Deployed", f"revision {work.revision} answers"),
            active,
            isolated(seen, settings),
        )
        return Result(notes, done=True, apply=wanted, after=min(filter(None, (after, news)), default=None))
    if _wakes(seen, work) and not any(seen.problem(pod) for pod in mine):
        notes = (
            ConditionUpdate(DEPLOYED, "True", "Deployed", f"revision {work.revision} is waking"),
            ConditionUpdate(ACTIVE, "False", "Waking", "a pod is starting"),
        )
        return Result(notes, done=True, apply=wanted, after=LATE)
    return _not_yet(seen, mine, wanted, settings)


def _wakes(seen: Observed, work: Progress) -> bool:
    """Waking is as healthy as sleep: this very revision has answered before."""
    status = seen.skill.status
    active = get_condition(status.conditions, ACTIVE)
    slept = active is not None and active.status == "False" and status.revision == work.revision
    refused = (c["type"] == "ReplicaFailure" and c["status"] == "True" for c in _conditions(seen))
    return slept and is_true(status.conditions, DEPLOYED, seen.skill.metadata.generation) and not any(refused)


def _conditions(seen: Observed) -> list[Object]:
    found: list[Object] = (seen.deployment or {}).get("status", {}).get("conditions", [])
    return found


def _active(seen: Observed, now: datetime) -> tuple[ConditionUpdate, float | None]:
    """It answers; what its pods or calls went through lately is told with that, and for how many seconds more."""
    told = pod_status.incidents(seen.pods)
    if seen.failure is not None:
        kind, ago = seen.failure
        told.append(_exhausted(seen, kind, now - timedelta(seconds=ago)))
    when, what = max(told, key=lambda each: each[0], default=(now, None))
    left = pod_status.NEWS_SECONDS - (now - when).total_seconds()
    if what is None or left <= 0:
        return ConditionUpdate(ACTIVE, "True", "Awake", ""), None
    return ConditionUpdate(ACTIVE, "True", what.reason, what.message), left


def _exhausted(seen: Observed, kind: ExceededLimit, when: datetime) -> tuple[datetime, pod_status.PodProblem]:
    """The minute is enough: a second would be a write for each call that fails."""
    limit = seen.skill.spec.call_timeout_seconds
    reason, what, advice = {
        "timeout": ("CallTimeout", f"was not answered in {limit} s", "raise spec.callTimeoutSeconds, or ask for less"),
        "out-of-memory": ("OOMKilled", "used more memory than it may", "raise spec.resources.limits.memory"),
        "disk-full": ("DiskFull", "filled /tmp", "raise spec.resources.limits.ephemeral-storage"),
        "too-many-processes": ("TooManyProcesses", "started more processes and threads than it may", "use fewer"),
    }[kind]
    return when, pod_status.PodProblem(reason, f"it goes on; a call {what}, last at {when:%Y-%m-%dT%H:%MZ}: {advice}")


def _current(pod: Object, seen: Observed, work: Progress) -> bool:
    labels, notes = pod["metadata"]["labels"], pod["metadata"].get("annotations", {})
    return (
        bool(labels.get(naming.COMPONENT) == "skill")
        and labels.get(naming.REVISION_LABEL) == work.revision
        and bool(notes.get(naming.CONTRACT_HASH) == fingerprint(seen.skill))
    )


def _not_yet(seen: Observed, mine: list[Object], wanted: tuple[Object, ...], settings: Settings) -> Result:
    doubt = () if seen.cage == PROVEN else (isolated(seen, settings),)  # no pod says by itself that it is shut in
    for pod in mine:
        if (bad := seen.problem(pod)) is not None:
            notes = [ConditionUpdate(DEPLOYED, "False", bad.reason, bad.message), *doubt]
            if bad.reason == "EgressNotBlocked":
                notes.append(ConditionUpdate(ISOLATED, "False", bad.reason, bad.message))
            return Result(
                tuple(notes),
                apply=wanted,
                stalled=bad.lasting,
                after=30.0,
            )
    for condition in _conditions(seen):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            why = pod_status.refused(str(condition.get("message", "")))
            note = ConditionUpdate(DEPLOYED, "False", why.reason, why.message)
            return Result((note, *doubt), apply=wanted, after=30.0)
    starting = ConditionUpdate(DEPLOYED, "Unknown", "Starting", "a pod is starting")
    return Result((starting, *doubt), apply=wanted, after=LATE)
