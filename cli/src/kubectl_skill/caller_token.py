"""The bearer token that a call carries: given, made for a ServiceAccount, or the one of the user's kubeconfig.

A kubeconfig with a client certificate alone has no token that a gateway could take. The token never reaches a command
line, a log or a file.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.kubectl import NO_CONTEXT, Kubectl, check_name, explain_failure, read_in_pod
from skill_operator.untrusted.text import single_line

AUDIENCE: Final = "skill-gateway"
VARIABLE: Final = "SKILL_TOKEN"
MAX_TOKEN_CHARACTERS = 16 * 1024
EXEC_TIMEOUT_SECONDS = 120.0
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750
_EXEC_API: Final = "client.authentication.k8s.io/v1"


@dataclass(frozen=True)
class TokenSource:
    """TokenSource says where the token comes from. `with_api_server` asks for one that the API server takes, too."""

    kubectl: Kubectl
    account: str = ""
    audience: str = AUDIENCE
    with_api_server: bool = False

    def read(self) -> str:
        """Return a token, or nothing where the user has none. Raises CliError."""
        if self.account:
            return self._create()
        if given := os.environ.get(VARIABLE, "").strip():
            return _checked(given, f"${VARIABLE}")
        return _checked(self._of_kubeconfig(), "the kubeconfig")

    def _create(self) -> str:
        """Return a token of a ServiceAccount, which takes the right to create `serviceaccounts/token`."""
        namespace, _, name = self.account.rpartition("/")
        check_name(name)
        where = ["-n", namespace] if namespace else []
        audiences = [self.audience]
        create = ("create", "token", name, *where)
        if self.with_api_server:
            audiences += token_audiences(self.kubectl.run(*create, "--duration=10m", namespaced=not where))
        more = [f"--audience={audience}" for audience in dict.fromkeys(audiences)]
        return _checked(self.kubectl.run(*create, *more, namespaced=not where).strip(), "kubectl create token")

    def _of_kubeconfig(self) -> str:
        view = ("config", "view", "--minify", "--raw", "-o", "json")
        done = self.kubectl.attempt(*view, namespaced=False, timeout=False)
        if done.returncode and NO_CONTEXT in done.stderr:
            return read_in_pod("token")
        if done.returncode:
            raise explain_failure(done.stderr)
        config = json.loads(done.stdout)
        users = config.get("users") or [{}]
        user: dict[str, Any] = users[0].get("user") or {}
        if user.get("token"):
            return str(user["token"]).strip()
        if user.get("tokenFile"):
            try:
                return Path(user["tokenFile"]).read_text(encoding="utf-8")[: MAX_TOKEN_CHARACTERS + 1].strip()
            except (OSError, UnicodeDecodeError) as error:
                raise CliError(f"the kubeconfig's tokenFile cannot be read: {error}", ExitCode.NO_CLUSTER) from error
        return _run_plugin(user["exec"]) if isinstance(user.get("exec"), dict) else ""


def _run_plugin(plugin: Mapping[str, Any]) -> str:
    """Return the token of the user's own credential plugin, run as kubectl runs it (client-go credential plugins)."""
    program = shutil.which(str(plugin.get("command", "")))
    if program is None:
        raise CliError(f"the kubeconfig's credential plugin is missing: {plugin.get('command')}", ExitCode.NO_CLUSTER)
    version = str(plugin.get("apiVersion") or _EXEC_API)
    request = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = os.environ | {str(each["name"]): str(each["value"]) for each in plugin.get("env") or []}
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(request)
    try:
        done = subprocess.run(
            [program, *map(str, plugin.get("args") or [])],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=EXEC_TIMEOUT_SECONDS,
            check=True,
        )
        return str((json.loads(done.stdout).get("status") or {}).get("token") or "")
    except (OSError, subprocess.SubprocessError, ValueError, AttributeError) as error:
        cause = single_line(type(error).__name__, 80)
        raise CliError(f"the kubeconfig's credential plugin gave no token ({cause})", ExitCode.NO_CLUSTER) from error


def _checked(token: str, source: str) -> str:
    if token and (len(token) > MAX_TOKEN_CHARACTERS or not _TOKEN.fullmatch(token)):
        raise CliError(f"{source} holds no bearer token", ExitCode.USAGE)
    return token


def token_audiences(token: str) -> list[str]:
    """Return whom a token is meant for, as its payload says (RFC 7519); nothing of a token that is no JWT."""
    parts = token.strip().split(".")
    if len(parts) != 3:
        return []
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return []
    found = payload.get("aud") if isinstance(payload, dict) else None
    return [found] if isinstance(found, str) else [str(each) for each in found or []]


def advice(token: str, *, named: bool) -> str:
    """Return what to do about a token that the gateway does not take."""
    way = "--as-account ACCOUNT makes one for a ServiceAccount that is bound to the ClusterRole skill-caller"
    if not token:
        return f"your kubeconfig has no token, as it signs in by a certificate or a proxy: {way}"
    audiences = token_audiences(token)
    if not named and audiences and AUDIENCE not in audiences:
        meant = single_line(", ".join(audiences), 120)
        return f"your token is meant for {meant} and not for {AUDIENCE}: {way}; or add it to gateway.audiences"
    return "the token has ended, or is none of this cluster"
