"""The trial stage has a new revision answer its visible examples in a pod of its own, before it takes over.

The check ran the code in a pod of the check. Here it runs from its image, with its own contract and limits, through
the server that answers calls. Until it passes, the Deployment of the earlier revision stays as it is: that serves,
sleeps and wakes. Where egress or secrets are granted there is no trial: an example could do something that counts,
such as an order, and it was accepted with placeholders.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from skill_operator import naming, runtime_contract
from skill_operator.api.conditions import DEPLOYED, ISOLATED
from skill_operator.api.v1alpha1 import Trial
from skill_operator.generation.holdout import split_examples
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.reconcile import rollout
from skill_operator.reconcile.check_report import read_end
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.job_retry import JobRetry, finished_at
from skill_operator.reconcile.observed import POD_START_SECONDS, Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Ref, Result
from skill_operator.reconcile.stages.check import is_owned_by
from skill_operator.resources import check, contract
from skill_operator.resources import trial as resource
from skill_operator.untrusted.text import printable, single_line

FIRST_BACKOFF_SECONDS = 5.0
POD_PROBLEM_RETRY_SECONDS = 15.0
ISOLATION_RETRY_SECONDS = 60.0
MAX_INCONCLUSIVE_TRIALS = 3
MAX_FAILURE_CHARACTERS = 600  # so that what to do has a place in the condition, too


@dataclass(frozen=True)
class _TrialRun:
    """_TrialRun is one trial: its name, what it asks and what it starts. `state` is what the status says of it."""

    name: str
    content: Object
    deployment: Object
    state: Trial


def try_revision(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Try a new revision. Done when it passed, or where there is no earlier one that could serve meanwhile."""
    live = observed.deployment
    wanted = rollout.make_deployment(observed, progress, context.settings)
    visible, _ = split_examples(observed.skill.spec.examples)
    if live is None or rollout.is_rolled_out(live, wanted) or not visible or rollout.is_granted(observed):
        progress.status["trial"] = None
        return Result.done(delete=_leftovers(observed))
    run = _plan(observed, progress, wanted)
    known = observed.skill.status.trial
    if known is not None and known.digest == run.state.digest and known.failure:
        return _failed(observed, progress, run, known.failure)
    try:
        config_map = resource.config_map(observed.skill, run.name, run.content)
    except check.TooLarge as error:
        return _failed(observed, progress, run, str(error))
    progress.status["trial"] = run.state
    job = observed.jobs.get(run.name)
    if job is None:
        applied = (contract.config_map(observed.skill), config_map)
        created = _make_job(observed, run, config_map, 0)
        return Result.waiting(
            _trying(observed, run), apply=applied, create=(created,), delete=_leftovers(observed, run.name)
        )
    return _follow(observed, progress, context.now, run, job, config_map)


def _plan(observed: Observed, progress: Progress, wanted: Object) -> _TrialRun:
    """Return the trial of what is wanted. A new value of the annotation `retry` is another trial."""
    skill = observed.skill
    visible, _ = split_examples(skill.spec.examples)
    content = resource.request(skill, visible)
    (container,) = wanted["spec"]["template"]["spec"]["containers"]
    key = naming.digest(
        progress.revision,
        check.subject(content),
        contract.fingerprint(skill),
        container["resources"],
        skill.spec.runtime_class_name,
        skill.metadata.annotations.get(naming.RETRY_ANNOTATION, ""),
    )
    state = Trial(
        revision=naming.shorten(progress.revision),
        revision_digest=progress.revision,
        image=progress.image,
        digest=key,
    )
    return _TrialRun(naming.trial(skill.metadata.name, skill.metadata.uid, key), content, wanted, state)


def _make_job(observed: Observed, run: _TrialRun, config_map: Object, failures: int) -> Object:
    return resource.job(observed.skill, run.deployment, config_map, secrets.token_hex(32), failures)


def _trying(observed: Observed, run: _TrialRun) -> ConditionUpdate:
    message = f"revision {run.state.revision} answers its visible examples in a pod of its own; {_serves(observed)}"
    return ConditionUpdate(DEPLOYED, "Unknown", "Trial", message)


def _serves(observed: Observed) -> str:
    return f"{observed.skill.status.revision or 'the earlier revision'} serves meanwhile"


