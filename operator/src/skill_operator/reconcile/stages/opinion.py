"""The opinion stage shows the owner where a second program, written apart, differs from the accepted one.

It follows a check that passed, and it refuses nothing: whatever keeps an opinion away, the Skill goes on without.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from skill_operator.api.conditions import VERIFIED
from skill_operator.generation import second_opinion
from skill_operator.generation.ledger import OpinionDifference, SecondOpinion
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.reconcile import comparison
from skill_operator.reconcile.check_report import ReportedQuestion, read_end
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Ref, Result, Writes
from skill_operator.reconcile.stages.check import is_owned_by, make_job, report_key
from skill_operator.reconcile.stages.source import conclude_opinion
from skill_operator.resources import check as resource
from skill_operator.untrusted.text import single_line

START_GRACE = timedelta(seconds=150)  # for its turn among the checks and for its pod to start, before it runs
_OUTCOMES = {"agrees": "Agrees", "differs": "Differs", "none": "NoOpinion", "skipped": "NotAsked"}
MAX_MESSAGE_CHARACTERS = 500  # of what keeps an opinion away; what may be asked of the owner comes after it


def weigh_opinion(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Wait for the second opinion, if there is to be one, and compare it. Done once its outcome is known."""
    opinion, verified = progress.opinion, progress.verified
    if opinion is None or verified is None:
        return Result.done()
    if opinion.state == "reserved":
        text = _add(verified.message, f"{opinion.endpoint} is writing a second program, to be compared with it")
        ends_at = context.author.opinion_deadline(opinion, context.now)
        return _waiting(text, (ends_at - context.now).total_seconds())
    if opinion.state == "candidate":
        return _compare(observed, progress, context, opinion)
    return Result.done(_show_outcome(progress, verified, opinion))


def _waiting(message: str, seconds: float) -> Result:
    return Result.waiting(ConditionUpdate(VERIFIED, "Unknown", "SecondOpinion", message), after=max(1.0, seconds))


def _compare(observed: Observed, progress: Progress, context: StageContext, opinion: SecondOpinion) -> Result:
    """Run both programs in one check Job. One that ends without a report, or late, is not made again."""
    skill, settings, now = observed.skill, context.settings, context.now
    content = comparison.build_content(skill, progress) or {}
    name = comparison.job_name(skill, settings, content)
    if second_opinion.is_refused(skill.spec, opinion):
        return _conclude(observed, progress, context, _none(opinion, second_opinion.REFUSED), name)
    ends_at = (opinion.since or now) + timedelta(seconds=settings.check.deadline_seconds) + START_GRACE
    if now > ends_at:
        return _conclude(
            observed, progress, context, _without_result(opinion, "the comparison did not end in time"), name
        )
    job = observed.jobs.get(name)
    if job is None:
        try:
            config_map = resource.config_map(skill, name, content)
        except resource.TooLarge as error:
            return _conclude(observed, progress, context, _without_result(opinion, str(error)), name)
        waiting = _waiting(_comparing(opinion), (ends_at - now).total_seconds())
        return replace(waiting, apply=(config_map,), create=(make_job(observed, settings, config_map, 0),))
    ends = (pod_status.find_termination(pod) for pod in observed.pods_of(name) if is_owned_by(job, pod))
    if (end := next(filter(None, ends), None)) is not None:
        outcome = _read_outcome(opinion, end, job, resource.subject(content))
        return _conclude(observed, progress, context, outcome, name)
    if (over := pod_status.job_outcome(job)) is not None:
        outcome = _without_result(opinion, f"the comparison ended without a result: {over.message}")
        return _conclude(observed, progress, context, outcome, name)
    return _waiting(_comparing(opinion), (ends_at - now).total_seconds())


def _comparing(opinion: SecondOpinion) -> str:
    """Return what is new: what has passed, and what it leaves open, was said while the second program was written."""
    return f"A second program, by {opinion.endpoint}, is being compared with the one that passed"


def _read_outcome(opinion: SecondOpinion, end: Object, job: Object, subject: str) -> SecondOpinion:
    """Return the opinion with what the end of the comparison's container says."""
    report = read_end(end, report_key(job))
    if report is None or report.subject != subject:
        return _without_result(opinion, f"the comparison ended without a report, with exit code {end.get('exitCode')}")
    if not report.passed:
        return _none(opinion, f"the gate {report.gate} refuses it: {report.message}")
    differences = tuple(
        OpinionDifference(input=question.input, accepted=question.answers[0], other=question.answers[1])
        for question in report.questions
    )
    state = "differs" if differences else "agrees"
    return opinion.model_copy(update={"state": state, "differences": differences, "message": ""})


def _without_result(opinion: SecondOpinion, message: str) -> SecondOpinion:
    """Return the opinion after a comparison that says nothing. What is known to differ is not answered by that."""
    return opinion.model_copy(update={"state": "differs"}) if opinion.differences else _none(opinion, message)


def _none(opinion: SecondOpinion, message: str) -> SecondOpinion:
    text = single_line(message, MAX_MESSAGE_CHARACTERS)
    return opinion.model_copy(update={"state": "none", "differences": (), "message": text})


def _conclude(
    observed: Observed, progress: Progress, context: StageContext, outcome: SecondOpinion, name: str
) -> Result:
    """Return that the outcome is recorded, and that what compared is deleted."""
    namespace = observed.skill.metadata.namespace
    leftovers = (Ref("Job", namespace, name), Ref("ConfigMap", namespace, name))
    writes = conclude_opinion(observed, progress, context, outcome)
    verified = progress.verified or ConditionUpdate(VERIFIED, "True", "Verified")
    return Result.done(_show_outcome(progress, verified, outcome), **Writes(**writes, delete=leftovers))


def _show_outcome(progress: Progress, verified: ConditionUpdate, opinion: SecondOpinion) -> ConditionUpdate:
    """Put the outcome into the evidence that the check has left in the status, and return the condition with it."""
    progress.verified = _condition(verified, opinion)
    if (evidence := progress.status.get("evidence")) is not None and opinion.state in _OUTCOMES:
        outcome = {"second_opinion": _OUTCOMES[opinion.state]}
        progress.status["evidence"] = evidence.model_copy(update=outcome)
    return progress.verified


def _condition(verified: ConditionUpdate, opinion: SecondOpinion) -> ConditionUpdate:
    """Return the condition of a check that passed, with what the second opinion adds to it."""
    by = f"A second program, by {opinion.endpoint},"
    match opinion.state:
        case "differs":
            questions = " ".join(_ask(difference) for difference in opinion.differences)
            text = f"{by} passes them too, and answers otherwise: {questions} Add an example that says which is right"
            return replace(verified, reason="WeakExamples", message=_add(verified.message, text))
        case "agrees":
            text = f"{by} agrees"
        case "none":
            text = f"{by} cannot be compared: {opinion.message}"
        case _:
            text = f"No second program was requested: {opinion.message}"
    return replace(verified, message=_add(verified.message, text))


def _add(message: str, sentence: str) -> str:
    return f"{message.rstrip('.')}. {sentence}"


def _ask(difference: OpinionDifference) -> str:
    answers = (difference.accepted, difference.other)
    return ReportedQuestion(kind="opinion", input=difference.input, answers=answers).text
