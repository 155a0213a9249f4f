"""The verdict comes from foreign bytes: only what PID 1 signed is believed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any, Literal

import pytest

from skill_operator import naming, runtime_contract
from skill_operator.api import check_request
from skill_operator.api.v1alpha1 import Evidence, MutantEvidence, Provenance
from skill_operator.generation.holdout import split_examples
from skill_operator.naming import SkillKey
from skill_operator.reconcile.check_report import parse
from skill_operator.reconcile.result import Progress, Ref
from skill_operator.reconcile.stages.check import MAX_INCONCLUSIVE_CHECKS, check, confirm, examine
from skill_operator.registry.monitor import RegistryState
from skill_operator.resources import check as resource
from tests.unit.reconcile.samples import NOW, SETTINGS, SOURCE, observed, pod, skill, stage_context

VISIBLE, HIDDEN = split_examples(skill().spec.examples)
CONTENT = resource.bundle(skill(), SOURCE, "", VISIBLE, HIDDEN)
GOOD = {
    "subject": resource.subject(CONTENT), "passed": True, "gate": None, "message": "", "private": "", "line": None,
    "passedExamples": 1, "totalExamples": 1,
}  # fmt: skip
BAD = GOOD | {"passed": False, "gate": "mypy", "message": "no such name", "line": 7}


def begun() -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Name, ConfigMap and Job of the check, as the first pass wants them."""
    result, report = examine(observed(), Progress(source=SOURCE), SETTINGS, NOW)
    assert report is None
    assert not result.is_done
    (config_map,), (job,) = result.apply, result.create
    name = job["metadata"]["name"]
    return name, config_map, job | {"metadata": job["metadata"] | {"uid": f"uid-{name}"}}


def signed(report: dict[str, Any], job: dict[str, Any], key: str | None = None) -> str:
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    secret = key or next(e["value"] for e in env if e["name"] == "SKILL_REPORT_KEY")
    text = json.dumps(report)
    mac = hmac.new(bytes.fromhex(secret), text.encode(), hashlib.sha256).hexdigest()
    return json.dumps({"report": text, "mac": mac})


def ended(end: dict[str, Any], job_name: str, job: dict[str, Any], progress: Progress | None = None) -> Any:
    state = observed(jobs={job_name: job}, pods=(pod(job_name, end),))
    return examine(state, progress or Progress(source=SOURCE), SETTINGS, NOW)


def test_the_candidate_sees_no_expected_output() -> None:
    _, config_map, job = begun()
    assert "volumeMounts" in str(job)
    volumes = job["spec"]["template"]["spec"]["volumes"]
    assert [v["name"] for v in volumes] == ["tmp", "skill", "contract"]
    assert [v["configMap"]["items"][0]["key"] for v in volumes[1:]] == ["skill.py", "contract.json"]
    (reading,), (running,) = (job["spec"]["template"]["spec"][kind] for kind in ("initContainers", "containers"))
    assert reading["image"].endswith(SETTINGS.images.checker)
    assert running["image"].endswith(SETTINGS.images.runtime), "nothing tells it from production"
    mounts = {mount["mountPath"]: mount for mount in running["volumeMounts"]}
    assert mounts["/skill/skill.py"]["readOnly"], "the candidate cannot change what it is judged by"
    assert config_map["data"]["skill.py"] == SOURCE
    assert "expected" not in config_map["data"]["contract.json"]
    packed = config_map["data"]["part0"]
    bundle = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert bundle["source"] == SOURCE
    assert bundle["examples"] == [{"name": "one", "input": {"what": "a"}, "hidden": False, "output": {"said": "a"}}]


def verdict(report: dict[str, Any] = GOOD) -> tuple[str, dict[str, Any], str]:
    """Name, ConfigMap and seal of a check that has ended with this report."""
    name, _, job = begun()
    progress = Progress(source=SOURCE)
    result, _ = ended({"exitCode": 0, "message": signed(report, job)}, name, job, progress)
    (stored,) = result.apply
    return name, stored, str(progress.status["verdict"])


