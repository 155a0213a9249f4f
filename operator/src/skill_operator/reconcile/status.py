"""The status of a Skill from what its stages found. `Ready` is written on every path."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from skill_operator.api import conditions as api
from skill_operator.api.v1alpha1 import Condition, Skill, SkillStatus
from skill_operator.reconcile.result import ConditionUpdate, Result

STAGES = (api.GENERATED, api.VERIFIED, api.BUILT, api.DEPLOYED)


def summarize(
    skill: Skill, findings: Sequence[ConditionUpdate], last: Result, now: datetime, **values: object
) -> SkillStatus:
    """The new status. Stages that were not reached keep what is known of them; `last` ended the pass."""
    generation = skill.metadata.generation
    conditions = list(skill.status.conditions)
    for found in findings:
        conditions = _set(conditions, found, generation, now)
    for stage in STAGES:
        if api.get_condition(conditions, stage) is None:
            conditions = _set(
                conditions, ConditionUpdate(stage, "Unknown", "Pending", "not reached yet"), generation, now
            )
    conditions = _overall(conditions, findings, last, generation, now)
    order = [*STAGES, api.ACTIVE, api.ISOLATED, api.RECONCILING, api.STALLED, api.READY]
    conditions.sort(key=lambda c: order.index(c.type) if c.type in order else len(order))
    return skill.status.model_copy(update={"observed_generation": generation, "conditions": conditions, **values})


def _overall(
    conditions: list[Condition], findings: Sequence[ConditionUpdate], last: Result, generation: int, now: datetime
) -> list[Condition]:
    if last.done:
        ready = ConditionUpdate(api.READY, "True", "Ready", "")
        conditions = api.remove_condition(conditions, api.RECONCILING)
        conditions = api.remove_condition(conditions, api.STALLED)
        return _set(conditions, ready, generation, now)
    why = next((f for f in reversed(findings) if f.type in STAGES), findings[-1])
    ready = ConditionUpdate(api.READY, "Unknown" if why.status == "Unknown" else "False", why.reason, why.message)
    state, other = (api.STALLED, api.RECONCILING) if last.stalled else (api.RECONCILING, api.STALLED)
    conditions = api.remove_condition(conditions, other)
    gist = why.message.partition("\n")[0]  # the stage and Ready have all of it
    conditions = _set(conditions, ConditionUpdate(state, "True", why.reason, gist), generation, now)
    return _set(conditions, ready, generation, now)


def _set(conditions: Sequence[Condition], found: ConditionUpdate, generation: int, now: datetime) -> list[Condition]:
    return api.set_condition(conditions, found.type, found.status, found.reason, found.message, generation, now)


def transitions(old: Sequence[Condition], new: Sequence[Condition]) -> list[Condition]:
    """What is worth an event: a changed outcome, or the same failure for another cause; each told once."""
    told = {c.type: _outcome(c) for c in old}
    quiet = {api.RECONCILING, api.STALLED}
    changed = [c for c in new if c.type not in quiet and c.reason != "Pending" and told.get(c.type) != _outcome(c)]
    of_stages = {c.reason for c in changed if c.type != api.READY}
    return [c for c in changed if c.type != api.READY or c.reason not in of_stages]


def _outcome(condition: Condition) -> tuple[str, str, str]:
    return condition.status, condition.reason, condition.message if condition.status == "False" else ""
