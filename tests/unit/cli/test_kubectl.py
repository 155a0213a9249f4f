"""Every way in which kubectl fails becomes one line that says what to do, and an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubectl_skill.app import run
from kubectl_skill.caller_token import TokenSource
from kubectl_skill.errors import EXIT_CODES, ExitCode
from kubectl_skill.kubectl import Kubectl, explain_failure
from tests.unit.cli.kubectl_double import ScriptedKubectl, ready, skill

# As kubectl 1.36 says it.
REFUSED = "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?\n"
WORDS = [
    (REFUSED, ExitCode.NO_CLUSTER, "--context"),
    (
        "Unable to connect to the server: dial tcp: lookup nowhere.example: no such host\n",
        ExitCode.NO_CLUSTER,
        "network",
    ),
    ("Unable to connect to the server: net/http: TLS handshake timeout\n", ExitCode.NO_CLUSTER, "does not respond"),
    (
        "Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown authority\n",
        ExitCode.NO_CLUSTER,
        "x509",
    ),
    ('error: context "nope" does not exist\n', ExitCode.NO_CLUSTER, "get-contexts"),
    (
        "Error in configuration: context was not found for specified context: nope\n",
        ExitCode.NO_CLUSTER,
        "get-contexts",
    ),
    ("error: cannot locate context nope\n", ExitCode.NO_CLUSTER, "get-contexts"),
    ("error: stat /nope: no such file or directory\n", ExitCode.NO_CLUSTER, "KUBECONFIG"),
    ("error: You must be logged in to the server (Unauthorized)\n", ExitCode.FORBIDDEN, "sign in again"),
    (
        'Error from server (Forbidden): skills.skill-operator.dev is forbidden: User "eve" cannot list resource "skills"\n',
        ExitCode.FORBIDDEN,
        'User "eve" cannot list',
    ),
    ('error: the server doesn\'t have a resource type "skills"\n', ExitCode.NOT_FOUND, "install the operator"),
    ('Error from server (NotFound): skills.skill-operator.dev "x" not found\n', ExitCode.NOT_FOUND, '"x" not found'),
    ('Error from server (NotFound): namespaces "x" not found\n', ExitCode.NOT_FOUND, "namespaces"),
    ("getting credentials: exec: executable kubelogin not found\n", ExitCode.NO_CLUSTER, "kubelogin"),
    ("something new\n", ExitCode.UNWELL, "something new"),
    ("", ExitCode.UNWELL, "said nothing"),
    ("\x1b[2Jevil\n", ExitCode.UNWELL, "\\x1b[2Jevil"),
]


@pytest.mark.parametrize(("words", "code", "part"), WORDS)
def test_words_of_failure(words: str, code: ExitCode, part: str) -> None:
    error = explain_failure(words)
    assert error.code is code
    assert part in error.message
    assert "\n" not in error.message
    assert "\x1b" not in error.message


def test_lines_of_the_client_library_are_left_out() -> None:
    noise = 'E0101 10:00:00.000000   12 memcache.go:265] "Unhandled Error" err="couldn\'t get current server API"\n'
    assert explain_failure(5 * noise + REFUSED).message == explain_failure(REFUSED).message


@pytest.mark.parametrize(
    "verb", ["list", "why x", "history x", "diff x", "logs x", "cost", "doctor", "call x {}", "ui"]
)
@pytest.mark.parametrize(("words", "code", "part"), [WORDS[0], WORDS[4], WORDS[7]])
def test_no_verb_shows_a_traceback(
    verb: str, words: str, code: ExitCode, part: str, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.says("", err=words, code=1)
    assert run(verb.split()) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert part in captured.err


def test_without_kubectl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert run(["list"]) == ExitCode.NO_CLUSTER
    assert "no kubectl in PATH" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["-x", "--all", "A", "a/b", "a b", "", "\x1b[31m", "a" * 300])
@pytest.mark.parametrize("verb", ["why", "history", "diff", "logs"])
def test_a_name_is_never_an_option_of_kubectl(
    verb: str, name: str, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb, "--", name]) == ExitCode.USAGE
    assert not kubectl.commands
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["-n", "blue", "--context", "c", "list"],
        ["list", "-n", "blue", "--context", "c"],
        ["-n", "red", "--context", "c", "list", "-n", "blue"],
    ],
)
def test_options_stand_before_or_after_the_verb(arguments: list[str], kubectl: ScriptedKubectl) -> None:
    kubectl.says("get skills", {"items": []})
    assert run(arguments) == 0
    assert kubectl.commands[0][:2] == ["--context=c", "--namespace=blue"]


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 2), (["nope"], 2), (["list", "--nope"], 2), (["-h"], 0), (["list", "-h"], 0)]
)
def test_usage(arguments: list[str], code: int) -> None:
    assert run(arguments) == code


def test_no_json_is_said(kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
    kubectl.says("get skills", "<html>\x1b")
    assert run(["list"]) == ExitCode.UNWELL
    assert "no JSON: <html>\\x1b" in capsys.readouterr().err


def test_every_exit_code_is_explained() -> None:
    assert set(EXIT_CODES) == set(ExitCode)


def test_a_hostile_skill_is_shown_and_harmless(kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = skill("echo", ready(), summary="\x1b[2J\u202eevil\nNAME STATE")
    hostile["status"]["conditions"][-1]["message"] = "\x1b]52;c;aaaa\x07"
    kubectl.says("get skills.skill-operator.dev echo", hostile)
    kubectl.says("get skills", {"items": [hostile]})
    for arguments in (
        ["list"],
        ["list", "-o", "json"],
        ["list", "-o", "yaml"],
        ["why", "echo"],
        ["why", "echo", "-o", "json"],
    ):
        assert run(arguments) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "\u202e" not in out


@pytest.mark.parametrize("namespace", ["a/../b", "a b", "A", "\x1b[31m", "a?x"])
def test_a_namespace_is_never_part_of_a_path(
    namespace: str, kubectl: ScriptedKubectl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SKILL_TOKEN", "x")
    kubectl.says(
        "get services", {"items": [{"metadata": {"name": "g"}, "spec": {"ports": [{"name": "http", "port": 80}]}}]}
    )
    assert run(["call", "echo", "{}", "-n", namespace, "--gateway-url", "http://127.0.0.1:1"]) == ExitCode.USAGE
    assert "no name of a namespace" in capsys.readouterr().err


def test_a_defect_is_one_line_unless_somebody_looks_for_it(
    kubectl: ScriptedKubectl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.says("get skills", {"items": [1]})
    assert run(["list"]) == ExitCode.UNWELL
    assert capsys.readouterr().err.startswith("error: a defect of kubectl skill: ")
    monkeypatch.setenv("SKILL_DEBUG", "1")
    with pytest.raises(AttributeError):
        run(["list"])


def test_in_a_pod_its_own_account_is_used(
    kubectl: ScriptedKubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kubectl has no context there."""
    kubectl.says("config view", err="error: current-context must exist in order to minify\n", code=1)
    assert Kubectl().namespace == "default"
    assert TokenSource(Kubectl()).read() == ""
    monkeypatch.setattr("kubectl_skill.kubectl.POD_ACCOUNT", str(tmp_path))
    (tmp_path / "namespace").write_text("blue\n")
    (tmp_path / "token").write_text("of-the-pod\n")
    assert Kubectl().namespace == "blue"
    assert TokenSource(Kubectl()).read() == "of-the-pod"
