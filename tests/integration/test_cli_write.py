"""The verbs of `kubectl skill` that write, by the built plugin, from words to a Skill that was rolled back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from skill_operator import naming
from tests.integration.installed import Operator, until
from tests.integration.plugin import built

__all__ = ["built"]  # a fixture: one build for all tests
pytestmark = pytest.mark.cluster
TIMEOUT_SECONDS = 150
RIGHT = "    if not input['text']:\n        raise ValueError('nothing')\n    return {'length': len(input['text'])}"
WRONG = "    return {'length': len(input['text']) + 1}"


@dataclass(frozen=True)
class Plugin:
    """Plugin is the built kubectl-skill, in a folder and a namespace of one test."""

    program: Path
    operator: Operator
    namespace: str
    folder: Path
    user: str = ""
    """A ServiceAccount to be, through the kubeconfig of `as_user`; empty: the cluster's admin."""

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a verb and return how it ended."""
        cluster = self.operator.cluster
        kubeconfig = self.folder / f"{self.user}.kubeconfig" if self.user else cluster.kubeconfig
        environment = {
            "PATH": f"{cluster.tools}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "KUBECONFIG": str(kubeconfig),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "SHIV_ROOT": str(self.program.parent / ".shiv"),
            "HOME": str(self.folder),
        }
        command = [sys.executable, str(self.program), *arguments]
        return subprocess.run(
            command,
            input=stdin,
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def do(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        """Run a verb that must end with this exit code, in the test's namespace, and return what it printed."""
        where = () if arguments[0] in {"new", "check"} else ("-n", self.namespace)  # these two know no cluster
        ended = self.run(*arguments, *where, stdin=stdin)
        assert ended.returncode == code, f"{arguments}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr
        assert "\x1b" not in ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def status(self, name: str) -> dict[str, Any]:
        """Return a Skill's status."""
        found: dict[str, Any] = self.operator.skill(self.namespace, name).get("status", {})
        return found

    @contextmanager
    def as_user(self, name: str, role: str) -> Iterator[Plugin]:
        """Be a ServiceAccount that has one ClusterRole in the namespace."""
        kubectl = self.operator.cluster.kubectl
        kubectl("-n", self.namespace, "create", "serviceaccount", name)
        account = f"--serviceaccount={self.namespace}:{name}"
        kubectl("-n", self.namespace, "create", "rolebinding", name, f"--clusterrole={role}", account)
        token = kubectl("-n", self.namespace, "create", "token", name).strip()
        config = yaml.safe_load(self.operator.cluster.kubeconfig.read_text())
        config["users"] = [{"name": entry["name"], "user": {"token": token}} for entry in config["users"]]
        file = self.folder / f"{name}.kubeconfig"
        file.write_text(yaml.safe_dump(config))
        file.chmod(0o600)
        yield Plugin(self.program, self.operator, self.namespace, self.folder, name)


@pytest.fixture
def plugin(built: Path, operator: Operator, namespace: str, tmp_path: Path) -> Plugin:
    return Plugin(built, operator, namespace, tmp_path)


