"""The verbs of `kubectl skill` that read and call, by the built plugin, under people of different rights."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster.access import Cluster
from hack.install import NAMESPACE
from tests.integration.installed import Operator
from tests.integration.plugin import Plugin, built, kubeconfig_of, user
from tests.integration.test_skill import SOURCE, skill

__all__ = ["built"]
pytestmark = pytest.mark.cluster
MakePlugin = Callable[[str], Plugin]
READING = [
    ["list"],
    ["why", "echo"],
    ["history", "echo"],
    ["diff", "echo"],
    ["logs", "echo"],
    ["cost"],
]


@pytest.fixture(scope="module")
def place(operator: Operator) -> Iterator[str]:
    """Provide a namespace with a Skill that runs, and with people: one who views, one who calls, one who may nothing."""
    with operator.cluster.namespace("plugin") as namespace:
        made = skill("echo", source={"inline": SOURCE}, idleTimeoutSeconds=0)
        made["metadata"]["namespace"] = namespace
        operator.cluster.apply(made)
        user(operator.cluster, namespace, "viewer", "view")
        user(operator.cluster, namespace, "caller", "skill-caller")
        user(operator.cluster, namespace, "nobody")
        operator.ready(namespace, "echo", 200)
        yield namespace


@pytest.fixture
def plugin(operator: Operator, built: Path, place: str, tmp_path: Path) -> MakePlugin:
    def make(account: str = "") -> Plugin:
        config = kubeconfig_of(operator.cluster, tmp_path, place, account=account)
        return Plugin(built, config, operator.cluster.tools, tmp_path)

    return make


class TestAsAdministrator:
    def test_list(self, plugin: MakePlugin, place: str) -> None:
        admin = plugin("")
        assert re.search(r"^echo +Ready +Ready +[0-9a-f]{10} ", admin.says("list"), re.MULTILINE)
        assert admin.says("list", "-o", "name") == "skill.skill-operator.dev/echo\n"
        assert [item["metadata"]["name"] for item in json.loads(admin.says("list", "-o", "json"))["items"]] == ["echo"]
        assert yaml.safe_load(admin.says("list", "-o", "yaml"))["kind"] == "List"
        assert re.search(rf"^{place} +echo ", admin.says("list", "-A"), re.MULTILINE)
        assert "no Skill in namespace kube-public" in admin.run("list", "-n", "kube-public").stderr

    def test_why(self, plugin: MakePlugin, place: str) -> None:
        assert (
            plugin("").says("why", "echo").startswith(f"{place}/echo can be called, and a pod of it runs (Ready, for ")
        )

    def test_history(self, plugin: MakePlugin) -> None:
        assert re.search(r"^[0-9a-f]{10} +current +\d+\w +pinned", plugin("").says("history", "echo"), re.MULTILINE)

    def test_logs(self, plugin: MakePlugin) -> None:
        admin = plugin("")
        done = admin.run("call", "echo", '{"what": "hello"}', "--as-account", "caller")
        called = re.search(r"^request (\S+)$", done.stderr, re.MULTILINE)
        assert called is not None, done.stderr
        assert called[1] in admin.says("logs", "echo", "--tail", "50")

    def test_cost_shows_the_quota(self, plugin: MakePlugin, place: str) -> None:
        admin = plugin("")
        assert re.search(rf"^{place}: 0 tokens .*; today 0 of \d+ were spent$", admin.says("cost"), re.MULTILINE)
        assert json.loads(admin.says("cost", "-o", "json"))["today"]["totalLimit"] > 0

    def test_doctor_has_the_operators_own(self, plugin: MakePlugin) -> None:
        done = plugin("").run("doctor", "-o", "json")
        states = {line["check"]: line["state"] for line in json.loads(done.stdout)}
        assert states["nodes"] == "ok"
        assert states["may get skills"] == "ok"
        assert "TLS, gateway" in states
        assert done.returncode == int("bad" in states.values())

    def test_what_is_not_there(self, plugin: MakePlugin) -> None:
        admin = plugin("")
        for verb in ("why", "history", "diff", "logs"):
            assert '"nothing" not found' in admin.fails(verb, "nothing", code=5)
        assert "context" in admin.fails("list", "--context", "nope", code=3)

    def test_a_cluster_that_is_away(self, plugin: MakePlugin, tmp_path: Path) -> None:
        admin = plugin("")
        config = json.loads(admin.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
        (tmp_path / "away").write_text(json.dumps(config))
        assert "does not respond" in admin.fails("list", "--kubeconfig", str(tmp_path / "away"), code=3)


class TestCalls:
    def test_an_answer(self, plugin: MakePlugin) -> None:
        admin = plugin("")
        done = admin.run("call", "echo", '{"what": "hello"}', "--as-account", "caller")
        assert (done.returncode, json.loads(done.stdout)) == (0, {"said": "hello"}), done.stderr
        assert re.search(r"^request \S+$", done.stderr, re.MULTILINE)

    def test_of_a_file_and_of_standard_input(self, plugin: MakePlugin, tmp_path: Path) -> None:
        admin = plugin("")
        (tmp_path / "input.json").write_text('{"what": "file"}')
        assert json.loads(admin.says("call", "echo", f"@{tmp_path}/input.json", "--as-account", "caller")) == {
            "said": "file"
        }
        done = admin.run("call", "echo", "@-", "--as-account", "caller", stdin='{"what": "stdin"}')
        assert json.loads(done.stdout) == {"said": "stdin"}

    def test_a_given_token(self, plugin: MakePlugin, operator: Operator, place: str) -> None:
        token = operator.cluster.token(place, "caller")
        assert json.loads(plugin("").says("call", "echo", '{"what": "x"}', "-q", SKILL_TOKEN=token)) == {"said": "x"}

    def test_problems(self, plugin: MakePlugin) -> None:
        admin = plugin("")
        as_caller = ("--as-account", "caller", "-q")
        assert "422, invalid-input" in admin.fails("call", "echo", '{"what": 1}', *as_caller, code=7)
        assert "this is refused" in admin.fails("call", "echo", '{"what": "refuse"}', *as_caller, code=7)
        assert "500, skill-error" in admin.fails("call", "echo", '{"what": "fault"}', *as_caller, code=8)
        assert "404, skill-not-found" in admin.fails("call", "nothing", "{}", *as_caller, code=5)
        assert "403, forbidden" in admin.fails("call", "echo", '{"what": "x"}', "--as-account", "nobody", code=4)

    def test_a_certificate_is_no_token(self, plugin: MakePlugin) -> None:
        assert "--as-account" in plugin("").fails("call", "echo", '{"what": "x"}', "-q", code=4)

    def test_a_token_of_another_audience(self, plugin: MakePlugin, operator: Operator, place: str) -> None:
        token = operator.cluster.token(place, "caller", "somebody-else")
        said = plugin("").fails("call", "echo", '{"what": "x"}', "-q", code=4, SKILL_TOKEN=token)
        assert "meant for somebody-else and not for skill-gateway" in said

    def test_no_gateway_there(self, plugin: MakePlugin, place: str) -> None:
        said = plugin("").fails("call", "echo", "{}", "--operator-namespace", place, "--as-account", "caller", code=5)
        assert "--operator-namespace" in said

    def test_an_answer_sends_a_terminal_nothing(self, plugin: MakePlugin) -> None:
        admin = plugin("")
        evil = "\x1b]0;x\x07\u202e\u009b2J"
        body = json.dumps({"what": evil})
        shown = admin.on_terminal("call", "echo", body, "--as-account", "caller", "-q", TERM="xterm")
        assert not {"\x1b", "\x07", "\u202e", "\u009b"} & set(shown)
        assert json.loads(admin.says("call", "echo", body, "--as-account", "caller", "-q")) == {"said": evil}


class TestDiff:
    def test_what_a_change_would_bring(self, plugin: MakePlugin, operator: Operator, place: str) -> None:
        made = skill("changes", source={"inline": SOURCE}, review="Manual")
        made["metadata"]["namespace"] = place
        operator.cluster.apply(made)
        operator.reason(place, "changes", "Built", "AwaitingApproval")
        admin = plugin("")
        out = admin.says("diff", "changes")
        assert out.index("# The rest of the spec") < out.index("# Code")
        assert "--- nothing\n+++ spec\n" in out
        assert "+def run(input: dict) -> dict:" in out
        assert admin.says("diff", "changes", "--exit-code", code=1)
        assert "AwaitingApproval" in admin.says("why", "changes")
        colored = admin.on_terminal("diff", "changes", TERM="xterm")
        assert "\x1b[32m+def run(input: dict) -> dict:\x1b[0m" in colored
        assert "\x1b" not in admin.on_terminal("diff", "changes", TERM="xterm", NO_COLOR="1")
        assert "\x1b" not in admin.on_terminal("diff", "changes", TERM="dumb")

    def test_nothing_differs(self, plugin: MakePlugin) -> None:
        done = plugin("").run("diff", "echo", "--exit-code")
        assert (done.returncode, done.stdout) == (0, "")
        assert "What runs is what the spec asks for." in done.stderr


class TestUnderView:
    """Who may only view is helped as far as that goes."""

    @pytest.mark.parametrize("arguments", READING, ids=lambda arguments: arguments[0])
    def test_what_reads_works(self, arguments: list[str], plugin: MakePlugin) -> None:
        assert plugin("viewer").run(*arguments).returncode == 0

    def test_cost_says_what_is_not_shown(self, plugin: MakePlugin) -> None:
        assert f"right to get and list configmaps in {NAMESPACE}" in plugin("viewer").run("cost").stderr

    def test_doctor_says_what_may_not_be_seen(self, plugin: MakePlugin) -> None:
        found = {line["check"]: line["state"] for line in json.loads(plugin("viewer").says("doctor", "-o", "json"))}
        assert found["may get skills"] == "ok"
        assert found["may create skills"] == "no"
        assert found["operator"] == "unknown"

    def test_a_call_says_which_right_is_missing(self, plugin: MakePlugin) -> None:
        said = plugin("viewer").fails("call", "echo", '{"what": "x"}', code=4)
        assert "services" in said
        assert NAMESPACE in said

    def test_all_namespaces(self, plugin: MakePlugin) -> None:
        assert "cannot list" in plugin("viewer").fails("list", "-A", code=4)


class TestWithoutRights:
    @pytest.mark.parametrize("arguments", READING, ids=lambda arguments: arguments[0])
    def test_one_line_says_so(self, arguments: list[str], plugin: MakePlugin, place: str) -> None:
        said = plugin("nobody").fails(*arguments, code=4)
        assert "you lack a right" in said
        assert f"system:serviceaccount:{place}:nobody" in said

    def test_doctor(self, plugin: MakePlugin) -> None:
        states = {line["state"] for line in json.loads(plugin("nobody").says("doctor", "-o", "json"))}
        assert "bad" not in states

    def test_a_credential_that_ended(self, plugin: MakePlugin, tmp_path: Path) -> None:
        nobody = plugin("nobody")
        config = json.loads(nobody.kubeconfig.read_text())
        config["users"][0]["user"]["token"] = "ended"
        nobody.kubeconfig.write_text(json.dumps(config))
        assert "sign in again" in nobody.fails("list", code=4)


class TestByKubectl:
    def kubectl(self, plugin: Plugin, *arguments: str) -> str:
        return subprocess.run(
            [str(plugin.tools / "kubectl"), *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=plugin.environment(),
        ).stdout

    def test_it_is_a_plugin(self, plugin: MakePlugin) -> None:
        assert "echo" in self.kubectl(plugin(""), "skill", "list")

    def test_it_completes(self, plugin: MakePlugin) -> None:
        admin = plugin("")
        assert "why\t" in self.kubectl(admin, "__complete", "skill", "wh")
        assert self.kubectl(admin, "__complete", "skill", "why", "e").splitlines()[0] == "echo"


class TestPage:
    def test_ui_signs_in_whoever_has_the_link(self, plugin: MakePlugin, place: str) -> None:
        admin = plugin("")
        command = [str(admin.program), "ui", "--no-browser", "--as-account", "caller"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=admin.environment(PYTHONUNBUFFERED="1"),
        )
        try:
            link = (process.stdout.readline() if process.stdout is not None else "").strip()
            host, _, path = link.removeprefix("http://").partition("/")

            def ask(path: str, **headers: str) -> tuple[int, Any, bytes]:
                connection = http.client.HTTPConnection(host, timeout=30)
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.headers, answer.read()

            assert ask("/ui")[0] == 403
            status, headers, _ = ask(f"/{path}")
            assert (status, headers["Location"]) == (303, "/ui")
            assert ask(f"/{path}")[0] == 403
            status, headers, page = ask("/ui", Cookie=headers["Set-Cookie"].partition(";")[0])
            assert status == 200
            assert b"echo" in page
        finally:
            process.terminate()
            assert process.wait(20) == 128 + signal.SIGTERM


def test_ids_of_clusters_without_the_operator(plugin: MakePlugin, cluster: Cluster) -> None:
    """kubectl's own words for a kind that is not there lead to the advice to install the operator."""
    done = subprocess.run(
        [str(cluster.tools / "kubectl"), f"--kubeconfig={cluster.kubeconfig}", "get", "nothings.skill-operator.dev"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "doesn't have a resource type" in done.stderr
