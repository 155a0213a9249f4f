"""The verdict comes from foreign bytes: only what PID 1 signed is believed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
from typing import Any

import pytest

from skill_operator.reconcile.result import Ref, Work
from skill_operator.reconcile.stages.check import check
from skill_operator.resources import check as resource
from tests.unit.reconcile.samples import NOW, SETTINGS, SOURCE, observed, pod, skill

GOOD = {"passed": True, "gate": None, "message": "", "line": None, "passedExamples": 1, "totalExamples": 1}
BAD = GOOD | {"passed": False, "gate": "mypy", "message": "no such name", "line": 7}


def begun() -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Name, ConfigMap and Job of the check, as the first pass wants them."""
    result, report = check(observed(), Work(source=SOURCE), SETTINGS, NOW)
    assert report is None
    assert not result.done
    (config_map,), (job,) = result.apply, result.create
    return job["metadata"]["name"], config_map, job


def signed(report: dict[str, Any], job: dict[str, Any], key: str | None = None) -> str:
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    secret = key or next(e["value"] for e in env if e["name"] == "SKILL_REPORT_KEY")
    text = json.dumps(report)
    mac = hmac.new(bytes.fromhex(secret), text.encode(), hashlib.sha256).hexdigest()
    return json.dumps({"report": text, "mac": mac})


def ended(end: dict[str, Any], job_name: str, job: dict[str, Any]) -> Any:
    seen = observed(jobs={job_name: job}, pods=(pod(job_name, end),))
    return check(seen, Work(source=SOURCE), SETTINGS, NOW)


def test_the_candidate_sees_no_expected_output() -> None:
    _, config_map, job = begun()
    assert "volumeMounts" in str(job)
    volumes = job["spec"]["template"]["spec"]["volumes"]
    assert [v["name"] for v in volumes] == ["tmp"]
    packed = "".join(config_map["data"][f"part{n}"] for n in range(len(config_map["data"])))
    bundle = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert bundle["source"] == SOURCE
    assert bundle["examples"] == [{"name": "one", "input": {"what": "a"}, "hidden": False, "output": {"said": "a"}}]


def test_a_signed_verdict_is_taken_and_kept() -> None:
    name, _, job = begun()
    result, report = ended({"exitCode": 0, "message": signed(GOOD, job)}, name, job)
    assert report is not None
    assert report.passed
    assert result.done
    (stored,) = result.apply
    again, known = check(observed(config_maps={name: stored}), Work(source=SOURCE), SETTINGS, NOW)
    assert known == report
    assert again.done
    assert not again.create


def test_a_refusal_names_gate_and_line() -> None:
    name, _, job = begun()
    result, report = ended({"exitCode": 0, "message": signed(BAD, job)}, name, job)
    assert report is not None
    assert not result.done
    assert result.findings[0].reason == "CheckRefused"
    assert "mypy: skill.py line 7: no such name" in result.findings[0].message


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "passed",
        json.dumps(GOOD),
        json.dumps({"report": json.dumps(GOOD), "mac": "0" * 64}),
        json.dumps({"report": json.dumps(GOOD), "mac": 7}),
        json.dumps({"report": json.dumps(GOOD), "mac": "ü"}),
        json.dumps({"report": GOOD, "mac": "0"}),
        "[" * 5000,
        "null",
        '{"report": "\\ud800", "mac": "0"}',
    ],
)
def test_a_forged_report_refuses_the_code(forged: str) -> None:
    name, _, job = begun()
    result, report = ended({"exitCode": 0, "message": forged}, name, job)
    assert report is not None
    assert not report.passed
    assert not result.done


def test_another_checks_key_does_not_open_this_one() -> None:
    name, _, job = begun()
    _, report = ended({"exitCode": 0, "message": signed(GOOD, job, key="00" * 32)}, name, job)
    assert report is not None
    assert not report.passed


@pytest.mark.parametrize("end", [{"exitCode": 1, "message": "boom\x1b[31m"}, {"exitCode": 137, "reason": "Error"}])
def test_a_broken_check_is_no_verdict(end: dict[str, Any]) -> None:
    name, _, job = begun()
    result, report = ended(end, name, job)
    assert report is None
    assert not result.stalled
    assert result.delete == (Ref("Job", "team", name),)
    assert result.after is not None
    assert "\x1b" not in result.findings[0].message


def test_a_cage_that_is_open_stops_the_skill() -> None:
    name, _, job = begun()
    result, report = ended({"exitCode": 3, "message": '{"refused": false}'}, name, job)
    assert report is None
    assert result.stalled
    assert {f.type: f.reason for f in result.findings} == {
        "Verified": "EgressNotBlocked",
        "Isolated": "EgressNotBlocked",
    }


def test_too_many_examples_are_said_to_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "PART", 10)
    result, _ = check(observed(), Work(source=SOURCE), SETTINGS, NOW)
    assert result.stalled
    assert result.findings[0].reason == "SpecInvalid"


def test_checks_of_former_candidates_are_removed() -> None:
    name, config_map, job = begun()
    seen = observed(config_maps={"echo-check-old": config_map}, jobs={"echo-check-old": job})
    result, _ = check(seen, Work(source=SOURCE), SETTINGS, NOW)
    assert {(r.kind, r.name) for r in result.delete} == {("ConfigMap", "echo-check-old"), ("Job", "echo-check-old")}
    other, _ = check(observed(skill(examples=[])), Work(source=SOURCE), SETTINGS, NOW)
    assert other.create[0]["metadata"]["name"] != name
