"""The build stage has a Kaniko Job make the image: one more layer on the base image, in the builder namespace."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

from skill_operator import naming
from skill_operator.api.conditions import BUILT
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.observability import metrics
from skill_operator.reconcile import registry_away
from skill_operator.reconcile.archive import is_restoring
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.job_retry import JobRetry, finished_at
from skill_operator.reconcile.observed import POD_START_SECONDS, Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Ref, Result
from skill_operator.reconcile.turns import wait_for_turn
from skill_operator.registry.references import skill_repository
from skill_operator.resources import build as resource
from skill_operator.settings import Settings
from skill_operator.untrusted.text import printable

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FIRST_BACKOFF_SECONDS = 5.0
POD_PROBLEM_RETRY_SECONDS = 5.0
REBUILD_SECONDS = 0.1


def build(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Build the image of this revision, unless it is known. Done when the container has ended, 2 s before its Job.

    A failed build is never the code's fault (it copies one text file), so it is retried, ever later, until it works.
    """
    settings = context.settings
    progress.revision = naming.revision(progress.source, settings.images.runtime)
    image = _known_image(observed, progress.revision, settings)
    if not image:
        return _make_image(observed, progress, context)
    progress.image = image
    if observed.registry.problem is not None and is_restoring(observed):  # it may have been swept meanwhile
        return registry_away.hold(BUILT, observed.registry.problem)
    if observed.registry.problem is not None:
        return Result.done(registry_away.keep(image, observed.registry.problem))
    jobs = tuple(Ref("Job", settings.builder_namespace, name) for name in observed.builds)
    return Result.done(ConditionUpdate(BUILT, "True", "Built", image), delete=jobs)


