"""The isolation of what runs, held against what the installation demands now.

A `helm upgrade` may take a runtime class away, or demand what it did not before. The run stage brings that to a Skill
that goes on, but pods of one that does not would keep the weaker isolation for as long as they live.
"""

from __future__ import annotations

from typing import NamedTuple

from skill_operator import naming, runtime_contract
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s.interface import Object
from skill_operator.settings import IsolationSettings

RUNTIME_CLASS_NOT_ALLOWED = "RuntimeClassNotAllowed"
ISOLATION_TIGHTENED = "IsolationTightened"


class Breach(NamedTuple):
    """Breach says why pods of this form may not run any more: the reason and the message of a condition."""

    reason: str
    message: str


def find_breach(pod: Object, skill: Skill, isolation: IsolationSettings) -> Breach | None:
    """Return what the installation no longer allows of a pod, or of a template of pods; None where it allows all."""
    spec: Object | None = pod.get("spec")
    if spec is None:  # there is no template, or it cannot be read
        return None
    chosen = _chosen_class(pod, skill, isolation)
    if chosen is not None and chosen not in isolation.allowed_runtime_classes:
        return Breach(RUNTIME_CLASS_NOT_ALLOWED, _advise_class(chosen, skill, isolation))
    if isolation.required and _runs_unproven(spec):
        message = "isolation.required is true in the chart's values, and pods ran without that proof; the next have it"
        return Breach(ISOLATION_TIGHTENED, message)
    if isolation.user_namespaces == "Required" and spec.get("hostUsers", True):
        message = "isolation.userNamespaces is Required in the chart's values, and pods had none; the next have one"
        return Breach(ISOLATION_TIGHTENED, message)
    return None


def _chosen_class(pod: Object, skill: Skill, isolation: IsolationSettings) -> str | None:
    """Return the class that the operator chose for a pod (empty: the node's default), or None where nothing tells.

    Serving pods and trials tell it by an annotation, unless it is empty: in the pod itself a webhook of the cluster may
    have put another class, which is not the installation's to take back. Pods of an earlier version have no annotation:
    the operator chose what the Skill names, and what is allowed. Nothing tells it of the pods of most checks, which end
    by the deadline of their Job.
    """
    meta = pod.get("metadata", {})
    chosen: str | None = meta.get("annotations", {}).get(naming.RUNTIME_CLASS_ANNOTATION)
    if chosen is not None:
        return chosen
    found = str(pod["spec"].get("runtimeClassName", ""))
    if found and found in {skill.spec.runtime_class_name, *isolation.allowed_runtime_classes}:
        return found
    return "" if meta.get("labels", {}).get(naming.COMPONENT) == "skill" else None


def _runs_unproven(spec: Object) -> bool:
    """Tell whether PID 1 of these pods runs a skill whether or not its isolation is proven."""
    unproven = {"name": runtime_contract.ENV_ISOLATION, "value": runtime_contract.ISOLATION_OPTIONAL}
    return any(unproven in (container.get("env") or ()) for container in spec.get("containers", ()))


def _advise_class(chosen: str, skill: Skill, isolation: IsolationSettings) -> str:
    """Return which class is no longer allowed, and what to do about that."""
    allowed = ", ".join(sorted(isolation.allowed_runtime_classes - {""})) or "none"
    name = f"runtime class {chosen}" if chosen else "the node's default runtime class"
    refusal = f"the chart's values no longer allow {name} (isolation.runtimeClassName, isolation.runtimeClassNames)"
    if chosen and skill.spec.runtime_class_name == chosen:
        return f"{refusal}: name one of these in spec.runtimeClassName, or remove it: {allowed}"
    wanted = skill.spec.runtime_class_name or isolation.runtime_class_name or "the node's default"
    return f"{refusal}; the next pods have {wanted}"
