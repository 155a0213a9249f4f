"""A call over real HTTP and TLS on loopback: what it writes, what it says, and how it ends."""

from __future__ import annotations

import json
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kubectl_skill import gateway
from kubectl_skill.app import run
from kubectl_skill.call_journal import find_call
from kubectl_skill.errors import ExitCode
from kubectl_skill.kubectl import Kubectl
from tests.unit.cli.kubectl_double import ScriptedKubectl


def problem(kind: str, status: int, detail: str = "the detail") -> tuple[int, bytes]:
    return status, json.dumps(
        {"type": f"urn:skill-operator:{kind}", "title": "A title", "status": status, "detail": detail}
    ).encode()


ANSWERS: dict[str, tuple[int, bytes]] = {
    "echo": (200, b'{"n": 1.00, "s": "\xe2\x80\xae"}'),
    "invalid": problem("invalid-input", 422),
    "unauthenticated": problem("unauthenticated", 401, "who is it?"),
    "forbidden": problem("forbidden", 403),
    "nothing": problem("skill-not-found", 404),
    "busy": problem("overloaded", 503),
    "hostile": problem("x\x1b", 500, "\x1b[2J\u202eevil"),
    "page": (502, b"<html>\x1b[2J"),
    "list": (500, b"[1]"),
    "redirect": (302, b""),
}


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        name = self.path.rpartition("/")[2]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        if name == "silent":
            self.server.go.wait(10)  # type: ignore[attr-defined]
            return
        if name == "large":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b" " * (gateway.MAX_ANSWER_BYTES + 2))
            return
        if name == "closed":
            self.connection.close()
            return
        status, content = ANSWERS[name]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Request-Id", f"id-{name}")
        if name == "echo":
            self.send_header("X-Skill-Cold-Start", "812")
        if name == "busy":
            self.send_header("Retry-After", "3")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Any]:
    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    made.seen, made.go = [], threading.Event()
    threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    made.go.set()
    made.shutdown()
    made.server_close()


