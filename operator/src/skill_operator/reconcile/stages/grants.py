"""The grants stage lets a Skill have a Secret only where the Skill's own ServiceAccount may read it.

So nobody who may write Skills can read Secrets through them. The stage comes first: nothing is generated or built for
what could not run.
"""

from __future__ import annotations

from skill_operator.api.conditions import ACTIVE, DEPLOYED
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Ref, Result
from skill_operator.resources.service_account import name_of

REVIEW_SECONDS = 60.0  # between two reviews of a grant, since no event announces its end
RETRY_SECONDS = 10.0
MAX_NAMES = 4


def require_grants(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Stop a Skill whose Secrets are not granted. A revoked grant ends its pods, which hold them in memory."""
    skill = observed.skill
    if not skill.spec.secrets:
        return Result.done()
    if not observed.ungranted:
        return Result.done(after=REVIEW_SECONDS)
    missing = ConditionUpdate(DEPLOYED, "False", "SecretNotGranted", _message(observed))
    if observed.deployment is None:
        return Result.stalled(missing, after=RETRY_SECONDS)
    ended = ConditionUpdate(ACTIVE, "False", "SecretNotGranted", "the operator deleted its pods")
    deployment = Ref("Deployment", skill.metadata.namespace, observed.deployment["metadata"]["name"])
    return Result.stalled(missing, ended, after=RETRY_SECONDS, delete=(deployment,))


def _message(observed: Observed) -> str:
    meta, missing = observed.skill.metadata, observed.ungranted
    account = name_of(observed.skill)
    flags = " ".join(f"--resource-name={name}" for name in missing[:MAX_NAMES])
    more = f" (and then {len(missing) - MAX_NAMES} more)" if len(missing) > MAX_NAMES else ""
    names = ", ".join(missing[:MAX_NAMES]) + more
    role = f"{account}-reads-{missing[0]}"[:253].rstrip("-.")
    return (
        f"the Skill's ServiceAccount {account} may not get Secret {names}. To grant it, run: "
        f"kubectl create role -n {meta.namespace} {role} --verb=get --resource=secrets {flags} && "
        f"kubectl create rolebinding -n {meta.namespace} {role} --role={role} "
        f"--serviceaccount={meta.namespace}:{account}"
    )
