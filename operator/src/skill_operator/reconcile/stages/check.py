"""check: the candidate proves itself in a cage before anything is built."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from skill_operator import naming
from skill_operator.api.conditions import ISOLATED, VERIFIED
from skill_operator.api.text import printable
from skill_operator.generation.examples import split
from skill_operator.reconcile import pods
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Ref, Result, Work, finding
from skill_operator.resources import check as resource
from skill_operator.resources.common import Object
from skill_operator.settings import Settings

RETRY_SECONDS = 15.0


class Report(BaseModel):
    """The checker's verdict: foreign bytes until this model has seen them."""

    passed: bool
    gate: Annotated[str, Field(max_length=32, pattern=r"^[a-z-]+$")] | None = None
    message: Annotated[str, Field(max_length=4096)] = ""
    line: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    passedExamples: Annotated[int, Field(ge=0, le=1000)] = 0
    totalExamples: Annotated[int, Field(ge=0, le=1000)] = 0


def check(seen: Observed, work: Work, settings: Settings, now: datetime) -> tuple[Result, Report | None]:
    """The verdict, once there is one. Infrastructure faults are no verdict: the check is made again."""
    skill = seen.skill
    visible, hidden = split(skill.spec.examples)
    content = resource.bundle(skill, work.source, work.types, visible, hidden)
    name = naming.check(skill.metadata.name, resource.key(settings, content))
    old = _others(seen, name)
    stored = seen.config_maps.get(name)
    if stored is not None and (known := _parse(stored.get("data", {}).get(resource.REPORT, ""))):
        leftovers = (*old, *((Ref("Job", skill.metadata.namespace, name),) if name in seen.jobs else ()))
        return _verdict(known, leftovers), known
    try:
        wanted = resource.config_map(skill, name, content)
    except resource.TooLarge as error:
        return Result((finding(VERIFIED, "False", "SpecInvalid", str(error)),), stalled=True), None
    parts = sum(key.startswith("part") for key in wanted["data"])
    job = seen.jobs.get(name)
    if job is None:
        key = secrets.token_hex(32)
        running = finding(VERIFIED, "Unknown", "Checking", "the check is starting")
        return Result(
            (running,), apply=(wanted,), create=(resource.job(skill, settings, name, parts, key),), delete=old
        ), None
    for pod in seen.pods_of(name):
        end = pods.terminated(pod)
        if end is not None:
            return _ended(seen, name, job, end, content)
        if (bad := seen.trouble(pod)) is not None:
            return Result(
                (finding(VERIFIED, "Unknown", bad.reason, bad.message),), after=RETRY_SECONDS, delete=old
            ), None
    return _no_verdict(seen, name, job, now, old), None


def _ended(seen: Observed, name: str, job: Object, end: Object, content: Object) -> tuple[Result, Report | None]:
    namespace = seen.skill.metadata.namespace
    if end.get("exitCode") == 3:
        trouble = pods.ended(end)
        notes = (
            finding(VERIFIED, "False", trouble.reason, trouble.message),
            finding(ISOLATED, "False", trouble.reason, trouble.message),
        )
        return Result(notes, stalled=True, after=60.0, delete=(Ref("Job", namespace, name),)), None
    report = _read(str(end.get("message", "")), _key(job)) if end.get("exitCode") == 0 else None
    if report is None and end.get("exitCode") == 0:
        report = Report(
            passed=False,
            gate="report",
            message="the check ended without a report of its own: the code interfered with it",
        )
    if report is None and end.get("reason") == "OOMKilled":
        report = Report(
            passed=False, gate="memory", message="the check was killed for using too much memory: hold less at a time"
        )
    if report is None:
        why = f"the check ended with exit code {end.get('exitCode')}: {printable(str(end.get('message', '')), 500)}"
        note = finding(VERIFIED, "Unknown", "CheckFailed", f"{why}; it is made again")
        return Result((note,), after=RETRY_SECONDS, delete=(Ref("Job", namespace, name),)), None
    stored = resource.config_map(seen.skill, name, content, report.model_dump())
    result = _verdict(report, ())
    return Result(result.findings, done=result.done, apply=(stored,)), report


def _no_verdict(seen: Observed, name: str, job: Object, now: datetime, old: tuple[Ref, ...]) -> Result:
    """No pod has ended: it is on its way, or the Job is over without one (deadline, quota, eviction)."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] == "Failed" and condition["status"] == "True":
            finished = pods.moment(condition["lastTransitionTime"])
            why = f"the check did not end: {condition.get('message', '')}; it is made again"
            note = finding(VERIFIED, "Unknown", condition.get("reason", "CheckFailed"), why)
            if (now - finished).total_seconds() < RETRY_SECONDS:
                return Result((note,), after=RETRY_SECONDS)
            return Result((note,), after=0.1, delete=(Ref("Job", seen.skill.metadata.namespace, name),))
    return Result((finding(VERIFIED, "Unknown", "Checking", "the check is running"),), delete=old)


def _verdict(report: Report, delete: tuple[Ref, ...]) -> Result:
    if report.passed:
        total = report.totalExamples
        note = finding(VERIFIED, "True", "Verified", f"policy, lint and types hold; {total} of {total} examples pass")
        return Result((note,), done=True, delete=delete)
    where = f"skill.py line {report.line}: " if report.line else ""
    note = finding(VERIFIED, "False", "CheckRefused", f"{report.gate}: {where}{report.message}")
    return Result((note,), delete=delete)


def _others(seen: Observed, name: str) -> tuple[Ref, ...]:
    """Checks of former candidates: their verdicts are in the ledger."""
    namespace = seen.skill.metadata.namespace
    kinds: tuple[tuple[Literal["ConfigMap", "Job"], dict[str, Object]], ...] = (
        ("ConfigMap", seen.config_maps),
        ("Job", seen.jobs),
    )
    return tuple(
        Ref(kind, namespace, other)
        for kind, objects in kinds
        for other, obj in objects.items()
        if other != name and obj["metadata"]["labels"].get(naming.COMPONENT) == "check"
    )


def _key(job: Object) -> str:
    env = job["spec"]["template"]["spec"]["containers"][0].get("env", [])
    return next((str(e.get("value", "")) for e in env if e["name"] == "SKILL_REPORT_KEY"), "")


def _read(message: str, key: str) -> Report | None:
    """The report, if it bears the mark that only PID 1 of the check could make."""
    envelope = _json(message)
    if not isinstance(envelope, dict):
        return None
    text, mac = envelope.get("report"), envelope.get("mac")
    if not isinstance(text, str) or not isinstance(mac, str):
        return None
    expected = hmac.new(bytes.fromhex(key), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
    return _parse(text) if hmac.compare_digest(expected.encode(), mac.encode("utf-8", "replace")) else None


def _parse(text: str) -> Report | None:
    try:
        return Report.model_validate(_json(text))
    except ValidationError:
        return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
