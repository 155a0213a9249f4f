"""The check stage has the candidate prove itself in an isolated pod before anything is built.

A verdict is signed by PID 1 of the check, names what it is about, and is kept in a ConfigMap, so that each candidate is
checked once. Whoever may write ConfigMaps gains nothing by that: what is read back counts only if its hash is in the
status.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal, NamedTuple

from skill_operator import naming, runtime_contract
from skill_operator.api.conditions import ISOLATED, VERIFIED
from skill_operator.api.v1alpha1 import Evidence, MutantEvidence, Provenance, Skill
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.store import source_map
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.reconcile import comparison
from skill_operator.reconcile.check_report import CheckReport, ReportedQuestion, parse, read_end, read_signed
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.job_retry import JobRetry, finished_at
from skill_operator.reconcile.observed import POD_START_SECONDS, Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Ref, Result
from skill_operator.reconcile.stages.source import record_verdict
from skill_operator.reconcile.turns import wait_for_turn
from skill_operator.resources import check as resource
from skill_operator.settings import Settings
from skill_operator.untrusted.text import printable

FIRST_BACKOFF_SECONDS = 15.0
POD_PROBLEM_RETRY_SECONDS = 15.0
ISOLATION_RETRY_SECONDS = 60.0
MAX_INCONCLUSIVE_CHECKS = 5  # of one candidate: code that can end its own check must not be checked for ever
GATE_NO_VERDICT = "no-verdict"


class _CheckRun(NamedTuple):
    """_CheckRun is the Job of a check with its ConfigMap, and the request that the map carries."""

    job: Object
    config_map: Object
    content: Object

    @property
    def name(self) -> str:
        return str(self.config_map["metadata"]["name"])


def check(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Check the candidate, and record the verdict in its ledger. Done when the candidate passed."""
    result, report = examine(observed, progress, context.settings, context.now)
    if report is None:
        return result
    result = record_verdict(observed, progress, context, report, result)
    if result.is_done:  # for people to read, and to approve
        if progress.provenance is not None:
            progress.status["provenance"] = progress.provenance
            progress.status["evidence"] = _evidence(observed.skill, report, progress.provenance)
        result = replace(result, apply=(*result.apply, source_map(observed.skill, progress.source)))
        (progress.verified,) = result.conditions
        if progress.opinion is not None:  # the condition waits for it
            result = replace(result, conditions=())
    return result


async def confirm(result: Result, observed: Observed, _progress: Progress, context: StageContext) -> Result:
    """Hold a check back until the queue gives it a turn: what one namespace starts must not starve the others."""
    check = context.settings.check
    bounds = (
        f"{check.concurrency} checks run at once, {check.namespace_concurrency} of one namespace "
        "(check.concurrency and check.namespaceConcurrency in the chart's values)"
    )
    return await wait_for_turn(result, observed, context.job_queues.checks, VERIFIED, "check", bounds)


def _evidence(skill: Skill, report: CheckReport, provenance: Provenance) -> Evidence:
    visible, hidden = split_examples(skill.spec.examples)
    mutants = MutantEvidence(killed=report.mutants_killed, of=report.mutants, skipped=report.mutants_skipped)
    return Evidence(
        visible=len(visible),
        held_out=len(hidden),
        promises=report.promises,
        mutants=mutants,
        model=provenance.model,
        author="same" if provenance.author == "pinned" and skill.metadata.maker else provenance.author,
    )


def examine(
    observed: Observed, progress: Progress, settings: Settings, now: datetime
) -> tuple[Result, CheckReport | None]:
    """Return the verdict, once there is one. A check that ends without one is made again, until it is a refusal."""
    skill = observed.skill
    visible, hidden = split_examples(skill.spec.examples)
    content = resource.bundle(skill, progress.source, progress.types, visible, hidden)
    name = naming.check(skill.metadata.name, skill.metadata.uid, resource.key(settings, content))
    compared = comparison.job_name(skill, settings, comparison.build_content(skill, progress))
    old = _others(observed, {name, compared})
    known = _known_report(observed, settings, name, content)
    if known is not None:
        leftovers = (Ref("Job", skill.metadata.namespace, name),) if name in observed.jobs else ()
        return _verdict(known, name, (*old, *leftovers)), known
    try:
        config_map = resource.config_map(skill, name, content)
    except resource.TooLarge as error:
        return Result.stalled(ConditionUpdate(VERIFIED, "False", "SpecInvalid", str(error))), None
    job = observed.jobs.get(name)
    if job is None:
        starting = ConditionUpdate(VERIFIED, "Unknown", "Checking", "the check is starting")
        wanted = make_job(observed, settings, config_map, 0)
        return Result.waiting(starting, apply=(config_map,), create=(wanted,), delete=old), None
    run = _CheckRun(job, config_map, content)
    for pod in observed.pods_of(name):
        if not is_owned_by(job, pod):
            continue  # of a former Job of this name, and about to go
        end = pod_status.find_termination(pod)
        if end is not None:
            return _ended(observed, progress, settings, run, end, now)
        if (problem := observed.problem(pod)) is not None:
            anew = (Ref("Job", skill.metadata.namespace, name),) if observed.could_pull_now(pod) else ()
            return _blocked(problem, (*old, *anew)), None
    return _no_verdict(observed, progress, settings, run, now, old)


