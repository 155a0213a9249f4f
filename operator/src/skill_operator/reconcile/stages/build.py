"""build: one more layer on the base image, made by a Kaniko Job in the builder namespace."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from skill_operator import naming
from skill_operator.api.conditions import BUILT
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.reconcile.observed import LATE, Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Ref, Result
from skill_operator.resources import build as resource
from skill_operator.settings import Settings
from skill_operator.untrusted.text import printable

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FIRST_WAIT, LONGEST_WAIT = 5.0, 300.0


def build(seen: Observed, work: Progress, settings: Settings, now: datetime) -> Result:
    """Done when the container has ended: the Job itself says so 2 s later. A failed build is never the code's fault
    (it copies one text file), so it is made again, ever later, until it works."""
    meta = seen.skill.metadata
    work.revision = naming.revision(work.source, settings.images.runtime)
    name = naming.build(meta.namespace, meta.name, work.revision)
    leftovers = tuple(Ref("Job", settings.builder_namespace, other) for other in seen.builds)
    if image := _built(seen, work.revision):
        work.image = image
        note = ConditionUpdate(BUILT, "True", "Built", f"{image}")
        return Result((note,), done=True, delete=leftovers)
    old = tuple(ref for ref in leftovers if ref.name != name)
    job = seen.builds.get(name)
    if job is None:
        running = ConditionUpdate(BUILT, "Unknown", "Building", "the build is starting")
        context, wanted = _wanted(seen, work, settings, 0)
        return Result((running,), apply=(context,), create=(wanted,), delete=old)
    for pod in seen.pods_of(name):
        end = pod_status.terminated(pod)
        if end is not None and end.get("exitCode") == 0:
            found = DIGEST.search(str(end.get("message", "")))
            if found:
                repository = naming.repository(meta.namespace, meta.name)
                work.image = f"{settings.registry.pull}/{repository}@{found.group()}"
                return Result((ConditionUpdate(BUILT, "True", "Built", work.image),), done=True, delete=old)
        if end is not None:
            return _failed(seen, work, settings, job, _why(end), _time(end.get("finishedAt"), now), now)
        if (bad := seen.problem(pod)) is not None:
            return Result((ConditionUpdate(BUILT, "Unknown", bad.reason, bad.message),), after=FIRST_WAIT, delete=old)
    if (over := pod_status.job_outcome(job)) is not None:
        return _failed(seen, work, settings, job, over.message, over.since, now)
    if (bad := seen.refusal(job)) is not None:
        return Result((ConditionUpdate(BUILT, "Unknown", bad.reason, bad.message),), after=FIRST_WAIT, delete=old)
    running = ConditionUpdate(BUILT, "Unknown", "Building", "the build is running")
    return Result((running,), delete=old, after=None if seen.pods_of(name) else LATE)


def _built(seen: Observed, rev: str) -> str:
    """The image of this revision, if it is known: from the status, or from what runs."""
    status = seen.skill.status
    if status.revision == rev:
        return status.image  # empty where it was lost: then what runs must not be taken for it
    for past in status.history:
        if past.revision == rev:
            return past.image
    running = seen.deployment
    if running is not None and running["metadata"].get("labels", {}).get(naming.REVISION_LABEL) == rev:
        return str(running["spec"]["template"]["spec"]["containers"][0]["image"])
    return ""


def _wanted(seen: Observed, work: Progress, settings: Settings, failures: int) -> tuple[Object, Object]:
    context = resource.config_map(seen.skill, settings, work.revision, work.source)
    base, own = seen.base, seen.nodes.users(settings.isolation).own
    return context, resource.job(
        seen.skill, settings, work.revision, list(base.root_entries), base.registry_address, failures, own_users=own
    )


def _failed(
    seen: Observed, work: Progress, settings: Settings, job: Object, why: str, since: datetime, now: datetime
) -> Result:
    failures = int(job["metadata"].get("annotations", {}).get(naming.FAILURES_ANNOTATION, "0"))
    pause = min(LONGEST_WAIT, FIRST_WAIT * 2**failures)
    left = pause - (now - since).total_seconds()
    again_at = since + timedelta(seconds=pause)
    message = (
        f"build {failures + 1} failed: {printable(why, 600)}. Again at {again_at:%H:%M:%S} UTC; see that the "
        f"registry {settings.registry.push} runs and takes the builder's credential"
    )
    note = ConditionUpdate(BUILT, "False", "BuildFailed", message)
    if left > 0:
        return Result((note,), after=left)
    again = Ref("Job", settings.builder_namespace, job["metadata"]["name"])
    context, wanted = _wanted(seen, work, settings, failures + 1)
    return Result((note,), delete=(again,), apply=(context,), create=(wanted,), after=1.0)


def _why(end: Object) -> str:
    if end.get("reason") == "OOMKilled":
        return "OOMKilled: raise build.resources.limits.memory in the chart's values"
    lines = [line for line in str(end.get("message", "")).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {end.get('exitCode')}"


def _time(text: object, fallback: datetime) -> datetime:
    return pod_status.moment(text) if isinstance(text, str) else fallback