def test_a_signed_verdict_is_taken_and_kept() -> None:
    name, _, job = begun()
    result, report = ended({"exitCode": 0, "message": signed(GOOD, job)}, name, job)
    assert report is not None
    assert report.passed
    assert result.is_done
    name, stored, seal = verdict()
    state = observed(skill({"verdict": seal}), config_maps={name: stored})
    again, known = examine(state, Progress(source=SOURCE), SETTINGS, NOW)
    assert known == report
    assert again.is_done
    assert not again.create


def test_a_kept_verdict_counts_only_if_the_operator_wrote_it() -> None:
    """Whoever may write ConfigMaps in the namespace may write this one."""
    name, _, refused = verdict(BAD)
    _, forged, _ = verdict(GOOD)
    for status in ({}, {"verdict": refused}, {"verdict": "0" * 64}):
        state = observed(skill(status), config_maps={name: forged})
        result, known = examine(state, Progress(source=SOURCE), SETTINGS, NOW)
        assert known is None
        assert not result.is_done
        assert [job["metadata"]["name"] for job in result.create] == [name], "it is checked again"


def test_a_verdict_on_other_code_whose_name_is_the_same_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is no identity: the verdict counts for the candidate whose whole digest is sealed in the status."""
    monkeypatch.setattr(naming, "check", lambda skill, uid, key: f"{skill}-check-same")
    name, stored, seal = verdict()
    state = observed(skill({"verdict": seal}), config_maps={name: stored})
    assert examine(state, Progress(source=SOURCE), SETTINGS, NOW)[1] is not None
    assert examine(state, Progress(source=SOURCE + "# other\n"), SETTINGS, NOW)[1] is None


def test_a_report_on_something_else_is_no_verdict() -> None:
    """The ConfigMap that the Job reads may have been changed after it was written."""
    name, config_map, job = begun()
    message = signed(GOOD | {"subject": "0" * 64}, job)
    end = {"exitCode": 0, "message": message, "finishedAt": "2030-01-01T11:59:00Z"}
    result, report = ended(end, name, job)
    assert report is None
    assert "somebody changed the ConfigMap" in result.conditions[0].message
    assert result.apply == (config_map,), "it is put right"
    assert result.delete == (Ref("Job", "team", name),)
    assert result.create[0]["metadata"]["name"] == name


def test_the_pod_of_a_former_job_says_nothing_about_this_one() -> None:
    name, _, job = begun()
    former = pod(name, {"exitCode": 0, "message": "?"}, ownerReferences=[{"kind": "Job", "name": name, "uid": "old"}])
    result, report = examine(observed(jobs={name: job}, pods=(former,)), Progress(source=SOURCE), SETTINGS, NOW)
    assert report is None
    assert result.conditions[0].reason == "Checking"


def test_what_only_people_may_know_is_kept_for_them_alone() -> None:
    report = BAD | {"gate": "hidden", "message": "1 of 2 held-out ones", "private": "input: 41", "line": None}
    name, stored, _ = verdict(report)
    assert "input: 41" in stored["data"]["report.json"]
    _, _, job = begun()
    result, _ = ended({"exitCode": 0, "message": signed(report, job)}, name, job)
    assert "41" not in result.conditions[0].message
    assert f"report.json in the ConfigMap {name}" in result.conditions[0].message


def test_a_refusal_names_gate_and_line() -> None:
    name, _, job = begun()
    result, report = ended({"exitCode": 0, "message": signed(BAD, job)}, name, job)
    assert report is not None
    assert not result.is_done
    assert result.conditions[0].reason == "CheckRefused"
    assert "mypy: skill.py line 7: no such name" in result.conditions[0].message


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
    assert not result.is_done


def test_another_checks_key_does_not_open_this_one() -> None:
    name, _, job = begun()
    _, report = ended({"exitCode": 0, "message": signed(GOOD, job, key="00" * 32)}, name, job)
    assert report is not None
    assert not report.passed


@pytest.mark.parametrize("end", [{"exitCode": 1, "message": "boom\x1b[31m"}, {"exitCode": 137, "reason": "Error"}])
def test_a_broken_check_is_no_verdict_and_made_again_ever_later_a_few_times(end: dict[str, Any]) -> None:
    name, _, job = begun()
    pauses = []
    for failures in range(MAX_INCONCLUSIVE_CHECKS - 1):
        job["metadata"]["annotations"] = {naming.FAILURES_ANNOTATION: str(failures)}
        waiting, report = ended(end | {"finishedAt": "2030-01-01T12:00:00Z"}, name, job)
        assert report is None
        assert not waiting.is_stalled
        assert not waiting.delete
        assert "\x1b" not in waiting.conditions[0].message
        pauses.append(waiting.after)
        again, _ = ended(end | {"finishedAt": "2030-01-01T11:00:00Z"}, name, job)
        assert again.delete == (Ref("Job", "team", name),)
        assert again.create[0]["metadata"]["annotations"] == {naming.FAILURES_ANNOTATION: str(failures + 1)}
    assert pauses == [15, 30, 60, 120]
    for failures in (MAX_INCONCLUSIVE_CHECKS - 1, 60):
        job["metadata"]["annotations"] = {naming.FAILURES_ANNOTATION: str(failures)}
        refused, report = ended(end, name, job)
        assert report is not None
        assert (report.passed, report.gate) == (False, "no-verdict")
        assert refused.conditions[0].reason == "CheckRefused"
        assert not refused.create
        assert len(refused.apply) == 1, "the verdict is kept"


def test_an_end_without_a_verdict_after_the_deadline_refuses_the_code() -> None:
    name, _, job = begun()
    for deadline, is_refused in (
        (NOW - timedelta(seconds=1), True),
        (NOW + timedelta(seconds=1), False),
        (None, False),
    ):
        progress = Progress(source=SOURCE, deadline=deadline)
        _, report = ended({"exitCode": 143, "message": ""}, name, job, progress)
        assert (report is not None) is is_refused
        assert report is None or (report.gate == "no-verdict" and "after the deadline" in report.message)


@pytest.mark.parametrize("text", ["", "many", "-1", "9" * 5000, "1e3", "\u0663", "1.5"])
def test_a_count_that_others_wrote_does_not_end_the_reconcile(text: str) -> None:
    name, _, job = begun()
    job["metadata"]["annotations"] = {naming.FAILURES_ANNOTATION: text}
    waiting, report = ended({"exitCode": 1, "finishedAt": "2030-01-01T12:00:00Z"}, name, job)
    assert report is None
    assert waiting.after == 15


def test_a_check_that_did_not_end_is_made_again_ever_later() -> None:
    name, _, job = begun()
    late = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}
    job["status"] = {"conditions": [late | {"lastTransitionTime": "2030-01-01T11:59:50Z"}]}
    waiting, _ = examine(observed(jobs={name: job}), Progress(source=SOURCE), SETTINGS, NOW)
    assert waiting.after == 5
    assert waiting.conditions[0].reason == "DeadlineExceeded"
    job["metadata"]["annotations"] = {naming.FAILURES_ANNOTATION: "3"}
    waiting, _ = examine(observed(jobs={name: job}), Progress(source=SOURCE), SETTINGS, NOW)
    assert waiting.after == 110


def test_a_check_whose_pod_was_taken_with_its_report_is_made_again() -> None:
    """As by preemption: the pod succeeds within its grace, its Job is complete, and nothing is left to read."""
    name, _, job = begun()
    done = {"type": "Complete", "status": "True", "reason": "CompletionsReached"}
    job["status"] = {"conditions": [done | {"lastTransitionTime": "2030-01-01T11:59:50Z"}]}
    waiting, _ = examine(observed(jobs={name: job}), Progress(source=SOURCE), SETTINGS, NOW)
    assert (waiting.conditions[0].reason, waiting.after) == ("CheckFailed", 5)
    assert "its pod was deleted" in waiting.conditions[0].message
    job["status"] = {"conditions": [done | {"lastTransitionTime": "2030-01-01T11:59:40Z"}]}
    again, _ = examine(observed(jobs={name: job}), Progress(source=SOURCE), SETTINGS, NOW)
    assert (len(again.create), len(again.delete)) == (1, 1)


def test_missing_isolation_stops_the_skill() -> None:
    name, _, job = begun()
    result, report = ended({"exitCode": 3, "message": '{"refused": false}'}, name, job)
    assert report is None
    assert result.is_stalled
    assert {f.type: f.reason for f in result.conditions} == {
        "Verified": "EgressNotBlocked",
        "Isolated": "EgressNotBlocked",
    }


def test_too_many_examples_are_said_to_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_request, "PART_BYTES", 10)
    result, _ = examine(observed(), Progress(source=SOURCE), SETTINGS, NOW)
    assert result.is_stalled
    assert result.conditions[0].reason == "SpecInvalid"


def test_checks_of_former_candidates_are_removed() -> None:
    name, config_map, job = begun()
    state = observed(config_maps={"echo-check-old": config_map}, jobs={"echo-check-old": job})
    result, _ = examine(state, Progress(source=SOURCE), SETTINGS, NOW)
    assert {(r.kind, r.name) for r in result.delete} == {("ConfigMap", "echo-check-old"), ("Job", "echo-check-old")}
    other, _ = examine(observed(skill(examples=[])), Progress(source=SOURCE), SETTINGS, NOW)
    assert other.create[0]["metadata"]["name"] != name


def read(end: dict[str, Any], job_name: str) -> dict[str, Any]:
    """A pod whose first container has ended, and whose second has not started."""
    waiting = {"state": {"waiting": {"reason": "PodInitializing"}}}
    return {
        "metadata": pod(job_name)["metadata"],
        "status": {
            "phase": "Pending",
            "initContainerStatuses": [{"state": {"terminated": end}}],
            "containerStatuses": [waiting],
        },
    }


def test_code_that_is_refused_when_it_is_read_is_never_run() -> None:
    name, _, job = begun()
    end = {"exitCode": runtime_contract.EXIT_REFUSED, "message": signed(BAD, job)}
    state = observed(jobs={name: job}, pods=(read(end, name),))
    _, report = examine(state, Progress(source=SOURCE), SETTINGS, NOW)
    assert report is not None
    assert (report.passed, report.gate) == (False, "mypy")


def test_code_that_was_read_has_no_verdict_yet() -> None:
    name, _, job = begun()
    state = observed(jobs={name: job}, pods=(read({"exitCode": 0, "message": ""}, name),))
    result, report = examine(state, Progress(source=SOURCE), SETTINGS, NOW)
    assert report is None
    assert result.conditions[0].reason == "Checking"


@pytest.mark.parametrize(("back", "anew"), [(60, True), (-60, False), (None, False)])
def test_a_check_that_could_not_pull_is_made_anew_when_the_registry_is_back(back: int | None, anew: bool) -> None:
    name, _, job = begun()
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "refused"}}
    stuck = pod(name, state=waiting, creationTimestamp=NOW.isoformat())
    registry = RegistryState(back_since=None if back is None else NOW + timedelta(seconds=back))
    result, _ = examine(
        observed(jobs={name: job}, pods=(stuck,), registry=registry), Progress(source=SOURCE), SETTINGS, NOW
    )
    assert result.conditions[0].reason == "ImagePullFailed"
    assert [(ref.kind, ref.name) for ref in result.delete] == ([("Job", name)] if anew else [])


QUESTION = {"kind": "edge", "input": '{"xs": []}', "answers": ["IndexError", "an answer"]}


def weak(*questions: dict[str, Any]) -> dict[str, Any]:
    return GOOD | {"questions": [*questions]}


def test_weak_examples_are_told_and_the_skill_goes_on() -> None:
    name, _, job = begun()
    result, _ = ended({"exitCode": 0, "message": signed(weak(QUESTION, QUESTION), job)}, name, job)
    assert result.is_done
    (condition,) = result.conditions
    assert (condition.status, condition.reason) == ("True", "WeakExamples")
    assert '`{"xs": []}`: IndexError, or an answer?' in condition.message
    assert f"1 more: report.json in the ConfigMap {name}" in condition.message


def test_without_a_question_the_examples_are_not_called_weak() -> None:
    name, _, job = begun()
    result, _ = ended({"exitCode": 0, "message": signed(weak(), job)}, name, job)
    assert result.conditions[0].reason == "Verified"


def test_weak_examples_are_still_known_after_a_restart() -> None:
    name, stored, seal = verdict(weak(QUESTION | {"answers": ["a\x1b[31m", "b\nc"]}))
    state = observed(skill({"verdict": seal}), config_maps={name: stored})
    result, _ = examine(state, Progress(source=SOURCE), SETTINGS, NOW)
    assert result.is_done
    assert result.conditions[0].reason == "WeakExamples"


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\u202eb", "a\nb\r\nc", "x" * 4000, "💥" * 900, "\x00" * 900])
def test_a_question_becomes_one_printable_line(text: str) -> None:
    report = parse(json.dumps(weak({"kind": "mutant", "input": text, "answers": [text, text]})))
    assert report is not None
    (question,) = report.questions
    assert len(question.input) <= 300
    assert all(len(answer) <= 200 for answer in question.answers)
    assert question.text.isprintable()
    assert parse(json.dumps(report.wire())) == report, "what is read back is what was sealed"


@pytest.mark.parametrize(
    "questions",
    [
        [QUESTION] * 4,
        [QUESTION | {"kind": "other"}],
        [QUESTION | {"answers": ["one"]}],
        [QUESTION | {"answers": ["one", "two", "three"]}],
        [QUESTION | {"input": {"xs": []}}],
        [QUESTION | {"input": "x" * 5000}],
        {},
    ],
)
def test_questions_of_another_form_are_no_report(questions: Any) -> None:
    assert parse(json.dumps(GOOD | {"questions": questions})) is None


OUT_OF_MEMORY = {"exitCode": 137, "reason": "OOMKilled"}


def test_mutants_that_exhaust_the_pod_are_left_out_of_another_check() -> None:
    """The report that was signed before they ran may be anybody's who has read the key: it is no verdict."""
    name, config_map, job = begun()
    result, report = ended(OUT_OF_MEMORY | {"message": signed(GOOD, job)}, name, job)
    assert report is None
    assert not result.is_done
    assert result.delete == (Ref("Job", "team", name),)
    assert result.apply == (config_map,)
    (again,) = result.create
    assert variables(again)["SKILL_SKIP_MUTANTS"] == "Memory"
    assert variables(again)["SKILL_REPORT_KEY"] != variables(job)["SKILL_REPORT_KEY"]
    uid = {"uid": f"uid-{name}"}
    again["metadata"] |= uid
    _, report = ended(OUT_OF_MEMORY | {"message": signed(GOOD, again)}, name, again)
    assert report is not None
    assert (report.passed, report.gate) == (False, "memory"), "without them it was the code"
    retried, _ = ended({"exitCode": 1, "finishedAt": "2030-01-01T11:00:00Z"}, name, again)
    assert variables(retried.create[0])["SKILL_SKIP_MUTANTS"] == "Memory", "another end does not bring them back"
    done, report = ended({"exitCode": 0, "message": signed(GOOD | {"mutantsSkipped": "Memory"}, again)}, name, again)
    assert report is not None
    assert done.is_done


