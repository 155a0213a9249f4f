"""`kubectl skill check` finds what is wrong without a cluster, and runs the very gates on pinned code."""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from kubectl_skill import gate_runner, spec_check
from kubectl_skill.gate_runner import ContainerGates, GateRequest, GatesUnavailableError, LocalGates
from kubectl_skill.spec_check import check_manifests
from kubectl_skill.yaml_files import parse_documents
from skill_operator import runtime_contract as rc
from skill_operator.api.v1alpha1 import SkillSpec
from tests.unit.cli.scripted import SOURCE, SPEC, skill_command

ROOT = Path(__file__).parents[3]
HEAD = "apiVersion: skill-operator.dev/v1alpha1\nkind: Skill\n"
GOOD = HEAD + "metadata: {name: echo}\nspec: " + json.dumps(SPEC) + "\n"


def pinned(source: str = SOURCE) -> str:
    """Return a manifest with pinned code: its first line is line 7 of the file."""
    lines = "".join(f"      {line}\n" for line in source.splitlines())
    body = json.dumps({k: v for k, v in SPEC.items() if k != "review"})[1:-1]
    fields = "\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in json.loads("{" + body + "}").items())
    return f"{HEAD}metadata: {{name: echo}}\nspec:\n  source:\n    inline: |\n{lines}{fields}\n"


def problems(text: str) -> list[str]:
    return [f"{p.line} {p.path}: {p.message}" for m in check_manifests(parse_documents(text, "f")) for p in m.problems]


def test_the_examples_of_the_project_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    ended = skill_command(capsys, "check", str(ROOT / "examples" / "skills"), "--spec-only")
    assert ended.code == 0
    assert "Good: 3 of 3." in ended.out


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GOOD.replace("v1alpha1", "v2"), "1 apiVersion: must be skill-operator.dev/v1alpha1"),
        (GOOD.replace("echo}", "Echo}"), "3 metadata.name: must be lower-case"),
        (
            GOOD.replace("name: echo", "namespace: a.b, name: echo"),
            "3 metadata.namespace: must be the name of a namespace",
        ),
        (HEAD + "spec: {}\n", "1 metadata: is missing"),
        (GOOD.replace("echo}", "echo, labels: {skill-operator.dev/skill: x}}"), "the operator's own; take it away"),
        (GOOD.replace("echo}", "echo, labels: {a: 'b c'}}"), "at most 63 letters"),
        (GOOD.replace("echo}", "echo, labels: {'a b': c}}"), "is no key of a label"),
        (GOOD.replace("echo}", "echo, labels: 7}"), "metadata.labels: must be a mapping"),
        (GOOD.replace("echo}", "echo, annotations: {skill-operator.dev/applied: x}}"), "operator's own annotation"),
        (GOOD.replace("echo}", "echo, annotations: {a: 7}}"), "must be text: write it in quotes"),
        (GOOD.replace("echo}", "echo, name2: x}"), "metadata.name2: is no field of metadata"),
        (GOOD + "sepc: 1\n", "5 sepc: is no field of a Skill"),
        (GOOD.replace('"suspend"', '"suspended"'), "spec.suspended: is no field"),
        (
            GOOD.replace('"output": {"text": "a"}', '"output": {"txt": "a"}'),
            'spec.examples[0].output: "text" is missing',
        ),
        (GOOD.replace('"suspend": false', '"egress": [{"host": "a.local", "ports": [1]}]'), "name of the internet"),
        (GOOD.replace('"suspend": false', '"egress": [{"cidr": "1.2.3.4/8", "ports": [1]}]'), "address inside"),
        (GOOD.replace('"suspend": false', '"resources": {"limits": {"cpu": "0"}}'), "must be more than 0"),
        (GOOD.replace('"suspend": false', '"suspend": "no"'), "spec.suspend"),
        (HEAD + "metadata: {name: a}\n", "spec"),
        ("a: 1\n", "needs a kind"),
        ("- 1\n", "a manifest is a mapping"),
        ("kind: List\nitems: []\n", "is a List"),
        (GOOD + "---\n" + GOOD, "has a Skill of this name"),
        (GOOD.replace('"examples": [', '"examples": [], "x": ['), "spec.x"),
    ],
)
def test_what_the_cluster_would_refuse_is_found(text: str, found: str) -> None:
    assert any(found in problem for problem in problems(text)), problems(text)


