"""The token of a call comes from where the user has one, and the advice fits where there is none."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from kubectl_skill.caller_token import TokenSource, advice, token_audiences
from kubectl_skill.errors import CliError
from kubectl_skill.kubectl import Kubectl
from tests.unit.cli.kubectl_double import ScriptedKubectl


def jwt(**claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"aaaa.{body}.bbbb"


def config(kubectl: ScriptedKubectl, user: dict[str, Any]) -> None:
    kubectl.says("config view", {"users": [{"name": "me", "user": user}]})


def read(**options: Any) -> str:
    return TokenSource(Kubectl(), **options).read()


def test_of_the_kubeconfig(kubectl: ScriptedKubectl) -> None:
    config(kubectl, {"token": " abc.def \n"})
    assert read() == "abc.def"


def test_of_a_file(kubectl: ScriptedKubectl, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-a-file\n")
    config(kubectl, {"tokenFile": str(tmp_path / "token")})
    assert read() == "of-a-file"


def test_of_a_file_that_is_not_there(kubectl: ScriptedKubectl) -> None:
    config(kubectl, {"tokenFile": "/nope"})
    with pytest.raises(CliError, match="tokenFile"):
        read()


def plugin(folder: Path, text: str) -> dict[str, Any]:
    program = folder / "plugin"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return {
        "exec": {
            "command": str(program),
            "args": ["a"],
            "env": [{"name": "MINE", "value": "v"}],
            "apiVersion": "client.authentication.k8s.io/v1",
        }
    }


def test_of_a_credential_plugin(kubectl: ScriptedKubectl, tmp_path: Path) -> None:
    script = """case "$KUBERNETES_EXEC_INFO" in *ExecCredential*) echo "{\\"status\\": {\\"token\\": \\"t-$1-$MINE\\"}}";; esac"""
    config(kubectl, plugin(tmp_path, script))
    assert read() == "t-a-v"


@pytest.mark.parametrize("text", ["exit 1", "echo no json", "echo []", "echo '{\"status\": 1}'"])
def test_a_credential_plugin_that_fails(text: str, kubectl: ScriptedKubectl, tmp_path: Path) -> None:
    config(kubectl, plugin(tmp_path, text))
    with pytest.raises(CliError, match="credential plugin"):
        read()


def test_a_certificate_is_no_token(kubectl: ScriptedKubectl) -> None:
    config(kubectl, {"client-certificate-data": "x", "client-key-data": "y"})
    assert read() == ""
    assert "--as-account" in advice("", named=False)


def test_the_environment_comes_first(kubectl: ScriptedKubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILL_TOKEN", "mine")
    assert read() == "mine"
    assert not kubectl.commands


@pytest.mark.parametrize("token", ["a b", "a\nHost: evil", "ü", "a" * 20_000])
def test_what_is_no_bearer_token_is_never_sent(
    token: str, kubectl: ScriptedKubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKILL_TOKEN", token)
    with pytest.raises(CliError, match="no bearer token"):
        read()


def test_of_a_service_account(kubectl: ScriptedKubectl) -> None:
    kubectl.says("create token caller", "made\n")
    assert read(account="caller") == "made"
    assert "--audience=skill-gateway" in kubectl.commands[0]


def test_of_a_service_account_of_another_namespace_that_the_api_server_takes_too(kubectl: ScriptedKubectl) -> None:
    kubectl.says("create token caller -n blue --duration", jwt(aud=["https://kubernetes.default.svc"]))
    kubectl.says("create token caller -n blue", "both")
    assert read(account="blue/caller", with_api_server=True) == "both"
    assert kubectl.commands[1][-2:] == ["--audience=skill-gateway", "--audience=https://kubernetes.default.svc"]


def test_an_account_is_never_an_option(kubectl: ScriptedKubectl) -> None:
    with pytest.raises(CliError):
        read(account="--all")
    assert not kubectl.commands


@pytest.mark.parametrize(
    ("token", "audiences"),
    [
        (jwt(aud="one"), ["one"]),
        (jwt(aud=["one", "two"]), ["one", "two"]),
        (jwt(), []),
        ("opaque", []),
        ("a.b.c", []),
        ("a.%%%.c", []),
        ("", []),
    ],
)
def test_audiences(token: str, audiences: list[str]) -> None:
    assert token_audiences(token) == audiences


def test_advice_names_the_audience() -> None:
    assert "meant for https://api" in advice(jwt(aud="https://api"), named=False)
    assert "has ended" in advice(jwt(aud="skill-gateway"), named=False)
    assert "has ended" in advice(jwt(aud="x"), named=True)
