"""The way to the gateway: a port that kubectl forwards, or an address that the user gives, and the user's token.

Over TLS the plugin trusts the CA that the installation publishes, or the file that the user names, and checks the
gateway's own name although the connection goes to 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.kubectl import Kubectl, explain_failure, stop
from skill_operator.naming import gateway_trust
from skill_operator.untrusted.text import single_line

OPERATOR_NAMESPACE: Final = "skill-operator"
OPERATOR_LABELS: Final = "app.kubernetes.io/name=skill-operator"
PORT_NAMES: Final = ("https", "http")
FORWARD_TIMEOUT_SECONDS = 20.0
CONNECT_TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_PEM_CHARACTERS = 1024 * 1024


@dataclass(frozen=True)
class GatewayAddress:
    """GatewayAddress says where the gateway is reached, and under which name it proves itself over TLS."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    path: str = ""

    @property
    def authority(self) -> str:
        """Return what the Host header says (RFC 9110, 7.2)."""
        return f"{self.server_name or self.host}:{self.port}"

    def connect(self, timeout_seconds: float) -> http.client.HTTPConnection:
        """Return an open connection. Raises CliError."""
        try:
            raw = socket.create_connection((self.host, self.port), timeout=CONNECT_TIMEOUT_SECONDS)
            raw.settimeout(timeout_seconds)
            if self.tls is not None:
                raw = self.tls.wrap_socket(raw, server_hostname=self.server_name or self.host)
        except ssl.SSLError as error:
            raise CliError(
                f"the gateway's certificate is not trusted: name its CA with --ca-file ({error.reason or error})",
                ExitCode.NO_CLUSTER,
            ) from error
        except OSError as error:
            raise CliError(f"the gateway does not accept connections: {error}", ExitCode.NO_CLUSTER) from error
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_seconds)
        connection.sock = raw
        return connection


@dataclass(frozen=True)
class GatewayReply:
    """GatewayReply is the answer to one request."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def send(
    address: GatewayAddress, method: str, path: str, body: bytes | None, token: str, timeout_seconds: float
) -> GatewayReply:
    """Send one request and return its whole answer. Raises CliError where none came."""
    connection = address.connect(timeout_seconds)
    headers = {"Host": address.authority, "Accept": "application/json", "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, address.path + path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read(MAX_ANSWER_BYTES + 1)
    except TimeoutError as error:
        raise CliError(f"no answer came within {timeout_seconds:.0f} s (--timeout)", ExitCode.TIMEOUT) from error
    except (OSError, http.client.HTTPException) as error:
        cause = single_line(str(error) or type(error).__name__, 200)
        raise CliError(f"the connection to the gateway broke off: {cause}", ExitCode.CALL_FAILED) from error
    finally:
        connection.close()
    if len(content) > MAX_ANSWER_BYTES:
        raise CliError("the answer is larger than any that a gateway sends", ExitCode.CALL_FAILED)
    return GatewayReply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)


@contextlib.contextmanager
def open_gateway(kubectl: Kubectl, operator_namespace: str, url: str, ca_file: str) -> Iterator[GatewayAddress]:
    """Yield where the gateway is reached while the context is open. Raises CliError."""
    if url:
        yield _parse_url(url, ca_file)
        return
    service, port_name, port = _find_service(kubectl, operator_namespace)
    context = None
    if port_name == "https":
        context = _trust(ca_file, "" if ca_file else _published_authorities(kubectl, operator_namespace, service))
    with forward_port(kubectl, operator_namespace, f"service/{service}", port) as local:
        name = f"{service}.{operator_namespace}.svc" if context is not None else ""
        yield GatewayAddress("127.0.0.1", local, context, name)


def _parse_url(url: str, ca_file: str) -> GatewayAddress:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1 or parts.username is not None:
        raise CliError("--gateway-url must be such as https://skills.example", ExitCode.USAGE)
    context = _trust(ca_file, "") if parts.scheme == "https" else None
    standard = 443 if context is not None else 80
    return GatewayAddress(parts.hostname, port or standard, context, parts.hostname, parts.path.rstrip("/"))


def _trust(ca_file: str, authorities: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None, cadata=authorities or None)
    except (OSError, ssl.SSLError) as error:
        where = ca_file or "what the installation publishes"
        raise CliError(f"there is no certificate to trust in {where}: {error}", ExitCode.USAGE) from error


def _published_authorities(kubectl: Kubectl, namespace: str, service: str) -> str:
    """Return the CA that the installation publishes, or nothing where there is none or it may not be read."""
    path = "jsonpath={.data.ca\\.crt}"
    done = kubectl.attempt("get", "configmap", gateway_trust(service), "-n", namespace, "-o", path, namespaced=False)
    return done.stdout[:MAX_PEM_CHARACTERS] if done.returncode == 0 else ""


def _find_service(kubectl: Kubectl, namespace: str) -> tuple[str, str, int]:
    """Return the gateway's Service, and the name and number of the port that takes calls. Raises CliError."""
    selector = f"{OPERATOR_LABELS},app.kubernetes.io/component=gateway"
    found = kubectl.json("get", "services", "-n", namespace, "-l", selector, namespaced=False)
    for service in found.get("items", []):
        for port in service.get("spec", {}).get("ports", []):
            if port.get("name") in PORT_NAMES:
                return str(service["metadata"]["name"]), str(port["name"]), int(port["port"])
    raise CliError(
        f"there is no gateway in the namespace {namespace}: name the operator's with --operator-namespace, or the "
        "gateway's address with --gateway-url",
        ExitCode.NOT_FOUND,
    )


@contextlib.contextmanager
def forward_port(kubectl: Kubectl, namespace: str, target: str, port: int) -> Iterator[int]:
    """Yield a local port of 127.0.0.1 that kubectl forwards while the context is open. Raises CliError."""
    command = kubectl.command(
        "-n", namespace, "port-forward", "--address=127.0.0.1", target, f":{port}", namespaced=False
    )
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C ends the command, which then ends this
        )
        try:
            yield _read_port(process, stderr)
        finally:
            stop(process)


def _read_port(process: subprocess.Popen[str], stderr: Any) -> int:
    """Return the port that kubectl opened, and go on reading what it writes, so that it never waits for a reader."""
    opened: list[int] = []
    ready = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in process.stdout or ():
                if match := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", line):
                    opened.append(int(match[1]))
                    ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    if not ready.wait(FORWARD_TIMEOUT_SECONDS):
        raise CliError("kubectl forwards no port to the gateway in time", ExitCode.TIMEOUT)
    if opened:
        return opened[0]
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    stderr.seek(0)
    raise explain_failure(stderr.read())


def default_operator_namespace() -> str:
    """Return the operator's namespace where no option names it."""
    return os.environ.get("SKILL_OPERATOR_NAMESPACE") or OPERATOR_NAMESPACE
