"""The verbs that write change what they say, and nothing where anything is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubectl_skill import following
from kubectl_skill.approval import compare_grants
from tests.unit.cli.scripted import (
    OLD_SOURCE,
    SOURCE,
    SPEC,
    TOKEN,
    ScriptedKubectl,
    condition,
    install,
    invoke,
    kept_map,
    made_skill,
    sha256,
    skill_command,
    source_map,
)

APPROVE = "skill-operator.dev/approve"
WAITING = condition("Built", "Unknown", "AwaitingApproval", f"the sha256 is {sha256(SOURCE)} … {APPROVE}={TOKEN}")
REQUEST = {
    "token": "cd" * 32,
    "revision": "3333cccc33",
    "sourceDigest": sha256(SOURCE),
    "changed": ["code", "spec.egress"],
}
READY = condition("Ready", "True", "Ready", "it can be called")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedKubectl:
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    return install(monkeypatch, tmp_path / "bin")


def annotations(kubectl: ScriptedKubectl) -> dict[str, str]:
    return {k.removeprefix("skill-operator.dev/"): v for k, v in kubectl.skill()["metadata"]["annotations"].items()}


class TestApprove:
    def test_it_writes_token_and_name_after_showing_what_it_is(self, kubectl: ScriptedKubectl) -> None:
        former = {**SPEC, "egress": [{"host": "old.example.com", "ports": [443]}]}
        skill = made_skill(WAITING, approvalRequest=REQUEST, revision="2222bbbb22")
        skill["spec"]["egress"] = [{"host": "api.example.com", "ports": [443]}]
        kubectl.put("skill", skill)
        kubectl.put("configmap", source_map())
        kubectl.put("configmap", kept_map("2222bbbb22", OLD_SOURCE, former))
        ended = invoke("approve", "echo", stdin="y\n")
        assert ended.exit_code == 0, ended.output
        out = ended.stdout
        assert out.index("egress") < out.index("--- 2222bbbb22/skill.py")
        assert '- egress: {"host": "old.example.com", "ports": [443]}' in out
        assert '+ egress: {"host": "api.example.com", "ports": [443]}' in out
        assert '-    return {"text": ""}' in out
        assert '+    return {"text": input["text"]}' in out
        assert "Changed since the last approval: code, spec.egress." in out
        found = annotations(kubectl)
        assert (found["approve"], found["approved-by"]) == ("cd" * 32, "jane")

    def test_it_tells_the_doubt_and_the_question_behind_it(self, kubectl: ScriptedKubectl) -> None:
        weak = condition("Verified", "True", "WeakExamples", "`[]`: 0, or ValueError?")
        request = REQUEST | {"doubt": "its examples leave it open"}
        kubectl.put("skill", made_skill(WAITING, weak, approvalRequest=request, revision=""))
        kubectl.put("configmap", source_map())
        out = invoke("approve", "echo", stdin="n\n").stdout
        assert "A person is asked since its examples leave it open." in out
        assert "Verified says: `[]`: 0, or ValueError?" in out

    @pytest.mark.parametrize("answer", ["n\n", "\n", ""], ids=["no", "empty", "nobody"])
    def test_no_is_no(self, kubectl: ScriptedKubectl, answer: str) -> None:
        kubectl.put("skill", made_skill(WAITING, approvalRequest=REQUEST))
        kubectl.put("configmap", source_map())
        assert invoke("approve", "echo", stdin=answer).exit_code != 0
        assert kubectl.asked("patch") == []

    def test_code_that_somebody_changed_is_not_approved(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        kubectl.put("skill", made_skill(WAITING, approvalRequest=REQUEST))
        kubectl.put("configmap", source_map("def run(input): return evil\n"))
        ended = skill_command(capsys, "approve", "echo", "--yes")
        assert ended.code == 1
        assert "somebody changed it" in ended.err
        assert kubectl.asked("patch") == []

    def test_a_kept_revision_that_somebody_changed_is_no_base_of_a_diff(
        self, kubectl: ScriptedKubectl, capsys: Capture
    ) -> None:
        kubectl.put("skill", made_skill(WAITING, approvalRequest=REQUEST, revision="2222bbbb22"))
        kubectl.put("configmap", source_map())
        kubectl.put("configmap", kept_map("2222bbbb22", SOURCE))  # as if nothing had changed
        ended = skill_command(capsys, "approve", "echo", "--yes")
        assert (ended.code, "not what ran" in ended.err) == (1, True)
        assert kubectl.asked("patch") == []

    def test_a_kept_spec_that_somebody_changed_hides_no_grant(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        from skill_operator.naming import digest

        skill = made_skill(WAITING, approvalRequest=REQUEST, revision="2222bbbb22")
        skill["status"]["history"][1]["contentDigest"] = digest(OLD_SOURCE, json.dumps(SPEC))
        kubectl.put("skill", skill)
        kubectl.put("configmap", source_map())
        kubectl.put("configmap", kept_map("2222bbbb22", OLD_SOURCE))
        assert skill_command(capsys, "approve", "echo", "--yes").code == 0
        kubectl.put("skill", skill)
        kubectl.put("configmap", kept_map("2222bbbb22", OLD_SOURCE, {**SPEC, "egress": [{"host": "a.example.com"}]}))
        ended = skill_command(capsys, "approve", "echo", "--yes")
        assert (ended.code, "not what ran" in ended.err) == (1, True)

    def test_nothing_waits(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        kubectl.put("skill", made_skill(READY))
        ended = skill_command(capsys, "approve", "echo", "--yes")
        assert (ended.code, ended.err.strip()) == (
            1,
            "error: nothing of echo waits for approval (Ready: it can be called)",
        )

    def test_words_of_a_model_send_no_escape(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        evil = SOURCE + "# \x1b[2J\u202e\r\n"
        request = {**REQUEST, "sourceDigest": sha256(evil), "changed": ["\x1b[31mcode"]}
        kubectl.put("skill", made_skill(WAITING, approvalRequest=request, revision=""))
        kubectl.put("configmap", source_map(evil))
        ended = skill_command(capsys, "approve", "echo", "--yes")
        assert ended.code == 0, ended
        assert "\\x1b[2J\\u202e" in ended.out
        assert not {"\x1b", "\u202e", "\r"} & set(ended.out + ended.err)

    @pytest.mark.parametrize("known", [sha256(OLD_SOURCE), ""], ids=["other code waits by now", "unknown"])
    def test_what_was_rejected_is_never_approved_by_the_sight_of_other_code(
        self, kubectl: ScriptedKubectl, capsys: Capture, known: str
    ) -> None:
        """The condition of the former code stays until a stage says more, and `provenance` is of the newer code."""
        rejection = {"at": "2026-11-29T12:00:00Z", "token": TOKEN, "revision": "2222bbbb22", "sourceDigest": known}
        rejected = condition("Built", "False", "Rejected", "jane rejected it")
        kubectl.put("skill", made_skill(rejected, rejection=rejection, revision=""))
        kubectl.put("configmap", source_map())
        ended = skill_command(capsys, "approve", "echo", "--yes")
        assert ended.code == 1
        assert kubectl.asked("patch") == []

    def test_what_was_rejected_is_approved_after_all(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        rejected = condition("Built", "False", "Rejected", "jane rejected it")
        skill = made_skill(
            rejected,
            rejection={
                "at": "2026-11-29T12:00:00Z",
                "token": TOKEN,
                "revision": "3333cccc33",
                "message": "no",
                "sourceDigest": sha256(SOURCE),
            },
            revision="",
        )
        skill["metadata"]["annotations"] |= {f"skill-operator.dev/{k}": v for k, v in
                                             {"reject": TOKEN, "rejected-by": "jane", "reject-message": "no"}.items()}  # fmt: skip
        kubectl.put("skill", skill)
        kubectl.put("configmap", source_map())
        ended = skill_command(capsys, "approve", "echo", "--yes")
        assert ended.code == 0, ended
        found = annotations(kubectl)
        assert found["approve"] == TOKEN
        assert not {"reject", "rejected-by", "reject-message"} & found.keys()
        assert skill_command(capsys, "reject", "echo", "-m", "no", "--yes").code == 1


class TestReject:
    def test_it_writes_token_words_and_name(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        kubectl.put("skill", made_skill(WAITING, approvalRequest=REQUEST))
        ended = skill_command(capsys, "reject", "echo", "-m", " Round once. ", "--yes")
        assert ended.code == 0, ended
        found = annotations(kubectl)
        assert (found["reject"], found["reject-message"], found["rejected-by"]) == ("cd" * 32, "Round once.", "jane")

    def test_an_earlier_approval_of_the_same_goes_and_another_stays(
        self, kubectl: ScriptedKubectl, capsys: Capture
    ) -> None:
        for token, stays in (("cd" * 32, False), ("ef" * 32, True)):
            skill = made_skill(WAITING, approvalRequest=REQUEST)
            skill["metadata"]["annotations"] |= {APPROVE: token, "skill-operator.dev/approved-by": "joe"}
            kubectl.put("skill", skill)
            assert skill_command(capsys, "reject", "echo", "-m", "no", "--yes").code == 0
            assert ("approve" in annotations(kubectl)) == ("approved-by" in annotations(kubectl)) == stays

    @pytest.mark.parametrize("words", ["", "  ", "x" * 1025])
    def test_words_are_needed_and_bounded(self, kubectl: ScriptedKubectl, capsys: Capture, words: str) -> None:
        kubectl.put("skill", made_skill(WAITING, approvalRequest=REQUEST))
        ended = skill_command(capsys, "reject", "echo", "-m", words, "--yes")
        assert ended.code == 2
        assert kubectl.asked("patch") == []


@pytest.mark.parametrize(
    ("now", "before", "lines"),
    [
        ({}, {}, []),
        ({"egress": []}, None, []),
        ({"egress": [{"host": "a"}]}, None, ['  egress: {"host": "a"}']),
        ({"egress": [{"host": "a"}]}, {"egress": [{"host": "a"}]}, ['  egress: {"host": "a"}']),
        ({}, {"secrets": [{"name": "a"}]}, ['- secrets: {"name": "a"}', "+ secrets: none"]),
        ({"input": {"a": 1}}, {"input": {"a": 2}}, ['- input: {"a": 2}', '+ input: {"a": 1}']),
        ({"input": {"a": 1}}, {"input": {"a": 1}}, []),
    ],
)
def test_grants_are_shown_always_and_marked_where_they_changed(
    now: dict[str, Any], before: dict[str, Any] | None, lines: list[str]
) -> None:
    assert list(compare_grants(now, before)) == lines


class TestRollback:
    @pytest.mark.parametrize(
        ("arguments", "label"), [((), "2222bbbb22"), (("2222",), "2222bbbb22"), (("1111aaaa11",), "1111aaaa11")]
    )
    def test_it_pins(self, kubectl: ScriptedKubectl, capsys: Capture, arguments: tuple[str, ...], label: str) -> None:
        kubectl.put("skill", made_skill(READY))
        ended = skill_command(capsys, "rollback", "echo", *arguments)
        assert ended.code == 0, ended
        assert kubectl.skill()["spec"]["revision"] == label
        assert f"pinned to {label}" in ended.out

    def test_back_to_latest(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        skill = made_skill(READY)
        skill["spec"]["revision"] = "2222bbbb22"
        kubectl.put("skill", skill)
        assert skill_command(capsys, "rollback", "echo", "--to-latest").code == 0
        assert "revision" not in kubectl.skill()["spec"]
        ended = skill_command(capsys, "rollback", "echo", "--to-latest")
        assert (ended.code, "it has no pin" in ended.out) == (0, True)
        assert len(kubectl.asked("patch")) == 1

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("9999",), 5, "the history has no such revision; it has: 1111aaaa11, 2222bbbb22"),
            (("222",), 5, "no such revision"),
            (("2222bbbb22", "--to-latest"), 2, "name a revision, or say --to-latest"),
        ],
    )
    def test_what_is_not_there_is_not_pinned(
        self, kubectl: ScriptedKubectl, capsys: Capture, arguments: tuple[str, ...], code: int, words: str
    ) -> None:
        kubectl.put("skill", made_skill(READY))
        ended = skill_command(capsys, "rollback", "echo", *arguments)
        assert (ended.code, words in ended.err) == (code, True), ended
        assert kubectl.asked("patch") == []

    def test_the_oldest_has_none_before(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        kubectl.put("skill", made_skill(READY, revision="2222bbbb22"))
        assert skill_command(capsys, "rollback", "echo").code == 5
        kubectl.put("skill", made_skill(READY, history=[], revision=""))
        assert "no history yet" in skill_command(capsys, "rollback", "echo").err

    def test_an_operator_without_pins_is_said_so(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        kubectl.put("skill", made_skill(READY))
        (kubectl.folder / "prunes").touch()
        ended = skill_command(capsys, "rollback", "echo")
        assert (ended.code, "upgrade its chart" in ended.err) == (1, True)


def test_each_retry_has_a_value_of_its_own(kubectl: ScriptedKubectl, capsys: Capture) -> None:
    kubectl.put("skill", made_skill())
    values = []
    for _ in range(2):
        assert skill_command(capsys, "retry", "echo").code == 0
        values.append(annotations(kubectl)["retry"])
    assert len({"1", *values}) == 3


@pytest.mark.parametrize("verb", ["approve", "reject", "retry", "rollback", "export"])
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('Error from server (Forbidden): skills "echo" is forbidden: no', 4),
        ('Error from server (NotFound): skills "echo" not found', 5),
    ],
)
def test_a_refusal_is_one_line(kubectl: ScriptedKubectl, capsys: Capture, verb: str, said: str, code: int) -> None:
    kubectl.fails(said)
    more = ["-m", "no"] if verb == "reject" else []
    ended = skill_command(capsys, verb, "echo", *more)
    assert ended.code == code
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("verb", ["approve", "retry", "rollback", "export"])
def test_a_name_is_no_option_of_kubectl(kubectl: ScriptedKubectl, capsys: Capture, verb: str) -> None:
    ended = skill_command(capsys, verb, "--", "--all")
    assert ended.code == 2
    assert kubectl.asked("get") + kubectl.asked("patch") == []


class TestApply:
    def write(self, tmp_path: Path, text: str = "") -> str:
        file = tmp_path / "skill.yaml"
        meta = {"apiVersion": "skill-operator.dev/v1alpha1", "kind": "Skill", "metadata": {"name": "echo"}}
        file.write_text(text or json.dumps({**meta, "spec": SPEC}))
        return str(file)

    def test_what_was_checked_is_applied(self, kubectl: ScriptedKubectl, capsys: Capture, tmp_path: Path) -> None:
        ended = skill_command(capsys, "apply", "-f", self.write(tmp_path))
        assert (ended.code, ended.out) == (0, "applied skill echo in team\n")
        (asked,) = kubectl.asked("apply")
        assert "--server-side" in asked["options"]
        assert json.loads(asked["stdin"])["items"][0]["spec"] == SPEC

    def test_nothing_is_applied_where_one_is_wrong(
        self, kubectl: ScriptedKubectl, capsys: Capture, tmp_path: Path
    ) -> None:
        file = self.write(tmp_path)
        bad = tmp_path / "bad.yaml"
        bad.write_text(Path(file).read_text().replace('"type": "object"', '"type": "x"').replace("echo", "bad"))
        ended = skill_command(capsys, "apply", "-f", file, "-f", str(bad))
        assert ended.code == 1
        assert f"{bad}:1: error: spec.input" in ended.out
        assert kubectl.asked("apply") == []

    @pytest.mark.parametrize("text", ["a: [", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n"])
    def test_no_skill_is_a_mistake(self, kubectl: ScriptedKubectl, capsys: Capture, tmp_path: Path, text: str) -> None:
        assert skill_command(capsys, "apply", "-f", self.write(tmp_path, text)).code == 2
        assert kubectl.asked("apply") == []

    def test_the_way_to_ready_is_told_in_words(self, kubectl: ScriptedKubectl, capsys: Capture, tmp_path: Path) -> None:
        old = made_skill(condition("Ready", "True", "Ready", "old", generation=1), observedGeneration=1)
        failure = {
            "gate": "examples",
            "message": "0/1 visible examples pass.\nexample 'a':\n  expected: 1\n  got:      2",
        }
        making = made_skill(
            condition("Generated", "Unknown", "Generating", "the model is asked"),
            generation={"attempts": 1, "tokens": 5, "lastFailure": failure},
        )
        done = made_skill(condition("Generated", "True", "Generated", "there is code"), READY)
        kubectl.then(old, making, making, done)
        ended = skill_command(capsys, "apply", "--watch", "-f", self.write(tmp_path))
        lines = [line[7:] for line in ended.out.splitlines()[1:]]
        assert ended.code == 0, ended
        assert lines[0].split() == ["Refused", "attempt", "1:", "the", "gate", "examples", "refused", "it"]
        assert ended.out.count("expected: 1") == 1
        assert [line.split()[:2] for line in lines if not line.startswith(" ")] == [
            ["Refused", "attempt"], ["Generated", "Generating:"], ["Generated", "Generated:"], ["Ready", "Ready:"],
        ]  # fmt: skip

    def test_a_stalled_one_ends_with_1(self, kubectl: ScriptedKubectl, capsys: Capture, tmp_path: Path) -> None:
        stalled = made_skill(
            condition("Stalled", "True", "AttemptsExhausted", "three attempts failed\x1b[2J"),
            condition("Ready", "False", "x"),
        )
        kubectl.then(stalled)
        ended = skill_command(capsys, "apply", "-w", "-f", self.write(tmp_path))
        assert ended.code == 1
        assert "Stalled    AttemptsExhausted: three attempts failed\\x1b[2J" in ended.out

    def test_a_stall_of_an_earlier_generation_does_not_count(
        self, kubectl: ScriptedKubectl, capsys: Capture, tmp_path: Path
    ) -> None:
        earlier = made_skill(condition("Stalled", "True", "SpecInvalid", "old", generation=1), observedGeneration=1)
        kubectl.then(earlier, made_skill(READY))
        assert skill_command(capsys, "apply", "-w", "-f", self.write(tmp_path)).code == 0

    def test_a_cluster_that_does_not_respond_for_a_while_is_waited_for(
        self, kubectl: ScriptedKubectl, capsys: Capture, tmp_path: Path
    ) -> None:
        kubectl.put("skill", made_skill(READY))
        (kubectl.folder / "away").write_text("3")
        ended = skill_command(capsys, "apply", "-w", "-f", self.write(tmp_path))
        assert ended.code == 0, ended
        assert ended.err.count("looking again until the deadline") == 1

    def test_the_deadline_ends_it_with_6(self, kubectl: ScriptedKubectl, capsys: Capture, tmp_path: Path) -> None:
        kubectl.put("skill", made_skill(condition("Ready", "False", "Generating", "…")))
        ended = skill_command(capsys, "apply", "-w", "--timeout", "1", "-f", self.write(tmp_path))
        assert (ended.code, "neither Ready nor Stalled after 1 s" in ended.err) == (6, True)

    def test_colours_are_for_terminals_alone(self, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
        from kubectl_skill import gate_text, output

        message = "example 'a':\n  expected: 1\n  got:      2"
        gate_text.write_finding(message)
        assert "\x1b" not in capsys.readouterr().out
        monkeypatch.setattr(output, "has_color", lambda stream: True)
        gate_text.write_finding(message)
        assert "\x1b[31m  got:      2\x1b[0m" in capsys.readouterr().out


class TestExport:
    def test_the_same_skill_gives_the_same_bytes_without_the_cluster(
        self, kubectl: ScriptedKubectl, capsys: Capture
    ) -> None:
        skill = made_skill(READY)
        kubectl.put("skill", skill)
        kubectl.put("configmap", source_map())
        first = skill_command(capsys, "export", "echo")
        assert first.code == 0, first
        skill["spec"] = dict(reversed(skill["spec"].items()))
        skill["metadata"] |= {"uid": "other", "resourceVersion": "99"}
        kubectl.put("skill", skill)
        assert skill_command(capsys, "export", "echo").out == first.out
        for word in (
            "uid",
            "status",
            "managedFields",
            "last-applied",
            "retry",
            "Helm",
            "namespace",
            "generation",
            "suspend",
        ):
            assert word not in first.out
        assert "team: a" in first.out
        assert sha256(SOURCE) in first.out

    def test_it_passes_the_check_with_the_same_code(
        self, kubectl: ScriptedKubectl, capsys: Capture, tmp_path: Path
    ) -> None:
        from kubectl_skill.yaml_files import parse_documents

        source = SOURCE + "\n# \u202e \t é\n    \n"
        kubectl.put("skill", made_skill(READY, provenance={"author": "model", "sourceDigest": sha256(source)}))
        kubectl.put("configmap", source_map(source))
        text = skill_command(capsys, "export", "echo").out
        (found,) = parse_documents(text, "f")
        assert found.value["spec"]["source"]["inline"] == source
        file = tmp_path / "echo.yaml"
        file.write_text(text)
        assert skill_command(capsys, "check", "--spec-only", str(file)).code == 0

    def test_an_earlier_revision_has_its_own_spec(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        kubectl.put("skill", made_skill(READY))
        kubectl.put("configmap", kept_map("2222bbbb22", OLD_SOURCE, {**SPEC, "description": "Old words."}))
        ended = skill_command(capsys, "export", "echo", "--revision", "2222")
        assert ended.code == 0, ended
        assert "Old words." in ended.out
        assert sha256(OLD_SOURCE) in ended.out
        assert skill_command(capsys, "export", "echo", "--revision", "1111").code == 5

    def test_code_of_others_is_not_exported(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        kubectl.put("skill", made_skill(READY))
        kubectl.put("configmap", source_map("evil\n"))
        ended = skill_command(capsys, "export", "echo")
        assert (ended.code, ended.out) == (1, "")

    def test_a_skill_without_code_has_nothing_to_export(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        kubectl.put("skill", made_skill(provenance=None))
        assert "no accepted code yet" in skill_command(capsys, "export", "echo").err

    def test_a_folder_of_agent_skills(self, kubectl: ScriptedKubectl, capsys: Capture, tmp_path: Path) -> None:
        import subprocess
        import sys

        import yaml

        kubectl.put("skill", made_skill(READY))
        kubectl.put("configmap", source_map())
        assert skill_command(capsys, "export", "echo", "--skill-md", str(tmp_path)).code == 0
        text = (tmp_path / "echo" / "SKILL.md").read_text()
        head = yaml.safe_load(text.split("---\n")[1])
        assert (head["name"], head["description"]) == ("echo", "Give the text back.")
        assert all(isinstance(value, str) for value in head["metadata"].values())
        script = [sys.executable, str(tmp_path / "echo" / "scripts" / "run.py")]
        ended = subprocess.run(script, input='{"text": "hi"}', capture_output=True, text=True, check=False)
        assert json.loads(ended.stdout) == {"text": "hi"}
        assert (
            subprocess.run(script, input="{}", capture_output=True, text=True, check=False).stderr
            == "KeyError: 'text'\n"
        )
        again = skill_command(capsys, "export", "echo", "--skill-md", str(tmp_path))
        assert (again.code, "--force writes over it" in again.err) == (2, True)
        assert skill_command(capsys, "export", "echo", "--skill-md", str(tmp_path), "--force").code == 0

    @pytest.mark.parametrize(
        ("name", "folder"),
        [("a.b", "a-b"), ("a.-b", "a-b"), ("x" * 80, "x" * 64), ("a--b", "a-b"), ("x" * 63 + ".y", "x" * 63)],
    )
    def test_names_are_those_of_the_format(self, name: str, folder: str) -> None:
        from kubectl_skill.agent_skill import folder_name

        assert folder_name(name) == folder


class TestExample:
    def test_it_prints_yaml_for_git(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        import yaml

        kubectl.put("skill", made_skill())
        arguments = ("example", "add", "echo", "--input", '{"text": "1e3"}', "--output", '{"text": "y"}')
        ended = skill_command(capsys, *arguments)
        assert ended.code == 0, ended
        (example,) = yaml.safe_load(ended.out)
        assert (example["input"], example["output"]) == ({"text": "1e3"}, {"text": "y"})
        assert skill_command(capsys, *arguments).out == ended.out
        assert kubectl.asked("patch") == []

    def test_apply_adds_it(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        kubectl.put("skill", made_skill())
        ended = skill_command(
            capsys,
            "example",
            "add",
            "echo",
            "--input",
            '{"text": "b"}',
            "--error",
            "ValueError",
            "--name",
            "b",
            "--apply",
        )
        assert ended.code == 0, ended
        assert kubectl.skill()["spec"]["examples"][1] == {"name": "b", "input": {"text": "b"}, "error": "ValueError"}
        assert json.loads(kubectl.asked("patch")[0]["options"]["-p"])[0] == {
            "op": "test", "path": "/metadata/resourceVersion", "value": "7",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--input", "{", "--output", "1"), "--input is no JSON: Expecting property name"),
            (("--input", '{"a": NaN}', "--output", "1"), "NaN is no JSON"),
            (("--input", '{"a": 1, "a": 2}', "--output", "1"), "stands in an object twice"),
            (("--input", "[" * 5000, "--output", "1"), "is no JSON"),
            (("--input", "[" * 40 + "]" * 40, "--output", "1"), "more than 32 levels"),
            (("--input", "@/none", "--output", "1"), "/none: No such file"),
            (("--input", '{"text": 1}', "--output", '{"text": "a"}'), "the example.input.text: 1 is not a string"),
            (("--input", '{"text": "a"}', "--output", '{"text": "b"}'), "contradicts"),
            (("--input", '{"text": "b"}', "--error", "1x"), "no name of an exception"),
            (("--input", '{"text": "b"}', "--error", "KeyboardInterrupt"), "ends the program"),
            (
                (
                    "--input",
                    '{"text": "b"}',
                ),
                "what is right?",
            ),
            (("--input", '{"text": "b"}', "--error", "E", "--output", "1"), "say one of"),
            ((), "say --input JSON, or --from-call"),
            (("--input", '{"text": "b"}', "--output", '{"text": "b"}', "--name", "A b"), "no name of an example"),
            (("--input", '{"text": "b"}', "--output", '{"text": "b"}', "--name", "a"), "has an example a already"),
            (("--from-call", "no-such", "--output", "1"), "this machine keeps no such call"),
            (("--from-call", "../../etc/passwd", "--output", "1"), "this machine keeps no such call"),
        ],
    )
    def test_what_no_code_could_pass_is_refused(
        self, kubectl: ScriptedKubectl, capsys: Capture, arguments: tuple[str, ...], words: str
    ) -> None:
        kubectl.put("skill", made_skill())
        ended = skill_command(capsys, "example", "add", "echo", *arguments)
        assert ended.code in {2, 5}, ended
        assert words in ended.err
        assert ended.out == ""

    def test_a_call_of_mine_becomes_an_example(self, kubectl: ScriptedKubectl, capsys: Capture) -> None:
        import yaml

        from kubectl_skill.call_journal import JournaledCall, record_call

        kubectl.put("skill", made_skill())
        assert record_call(JournaledCall("id-1", "team", "echo", {"text": "b"}, 200, {"text": "wrong"}))
        asked = skill_command(capsys, "example", "add", "echo", "--from-call", "id-1")
        assert (asked.code, 'It answered {"text": "wrong"}' in asked.err) == (2, True)
        ended = skill_command(capsys, "example", "add", "echo", "--from-call", "id-1", "--output", '{"text": "b"}')
        (example,) = yaml.safe_load(ended.out)
        assert (example["input"], example["output"]) == ({"text": "b"}, {"text": "b"})
        kept = skill_command(capsys, "example", "add", "echo", "--from-call", "id-1", "--as-answered")
        assert yaml.safe_load(kept.out)[0]["output"] == {"text": "wrong"}
        record_call(JournaledCall("id-2", "other", "echo", {}, 200, {}))
        assert (
            "a call of other/echo"
            in skill_command(capsys, "example", "add", "echo", "--from-call", "id-2", "--output", "1").err
        )
        record_call(JournaledCall("id-3", "team", "echo", {"text": "c"}, 422, {"title": "x"}))
        assert (
            "had no answer"
            in skill_command(capsys, "example", "add", "echo", "--from-call", "id-3", "--as-answered").err
        )