def _make_image(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Have a Job make the image. Done when there is one."""
    settings = context.settings
    name = resource.name(observed.skill, settings, progress.revision)
    jobs = tuple(Ref("Job", settings.builder_namespace, other) for other in observed.builds)
    old = tuple(ref for ref in jobs if ref.name != name)
    job = observed.builds.get(name)
    if job is None:
        starting = ConditionUpdate(BUILT, "Unknown", "Building", "the build is starting")
        archive, wanted = _make(observed, progress, context, 0)
        return Result.waiting(starting, apply=(archive,), create=(wanted,), delete=old)
    for pod in observed.pods_of(name):
        end = pod_status.find_termination(pod)
        if end is not None and end.get("exitCode") == 0:
            digest = DIGEST.search(str(end.get("message", "")))
            if digest:
                progress.image = f"{_repository(observed.skill, settings)}@{digest.group()}"
                return Result.done(ConditionUpdate(BUILT, "True", "Built", progress.image), delete=old)
        if end is not None:
            return _retry(observed, progress, context, job, _cause(end), finished_at(end, context.now))
        if (problem := observed.problem(pod)) is not None:
            return _blocked(problem, old)
    if (outcome := pod_status.job_outcome(job)) is not None:
        return _retry(observed, progress, context, job, outcome.message, outcome.since)
    if (problem := observed.refusal(job)) is not None:
        return _blocked(problem, old)
    running = ConditionUpdate(BUILT, "Unknown", "Building", "the build is running")
    return Result.waiting(running, after=None if observed.pods_of(name) else POD_START_SECONDS, delete=old)


async def confirm(result: Result, observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Build an image again that the registry lost, and hold a new build back until it is its turn."""
    unpulled = _is_unpulled(observed)
    recorded = _known_image(observed, progress.revision, context.settings)
    urgent = unpulled or is_restoring(observed)  # somebody may wait for it
    if recorded and await context.is_image_lost(recorded, urgent):
        rebuilt = _rebuild(observed, progress, context, recorded)
        return await _wait_for_turn(rebuilt, observed, context, urgent=urgent)
    if result.is_done and not recorded:
        _measure(observed)
    return await _wait_for_turn(result, observed, context, urgent=True)


def _is_unpulled(observed: Observed) -> bool:
    """Return whether a node cannot pull the image for a pod of the Skill, so that somebody may wait for it."""
    problems = map(observed.problem, observed.pods)
    return any(problem is not None and problem.reason == pod_status.PULL_FAILED for problem in problems)


def _rebuild(observed: Observed, progress: Progress, context: StageContext, lost: str) -> Result:
    """Return a build of an image that the registry lost. Until it is done the Skill goes on with what nodes have."""
    result = _make_image(observed, progress, context)
    if result.is_done and progress.image != lost:
        _measure(observed)
        return result
    if result.is_done:  # by the Job that made the lost one
        jobs = tuple(Ref("Job", context.settings.builder_namespace, name) for name in observed.builds)
        result = Result.waiting(after=REBUILD_SECONDS, delete=jobs)
    if is_restoring(observed):  # nodes need not have it either
        starting = ConditionUpdate(BUILT, "Unknown", "Building", "the build is starting")
        return replace(result, conditions=result.conditions or (starting,))
    progress.image = lost
    failure = "".join(f": {each.message}" for each in result.conditions if each.status == "False")
    message = f"the registry no longer has {lost}; the operator builds it again, from the source that it keeps{failure}"
    return replace(result, conditions=(ConditionUpdate(BUILT, "False", "ImageLost", message),), outcome="done")


async def _wait_for_turn(result: Result, observed: Observed, context: StageContext, *, urgent: bool) -> Result:
    bounds = f"{context.settings.build.concurrency} builds run at once (build.concurrency in the chart's values)"
    return await wait_for_turn(result, observed, context.job_queues.builds, BUILT, "build", bounds, urgent=urgent)


def _measure(observed: Observed) -> None:
    """Count the builds that worked, and how long they took, from their Job to their image."""
    for job in observed.builds.values():
        for pod in observed.pods_of(job["metadata"]["name"]):
            if (end := pod_status.find_termination(pod)) is not None and end.get("exitCode") == 0:
                created_at = pod_status.parse_time(job["metadata"]["creationTimestamp"])
                metrics.record_build("built")
                metrics.observe_build_duration((pod_status.parse_time(end["finishedAt"]) - created_at).total_seconds())


def _known_image(observed: Observed, revision: str, settings: Settings) -> str:
    """Return the image of this revision, if it is known: from the status, or from what runs.

    Whoever may write the status is believed which image of the Skill's own repository it was, and no more.
    """
    image = _recorded_image(observed, revision)
    return image if is_own_image(image, observed.skill, settings) else ""


def is_own_image(image: str, skill: Skill, settings: Settings) -> bool:
    """Return whether an image, by digest, is of the Skill's own repository in the registry."""
    repository, _, digest = image.partition("@")
    return repository == _repository(skill, settings) and DIGEST.fullmatch(digest) is not None


def _recorded_image(observed: Observed, revision: str) -> str:
    status, live = observed.skill.status, observed.deployment
    if status.revision_digest == revision:
        return status.image
    for past in status.history:
        if past.revision_digest == revision:
            return past.image
    if status.trial is not None and status.trial.revision_digest == revision:
        return status.trial.image
    template = live["spec"]["template"] if live is not None else {}
    # On the template, where the admission policy lets nobody but the operator write.
    if template.get("metadata", {}).get("annotations", {}).get(naming.REVISION_DIGEST) == revision:
        return str(pod_status.find_container(template["spec"], naming.SKILL_CONTAINER).get("image", ""))
    return ""


def _repository(skill: Skill, settings: Settings) -> str:
    return f"{settings.registry.pull}/{skill_repository(settings, skill.metadata.namespace, skill.metadata.name)}"


def _make(observed: Observed, progress: Progress, context: StageContext, failures: int) -> tuple[Object, Object]:
    """Return the build context's ConfigMap and the Job."""
    skill, settings, base = observed.skill, context.settings, observed.base
    archive = resource.config_map(skill, settings, progress.revision, progress.source)
    user_namespace = observed.nodes.user_namespace(settings.isolation).enabled
    job = resource.job(
        skill,
        settings,
        progress.revision,
        list(base.root_entries),
        base.registry_address,
        failures,
        user_namespace=user_namespace,
        provenance=progress.provenance,
    )
    return archive, job


def _retry(
    observed: Observed, progress: Progress, context: StageContext, job: Object, cause: str, failed_at: datetime
) -> Result:
    retry = JobRetry.of(job, failed_at, FIRST_BACKOFF_SECONDS)
    back_since = observed.registry.back_since
    if back_since is not None and failed_at < back_since:  # it may well have failed for want of the registry
        retry = replace(retry, at=min(retry.at, context.now))
    message = (
        f"build {retry.failures + 1} failed: {printable(cause, 600)}. The next attempt starts at "
        f"{retry.at:%H:%M:%S} UTC. Check that the registry {context.settings.registry.push} runs and accepts the "
        "builder's credential"
    )
    condition = ConditionUpdate(BUILT, "False", "BuildFailed", message)
    return retry.result(
        condition, context.now, lambda failures: _make(observed, progress, context, failures), after=1.0
    )


def _blocked(problem: pod_status.PodProblem, old: tuple[Ref, ...]) -> Result:
    condition = ConditionUpdate(BUILT, "Unknown", problem.reason, problem.message)
    return Result.failed(condition, retry_after=POD_PROBLEM_RETRY_SECONDS, delete=old)


def _cause(terminated: Object) -> str:
    """Return why a build ended, in the last line of its own words."""
    if terminated.get("reason") == "OOMKilled":
        return "OOMKilled: raise build.resources.limits.memory in the chart's values"
    lines = [line for line in str(terminated.get("message", "")).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {terminated.get('exitCode')}"
