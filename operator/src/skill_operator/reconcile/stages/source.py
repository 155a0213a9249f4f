"""source: the code of a Skill, pinned in its spec or written by a model.

This stage is the door to generation: it turns what was observed into a GenerationInput, and the step that comes back
into a Result. The author decides, and never sees a reconcile.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from skill_operator import naming
from skill_operator.api.conditions import GENERATED
from skill_operator.api.v1alpha1 import Skill
from skill_operator.generation import store
from skill_operator.generation.author import Author, GenerationInput, GenerationStep
from skill_operator.generation.ledger import Call, ReadyCandidate, Stop, Wait
from skill_operator.generation.request import select_models
from skill_operator.naming import SkillKey
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, EventNote, Progress, Result
from skill_operator.reconcile.stages.check import CheckReport
from skill_operator.settings import Settings

NO_MODEL_RETRY_SECONDS = 60.0


def provide_source(observed: Observed, progress: Progress, author: Author, settings: Settings, now: datetime) -> Result:
    """Provide the code of a Skill. Done once there is a candidate."""
    skill = observed.skill
    key = SkillKey(skill.metadata.namespace, skill.metadata.name)
    if skill.spec.source is not None:
        author.cancel(key)
        progress.source = skill.spec.source.inline
        progress.status["generation"] = None
        return Result((ConditionUpdate(GENERATED, "True", "Pinned", "spec.source is used as it is"),), done=True)
    given = _generation_input(observed, progress, settings)
    if given is None:
        author.cancel(key)
        return _no_model(settings, skill)
    step = author.advance(given, now)
    progress.status["generation"] = step.status
    if isinstance(step.decision, ReadyCandidate):
        progress.source = step.decision.attempt.source
    return replace(
        _result(step, skill),
        record=step.records,
        apply=step.view,
        call=step.request,
        notes=tuple(EventNote("Warning", event.reason, event.message) for event in step.events),
    )


def record_verdict(
    observed: Observed,
    progress: Progress,
    author: Author,
    settings: Settings,
    report: CheckReport,
    result: Result,
    now: datetime,
) -> Result:
    """Record the verdict on the candidate in its ledger; a refused candidate leads to the next step at once.

    Returns the check's result, with the attempt named in its conditions.
    """
    if observed.skill.spec.source is not None:
        return result if report.passed else replace(result, stalled=True)
    given = _generation_input(observed, progress, settings)
    if given is None:
        return result
    update = author.record_verdict(
        given, now, passed=report.passed, gate=report.gate or "", message=report.message, line=report.line
    )
    if update is None:
        return result
    progress.status["generation"] = update.status
    findings = tuple(
        replace(found, message=f"{update.attempt}: {found.message}") if found.status == "False" else found
        for found in result.findings
    )
    return replace(
        result,
        findings=findings,
        record=update.records,
        apply=(*result.apply, *update.view),
        after=None if report.passed else 0.0,
    )


def _generation_input(observed: Observed, progress: Progress, settings: Settings) -> GenerationInput | None:
    """Return what generation depends on, or None where no model is configured."""
    skill = observed.skill
    models = select_models(settings, skill)
    if not models:
        return None
    return GenerationInput(
        skill=skill,
        models=tuple(models),
        types=progress.types,
        manifest=observed.base.manifest,
        checker=settings.images.checker,
        stored_history=observed.ledger,
        stored_usage=observed.account,
        accepted_source=store.accepted_source(skill, observed.config_maps),
        retry=skill.metadata.annotations.get(naming.RETRY_ANNOTATION, ""),
    )


def _no_model(settings: Settings, skill: Skill) -> Result:
    chosen = skill.spec.generation.model
    names = ", ".join(model.name for model in settings.models) or "none"
    message = (
        f"spec.generation.model {chosen!r} is not configured; the chart's models[] has: {names}"
        if chosen
        else "no model is configured: set models[] in the chart's values, or give the code in spec.source.inline"
    )
    return Result(
        (ConditionUpdate(GENERATED, "False", "NoModel", message),), stalled=True, after=NO_MODEL_RETRY_SECONDS
    )


def _result(step: GenerationStep, skill: Skill) -> Result:
    """Return the result that shows the decision of a step."""
    match step.decision:
        case Call():
            text = f"{step.attempt}: {step.request.endpoint.name} is writing" if step.request is not None else ""
            return Result((ConditionUpdate(GENERATED, "Unknown", "Generating", text),))
        case ReadyCandidate():
            text = f"{step.attempt}, {step.tokens} tokens so far"
            return Result((ConditionUpdate(GENERATED, "True", "Generated", text),), done=True)
        case Stop(reason=reason, message=message, report=report):
            text = "\n".join(filter(None, (message, _advice(skill), report)))  # what may be cut goes last
            return Result((ConditionUpdate(GENERATED, "False", reason, text),), stalled=True)
        case Wait(seconds=seconds, reason=reason, message=message, stalled=stalled):
            update = ConditionUpdate(GENERATED, "False" if stalled else "Unknown", reason, message)
            return Result((update,), after=seconds or None, stalled=stalled)


def _advice(skill: Skill) -> str:
    """Return how to see all candidates, and how to start generation again."""
    meta = skill.metadata
    return (
        f"All candidates: kubectl get configmap -n {meta.namespace} "
        f"{naming.candidates(meta.name)} -o yaml. To try once more as it is: kubectl annotate skill -n "
        f"{meta.namespace} {meta.name} --overwrite {naming.RETRY_ANNOTATION}=$(date +%s)"
    )