def _known_report(observed: Observed, settings: Settings, name: str, content: Object) -> CheckReport | None:
    """Return the verdict that this operator found before, and no other."""
    stored = observed.config_maps.get(name)
    report = parse(stored.get("data", {}).get(resource.REPORT, "")) if stored is not None else None
    return report if report and observed.skill.status.verdict == _seal(settings, content, report) else None


def _seal(settings: Settings, content: Object, report: CheckReport) -> str:
    return naming.digest(resource.key(settings, content), report.wire())


def make_job(
    observed: Observed, settings: Settings, config_map: Object, failures: int, *, skip_mutants: bool = False
) -> Object:
    """Return the Job that reads the check request in the ConfigMap, with a key of its own for the report."""
    parts = sum(key.startswith("part") for key in config_map["data"])
    key = secrets.token_hex(32)
    name, user_namespace = config_map["metadata"]["name"], observed.user_namespace(settings).enabled
    return resource.job(
        observed.skill,
        settings,
        name,
        parts,
        key,
        failures,
        user_namespace=user_namespace,
        has_reference=runtime_contract.REFERENCE_FILE in config_map["data"],
        skip_mutants=skip_mutants,
    )


def is_owned_by(job: Object, pod: Object) -> bool:
    """Return whether the pod is of this Job, and not of a former one of its name."""
    return any(owner["uid"] == job["metadata"].get("uid") for owner in pod["metadata"].get("ownerReferences", []))


def _ended(
    observed: Observed,
    progress: Progress,
    settings: Settings,
    run: _CheckRun,
    end: Object,
    now: datetime,
) -> tuple[Result, CheckReport | None]:
    """Return what the end of the check's container says about the candidate."""
    if end.get("exitCode") == runtime_contract.EXIT_EGRESS_NOT_BLOCKED:
        return _not_isolated(observed, run.name, end), None
    report = read_end(end, report_key(run.job))
    if report is not None and report.subject != resource.subject(run.content):
        cause = f"the check got another input than the operator wrote: somebody changed the ConfigMap {run.name}"
        return _retry(observed, progress, settings, run, finished_at(end, now), now, cause)
    if report is None and end.get("exitCode") in {runtime_contract.EXIT_OK, runtime_contract.EXIT_REFUSED}:
        report = CheckReport(
            passed=False,
            gate="report",
            message="the check ended without a report of its own: the code interfered with it",
        )
    if report is None and end.get("reason") == "OOMKilled":
        if _may_be_mutants(run.job, end):
            return _without_mutants(observed, settings, run, now), None
        report = CheckReport(
            passed=False, gate="memory", message="the check was killed for using too much memory: hold less at a time"
        )
    if report is None:
        cause = f"the check ended with exit code {end.get('exitCode')}: {printable(str(end.get('message', '')), 500)}"
        return _retry(observed, progress, settings, run, finished_at(end, now), now, cause)
    return _record(observed, progress, settings, run, report)


def _may_be_mutants(job: Object, end: Object) -> bool:
    """Return whether the kernel may have killed the pod for mutants of code that every gate had accepted.

    PID 1 leaves a report before it tries them. That may be anybody's who has read the key, so it is no verdict.
    """
    report = read_signed(str(end.get("message", "")), report_key(job))
    return report is not None and report.passed and not _skips_mutants(job)


def _without_mutants(observed: Observed, settings: Settings, run: _CheckRun, now: datetime) -> Result:
    """Return that the same check is made again, of which the code alone can exhaust the memory."""
    message = "the check ended for want of memory while variants of the code ran; it is made again without them"
    failures = JobRetry.of(run.job, now, FIRST_BACKOFF_SECONDS).failures
    again = make_job(observed, settings, run.config_map, failures, skip_mutants=True)
    return Result.waiting(
        ConditionUpdate(VERIFIED, "Unknown", "Checking", message),
        apply=(run.config_map,),
        create=(again,),
        delete=(Ref("Job", observed.skill.metadata.namespace, run.name),),
    )


def _record(
    observed: Observed, progress: Progress, settings: Settings, run: _CheckRun, report: CheckReport
) -> tuple[Result, CheckReport]:
    """Return the verdict, and keep it where only this operator's own counts."""
    progress.status["verdict"] = _seal(settings, run.content, report)
    stored = resource.config_map(observed.skill, run.name, run.content, report.wire())
    return replace(_verdict(report, run.name, ()), apply=(stored,)), report


def _not_isolated(observed: Observed, name: str, end: Object) -> Result:
    problem = pod_status.explain_termination(end)
    return Result.stalled(
        ConditionUpdate(VERIFIED, "False", problem.reason, problem.message),
        ConditionUpdate(ISOLATED, "False", problem.reason, problem.message),
        after=ISOLATION_RETRY_SECONDS,
        delete=(Ref("Job", observed.skill.metadata.namespace, name),),
    )


