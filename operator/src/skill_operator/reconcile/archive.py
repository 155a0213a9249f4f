"""The archive: what is left of a Skill that nobody calls, when it goes there, and what brings it back.

Only what the operator can make again goes. The Skill, its status, its code and its ledger stay, and so does its
ServiceAccount, to which people have bound their grants.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from skill_operator import naming
from skill_operator.api.conditions import ACTIVE, BUILT, DEPLOYED, READY, get_condition, is_true
from skill_operator.api.v1alpha1 import ArchiveStatus, Skill
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.reconcile.narrowing import LiveState
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.ownership import belongs_to
from skill_operator.reconcile.result import ConditionUpdate
from skill_operator.reconcile.usage_collector import UsageSnapshot
from skill_operator.reconcile.writer import delete, delete_unchanged
from skill_operator.resources import contract

MIN_CHECKPOINT_SECONDS, MAX_CHECKPOINT_SECONDS = 5.0, 3600.0
CHECKPOINT_RATIO = 0.1
RESTORING = "Restoring"


def checkpoint_seconds(skill: Skill) -> float:
    """Return how far the last use in the status may lag behind while the Skill is awake.

    It is the price of a lost memory: so much sooner the Skill may be archived where all gateways and the controller
    were restarted at once. And it is the time for which gateways must have known all calls before they are believed.
    """
    seconds = CHECKPOINT_RATIO * skill.spec.archive_after_seconds
    return max(MIN_CHECKPOINT_SECONDS, min(MAX_CHECKPOINT_SECONDS, seconds))


def recorded_use(skill: Skill) -> datetime | None:
    """Return when the Skill was last used, as far as its object tells.

    To become Ready, to wake, and to be created count: also an object that was restored from a backup is new.
    """
    active = get_condition(skill.status.conditions, ACTIVE)
    since = active.last_transition_time if active is not None and active.status == "True" else None
    moments = (skill.status.last_active_time, since, skill.metadata.creation_timestamp)
    return max(filter(None, moments), default=None)


def last_use(skill: Skill, usage: UsageSnapshot | None, now: datetime) -> datetime:
    """Return when an awake Skill was last used, as far as its object and the gateways know; never in the future."""
    seconds = usage.seconds_since_call(skill.metadata.uid) if usage is not None else None
    called = None if seconds is None else now - timedelta(seconds=seconds)
    return min(now, max(filter(None, (recorded_use(skill), called)), default=now))


def is_checkpoint_due(skill: Skill, now: datetime) -> bool:
    """Tell whether the last use in the object may be too old by now, or lies in the future, which some clock did."""
    recorded = recorded_use(skill)
    if not skill.spec.archive_after_seconds or recorded is None:
        return False
    return abs((now - recorded).total_seconds()) >= checkpoint_seconds(skill)


def new_archive(skill: Skill, now: datetime) -> ArchiveStatus:
    """Return the archive that the Skill enters now."""
    meta = skill.metadata
    return ArchiveStatus(time=now, uid=meta.uid, generation=meta.generation, restore=_restore_digest(skill))


def restore_cause(skill: Skill, deployment: Object | None, *, called: bool) -> str:
    """Return in words why an archived Skill comes back; empty while it does not. `called` if a gateway holds a call."""
    archive, digest = skill.status.archive, _restore_digest(skill)
    if archive is None:
        return ""
    if archive.uid != skill.metadata.uid:
        return "its object is a new one, such as one from a backup"
    if archive.generation != skill.metadata.generation:
        return "its spec was changed"
    if digest and digest != archive.restore:
        return f"the annotation {naming.RESTORE_ANNOTATION} has a new value"
    if called:
        return "it was called"
    # A call, or a person, was quicker than the deletion.
    return "its Deployment was scaled up" if deployment is not None and deployment["spec"].get("replicas", 1) else ""


def is_restoring(observed: Observed) -> bool:
    """Tell whether the Skill comes out of the archive and nothing of it runs yet."""
    status = observed.skill.status
    active = get_condition(status.conditions, ACTIVE)
    restoring = active is not None and (active.status, active.reason) == ("False", RESTORING)
    return observed.deployment is None and (status.archive is not None or restoring)


def archived_conditions(skill: Skill) -> tuple[ConditionUpdate, ...]:
    """Return the conditions of an archived Skill. It is as healthy as one that sleeps, so it stays Ready."""
    conditions = skill.status.conditions
    message = f"no call for {skill.spec.archive_after_seconds} s (spec.archiveAfterSeconds); the next call restores it"
    some = [
        ConditionUpdate(BUILT, "True", "Built", "archived: the operator builds it again from the code that it keeps"),
        ConditionUpdate(DEPLOYED, "True", "Deployed", "archived; the next call restores it"),
    ]
    return (
        *(update for update in some if is_true(conditions, update.type)),
        ConditionUpdate(ACTIVE, "False", "Archived", message),
        ConditionUpdate(READY, "True", "Archived", message),
    )


def restoring_condition(cause: str) -> ConditionUpdate:
    """Return the condition of a Skill that comes back. A call may be over by now, and its gateway gone."""
    return ConditionUpdate(ACTIVE, "False", "Restoring", f"it comes back from the archive: {cause or 'it was called'}")


async def delete_archived(cluster: Cluster, skill: Skill, live: LiveState) -> None:
    """Delete what an archived Skill does not need, the Deployment first: a call may just have scaled that up.

    Raises Conflict where the Deployment has changed since it was read; then nothing is deleted.
    """
    meta = skill.metadata
    name, labels = naming.child(meta.name), naming.labels(meta.name, meta.uid, "skill")
    if live.deployment is not None:
        await delete_unchanged(cluster, live.deployment)
    if live.policy is not None:
        await delete(cluster, live.policy)
    service = await cluster.get("Service", meta.namespace, name)
    if service is not None and belongs_to(service, labels):
        await delete(cluster, service)
    contracts = naming.MANAGED | {naming.UID_LABEL: meta.uid, naming.COMPONENT: contract.COMPONENT}
    for found in await cluster.list("ConfigMap", meta.namespace, contracts):
        await delete(cluster, found)


def _restore_digest(skill: Skill) -> str:
    value = skill.metadata.annotations.get(naming.RESTORE_ANNOTATION, "")
    return naming.digest(value) if value else ""
