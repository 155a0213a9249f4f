"""Report who holds a Skill that is being deleted and still there, and what to do about that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from skill_operator.api import conditions as api
from skill_operator.k8s.interface import Object
from skill_operator.reconcile.result import ConditionUpdate

DELETING: Final = "Deleting"
MAX_NAMES: Final = 5
CLUSTERS_OWN: Final = frozenset({"foregroundDeletion", "orphan"})
"""The finalizers of the cluster's garbage collector, by which somebody chose what becomes of the Skill's objects."""


def deleting_conditions(body: Object) -> tuple[ConditionUpdate, ...]:
    """Return the conditions of a Skill of which nothing runs any more, and which is gone with its last finalizer."""
    message = f"the Skill is being deleted; {_advise(body['metadata'].get('finalizers') or ())}"
    return (
        ConditionUpdate(api.DEPLOYED, "False", DELETING, message),
        ConditionUpdate(api.ACTIVE, "False", DELETING, "the operator deleted its pods"),
    )


def _advise(finalizers: Iterable[str]) -> str:
    names = [name for name in finalizers if name not in CLUSTERS_OWN]
    if not names:
        return "the cluster's garbage collector removes it"
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return (
        f"these finalizers hold it: {', '.join(names[:MAX_NAMES])}{more}. Whoever set them removes them. If nobody "
        "does, remove them from metadata.finalizers with kubectl edit"
    )
