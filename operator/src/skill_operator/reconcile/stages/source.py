"""source: the code of a Skill, pinned in its spec or written by a model.

This stage is the door to generation: it turns what was observed into a GenerationInput, and the step that comes back
into a Result. The author decides, and knows nothing of a reconcile.
"""

from __future__ import annotations

from dataclasses import replace

from skill_operator import naming
from skill_operator.api.conditions import GENERATED
from skill_operator.api.v1alpha1 import MAX_REJECTED, GenerationStatus, Provenance, Rejection, Skill
from skill_operator.generation import store
from skill_operator.generation.decision import Call, ReadyCandidate, Stop, Wait
from skill_operator.generation.generation_step import GenerationInput, GenerationStep
from skill_operator.generation.ledger import Attempt, SecondOpinion
from skill_operator.generation.prompt import PROMPT_VERSION
from skill_operator.generation.request import select_models
from skill_operator.naming import SkillKey
from skill_operator.reconcile.check_report import CheckReport
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, EventNote, Progress, Result, Writes
from skill_operator.settings import Settings

NO_MODEL_RETRY_SECONDS = 60.0


def provide_source(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Provide the code of a Skill. Done once there is a candidate."""
    skill = observed.skill
    key = SkillKey(skill.metadata.namespace, skill.metadata.name)
    if skill.spec.source is not None:
        context.author.cancel(key)
        progress.source = skill.spec.source.inline
        digest = naming.source_digest(progress.source)
        progress.provenance = Provenance(author="pinned", source_digest=digest, checker=context.settings.images.checker)
        progress.status["generation"] = None
        return Result.done(ConditionUpdate(GENERATED, "True", "Pinned", "spec.source is used as it is"))
    inputs = _generation_input(observed, progress, context.settings)
    if inputs is None:
        context.author.cancel(key)
        return _no_model(skill, context.settings)
    step = context.author.advance(inputs, context.now)
    progress.status["generation"] = step.status
    progress.opinion = step.opinion
    if isinstance(step.decision, ReadyCandidate):
        progress.source = step.decision.attempt.source
        progress.provenance = _provenance(skill, step, step.decision.attempt, context.settings)
        progress.status["generation"] = _price(step.status, progress)
        progress.deadline = None if step.decision.accepted else step.deadline
    result = _result(skill, step)
    if (rejection := _untold_rejection(skill, step)) is not None:
        progress.status["rejection"] = rejection
        progress.status["rejected"] = add_rejected(skill, rejection.source_digest)
        event = EventNote("Warning", "Rejected", describe_rejection(rejection))
        return replace(result, events=(*result.events, event))
    return result


def _untold_rejection(skill: Skill, step: GenerationStep) -> Rejection | None:
    """Return a rejection that the ledger holds and the status does not: the operator ended between the two writes."""
    recorded, known = step.rejection, skill.status.rejection
    if recorded is None or (known is not None and known.token == recorded.token):
        return None
    return Rejection.model_validate(recorded.model_dump(exclude={"fingerprints"}))


def add_rejected(skill: Skill, digest: str) -> list[str]:
    """Return the digests of rejected code with one more at their head, and without the oldest beyond MAX_REJECTED."""
    known = drop_rejected(skill, digest)
    return [digest, *known][:MAX_REJECTED] if digest else known


def drop_rejected(skill: Skill, digest: str) -> list[str]:
    """Return the digests of rejected code without this one."""
    return [other for other in skill.status.rejected if other != digest]


def describe_rejection(rejection: Rejection) -> str:
    """Return who rejected what, in which words."""
    return f"{rejection.by or 'somebody'} rejected revision {rejection.revision}: {rejection.message}"


def record_verdict(
    observed: Observed, progress: Progress, context: StageContext, report: CheckReport, result: Result
) -> Result:
    """Record the verdict on the candidate in its ledger. Return the check's result, adapted to the attempt.

    A refused candidate leads to the next step at once, unless the spec pins the code: then only a person can help.
    """
    if observed.skill.spec.source is not None:
        return result if report.passed else replace(result, outcome="stalled")
    inputs = _generation_input(observed, progress, context.settings)
    if inputs is None:
        return result
    update = context.author.record_verdict(
        inputs,
        context.now,
        passed=report.passed,
        gate=report.gate or "",
        message=report.message,
        line=report.line,
        private=report.private,
    )
    if update is None:
        return result
    progress.status["generation"] = _price(update.status, progress) if report.passed else update.status
    progress.opinion = update.opinion
    conditions = tuple(
        replace(condition, message=f"{update.attempt}: {condition.message}")
        if condition.status == "False"
        else condition
        for condition in result.conditions
    )
    return replace(
        result,
        conditions=conditions,
        record=update.records,
        call=update.request,
        apply=(*result.apply, *update.view),
        after=None if report.passed else 0.0,
    )


def record_rejection(
    observed: Observed, progress: Progress, context: StageContext, rejection: Rejection
) -> Writes | None:
    """Record a person's rejection of the candidate in its ledger. Return what is to be written.

    None is for code that no model could write anew: it is pinned, or the ledger does not hold it.
    """
    inputs = _generation_input(observed, progress, context.settings) if observed.skill.spec.source is None else None
    update = context.author.record_rejection(inputs, rejection, progress.source) if inputs is not None else None
    if update is None:
        return None
    progress.status["generation"] = update.status
    return Writes(record=update.records, apply=update.view)


def conclude_opinion(observed: Observed, progress: Progress, context: StageContext, outcome: SecondOpinion) -> Writes:
    """Record the outcome of a comparison in the ledger. Return what is to be written."""
    inputs = _generation_input(observed, progress, context.settings)
    if inputs is None:
        return Writes()
    update = context.author.conclude_opinion(inputs, outcome, context.now)
    progress.status["generation"] = _price(update.status, progress)
    progress.opinion = update.opinion
    return Writes(record=update.records, apply=update.view)


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
        stored_usage=observed.daily_usage,
        accepted_source=store.accepted_source(skill, observed.config_maps, observed.ledger),
        retry=skill.metadata.annotations.get(naming.RETRY_ANNOTATION, ""),
    )


def _provenance(skill: Skill, step: GenerationStep, attempt: Attempt, settings: Settings) -> Provenance:
    """Return who wrote a candidate. Code that was accepted before was written as the status knows."""
    digest, checker = naming.source_digest(attempt.source), settings.images.checker
    if not attempt.number:
        status = skill.status
        for known in (status.provenance, *(revision.provenance for revision in status.history)):
            if known is not None and known.source_digest == digest and known.author == "model":
                return known.model_copy(update={"checker": checker})
        return Provenance(author="model", source_digest=digest, checker=checker)
    return Provenance(
        author="model",
        source_digest=digest,
        model=step.status.model,
        prompt_version=PROMPT_VERSION,
        attempts=step.status.attempts,
        tokens=step.status.tokens,
        time=step.first_reply,
        checker=checker,
    )


def _price(status: GenerationStatus, progress: Progress) -> GenerationStatus:
    """Return the status with the price of the present code: no call of the present ledger has paid for other code."""
    known = progress.provenance
    if status.attempts or known is None or not known.attempts:
        return status
    price = {"attempts": known.attempts, "tokens": known.tokens + status.tokens, "model": known.model}
    return status.model_copy(update=price)


def _no_model(skill: Skill, settings: Settings) -> Result:
    model_name = skill.spec.generation.model
    names = ", ".join(model.name for model in settings.models) or "none"
    message = (
        f"spec.generation.model {model_name!r} is not configured; the chart's models[] has: {names}"
        if model_name
        else "no model is configured: set models[] in the chart's values, or give the code in spec.source.inline"
    )
    return Result.stalled(ConditionUpdate(GENERATED, "False", "NoModel", message), after=NO_MODEL_RETRY_SECONDS)


def _result(skill: Skill, step: GenerationStep) -> Result:
    """Return the result that shows the step's decision and writes what it records."""
    events = tuple(EventNote("Warning", event.reason, event.message) for event in step.events)
    writes = Writes(record=step.records, call=step.request, apply=step.view, events=events)
    match step.decision:
        case Call():
            text = f"{step.attempt}: {step.request.endpoint.name} is writing" if step.request is not None else ""
            return Result.waiting(ConditionUpdate(GENERATED, "Unknown", "Generating", text), **writes)
        case ReadyCandidate():
            text = f"{step.attempt}, {step.tokens} tokens so far"
            return Result.done(ConditionUpdate(GENERATED, "True", "Generated", text), **writes)
        case Stop(reason=reason, message=message, report=report):
            text = "\n".join(filter(None, (message, _advice(skill), report)))  # what may be cut goes last
            return Result.stalled(ConditionUpdate(GENERATED, "False", reason, text), **writes)
        case Wait(seconds=seconds, reason=reason, message=message, stalled=True):
            update = ConditionUpdate(GENERATED, "False", reason, message)
            return Result.stalled(update, after=seconds or None, **writes)
        case Wait(seconds=seconds, reason=reason, message=message):
            update = ConditionUpdate(GENERATED, "Unknown", reason, message)
            return Result.waiting(update, after=seconds or None, **writes)


def _advice(skill: Skill) -> str:
    """Return how to see all candidates, and how to start generation again."""
    meta = skill.metadata
    return (
        f"All candidates: kubectl get configmap -n {meta.namespace} "
        f"{naming.candidates(meta.name)} -o yaml. To try once more as it is: kubectl annotate skill -n "
        f"{meta.namespace} {meta.name} --overwrite {naming.RETRY_ANNOTATION}=$(date +%s)"
    )
