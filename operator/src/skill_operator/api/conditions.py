"""Define the condition types of a Skill, and read and change lists of conditions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

from skill_operator.api.v1alpha1 import Condition
from skill_operator.untrusted.text import single_line

# One for each stage; positive.
GENERATED: Final = "Generated"
VERIFIED: Final = "Verified"
BUILT: Final = "Built"
DEPLOYED: Final = "Deployed"
ACTIVE: Final = "Active"  # False while scaled to zero, which is healthy
ISOLATED: Final = "Isolated"  # the isolation was proven, not assumed
# Present only while true, as kstatus wants them.
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"
READY: Final = "Ready"

LIMIT: Final = 1024
Status = Literal["True", "False", "Unknown"]


def get_condition(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """Return the condition of that type, if there is one."""
    return next((condition for condition in conditions if condition.type == type_), None)


def is_true(conditions: Sequence[Condition], type_: str, generation: int | None = None) -> bool:
    """Return whether the condition is True and was observed for `generation`, where given, or for a later one."""
    found = get_condition(conditions, type_)
    return (
        found is not None and found.status == "True" and (generation is None or found.observed_generation >= generation)
    )


def set_condition(
    conditions: Sequence[Condition],
    type_: str,
    status: Status,
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """Return the list with this condition set, in its old place or at the end.

    `lastTransitionTime` moves only when the status does. The message may be foreign text: it becomes one line.
    """
    old = get_condition(conditions, type_)
    new = Condition(
        type=type_,
        status=status,
        reason=reason,
        message=single_line(message, LIMIT),
        observed_generation=generation,
        last_transition_time=old.last_transition_time if old is not None and old.status == status else now,
    )
    if old is None:
        return [*conditions, new]
    return [new if condition.type == type_ else condition for condition in conditions]


def remove_condition(conditions: Sequence[Condition], type_: str) -> list[Condition]:
    """Return the list without the condition of that type."""
    return [condition for condition in conditions if condition.type != type_]
