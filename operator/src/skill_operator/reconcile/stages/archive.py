"""The archive stage records that a sleeping Skill is archived; the next reconcile takes away what that needs not keep.

The record comes first, so that whoever finds something missing finds out why: a gateway, and an operator that was
killed in between. Only what is Ready and asleep comes here. What waits for a person, for a model or for a build is not
archived: it would be forgotten, and no call could bring it back.
"""

from __future__ import annotations

from datetime import datetime

from skill_operator.api.conditions import ACTIVE, get_condition
from skill_operator.reconcile.archive import archived_conditions, new_archive
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Progress, Result


def archive(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Archive a Skill that has slept long enough, or say when that will be."""
    skill, now = observed.skill, context.now
    limit = skill.spec.archive_after_seconds
    if not limit or observed.deployment is None or observed.deployment["spec"].get("replicas", 1):
        return Result.done()
    left = limit - (now - _last_use(observed, progress, now)).total_seconds()
    if left > 0:
        return Result.done(after=left)
    progress.status["archive"] = new_archive(skill, now)
    return Result.done(*archived_conditions(skill), after=0.0)


def _last_use(observed: Observed, progress: Progress, now: datetime) -> datetime:
    """Return when a sleeping Skill was last used, which is put into the status where that cannot tell.

    It cannot where a person scaled the Deployment to zero: then calls may have come that nobody recorded. A time in the
    future is what another clock wrote.
    """
    skill = observed.skill
    recorded, active = skill.status.last_active_time, get_condition(skill.status.conditions, ACTIVE)
    since = active.last_transition_time if active is not None else None
    awake_until_now = active is None or active.status == "True"
    if recorded is None and not awake_until_now:
        recorded = since
    if recorded is None or recorded > now or (awake_until_now and since is not None and recorded < since):
        recorded = progress.status["last_active_time"] = now.replace(microsecond=0)
    return max(filter(None, (recorded, skill.metadata.creation_timestamp)))
