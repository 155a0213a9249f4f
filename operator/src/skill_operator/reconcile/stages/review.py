"""review: with `review: Manual`, nothing is built before a person has approved the very code."""

from __future__ import annotations

from datetime import datetime

from skill_operator import naming
from skill_operator.api.conditions import BUILT
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result


def review(seen: Observed, work: Progress, now: datetime) -> Result:
    """Whoever may annotate the Skill approves one text, and no other."""
    skill = seen.skill
    if skill.spec.review == "Automatic":
        return Result((), done=True)
    code = naming.approval(work.source)
    if skill.metadata.annotations.get(naming.APPROVE_ANNOTATION) == code:
        return Result((), done=True)
    meta = skill.metadata
    how = (
        f"read the code (kubectl get configmap -n {meta.namespace} {naming.source(meta.name)} -o yaml), then: "
        f"kubectl annotate skill -n {meta.namespace} {meta.name} --overwrite {naming.APPROVE_ANNOTATION}={code}"
    )
    return Result((ConditionUpdate(BUILT, "Unknown", "AwaitingApproval", how),))
