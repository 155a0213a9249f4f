"""grants: a Skill gets a Secret only where its own ServiceAccount may read it, so that who may write Skills cannot
read Secrets through them. It comes first: nothing is generated or built for what could not run."""

from __future__ import annotations

from skill_operator.api.conditions import ACTIVE, DEPLOYED
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Ref, Result
from skill_operator.resources.service_account import name_of

ASKED_AGAIN = 60.0  # seconds: a grant is an RBAC matter, of which no event tells
AWAITED = 10.0
NAMED = 4


def grants(seen: Observed) -> Result:
    """A revoked grant ends the pods: what they hold in memory and in files is theirs no longer."""
    skill = seen.skill
    if not skill.spec.secrets:
        return Result((), done=True)
    if not seen.ungranted:
        return Result((), done=True, after=ASKED_AGAIN)
    notes: list[ConditionUpdate] = [ConditionUpdate(DEPLOYED, "False", "SecretNotGranted", _message(seen))]
    delete: tuple[Ref, ...] = ()
    if seen.deployment is not None:
        delete = (Ref("Deployment", skill.metadata.namespace, seen.deployment["metadata"]["name"]),)
        notes.append(ConditionUpdate(ACTIVE, "False", "SecretNotGranted", "its pods were ended"))
    return Result(tuple(notes), stalled=True, after=AWAITED, delete=delete)


def _message(seen: Observed) -> str:
    meta, missing = seen.skill.metadata, seen.ungranted
    account = name_of(seen.skill)
    names = " ".join(f"--resource-name={name}" for name in missing[:NAMED])
    more = f" (and then {len(missing) - NAMED} more)" if len(missing) > NAMED else ""
    what = ", ".join(missing[:NAMED]) + more
    role = f"{account}-reads-{missing[0]}"[:253].rstrip("-.")
    return (
        f"the Skill's ServiceAccount {account} may not get Secret {what}. Whoever may grant that: "
        f"kubectl create role -n {meta.namespace} {role} --verb=get --resource=secrets {names} && "
        f"kubectl create rolebinding -n {meta.namespace} {role} --role={role} "
        f"--serviceaccount={meta.namespace}:{account}"
    )
