"""The build stage has a Kaniko Job make the image: one more layer on the base image, in the builder namespace."""

from __future__ import annotations

import re
from datetime import datetime

from skill_operator import naming
from skill_operator.api.conditions import BUILT
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.job_retry import JobRetry, finished_at
from skill_operator.reconcile.observed import POD_START_SECONDS, Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Ref, Result
from skill_operator.resources import build as resource
from skill_operator.settings import Settings
from skill_operator.untrusted.text import printable

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FIRST_BACKOFF_SECONDS = 5.0
POD_PROBLEM_RETRY_SECONDS = 5.0
# For the number in the status alone: the queue wakes the Skill whose turn it is.
QUEUE_POLL_SECONDS = 15.0


def build(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Build the image of this revision, unless it is known. Done when the container has ended, 2 s before its Job.

    A failed build is never the code's fault (it copies one text file), so it is retried, ever later, until it works.
    """
    settings = context.settings
    progress.revision = naming.revision(progress.source, settings.images.runtime)
    name = resource.name(observed.skill, settings, progress.revision)
    jobs = tuple(Ref("Job", settings.builder_namespace, other) for other in observed.builds)
    if image := _known_image(observed, progress.revision, settings):
        progress.image = image
        return Result.done(ConditionUpdate(BUILT, "True", "Built", image), delete=jobs)
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


async def wait_for_turn(result: Result, observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Hold a new build back until the queue gives it a turn: few run at once, however many Skills want one."""
    settings, meta = context.settings, observed.skill.metadata
    if result.is_done and progress.image != observed.skill.status.image:
        _measure(observed)
    if not result.create:
        return result
    position = await context.build_queue.request(SkillKey(meta.namespace, meta.name))
    if not position:
        return result
    message = (
        f"number {position} in the build queue; "
        f"{settings.build.concurrency} builds run at once (build.concurrency in the chart's values)"
    )
    queued = ConditionUpdate(BUILT, "Unknown", "Queued", message)
    return Result.waiting(queued, after=QUEUE_POLL_SECONDS + position)


def _measure(observed: Observed) -> None:
    """Count how long the builds took that worked, from their Job to their image."""
    for job in observed.builds.values():
        for pod in observed.pods_of(job["metadata"]["name"]):
            if (end := pod_status.find_termination(pod)) is not None and end.get("exitCode") == 0:
                created_at = pod_status.parse_time(job["metadata"]["creationTimestamp"])
                metrics.observe_build_duration((pod_status.parse_time(end["finishedAt"]) - created_at).total_seconds())


def _known_image(observed: Observed, revision: str, settings: Settings) -> str:
    """Return the image of this revision, if it is known: from the status, or from what runs.

    Whoever may write the status is believed which image of the Skill's own repository it was, and no more.
    """
    image = _recorded_image(observed, revision)
    repository, _, digest = image.partition("@")
    return image if repository == _repository(observed.skill, settings) and DIGEST.fullmatch(digest) else ""


def _recorded_image(observed: Observed, revision: str) -> str:
    status, live = observed.skill.status, observed.deployment
    if status.revision_digest == revision:
        return status.image  # empty where it was lost: then what runs must not be taken for it
    for past in status.history:
        if past.revision_digest == revision:
            return past.image
    template = live["spec"]["template"] if live is not None else {}
    # On the template, where the admission policy lets nobody but the operator write.
    if template.get("metadata", {}).get("annotations", {}).get(naming.REVISION_DIGEST) == revision:
        return str(template["spec"]["containers"][0]["image"])
    return ""


def _repository(skill: Skill, settings: Settings) -> str:
    return f"{settings.registry.pull}/{naming.repository(skill.metadata.namespace, skill.metadata.name)}"


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
    )
    return archive, job


def _retry(
    observed: Observed, progress: Progress, context: StageContext, job: Object, cause: str, failed_at: datetime
) -> Result:
    retry = JobRetry.of(job, failed_at, FIRST_BACKOFF_SECONDS)
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
