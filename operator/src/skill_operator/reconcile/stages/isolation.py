"""cage: whether what is about to run would be shut in, as far as the cluster proves it at this moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from skill_operator.api.conditions import ISOLATED, VERIFIED
from skill_operator.isolation.monitor import PROVEN
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result
from skill_operator.resources.network_policy import widening
from skill_operator.settings import Settings

WAIT = 10.0  # a changed proof wakes every Skill; this is for what was lost


def caged(settings: Settings) -> Callable[[Observed, Progress, datetime], Result]:
    """The stage: nothing new is begun while enforcement is unproven. What runs already looks at its own way out."""

    def cage(seen: Observed, work: Progress, now: datetime) -> Result:
        if not settings.isolation.required or seen.cage == PROVEN or seen.deployment is not None:
            return Result((), done=True)
        why = f"nothing of it is run until policies are seen to be enforced: {seen.cage.message}"
        notes = (isolated(seen, settings), ConditionUpdate(VERIFIED, "Unknown", "CageUnproven", why))
        return Result(notes, after=WAIT)

    return cage


def isolated(seen: Observed, settings: Settings) -> ConditionUpdate:
    """The condition Isolated of a Skill none of whose pods says otherwise."""
    if not settings.isolation.required:
        why = "the chart says isolation.required: false, so the code runs wherever its way out leads"
        return ConditionUpdate(ISOLATED, "False", "NotEnforced", why)
    if others := widening(seen.policies, seen.skill):
        why = f"policies that add up with the operator's let more in or out than spec says: {', '.join(others)}"
        return ConditionUpdate(ISOLATED, "False", "WidenedByPolicy", f"{why}; delete them, or narrow their podSelector")
    told = f"{seen.cage.message}; {seen.users(settings).message}" if seen.cage == PROVEN else seen.cage.message
    return ConditionUpdate(ISOLATED, seen.cage.status, seen.cage.reason, told)