@pytest.mark.parametrize("report", [GOOD, GOOD | {"mutants": 9, "mutantsKilled": 9, "promises": 20}])
@pytest.mark.parametrize(
    "end",
    [
        OUT_OF_MEMORY,
        {"exitCode": 137, "reason": "Error"},
        {"exitCode": 143, "reason": "Error"},
        {"exitCode": 1, "reason": "Error"},
        {"exitCode": 2, "reason": "Error"},
        {"exitCode": runtime_contract.EXIT_REFUSED, "reason": "Error"},
        {"exitCode": 0, "reason": "OOMKilled"},  # the kernel took another process
        {"exitCode": None},
        {},
    ],
)
def test_a_signature_alone_accepts_no_code(report: dict[str, Any], end: dict[str, Any]) -> None:
    """Who may read Jobs has the key, and who may start a process in the pod writes its last message.

    What accepts is the exit code of PID 1.
    """
    name, _, job = begun()
    _, read = ended(end | {"message": signed(report, job)}, name, job)
    accepts = end.get("exitCode") == runtime_contract.EXIT_OK
    assert (read is not None and read.passed) == accepts


def variables(job: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}


def test_nothing_that_others_write_reaches_code_that_is_being_judged() -> None:
    """A ConfigMap's volume follows the map, unless it is mounted file by file."""
    granted = skill(secrets=[{"name": "api-key", "secretKeyRef": {"name": "billing", "key": "k"}}])
    content = resource.bundle(granted, SOURCE, "", VISIBLE, HIDDEN, "reference")
    for reference in (False, True):
        job = resource.job(granted, SETTINGS, "c", 1, "00", user_namespace=True, has_reference=reference)
        spec = job["spec"]["template"]["spec"]
        live = {volume["name"] for volume in spec["volumes"] if "configMap" in volume}
        assert live
        mounts = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] in live]
        assert len(mounts) == len(live)
        assert all(mount["subPath"] for mount in mounts)
    assert "placeholder" not in resource.config_map(granted, "c", content)["data"]


