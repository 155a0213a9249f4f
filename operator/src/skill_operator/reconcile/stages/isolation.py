"""The isolation stage starts nothing new while the cluster does not prove that NetworkPolicies are enforced."""

from __future__ import annotations

from skill_operator.api.conditions import ISOLATED, VERIFIED
from skill_operator.isolation.monitor import PROVEN, UNPROVEN, IsolationVerdict
from skill_operator.isolation.user_namespaces import UserNamespace
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.foreign_policies import ForeignPolicies
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result
from skill_operator.settings import Settings

RETRY_SECONDS = 10.0  # a changed verdict wakes every Skill; this is for a change that was lost


def require_isolation(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Wait for the proof of enforcement, if isolation is required. What runs already checks its own egress."""
    settings = context.settings
    if not settings.isolation.required or observed.isolation == PROVEN or observed.deployment is not None:
        return Result.done()
    message = f"the Skill starts once NetworkPolicies are proven to be enforced: {observed.isolation.message}"
    reason = "IsolationPending" if observed.isolation == UNPROVEN else "IsolationUnproven"
    unproven = ConditionUpdate(VERIFIED, "Unknown", reason, message)
    return Result.waiting(isolated_condition(observed, settings), unproven, after=RETRY_SECONDS)


def isolated_condition(observed: Observed, settings: Settings) -> ConditionUpdate:
    """Return the condition Isolated of a Skill none of whose pods says otherwise."""
    user_namespace = observed.user_namespace(settings)
    return isolation_condition(settings, observed.foreign_policies, observed.isolation, user_namespace)


def isolation_condition(
    settings: Settings,
    foreign_policies: ForeignPolicies,
    verdict: IsolationVerdict,
    user_namespace: UserNamespace,
) -> ConditionUpdate:
    """Return the condition Isolated of a Skill that runs, from the policies of its namespace and the latest proof."""
    if not settings.isolation.required:
        message = "isolation.required is false in the chart's values, so skills run even where egress is not blocked"
        return ConditionUpdate(ISOLATED, "False", "NotEnforced", message)
    if widening := foreign_policies.explain_widening():
        return ConditionUpdate(ISOLATED, "False", "WidenedByPolicy", widening)
    if verdict.status != "False" and (doubt := foreign_policies.explain_doubt()):
        return ConditionUpdate(ISOLATED, "Unknown", "PoliciesUnread", doubt)
    message = f"{verdict.message}; {user_namespace.message}" if verdict == PROVEN else verdict.message
    return ConditionUpdate(ISOLATED, verdict.status, verdict.reason, message)
