"""The status of a Skill, made of what its stages decided. `Ready` is written on every path."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from skill_operator.api import conditions as api
from skill_operator.api.v1alpha1 import Condition, Skill, SkillStatus
from skill_operator.reconcile.result import ConditionUpdate, Result, StatusPatch

STAGE_CONDITIONS = (api.GENERATED, api.VERIFIED, api.BUILT, api.DEPLOYED)


def summarize(
    skill: Skill, updates: Sequence[ConditionUpdate], last: Result, now: datetime, patch: StatusPatch | None = None
) -> SkillStatus:
    """Return the new status. Stages that were not reached keep what is known of them; `last` ended the reconcile."""
    generation = skill.metadata.generation
    updates = updates or list(last.conditions)
    conditions = list(skill.status.conditions)
    for update in updates:
        conditions = _set(conditions, update, generation, now)
    for stage in STAGE_CONDITIONS:
        if api.get_condition(conditions, stage) is None:
            conditions = _set(
                conditions, ConditionUpdate(stage, "Unknown", "Pending", "not reached yet"), generation, now
            )
    conditions = _set_overall(conditions, updates, last, generation, now)
    order = [*STAGE_CONDITIONS, api.ACTIVE, api.ISOLATED, api.RECONCILING, api.STALLED, api.READY]
    conditions.sort(key=lambda c: order.index(c.type) if c.type in order else len(order))
    changes = {"observed_generation": generation, "conditions": conditions, **(patch or {})}
    return skill.status.model_copy(update=changes)


def _set_overall(
    conditions: list[Condition], updates: Sequence[ConditionUpdate], last: Result, generation: int, now: datetime
) -> list[Condition]:
    """Set Ready, Reconciling and Stalled as kstatus reads them: the latter two are there only while they are True."""
    if last.is_done:
        default = ConditionUpdate(api.READY, "True", "Ready", "")
        ready = next((update for update in updates if update.type == api.READY), default)
        conditions = api.remove_condition(conditions, api.RECONCILING)
        conditions = api.remove_condition(conditions, api.STALLED)
        return _set(conditions, ready, generation, now)
    own = last.conditions or updates
    cause = next((u for u in reversed(own) if u.type in STAGE_CONDITIONS), own[-1])
    ready = ConditionUpdate(api.READY, "Unknown" if cause.status == "Unknown" else "False", cause.reason, cause.message)
    state, other = (api.STALLED, api.RECONCILING) if last.is_stalled else (api.RECONCILING, api.STALLED)
    conditions = api.remove_condition(conditions, other)
    first_line = cause.message.partition("\n")[0]  # the stage and Ready have all of it
    conditions = _set(conditions, ConditionUpdate(state, "True", cause.reason, first_line), generation, now)
    return _set(conditions, ready, generation, now)


def _set(conditions: Sequence[Condition], update: ConditionUpdate, generation: int, now: datetime) -> list[Condition]:
    return api.set_condition(conditions, update.type, update.status, update.reason, update.message, generation, now)


def transitions(old: Sequence[Condition], new: Sequence[Condition]) -> list[Condition]:
    """Return the conditions worth an event: a changed outcome, or the same failure for another cause; each once."""
    previous = {c.type: _outcome(c) for c in old}
    quiet = {api.RECONCILING, api.STALLED}
    changed = [c for c in new if c.type not in quiet and c.reason != "Pending" and previous.get(c.type) != _outcome(c)]
    stage_reasons = {c.reason for c in changed if c.type != api.READY}
    return [c for c in changed if c.type != api.READY or c.reason not in stage_reasons]


def _outcome(condition: Condition) -> tuple[str, str, str]:
    return condition.status, condition.reason, condition.message if condition.status == "False" else ""