@pytest.mark.parametrize("message", ["", "mine", json.dumps({"report": json.dumps(GOOD), "mac": "0" * 64})])
def test_a_pod_without_memory_has_no_other_verdict_than_a_signed_one(message: str) -> None:
    name, _, job = begun()
    _, report = ended(OUT_OF_MEMORY | {"message": message}, name, job)
    assert report is not None
    assert (report.passed, report.gate) == (False, "memory")


def test_what_was_tried_is_in_the_status() -> None:
    counted = {"promises": 12, "mutants": 9, "mutantsKilled": 7, "mutantsSkipped": None}
    name, stored, seal = verdict(GOOD | counted)
    progress = Progress(source=SOURCE, provenance=Provenance(author="pinned", source_digest="d" * 64))
    result = check(observed(skill({"verdict": seal}), config_maps={name: stored}), progress, stage_context())
    assert result.is_done
    assert progress.status["evidence"] == Evidence(
        visible=len(VISIBLE), held_out=len(HIDDEN), promises=12, mutants=MutantEvidence(killed=7, of=9), author="pinned"
    )
    assert progress.status["provenance"] == progress.provenance


@pytest.mark.parametrize(("author", "said"), [("pinned", "same"), ("model", "model")])
def test_who_brought_both_code_and_examples_is_said(author: Literal["pinned", "model"], said: str) -> None:
    name, stored, seal = verdict(GOOD)
    progress = Progress(source=SOURCE, provenance=Provenance(author=author, source_digest="d" * 64))
    one = skill({"verdict": seal})
    meta = one.metadata.model_copy(update={"annotations": {naming.CREATED_BY_ANNOTATION: "an-agent"}})
    one = one.model_copy(update={"metadata": meta})
    assert check(observed(one, config_maps={name: stored}), progress, stage_context()).is_done
    assert progress.status["evidence"].author == said


