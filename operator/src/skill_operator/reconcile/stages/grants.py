"""The grants stage lets a Skill have a Secret only where the Skill's own ServiceAccount may read it.

So nobody who may write Skills can read Secrets through them. The stage comes first: nothing is generated or built for
what could not run.
"""

from __future__ import annotations

from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.narrowing import REVIEW_SECONDS, advise_grant, not_granted
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Progress, Ref, Result

RETRY_SECONDS = 10.0


def require_grants(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Stop a Skill whose Secrets are not granted. What it runs has been narrowed before; it ends for new ones too."""
    skill, live = observed.skill, observed.deployment
    if not skill.spec.secrets:
        return Result.done()
    if not observed.ungranted:
        return Result.done(after=REVIEW_SECONDS)
    conditions = not_granted(advise_grant(skill, observed.ungranted), ended=live is not None)
    delete = () if live is None else (Ref("Deployment", skill.metadata.namespace, live["metadata"]["name"]),)
    return Result.stalled(*conditions, after=RETRY_SECONDS, delete=delete)
