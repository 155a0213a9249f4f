"""The built plugin, as people of different rights run it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hack import cli
from hack.cluster.access import Cluster
from tests.integration.installed import cluster as cluster  # noqa: PLC0414  # a fixture of the tests that use these


@dataclass(frozen=True)
class Plugin:
    """kubectl-skill in PATH, with a kubectl and the kubeconfig of one user."""

    program: Path
    kubeconfig: Path
    tools: Path
    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{self.program.parent}:{self.tools}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.home),
            "SHIV_ROOT": str(self.program.parent / "unpacked"),
            "LANG": "C.UTF-8",
        } | more

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the plugin to its end. A traceback is a defect of every command."""
        done = subprocess.run(
            [str(self.program), *arguments],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            env=self.environment(**environment),
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        return done

    def says(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Return standard output of a command that ends with this code."""
        done = self.run(*arguments, **environment)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout

    def fails(self, *arguments: str, code: int, **environment: str) -> str:
        """Return the one line that a command says which ends with this code."""
        done = self.run(*arguments, **environment)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, done.stderr
        return errors[0]

    def on_terminal(self, *arguments: str, **environment: str) -> str:
        """Return what a command writes to a terminal of 80 columns."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(self.program, [str(self.program), *arguments], self.environment(**environment))  # noqa: S606
        chunks, deadline = list[bytes](), time.monotonic() + 60
        try:
            while time.monotonic() < deadline:
                if not select.select([terminal], [], [], 1)[0]:
                    continue
                try:
                    chunk = os.read(terminal, 65536)
                except OSError:  # so Linux says that the other end is closed
                    break
                if not chunk:
                    break
                chunks.append(chunk)
        finally:
            os.close(terminal)
            os.waitpid(pid, 0)
        return b"".join(chunks).decode()


def kubeconfig_of(cluster: Cluster, folder: Path, namespace: str, token: str = "", account: str = "") -> Path:
    """Return a kubeconfig for this token, or for a ServiceAccount's own; without either, the administrator's."""
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    if account:
        token = cluster.kubectl("-n", namespace, "create", "token", account, "--duration=2h").strip()
    if token:
        config["users"][0]["user"] = {"token": token}
    config["contexts"][0]["context"]["namespace"] = namespace
    path = folder / f"kubeconfig-{account or 'admin'}"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


def user(cluster: Cluster, namespace: str, name: str, *roles: str) -> None:
    """Make a ServiceAccount with these ClusterRoles in its namespace."""
    account: dict[str, Any] = {"kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
    bindings: list[dict[str, Any]] = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{name}-{role}", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }
        for role in roles
    ]
    cluster.apply({"apiVersion": "v1", **account}, *bindings)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Provide the plugin, which the first of all workers builds of this checkout."""
    if (given := os.environ.get("KUBECTL_SKILL")) is not None:  # as `make cli` left it
        return Path(given)
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "plugin"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / cli.NAME).exists():
            cli.build(folder)
    return folder / cli.NAME