def reply(body: str) -> dict[str, Any]:
    text = f"```python\ndef run(input):\n{body}\n```"
    return {"text": text, "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


def describe(plugin: Plugin, name: str) -> str:
    """Return the words by which the model knows a Skill."""
    return f"Count the characters of a text, for {plugin.namespace} {name}."


def new(plugin: Plugin, name: str, *replies: str, **spec: Any) -> str:
    """Write a manifest by `new`, have the model answer so, and return the name of the file."""
    words = describe(plugin, name)
    plugin.operator.script({words: [reply(body) for body in replies]})
    plugin.do(
        "new", name, "-d", words, "--example", '{"text": "abc"} => {"length": 3}', "--example", '{"text": "z"} => {"length": 1}',
        "--example", '{"text": ""} => !ValueError',
    )  # fmt: skip
    file = plugin.folder / f"{name}.yaml"
    made = yaml.safe_load(file.read_text())
    made["spec"] |= {"generation": {"secondOpinion": "Never"}, **spec}
    file.write_text(yaml.safe_dump(made, sort_keys=False))
    return str(file)


def new_pinned(plugin: Plugin, name: str, body: str, **spec: Any) -> str:
    return new(plugin, name, RIGHT, source={"inline": f"def run(input):\n{body}\n"}, **spec)


def make_spare(plugin: Plugin, name: str) -> str:
    """Return a manifest whose words nobody answers."""
    file = Path(new_pinned(plugin, name, RIGHT))
    return str(file)


def test_from_an_idea_to_an_example_of_a_wrong_answer(plugin: Plugin) -> None:
    file = new(plugin, "count", WRONG, RIGHT)
    plugin.do("check", file)
    out = plugin.do("apply", "-f", file, "--watch", "--timeout", str(TIMEOUT_SECONDS))
    assert "Refused" in out
    assert "expected: {" in out
    assert out.index("Refused") < out.index("Ready")

    again = plugin.do("apply", "-f", file, "--watch", "--timeout", str(TIMEOUT_SECONDS))
    assert "Ready" in again

    answers = plugin.do(
        "example", "add", "count", "--input", '{"text": "ab"}', "--output", '{"length": 2}', "--name", "two", "--apply"
    )
    assert "name: two" in answers
    stored = plugin.operator.skill(plugin.namespace, "count")["spec"]["examples"]
    assert stored[-1] == {"name": "two", "input": {"text": "ab"}, "output": {"length": 2}}
    plugin.do("apply", "-f", file, "--watch", "--timeout", str(TIMEOUT_SECONDS))
    assert len(plugin.operator.skill(plugin.namespace, "count")["spec"]["examples"]) == 4, "what others added stays"

    plugin.do("example", "add", "count", "--input", '{"text": "abc"}', "--output", '{"length": 4}', "--apply", code=2)


def test_export_gives_the_same_bytes_that_pass_elsewhere(plugin: Plugin) -> None:
    file = new(plugin, "count", RIGHT)
    plugin.do("apply", "-f", file, "--watch", "--timeout", str(TIMEOUT_SECONDS))
    first = plugin.run("export", "count", "-n", plugin.namespace)
    assert first.returncode == 0, first.stderr
    plugin.operator.cluster.kubectl("-n", plugin.namespace, "annotate", "skill", "count", "mine=x")
    plugin.operator.cluster.kubectl("-n", plugin.namespace, "annotate", "skill", "count", "mine-")
    assert plugin.run("export", "count", "-n", plugin.namespace).stdout == first.stdout
    pinned = plugin.folder / "pinned.yaml"
    pinned.write_text(first.stdout)
    plugin.do("check", "--run-locally", str(pinned))

    source = plugin.operator.cluster.get("-n", plugin.namespace, "configmap", "count-source")["data"]["skill.py"]
    assert yaml.safe_load(first.stdout)["spec"]["source"]["inline"] == source
    with plugin.operator.cluster.namespace("next") as other:
        there = plugin.run("apply", "-f", str(pinned), "-n", other, "--watch", "--timeout", str(TIMEOUT_SECONDS))
        assert there.returncode == 0, there.stdout + there.stderr
        status = plugin.operator.skill(other, "count")["status"]
        assert status["provenance"]["author"] == "pinned"
        assert status["provenance"]["sourceDigest"] == plugin.status("count")["provenance"]["sourceDigest"]
        assert status["revision"] == plugin.status("count")["revision"]
        second = plugin.run("export", "count", "-n", other)
        assert second.stdout == first.stdout, "the next cluster exports the same bytes"

    plugin.do("export", "count", "--skill-md", ".")
    script = [sys.executable, str(plugin.folder / "count" / "scripts" / "run.py")]
    ended = subprocess.run(script, input='{"text": "abcd"}', capture_output=True, text=True, check=False)
    assert json.loads(ended.stdout) == {"length": 4}

    tampered = {"data": {"skill.py": "def run(input):\n    return {'length': 0}\n"}}
    kubectl = plugin.operator.cluster.kubectl
    kubectl("-n", plugin.namespace, "patch", "configmap", "count-source", "--type=merge", "-p", json.dumps(tampered))
    ended_export = plugin.run("export", "count", "-n", plugin.namespace)
    assert ended_export.returncode == 1 or source in yaml.safe_load(ended_export.stdout)["spec"]["source"]["inline"]


def test_a_stalled_skill_ends_apply_with_1_and_retry_begins_anew(plugin: Plugin) -> None:
    file = new(plugin, "count", WRONG, WRONG, RIGHT)
    spec = yaml.safe_load(Path(file).read_text())
    spec["spec"]["generation"] |= {"maxAttempts": 1}
    Path(file).write_text(yaml.safe_dump(spec))
    out = plugin.do("apply", "-f", file, "--watch", "--timeout", str(TIMEOUT_SECONDS), code=1)
    assert "Stalled" in out
    assert "differs:" in out
    plugin.operator.script({describe(plugin, "count"): [reply(RIGHT)]})
    plugin.do("retry", "count", "--watch", "--timeout", str(TIMEOUT_SECONDS))
    assert plugin.status("count")["revision"]


def test_what_is_wrong_is_not_applied(plugin: Plugin) -> None:
    file = Path(make_spare(plugin, "count"))
    made = yaml.safe_load(file.read_text())
    made["spec"]["examples"][0]["output"] = {"length": "three"}
    file.write_text(yaml.safe_dump(made))
    out = plugin.do("apply", "-f", str(file), code=1)
    assert 'examples[0].output.length: "three" is not a' in out
    kubectl = plugin.operator.cluster.kubectl
    assert kubectl("-n", plugin.namespace, "get", "skills", "-o", "name") == ""


def test_the_deadline_ends_apply_with_6(plugin: Plugin) -> None:
    file = Path(make_spare(plugin, "count"))
    out = plugin.do("apply", "-f", str(file), "--watch", "--timeout", "1", code=6)
    assert "neither Ready nor Stalled after 1 s" in out


def test_a_person_approves_what_they_saw(plugin: Plugin) -> None:
    file = Path(new_pinned(plugin, "count", RIGHT, review="Manual"))
    plugin.do("apply", "-f", str(file))
    plugin.operator.reason(plugin.namespace, "count", "Built", "AwaitingApproval")

    with plugin.as_user("viewer", "view") as viewer:
        assert "raise ValueError" in viewer.do("approve", "count", code=1, stdin="n\n")
        assert "you lack a right" in viewer.do("approve", "count", "--yes", code=4)
    assert plugin.operator.condition(plugin.namespace, "count", "Built")["reason"] == "AwaitingApproval"

    plugin.do("approve", "count", code=1, stdin="n\n")
    out = plugin.do("approve", "count", "--watch", "--timeout", str(TIMEOUT_SECONDS), stdin="y\n")
    assert "egress: none" not in out
    found = plugin.operator.skill(plugin.namespace, "count")
    me = plugin.operator.cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert found["metadata"]["annotations"][naming.APPROVED_BY_ANNOTATION] == me
    assert found["status"]["review"]["by"] == me
    assert "nothing of count waits" in plugin.do("approve", "count", "--yes", code=1)

    made = yaml.safe_load(file.read_text())
    made["spec"]["source"]["inline"] += "# once more\n"
    made["spec"]["callTimeoutSeconds"] = 5
    file.write_text(yaml.safe_dump(made))
    plugin.do("apply", "-f", str(file))
    until(
        "the change waits",
        60,
        lambda: plugin.operator.condition(plugin.namespace, "count", "Built").get("reason") == "AwaitingApproval",
    )
    shown = plugin.do("approve", "count", code=1, stdin="n\n")
    assert "Changed since the last approval: code, spec.callTimeoutSeconds." in shown


def test_words_of_a_rejection_reach_the_model(plugin: Plugin) -> None:
    other = RIGHT.replace("'nothing'", "'say something'")
    file = new(plugin, "count", RIGHT, other, review="Manual")
    plugin.do("apply", "-f", file)
    plugin.operator.reason(plugin.namespace, "count", "Built", "AwaitingApproval", 120)
    token = plugin.status("count")["approvalRequest"]["token"]
    plugin.do("reject", "count", "-m", "Say what is missing.", "--yes")

    def waits_anew() -> bool:
        return bool((plugin.status("count").get("approvalRequest") or {}).get("token", token) != token)

    until("another candidate waits", 120, waits_anew)
    asked = plugin.operator.asked(f"for {plugin.namespace} count.")
    assert "Say what is missing." in json.dumps(asked[-1])
    plugin.do("approve", "count", "--yes", "--watch", "--timeout", str(TIMEOUT_SECONDS))


def test_back_to_the_revision_before_and_forth(plugin: Plugin) -> None:
    file = Path(new_pinned(plugin, "count", RIGHT))
    plugin.do("apply", "-f", str(file), "--watch", "--timeout", str(TIMEOUT_SECONDS))
    first = plugin.status("count")["revision"]
    plugin.do("rollback", "count", code=5)
    made = yaml.safe_load(file.read_text())
    made["spec"]["source"]["inline"] += "# newer\n"
    file.write_text(yaml.safe_dump(made))
    plugin.do("apply", "-f", str(file), "--watch", "--timeout", str(TIMEOUT_SECONDS))
    second = plugin.status("count")["revision"]
    assert first != second

    plugin.do("rollback", "count", "--watch", "--timeout", str(TIMEOUT_SECONDS))
    assert plugin.status("count")["revision"] == first
    assert plugin.operator.call(plugin.namespace, "count", {"text": "ab"}).body == {"length": 2}
    out = plugin.run("export", "count", "-n", plugin.namespace).stdout
    assert "# newer" not in out
    plugin.do("rollback", "count", "--to-latest", "--watch", "--timeout", str(TIMEOUT_SECONDS))
    assert plugin.status("count")["revision"] == second
    plugin.do("rollback", "count", "0000000000", code=5)


@pytest.mark.parametrize("verb", [("retry",), ("rollback", "--to-latest"), ("approve", "--yes"), ("export",)])
def test_a_skill_that_is_not_there_is_one_line(plugin: Plugin, verb: tuple[str, ...]) -> None:
    out = plugin.do(verb[0], "absent", *verb[1:], code=5)
    assert out.count("\n") == 1


def test_who_may_only_look_changes_nothing(plugin: Plugin) -> None:
    file = make_spare(plugin, "count")
    plugin.do("apply", "-f", file, "--watch", "--timeout", str(TIMEOUT_SECONDS))
    with plugin.as_user("viewer", "view") as viewer:
        for verb in (("retry", "count"), ("apply", "-f", file), ("example", "add", "count", "--apply", "--input", '{"text": "q"}', "--output", '{"length": 1}')):  # fmt: skip
            assert "you lack a right" in viewer.do(*verb, code=4), verb
        assert "inline" in viewer.do("export", "count")
