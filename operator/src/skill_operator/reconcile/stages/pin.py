"""The pin stage provides the revision that `spec.revision` names: code and image are there, and were accepted before.

It stands in the place of source, check, opinion and build. No model is called and nothing is built.
"""

from __future__ import annotations

from dataclasses import replace

from skill_operator.api.conditions import BUILT, GENERATED, VERIFIED
from skill_operator.api.v1alpha1 import GenerationStatus, Provenance
from skill_operator.k8s import pod_status
from skill_operator.naming import SkillKey
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result
from skill_operator.reconcile.stages.build import is_own_image


def provide_revision(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Provide code and image of the pinned revision. Stalled where the history does not have it; what runs goes on."""
    meta, pinned = observed.skill.metadata, observed.pinned
    context.author.cancel(SkillKey(meta.namespace, meta.name))
    if pinned is None:
        return _unknown(observed.unknown_revision)
    entry = pinned.entry
    if not is_own_image(entry.image, observed.skill, context.settings):
        return _unknown(f"the image of revision {entry.revision} is in another registry; pin its code by spec.source")
    progress.source, progress.provenance = pinned.source, entry.provenance
    progress.revision, progress.image = entry.revision_digest, entry.image
    progress.status["generation"] = _price(entry.provenance)
    if entry.provenance is not None:
        progress.status["provenance"] = entry.provenance
    withheld = f"; the spec no longer grants {', '.join(pinned.withheld)}" if pinned.withheld else ""
    message = f"spec.revision pins {entry.revision}, accepted {entry.time:%Y-%m-%dT%H:%MZ}{withheld}"
    return Result.done(
        ConditionUpdate(GENERATED, "True", "RevisionPinned", message),
        ConditionUpdate(VERIFIED, "True", "RevisionPinned", f"revision {entry.revision} passed its check before"),
        ConditionUpdate(BUILT, "True", "Built", entry.image),
    )


def _unknown(message: str) -> Result:
    return Result.stalled(ConditionUpdate(GENERATED, "False", "UnknownRevision", f"{message}. What runs goes on"))


def _price(provenance: Provenance | None) -> GenerationStatus | None:
    """Return what the code took when it was written; None for code that no model wrote."""
    if provenance is None or provenance.author != "model":
        return None
    return GenerationStatus(attempts=provenance.attempts, tokens=provenance.tokens, model=provenance.model)


async def confirm(result: Result, observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Say where the registry lost the image. Nodes that have it still run it; nothing is built while it is pinned."""
    if not result.is_done:
        return result
    unpulled = any(
        problem is not None and problem.reason == pod_status.PULL_FAILED
        for problem in map(observed.problem, observed.pods)
    )
    if not await context.is_image_lost(progress.image, unpulled):
        return result
    message = (
        f"the registry no longer has {progress.image}, and a pinned revision is not built again. Remove spec.revision, "
        "or give its code in spec.source"
    )
    lost = ConditionUpdate(BUILT, "False", "ImageLost", message)
    return replace(result, conditions=(*result.conditions[:-1], lost))