@pytest.fixture
def call(server: Any, kubectl: ScriptedKubectl, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SKILL_TOKEN", "my-token")
    url = f"http://127.0.0.1:{server.server_port}/base"
    return lambda name, *more: run(["call", name, '{"a": 1.0}', "-n", "finance", "--gateway-url", url, *more])


def test_an_answer(call: Any, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("echo") == 0
    captured = capsys.readouterr()
    assert captured.out == '{"n": 1.00, "s": "\\u202e"}\n'
    assert captured.err == "request id-echo, woke in 812 ms\n"
    ((path, headers, body),) = server.seen
    assert path == "/base/v1/skills/finance/echo"
    assert headers["Authorization"] == "Bearer my-token"
    assert body == b'{"a": 1.0}'


def test_formats_and_silence(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("echo", "-q", "-o", "yaml") == 0
    captured = capsys.readouterr()
    assert captured.out == 'n: 1.0\ns: "\\u202E"\n'
    assert captured.err == ""


@pytest.mark.parametrize(
    ("name", "code", "part"),
    [
        ("invalid", ExitCode.CALL_REJECTED, "A title (422, invalid-input): the detail"),
        ("unauthenticated", ExitCode.FORBIDDEN, "who is it? The token has ended"),
        ("forbidden", ExitCode.FORBIDDEN, "403, forbidden"),
        ("nothing", ExitCode.NOT_FOUND, "404, skill-not-found"),
        ("busy", ExitCode.CALL_FAILED, "Call again after 3 s"),
        ("hostile", ExitCode.CALL_FAILED, "\\x1b[2J\\u202eevil"),
        ("page", ExitCode.CALL_FAILED, "no problem report (502): <html>\\x1b[2J"),
        ("list", ExitCode.CALL_FAILED, "no problem report (500): [1]"),
        ("redirect", ExitCode.CALL_FAILED, "no problem report (302)"),
        ("closed", ExitCode.CALL_FAILED, "broke off"),
        ("large", ExitCode.CALL_FAILED, "larger than any"),
    ],
)
def test_problems(name: str, code: ExitCode, part: str, call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(name, "-q") == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert part in captured.err
    assert captured.err.count("\n") == 1
    assert "\x1b" not in captured.err
    assert "my-token" not in captured.err


def test_no_answer_in_time(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("silent", "--timeout", "1") == ExitCode.TIMEOUT
    assert "within 1 s" in capsys.readouterr().err


def test_nobody_listens(
    kubectl: ScriptedKubectl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SKILL_TOKEN", "my-token")
    assert run(["call", "echo", "{}", "-n", "x", "--gateway-url", "http://127.0.0.1:1"]) == ExitCode.NO_CLUSTER
    assert "does not accept connections" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["ftp://x", "x", "http://", "http://a:b@c", "http://x:99999", "http://x:y", "file:///etc/passwd"]
)
def test_no_such_address(
    url: str, kubectl: ScriptedKubectl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SKILL_TOKEN", "my-token")
    assert run(["call", "echo", "{}", "-n", "x", "--gateway-url", url]) == ExitCode.USAGE
    assert "--gateway-url" in capsys.readouterr().err


def test_a_call_is_kept_for_its_caller_alone(call: Any, tmp_path: Path) -> None:
    assert call("echo") == 0
    kept = find_call("id-echo")
    assert kept is not None
    assert (kept.namespace, kept.name, kept.input, kept.status) == ("finance", "echo", {"a": 1.0}, 200)
    (file,) = (tmp_path / "state" / "kubectl-skill" / "calls").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "my-token" not in file.read_text()


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        """A certificate of the name that the gateway's Service has."""
        file = tmp_path / "tls.pem"
        name = "g.skill-operator.svc"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        command += [
            "-subj",
            f"/CN={name}",
            "-addext",
            f"subjectAltName=DNS:{name}",
            "-keyout",
            str(file),
            "-out",
            str(tmp_path / "ca.pem"),
        ]
        subprocess.run(command, check=True, capture_output=True)
        file.write_text(file.read_text() + (tmp_path / "ca.pem").read_text())
        return tmp_path / "ca.pem"

    @pytest.fixture
    def encrypted(self, server: Any, certificate: Path) -> Any:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.parent / "tls.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        return server

    def address(self, server: Any, authorities: str, name: str) -> gateway.GatewayAddress:
        return gateway.GatewayAddress("127.0.0.1", server.server_port, gateway._trust("", authorities), name)

    def test_the_gateways_own_name_is_checked_over_a_forwarded_port(self, encrypted: Any, certificate: Path) -> None:
        right = self.address(encrypted, certificate.read_text(), "g.skill-operator.svc")
        assert gateway.send(right, "POST", "/v1/skills/x/echo", b"{}", "t", 10).status == 200
        wrong = self.address(encrypted, certificate.read_text(), "other.skill-operator.svc")
        with pytest.raises(gateway.CliError, match="not trusted"):
            gateway.send(wrong, "POST", "/v1/skills/x/echo", b"{}", "t", 10)

    def test_without_its_ca_no_token_is_sent(
        self,
        encrypted: Any,
        kubectl: ScriptedKubectl,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("SKILL_TOKEN", "my-token")
        url = f"https://127.0.0.1:{encrypted.server_port}"
        assert run(["call", "echo", "{}", "-n", "x", "--gateway-url", url]) == ExitCode.NO_CLUSTER
        assert "--ca-file" in capsys.readouterr().err
        assert not encrypted.seen

    def test_a_file_that_holds_no_ca(self, kubectl: ScriptedKubectl, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SKILL_TOKEN", "my-token")
        assert (
            run(["call", "echo", "{}", "-n", "x", "--gateway-url", "https://x", "--ca-file", "/dev/null"])
            == ExitCode.USAGE
        )
        assert (
            run(["call", "echo", "{}", "-n", "x", "--gateway-url", "https://x", "--ca-file", "/nope"]) == ExitCode.USAGE
        )

    def test_the_published_ca_is_trusted(self, kubectl: ScriptedKubectl, encrypted: Any, certificate: Path) -> None:
        """All the way: the Service, its CA, and a port that is forwarded."""
        kubectl.says(
            "get services",
            {"items": [{"metadata": {"name": "g"}, "spec": {"ports": [{"name": "https", "port": 443}]}}]},
        )
        kubectl.says("get configmap g-ca", certificate.read_text())
        kubectl.says("port-forward", f"Forwarding from 127.0.0.1:{encrypted.server_port} -> 8080\n")
        with gateway.open_gateway(Kubectl(), "skill-operator", "", "") as address:
            assert gateway.send(address, "POST", "/v1/skills/x/echo", b"{}", "t", 10).status == 200


class TestForwarding:
    def test_a_right_that_is_missing_is_said(self, kubectl: ScriptedKubectl) -> None:
        kubectl.says(
            "port-forward", err='Error from server (Forbidden): pods is forbidden: User "eve" cannot create\n', code=1
        )
        with (
            pytest.raises(gateway.CliError, match="you lack a right") as caught,
            gateway.forward_port(Kubectl(), "x", "service/g", 80),
        ):
            pass
        assert caught.value.code is ExitCode.FORBIDDEN

    def test_no_gateway(self, kubectl: ScriptedKubectl) -> None:
        kubectl.says(
            "get services",
            {"items": [{"metadata": {"name": "beacon"}, "spec": {"ports": [{"name": "beacon", "port": 8082}]}}]},
        )
        with pytest.raises(gateway.CliError, match="there is no gateway"), gateway.open_gateway(Kubectl(), "x", "", ""):
            pass
