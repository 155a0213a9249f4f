"""The review stage, with `review: Manual`, builds nothing before a person has approved this very revision."""

from __future__ import annotations

from skill_operator import naming, runtime_contract
from skill_operator.api.conditions import BUILT
from skill_operator.api.v1alpha1 import Skill
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result
from skill_operator.settings import Settings


def review(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Wait for the approval of code, base image and grants: whoever may annotate the Skill approves these alone."""
    skill = observed.skill
    if skill.spec.review == "Automatic":
        return Result.done()
    parts = reviewed_parts(skill, progress.source, context.settings)
    token = naming.approval(skill.metadata.namespace, skill.metadata.name, parts)
    if skill.metadata.annotations.get(naming.APPROVE_ANNOTATION) == token:
        progress.status["approved"] = parts
        return Result.done()
    message = _request(skill, progress.source, parts, token)
    return Result.waiting(ConditionUpdate(BUILT, "Unknown", "AwaitingApproval", message))


def reviewed_parts(skill: Skill, source: str, settings: Settings) -> dict[str, str]:
    """Return the digest of each part that an approval covers: what the code is, and what it may do and use."""
    spec = skill.spec.model_dump(mode="json", by_alias=True)
    fields = ("input", "output", "egress", "secrets", "resources", "callTimeoutSeconds")
    parts = {"code": source, "base image": settings.images.runtime} | {f"spec.{name}": spec[name] for name in fields}
    parts["runtime class"] = skill.spec.runtime_class_name or settings.isolation.runtime_class_name
    return {name: naming.digest(part) for name, part in parts.items()}


def _request(skill: Skill, source: str, parts: dict[str, str], token: str) -> str:
    """Return what changed since the last approval, how to read it, and how to approve it."""
    meta, approved = skill.metadata, skill.status.approved or {}
    changed = [name for name in parts if approved.get(name) != parts[name]]
    news = f"changed since the last approval: {', '.join(changed)}" if approved else "nothing was approved yet"
    # By its hash a reviewer sees that nobody has put another text into the ConfigMap meanwhile.
    sha256 = naming.source_digest(source)
    file = runtime_contract.SKILL_FILE.replace(".", "\\.")
    return (
        f"{news}. Read the code, whose sha256 is {sha256}: kubectl get configmap -n {meta.namespace} "
        f"{naming.source(meta.name)} -o jsonpath='{{.data.{file}}}' | tee /dev/stderr | sha256sum. "
        f"Read what it may do: kubectl get skill -n {meta.namespace} {meta.name} -o yaml. Then approve both: "
        f"kubectl annotate skill -n {meta.namespace} {meta.name} --overwrite {naming.APPROVE_ANNOTATION}={token}"
    )
