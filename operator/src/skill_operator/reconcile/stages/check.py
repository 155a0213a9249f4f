"""check: the candidate proves itself in a cage before anything is built.

A verdict is signed by PID 1 of the check, names what it is about, and is kept in a ConfigMap, so that it is asked for
once. Whoever may write ConfigMaps gains nothing by that: what is read back counts only if its hash is in the status.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from skill_operator import naming, runtime_contract
from skill_operator.api.conditions import ISOLATED, VERIFIED
from skill_operator.generation.holdout import split_examples
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.reconcile.observed import LATE, Observed
from skill_operator.reconcile.result import ConditionUpdate, Progress, Ref, Result
from skill_operator.resources import check as resource
from skill_operator.settings import Settings
from skill_operator.untrusted.text import printable

RETRY_SECONDS, LONGEST_WAIT = 15.0, 300.0


class CheckReport(BaseModel):
    """The checker's verdict: foreign bytes until this model has seen them."""

    subject: Annotated[str, Field(max_length=64)] = ""
    passed: bool
    gate: Annotated[str, Field(max_length=32, pattern=r"^[a-z-]+$")] | None = None
    message: Annotated[str, Field(max_length=4096)] = ""
    private: Annotated[str, Field(max_length=4096)] = ""
    """For people: no prompt may ever hold it."""
    line: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    passedExamples: Annotated[int, Field(ge=0, le=1000)] = 0
    totalExamples: Annotated[int, Field(ge=0, le=1000)] = 0


def check(seen: Observed, work: Progress, settings: Settings, now: datetime) -> tuple[Result, CheckReport | None]:
    """The verdict, once there is one. Infrastructure faults are no verdict: the check is made again."""
    skill = seen.skill
    visible, hidden = split_examples(skill.spec.examples)
    content = resource.bundle(skill, work.source, work.types, visible, hidden)
    name = naming.check(skill.metadata.name, resource.key(settings, content))
    old = _others(seen, name)
    known = _known(seen, settings, name, content)
    if known is not None:
        leftovers = (*old, *((Ref("Job", skill.metadata.namespace, name),) if name in seen.jobs else ()))
        return _verdict(known, name, leftovers), known
    try:
        wanted = resource.config_map(skill, name, content)
    except resource.TooLarge as error:
        return Result((ConditionUpdate(VERIFIED, "False", "SpecInvalid", str(error)),), stalled=True), None
    job = seen.jobs.get(name)
    if job is None:
        running = ConditionUpdate(VERIFIED, "Unknown", "Checking", "the check is starting")
        return Result((running,), apply=(wanted,), create=(_job(seen, settings, wanted, 0),), delete=old), None
    for pod in seen.pods_of(name):
        if not _made_by(job, pod):
            continue  # of a former Job of this name, and about to go
        end = pod_status.terminated(pod)
        if end is not None:
            return _ended(seen, work, settings, job, wanted, end, content, now)
        if (bad := seen.problem(pod)) is not None:
            return Result(
                (ConditionUpdate(VERIFIED, "Unknown", bad.reason, bad.message),), after=RETRY_SECONDS, delete=old
            ), None
    return _no_verdict(seen, settings, job, wanted, now, old), None


def _known(seen: Observed, settings: Settings, name: str, content: Object) -> CheckReport | None:
    """The verdict that this operator found before, and no other."""
    stored = seen.config_maps.get(name)
    report = _parse(stored.get("data", {}).get(resource.REPORT, "")) if stored is not None else None
    return report if report and seen.skill.status.verdict == _seal(settings, content, report) else None


def _seal(settings: Settings, content: Object, report: CheckReport) -> str:
    return naming.digest(resource.key(settings, content), report.model_dump(mode="json"))


def _job(seen: Observed, settings: Settings, config_map: Object, failures: int) -> Object:
    parts = sum(key.startswith("part") for key in config_map["data"])
    key = secrets.token_hex(32)
    name, own = config_map["metadata"]["name"], seen.users(settings).own
    return resource.job(seen.skill, settings, name, parts, key, failures, own_users=own)


def _made_by(job: Object, pod: Object) -> bool:
    return any(owner["uid"] == job["metadata"].get("uid") for owner in pod["metadata"].get("ownerReferences", []))