def _follow(
    observed: Observed, progress: Progress, now: datetime, run: _TrialRun, job: Object, config_map: Object
) -> Result:
    """Return how the trial goes on whose Job is there, or how it ended."""
    for pod in observed.pods_of(run.name):
        if not is_owned_by(job, pod):
            continue  # of a former Job of this name, and about to go
        if (end := pod_status.find_termination(pod)) is not None:
            return _ended(observed, progress, now, run, job, config_map, end)
        if (problem := observed.problem(pod)) is not None:
            return _blocked(problem)
    if (outcome := pod_status.job_outcome(job)) is not None:
        if outcome.reason == "DeadlineExceeded":
            return _failed(observed, progress, run, f"it did not answer in time: {outcome.message}")
        return _retry(observed, progress, now, run, job, config_map, outcome.message, outcome.since)
    if (problem := observed.refusal(job)) is not None:
        return _blocked(problem)
    return Result.waiting(_trying(observed, run), after=None if observed.pods_of(run.name) else POD_START_SECONDS)


def _ended(
    observed: Observed, progress: Progress, now: datetime, run: _TrialRun, job: Object, config_map: Object, end: Object
) -> Result:
    """Return what the end of the trial's container says. A passed trial stays until its revision is rolled out."""
    if end.get("exitCode") == runtime_contract.EXIT_EGRESS_NOT_BLOCKED:
        problem = pod_status.explain_termination(end)
        conditions = (
            ConditionUpdate(type_, "False", problem.reason, problem.message) for type_ in (DEPLOYED, ISOLATED)
        )
        return Result.stalled(*conditions, after=ISOLATION_RETRY_SECONDS, delete=_leftovers(observed))
    message = str(end.get("message", ""))
    key = pod_status.find_variable(job, naming.SKILL_CONTAINER, runtime_contract.ENV_REPORT_KEY)
    report = read_end(end, key)
    if report is None and end.get("reason") == "OOMKilled":  # else it was the process of one call that the kernel ended
        return _failed(observed, progress, run, pod_status.explain_termination(end).message)
    if report is None or report.subject != check.subject(run.content):
        cause = f"it ended without a report, with exit code {end.get('exitCode')}: {printable(message, 300)}"
        return _retry(observed, progress, now, run, job, config_map, cause, finished_at(end, now))
    if not report.passed:
        return _failed(observed, progress, run, report.message)
    progress.status["trial"] = None
    return Result.done()


def _retry(
    observed: Observed,
    progress: Progress,
    now: datetime,
    run: _TrialRun,
    job: Object,
    config_map: Object,
    cause: str,
    failed_at: datetime,
) -> Result:
    """Make the trial again, ever later. A few that end without a report are a failure."""
    retry = JobRetry.of(job, failed_at, FIRST_BACKOFF_SECONDS)
    if retry.failures + 1 >= MAX_INCONCLUSIVE_TRIALS:
        return _failed(observed, progress, run, f"{retry.failures + 1} trials ended without a report: {cause}")
    message = f"{cause}; the next trial starts at {retry.at:%H:%M:%S} UTC; {_serves(observed)}"
    condition = ConditionUpdate(DEPLOYED, "Unknown", "Trial", message)
    return retry.result(condition, now, lambda failures: (config_map, _make_job(observed, run, config_map, failures)))


def _failed(observed: Observed, progress: Progress, run: _TrialRun, failure: str) -> Result:
    """Return that the revision is not rolled out. It is remembered, so that nothing is tried twice."""
    failure = single_line(failure, MAX_FAILURE_CHARACTERS)
    progress.status["trial"] = run.state.model_copy(update={"failure": failure})
    message = (
        f"revision {run.state.revision} is not rolled out, since it failed in a pod of its own: {failure}; "
        f"{_serves(observed)}. Change the spec, pin spec.revision, or set the annotation {naming.RETRY_ANNOTATION}"
    )
    failed = ConditionUpdate(DEPLOYED, "False", "TrialFailed", message)
    return Result.stalled(failed, delete=_leftovers(observed))


def _blocked(problem: pod_status.PodProblem) -> Result:
    condition = ConditionUpdate(DEPLOYED, "Unknown", problem.reason, problem.message)
    return Result.failed(condition, retry_after=POD_PROBLEM_RETRY_SECONDS)


def _leftovers(observed: Observed, name: str = "") -> tuple[Ref, ...]:
    """Return the Jobs and ConfigMaps of trials, but those of this name."""
    namespace = observed.skill.metadata.namespace
    return tuple(
        Ref(kind, namespace, other)
        for kind, objects in (("ConfigMap", observed.config_maps), ("Job", observed.jobs))
        for other, obj in objects.items()
        if other != name and obj["metadata"]["labels"].get(naming.COMPONENT) == naming.TRIAL
    )
