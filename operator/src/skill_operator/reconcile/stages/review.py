"""The review stage, with `review: Manual`, builds nothing before a person has approved this very code."""

from __future__ import annotations

from skill_operator import naming
from skill_operator.api.conditions import BUILT
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result


def review(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Wait for the approval of the source. Whoever may annotate the Skill approves one text, and no other."""
    skill = observed.skill
    if skill.spec.review == "Automatic":
        return Result.done()
    code = naming.approval(progress.source)
    if skill.metadata.annotations.get(naming.APPROVE_ANNOTATION) == code:
        return Result.done()
    meta = skill.metadata
    message = (
        f"read the code (kubectl get configmap -n {meta.namespace} {naming.source(meta.name)} -o yaml), then: "
        f"kubectl annotate skill -n {meta.namespace} {meta.name} --overwrite {naming.APPROVE_ANNOTATION}={code}"
    )
    return Result.waiting(ConditionUpdate(BUILT, "Unknown", "AwaitingApproval", message))
