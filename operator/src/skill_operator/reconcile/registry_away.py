"""Report that the registry is away: a Skill that has its image goes on with it, and whatever is new waits."""

from __future__ import annotations

from skill_operator.api.conditions import BUILT
from skill_operator.reconcile.result import ConditionUpdate, Result
from skill_operator.registry.client import RegistryUnavailable


def keep(image: str, problem: RegistryUnavailable) -> ConditionUpdate:
    """Return Built of a Skill that has its image. It stays True, and says what cannot be renewed."""
    message = (
        f"{image}: the Skill goes on with it. Until the registry is back, it cannot be built again, and no node can "
        f"pull it that does not have it. {problem}"
    )
    return ConditionUpdate(BUILT, "True", problem.reason, message)


def hold(condition: str, problem: RegistryUnavailable) -> Result:
    """Return that a check or build starts when the registry is back. The monitor of the registry tells of that."""
    return Result.waiting(ConditionUpdate(condition, "Unknown", problem.reason, str(problem)))