def test_a_good_one_has_no_problem_and_may_have_annotations_of_people() -> None:
    assert problems(GOOD) == []
    assert problems(GOOD.replace("echo}", "echo, annotations: {skill-operator.dev/retry: '1', mine: x}}")) == []


def test_every_annotation_that_admission_allows_is_allowed_here() -> None:
    text = (ROOT / "charts/skill-operator/templates/admission.yaml").read_text()
    named = re.findall(r"skill-operator\.dev/((?:approve|reject|retry|restore|promote)[a-z-]*)'", text)
    listed = re.search(r"\$people := list ([^}]+)-}}", text)
    allowed = {*named, *(re.findall(r'"([a-z-]+)"', listed[1]) if listed else [])}
    assert allowed
    assert {f"skill-operator.dev/{name}" for name in allowed} <= spec_check.ANNOTATIONS_OF_PEOPLE


def test_a_spec_that_no_check_could_carry_is_too_large() -> None:
    import random

    noise = base64.b85encode(random.Random(1).randbytes(48_000)).decode()
    example = [{"name": f"e{n}", "input": {"text": noise[n:]}, "output": {"text": "a"}} for n in range(20)]
    text = HEAD + "metadata: {name: a}\nspec: " + json.dumps({**SPEC, "examples": example})
    assert any("are too much together" in p or "shorten the examples" in p for p in problems(text))