def _ended(
    seen: Observed,
    work: Progress,
    settings: Settings,
    job: Object,
    wanted: Object,
    end: Object,
    content: Object,
    now: datetime,
) -> tuple[Result, CheckReport | None]:
    name = wanted["metadata"]["name"]
    if end.get("exitCode") == runtime_contract.EXIT_EGRESS_NOT_BLOCKED:
        trouble = pod_status.ended(end)
        notes = (
            ConditionUpdate(VERIFIED, "False", trouble.reason, trouble.message),
            ConditionUpdate(ISOLATED, "False", trouble.reason, trouble.message),
        )
        gone = Ref("Job", seen.skill.metadata.namespace, name)
        return Result(notes, stalled=True, after=60.0, delete=(gone,)), None
    report = _read(str(end.get("message", "")), _key(job)) if end.get("exitCode") == runtime_contract.EXIT_OK else None
    if report is not None and report.subject != resource.subject(content):
        why = f"the check was given something else than what it was to judge: somebody changed the ConfigMap {name}"
        return _again(seen, settings, job, wanted, _time(end, now), now, why), None
    if report is None and end.get("exitCode") == runtime_contract.EXIT_OK:
        report = CheckReport(
            passed=False,
            gate="report",
            message="the check ended without a report of its own: the code interfered with it",
        )
    if report is None and end.get("reason") == "OOMKilled":
        report = CheckReport(
            passed=False, gate="memory", message="the check was killed for using too much memory: hold less at a time"
        )
    if report is None:
        why = f"the check ended with exit code {end.get('exitCode')}: {printable(str(end.get('message', '')), 500)}"
        return _again(seen, settings, job, wanted, _time(end, now), now, why), None
    work.status["verdict"] = _seal(settings, content, report)
    stored = resource.config_map(seen.skill, name, content, report.model_dump(mode="json"))
    result = _verdict(report, name, ())
    return Result(result.findings, done=result.done, apply=(stored,)), report


def _no_verdict(
    seen: Observed, settings: Settings, job: Object, wanted: Object, now: datetime, old: tuple[Ref, ...]
) -> Result:
    """No pod has ended: it is on its way, or the Job is over without one (deadline, quota, eviction)."""
    if (over := pod_status.job_outcome(job)) is not None:
        why = f"the check came to no result: {over.message}"
        return _again(seen, settings, job, wanted, over.since, now, why, over.reason or "CheckFailed")
    if (bad := seen.refusal(job)) is not None:
        return Result((ConditionUpdate(VERIFIED, "Unknown", bad.reason, bad.message),), after=RETRY_SECONDS, delete=old)
    running = ConditionUpdate(VERIFIED, "Unknown", "Checking", "the check is running")
    return Result((running,), delete=old, after=None if seen.pods_of(job["metadata"]["name"]) else LATE)


def _again(
    seen: Observed,
    settings: Settings,
    job: Object,
    wanted: Object,
    since: datetime,
    now: datetime,
    why: str,
    reason: str = "CheckFailed",
) -> Result:
    """That there is no verdict is not the code's fault. The check is made again, ever later, and costs no attempt."""
    failures = int(job["metadata"].get("annotations", {}).get(naming.FAILURES_ANNOTATION, "0"))
    again = since + timedelta(seconds=min(LONGEST_WAIT, RETRY_SECONDS * 2**failures))
    note = ConditionUpdate(VERIFIED, "Unknown", reason, f"{why}; it is made again at {again:%H:%M:%S} UTC")
    if now < again:
        return Result((note,), after=(again - now).total_seconds())
    gone = Ref("Job", seen.skill.metadata.namespace, wanted["metadata"]["name"])
    return Result((note,), delete=(gone,), apply=(wanted,), create=(_job(seen, settings, wanted, failures + 1),))


def _time(end: Object, now: datetime) -> datetime:
    text = end.get("finishedAt")
    return pod_status.moment(text) if isinstance(text, str) else now


def _verdict(report: CheckReport, name: str, delete: tuple[Ref, ...]) -> Result:
    if report.passed:
        total = report.totalExamples
        note = ConditionUpdate(
            VERIFIED, "True", "Verified", f"policy, lint and types hold; {total} of {total} examples pass"
        )
        return Result((note,), done=True, delete=delete)
    where = f"skill.py line {report.line}: " if report.line else ""
    more = f" Which one, and why: {resource.REPORT} in the ConfigMap {name}" if report.private else ""
    note = ConditionUpdate(VERIFIED, "False", "CheckRefused", f"{report.gate}: {where}{report.message}{more}")
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
    return next((str(e.get("value", "")) for e in env if e["name"] == runtime_contract.ENV_REPORT_KEY), "")


def _read(message: str, key: str) -> CheckReport | None:
    """The report, if it bears the mark that only PID 1 of the check could make."""
    envelope = _json(message)
    if not isinstance(envelope, dict):
        return None
    text, mac = envelope.get(runtime_contract.ENVELOPE_REPORT), envelope.get(runtime_contract.ENVELOPE_MAC)
    if not isinstance(text, str) or not isinstance(mac, str):
        return None
    expected = hmac.new(bytes.fromhex(key), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
    return _parse(text) if hmac.compare_digest(expected.encode(), mac.encode("utf-8", "replace")) else None


def _parse(text: str) -> CheckReport | None:
    try:
        return CheckReport.model_validate(_json(text))
    except ValidationError:
        return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