def test_of_refused_code_nothing_is_said() -> None:
    name, stored, seal = verdict(BAD | {"promises": 3})
    progress = Progress(source=SOURCE, provenance=Provenance(author="pinned", source_digest="d" * 64))
    check(observed(skill({"verdict": seal}), config_maps={name: stored}), progress, stage_context())
    assert not progress.status.keys() & {"evidence", "provenance"}


class Turns:
    """A queue in which everybody is at this place."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.requests: list[SkillKey] = []

    async def request(self, key: SkillKey, *, urgent: bool) -> int:
        self.requests.append(key)
        return self.place


@pytest.mark.parametrize("place", [0, 4])
async def test_a_check_waits_for_its_turn(place: int) -> None:
    state, progress = observed(skill()), Progress(source=SOURCE)
    turns = Turns(place)
    context = stage_context(check_queue=turns)
    result = await confirm(check(state, progress, context), state, progress, context)
    assert turns.requests == [SkillKey(state.skill.metadata.namespace, state.skill.metadata.name)]
    (condition,) = result.conditions
    assert [each["kind"] for each in result.create] == ([] if place else ["Job"])
    assert condition.reason == ("Queued" if place else "Checking")
    if place:
        assert not result.apply, "its request is not written before its turn"
        assert condition.message.startswith("number 4 in the check queue; 8 checks run at once, 3 of one namespace")
        assert result.after
    else:
        assert result.create[0]["metadata"]["namespace"] == state.skill.metadata.namespace


async def test_a_check_that_runs_takes_no_turn() -> None:
    name, _, job = begun()
    turns = Turns(4)
    context = stage_context(check_queue=turns)
    state, progress = observed(skill(), jobs={name: job}), Progress(source=SOURCE)
    result = await confirm(check(state, progress, context), state, progress, context)
    assert turns.requests == []
    assert result.conditions[0].reason != "Queued"