def test_warnings_do_not_fail(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(GOOD.replace(json.dumps(SPEC["examples"]), "[]"))
    ended = skill_command(capsys, "check", str(file))
    assert ended.code == 0
    assert f"{file}:4: warning: spec.examples: there are none" in ended.out


class TestTheCommand:
    def test_a_mistake_has_its_line_and_exit_code_1(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        file = tmp_path / "s.yaml"
        file.write_text(GOOD.replace('"type": "object"', '"type": "objekt"', 1))
        ended = skill_command(capsys, "check", str(file))
        assert ended.code == 1
        assert ended.out.startswith(f"{file}:4: error: spec.input")
        assert "Good: 0 of 1." in ended.out

    def test_json_says_all_of_it(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(GOOD)
        (tmp_path / "b.yaml").write_text("a: [\n")
        ended = skill_command(capsys, "check", "-o", "json", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
        report = json.loads(ended.out)
        assert ended.code == 1
        assert report["good"] is False
        assert [(s["name"], s["good"], len(s["problems"])) for s in report["skills"]] == [
            ("", False, 1),
            ("echo", True, 0),
        ]
        assert report["skills"][0]["problems"][0]["line"] == 2

    @pytest.mark.parametrize("text", ["kind: ConfigMap\napiVersion: v1\n", ""])
    def test_files_without_a_skill_are_a_mistake(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
    ) -> None:
        (tmp_path / "a.yaml").write_text(text)
        ended = skill_command(capsys, "check", str(tmp_path / "a.yaml"))
        assert (ended.code, "there is no Skill" in ended.err) == (2, True)

    def test_a_file_that_is_not_there_is_a_mistake_of_the_command_line(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ended = skill_command(capsys, "check", "/none/at/all.yaml")
        assert (ended.code, ended.out) == (2, "")

    def test_a_file_sends_no_escape(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(GOOD.replace('"suspend"', '"\\u001b[2Jx"'))
        ended = skill_command(capsys, "check", str(tmp_path / "a.yaml"))
        assert ended.code == 1
        assert "\x1b" not in ended.out + ended.err

    def test_pinned_code_is_not_good_while_no_gate_ran(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a.yaml").write_text(pinned())
        monkeypatch.setattr(gate_runner, "find_engine", lambda wanted: None)
        ended = skill_command(capsys, "check", str(tmp_path / "a.yaml"))
        assert ended.code == 2
        assert "neither Docker nor Podman answers" in ended.err
        assert "unchecked: Skill echo" in ended.out
        assert skill_command(capsys, "check", "--spec-only", str(tmp_path / "a.yaml")).code == 0
        monkeypatch.setattr(gate_runner, "find_engine", lambda wanted: "docker")
        monkeypatch.delenv("SKILL_CHECKER_IMAGE", raising=False)
        assert "--image" in skill_command(capsys, "check", str(tmp_path / "a.yaml")).err


class TestLocally:
    def test_good_code_passes(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(pinned())
        ended = skill_command(capsys, "check", "--run-locally", "-o", "json", str(tmp_path / "a.yaml"))
        (entry,) = json.loads(ended.out)["skills"]
        assert ended.code == 0, ended
        assert (entry["gates"]["ran"], entry["gates"]["passed"], entry["gates"]["passedExamples"]) == ("local", True, 1)
        assert "it can read what you can read" in ended.err

    @pytest.mark.parametrize(
        ("source", "gate", "line"),
        [
            (SOURCE.replace('input["text"]', '"b"'), "examples", 7),
            ("import os\n\ndef run(input):\n    os.system('x')\n    return {}\n", "policy", 10),
            ("def run(input):\n    return {'text': undefined}\n", "ruff", 8),
            ("import json\n\ndef run(input):\n    return {'text': json.lods('1')}\n", "mypy", 10),
            ("def run(input:\n", "size|policy|ruff", 7),
        ],
        ids=["examples", "policy", "ruff", "mypy", "syntax"],
    )
    def test_bad_code_is_refused_at_its_line_of_the_file(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, source: str, gate: str, line: int
    ) -> None:
        file = tmp_path / "a.yaml"
        file.write_text(pinned(source))
        ended = skill_command(capsys, "check", "--run-locally", str(file))
        assert ended.code == 1, ended
        match = re.search(rf"{re.escape(str(file))}:(\d+): error: the gate ({gate}) refuses", ended.out)
        assert match is not None, ended.out
        assert abs(int(match[1]) - line) <= 1

    def test_it_is_refused_elsewhere_than_on_linux(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(GatesUnavailableError, match="Linux alone"):
            gate_runner.check_platform()

    def test_missing_tools_are_named_in_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bare = tmp_path / "python3"
        bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
        bare.chmod(0o755)
        monkeypatch.setattr(gate_runner.shutil, "which", lambda name: None)
        with pytest.raises(GatesUnavailableError, match=r"the gates need ruff and mypy: .*pip install ruff mypy"):
            LocalGates(str(bare)).run(spec(SOURCE))

    def test_code_has_no_network_where_the_kernel_allows(self) -> None:
        if not gate_runner._can_unshare():
            pytest.fail("the tests need user namespaces, as the runtime's own do")
        source = (
            "import socket\n\ndef run(input):\n    with socket.socket() as s:\n        s.settimeout(1)\n"
            "        return {'text': str(s.connect_ex(('127.0.0.1', 9)))}\n"
        )
        result = LocalGates().run(spec(source))
        assert result.is_network_closed
        assert not result.report.passed

    def test_code_that_never_ends_is_ended(self) -> None:
        result = LocalGates(timeout_seconds=2).run(spec("def run(input):\n    while True:\n        pass\n"))
        assert not result.report.passed

    def test_the_libraries_are_those_of_the_base_image(self) -> None:
        lines = (
            (ROOT / "base-image" / "requirements.in")
            .read_text()
            .partition("What a skill may import")[2]
            .splitlines()[1:]
        )
        wanted = [re.match(r"[\w-]+", line)[0].lower() for line in lines if line and not line.startswith("#")]  # type: ignore[index]
        assert sorted(gate_runner.BASE_LIBRARIES) == sorted(wanted)


def spec(source: str) -> SkillSpec:
    return SkillSpec.model_validate({**SPEC, "source": {"inline": source}})


ENGINE = '''#!{python}
"""A container engine of the tests: it runs the same program as a process, where the options are the right ones."""
import json, os, pathlib, subprocess, sys
arguments = sys.argv[1:]
folder = pathlib.Path({folder!r})
if arguments == ["info"]:
    sys.exit({info})
(folder / "asked.json").write_text(json.dumps(arguments))
mode = {mode!r}
if mode == "no-image":
    sys.stderr.write("docker: Error response from daemon: No such image: x\\n"); sys.exit(125)
report = next(v.partition(":")[0] for v in arguments if v.endswith(":/dev/termination-log"))
if mode == "forged":
    pathlib.Path(report).write_text(json.dumps({{"report": '{{"passed": true}}', "mac": "00"}})); sys.exit(0)
if mode == "killed": sys.exit(137)
if mode == "broken": print("\\x1b[2Jboom"); sys.exit(2)
root = {root!r}
scratch = folder / "scratch"; scratch.mkdir(exist_ok=True)
(folder / "manifest.json").write_text(json.dumps({{"modules": {{}}, "standard": sorted(sys.stdlib_module_names),
    "python": "3.13", "distributions": {{}}, "rootEntries": []}}))
env = {{k: v for k, v in os.environ.items() if k.startswith("SKILL_CHECK_") or k in ("SKILL_REPORT_KEY", "PATH")}}
env |= {{"SKILL_ROOT": str(folder), "SKILL_TERMINATION_LOG": report, "SKILL_TOOLS": os.environ["TEST_TOOLS"],
    "SKILL_SCRATCH": str(scratch), "SKILL_ISOLATION": "optional"}}
code = f"import sys; sys.path.append({{root!r}}); from skill_runtime.__main__ import main; sys.exit(main(['check']))"
sys.exit(subprocess.run([sys.executable, "-I", "-c", code], env=env).returncode)
'''


def engine(folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str = "", info: int = 0) -> str:
    """Put an engine into PATH that runs the check's program without a container."""
    from tests.unit.runtime.harness import tools

    program = folder / "docker"
    root = str(ROOT / "base-image" / "src")
    program.write_text(ENGINE.format(python=sys.executable, folder=str(folder), root=root, mode=mode, info=info))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("TEST_TOOLS", str(tools()))
    return "docker"


class TestInAContainer:
    def test_it_is_as_closed_as_a_pod_and_examples_stay_out_of_the_command_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = ContainerGates(engine(tmp_path, monkeypatch), "checker@sha256:1").run(spec(SOURCE))
        assert (result.place, result.report.passed, result.tools) == ("container", True, "checker@sha256:1")
        asked = json.loads((tmp_path / "asked.json").read_text())
        line = " ".join(asked)
        for words in (
            "--network none", "--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", "--pull never",
            "--user 65532:65532", "--memory 805306368", "--pids-limit 256", "--rm",
            "checker@sha256:1 python3 -I -m skill_runtime check",
        ):  # fmt: skip
            assert words in line
        assert "SKILL_CHECK_0=" not in line
        assert "SKILL_REPORT_KEY=" not in line

    @pytest.mark.parametrize(("mode", "gate"), [("forged", "report"), ("killed", "memory")])
    def test_an_end_without_a_signed_report_is_a_refusal(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, gate: str
    ) -> None:
        result = ContainerGates(engine(tmp_path, monkeypatch, mode), "x").run(spec(SOURCE))
        assert (result.report.passed, result.report.gate) == (False, gate)

    @pytest.mark.parametrize(
        ("mode", "words"),
        [("no-image", "docker has no image x: docker pull x"), ("broken", "exit code 2 and no verdict")],
    )
    def test_what_cannot_run_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, words: str
    ) -> None:
        with pytest.raises(GatesUnavailableError) as caught:
            ContainerGates(engine(tmp_path, monkeypatch, mode), "x").run(spec(SOURCE))
        assert words in str(caught.value)
        assert "\x1b" not in str(caught.value)

    def test_an_engine_that_does_not_answer_is_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine(tmp_path, monkeypatch, info=1)
        assert gate_runner.find_engine() is None
        with pytest.raises(GatesUnavailableError, match="docker does not answer"):
            gate_runner.find_engine("docker")


def test_the_request_is_the_one_that_the_operator_makes() -> None:
    from skill_operator.api.v1alpha1 import Skill
    from skill_operator.generation.holdout import split_examples
    from skill_operator.generation.typed_dicts import types_module
    from skill_operator.resources import check as resource

    examples = [{"name": f"e{n}", "input": {"text": str(n)}, "output": {"text": str(n)}} for n in range(6)]
    made = SkillSpec.model_validate({**SPEC, "examples": examples, "source": {"inline": SOURCE}})
    skill = Skill.model_validate({"metadata": {"name": "echo", "namespace": "team", "uid": "u"}, "spec": made})
    content = resource.bundle(skill, SOURCE, types_module(made.input, made.output), *split_examples(made.examples))
    data: dict[str, Any] = resource.config_map(skill, "c", content)["data"]
    request = GateRequest.of(made)
    assert request.subject == resource.subject(content)
    assert request.environment()[rc.ENV_CHECK_PART.format(number=0)] == data["part0"]
    hidden = json.loads(gzip.decompress(base64.b64decode(data["part0"])))["examples"]
    assert sum(example["hidden"] for example in hidden) == 2