def _no_verdict(
    observed: Observed,
    progress: Progress,
    settings: Settings,
    run: _CheckRun,
    now: datetime,
    old: tuple[Ref, ...],
) -> tuple[Result, CheckReport | None]:
    """Return how the check goes on while no pod has ended, or after its Job ended without one.

    The latter is so after its deadline, by a quota, or by eviction.
    """
    if (outcome := pod_status.job_outcome(run.job)) is not None:
        cause = f"the check ended without a result: {outcome.message}"
        reason = outcome.reason or "CheckFailed"
        return _retry(observed, progress, settings, run, outcome.since, now, cause, reason)
    if (problem := observed.refusal(run.job)) is not None:
        return _blocked(problem, old), None
    running = ConditionUpdate(VERIFIED, "Unknown", "Checking", "the check is running")
    after = None if observed.pods_of(run.name) else POD_START_SECONDS
    return Result.waiting(running, after=after, delete=old), None


def _blocked(problem: pod_status.PodProblem, old: tuple[Ref, ...]) -> Result:
    condition = ConditionUpdate(VERIFIED, "Unknown", problem.reason, problem.message)
    return Result.failed(condition, retry_after=POD_PROBLEM_RETRY_SECONDS, delete=old)


def _retry(
    observed: Observed,
    progress: Progress,
    settings: Settings,
    run: _CheckRun,
    failed_at: datetime,
    now: datetime,
    cause: str,
    reason: str = "CheckFailed",
) -> tuple[Result, CheckReport | None]:
    """Make the check again, ever later. A few ends without a verdict, or one after the deadline, refuse the code."""
    retry = JobRetry.of(run.job, failed_at, FIRST_BACKOFF_SECONDS)
    count = retry.failures + 1
    is_late = progress.deadline is not None and now > progress.deadline
    if count >= MAX_INCONCLUSIVE_CHECKS or is_late:
        pinned = observed.skill.spec.source is not None
        advice = f"; delete the ConfigMap {run.name} to have the same code checked again" if pinned else ""
        ends = f"{count} checks ended without a verdict{', the last after the deadline' if is_late else ''}"
        report = CheckReport(passed=False, gate=GATE_NO_VERDICT, message=f"{ends}: {cause[:1000]}{advice}")
        return _record(observed, progress, settings, run, report)
    message = f"{cause}; the next attempt starts at {retry.at:%H:%M:%S} UTC"
    condition = ConditionUpdate(VERIFIED, "Unknown", reason, message)
    skip_mutants = _skips_mutants(run.job)

    def make(failures: int) -> tuple[Object, Object]:
        return run.config_map, make_job(observed, settings, run.config_map, failures, skip_mutants=skip_mutants)

    result = retry.result(condition, now, make)
    return result, None


def _verdict(report: CheckReport, name: str, delete: tuple[Ref, ...]) -> Result:
    if report.passed:
        total = report.total_examples
        message = f"policy, lint and types hold; {total} of {total} examples pass"
        if not report.questions:
            return Result.done(ConditionUpdate(VERIFIED, "True", "Verified", message), delete=delete)
        message += _ask(report.questions, name)
        return Result.done(ConditionUpdate(VERIFIED, "True", "WeakExamples", message), delete=delete)
    line = f"skill.py line {report.line}: " if report.line else ""
    more = f" Which one, and why: {resource.REPORT} in the ConfigMap {name}" if report.private else ""
    message = f"{report.gate}: {line}{report.message}{more}"
    return Result.waiting(ConditionUpdate(VERIFIED, "False", "CheckRefused", message), delete=delete)


def _ask(questions: Sequence[ReportedQuestion], name: str) -> str:
    """Return the first question, where there are others, and how to answer."""
    first, *others = questions
    more = f" {len(others)} more: {resource.REPORT} in the ConfigMap {name}." if others else ""
    return f", but they leave open what is right for {first.text} Add an example that says so.{more}"


def _others(observed: Observed, names: set[str]) -> tuple[Ref, ...]:
    """Return the checks but those of these names: of former candidates, whose verdicts are in the ledger."""
    namespace = observed.skill.metadata.namespace
    kinds: tuple[tuple[Literal["ConfigMap", "Job"], dict[str, Object]], ...] = (
        ("ConfigMap", observed.config_maps),
        ("Job", observed.jobs),
    )
    return tuple(
        Ref(kind, namespace, other)
        for kind, objects in kinds
        for other, obj in objects.items()
        if other not in names and obj["metadata"]["labels"].get(naming.COMPONENT) == "check"
    )


def report_key(job: Object) -> str:
    """Return the key that the report of this Job is signed with."""
    return _variable(job, runtime_contract.ENV_REPORT_KEY)


def _skips_mutants(job: Object) -> bool:
    return bool(_variable(job, runtime_contract.ENV_SKIP_MUTANTS))


def _variable(job: Object, name: str) -> str:
    """Return a variable of the container that runs the code; empty where there is none."""
    return pod_status.find_variable(job, naming.CHECK_CONTAINERS[-1], name)
