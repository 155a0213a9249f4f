"""Give tests and commands access to a running cluster."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster import engine
from hack.cluster.shell import run


@dataclass(frozen=True)
class Cluster:
    """Cluster is a running cluster, with ways to use it."""

    engine: engine.Engine
    status: dict[str, Any]

    @property
    def kubeconfig(self) -> Path:
        """Return the path of its kubeconfig."""
        return engine.kubeconfig(self.engine.name)

    @property
    def tools(self) -> Path:
        """Return the folder of kubectl and helm."""
        return engine.tools(self.engine.name)

    @property
    def host(self) -> str:
        """Return the address under which pods reach what listens on this machine."""
        return str(self.status["host"])

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return what it printed. Raises ClusterError where it fails and `check` is set."""
        return engine.kubectl(self.engine.name, *arguments, stdin=stdin, check=check)

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of kubectl, for a process that runs meanwhile."""
        return [str(self.tools / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects, server-side."""
        everything = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(everything))

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object, or a list of them."""
        answer: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return answer

    def load(self, *archives: Path) -> None:
        """Bring OCI archives to the node."""
        self.engine.load(archives)

    def node(self, *command: str) -> str:
        """Run a command on the node."""
        return run(*self.engine.enter(*command))

    def place(self, program: Path) -> str:
        """Copy an executable to the node and return its path there."""
        target = f"/var/lib/{program.name}-{uuid.uuid4().hex[:8]}"
        receive = self.engine.enter("sh", "-c", 'cat > "$0" && chmod 755 "$0"', target)
        with program.open("rb") as content:
            subprocess.run(receive, stdin=content, check=True)
        return target

    @contextmanager
    def internet(self, *command: str) -> Iterator[None]:
        """Run a command where the addresses of `identity.OUTSIDE` live, until the caller is done or dead."""
        until_the_end = '"$@" & child=$!; cat > /dev/null; kill -KILL "$child"'
        there = engine.on_internet(self.engine, "sh", "-c", until_the_end, "sh", *command)
        with subprocess.Popen(there, stdin=subprocess.PIPE):
            yield

    def caller(self, namespace: str, name: str = "caller", everywhere: bool = False) -> str:
        """Return a token of a ServiceAccount that may call the Skills of its namespace, or of all.

        docs/how-to/call-a-skill.md makes one in the same way.
        """
        account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "skill-caller"}
        binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "roleRef": role, "subjects": [account]}
        if everywhere:
            binding |= {"kind": "ClusterRoleBinding", "metadata": {"name": f"{namespace}-{name}"}}
        else:
            binding |= {"kind": "RoleBinding", "metadata": {"name": name, "namespace": namespace}}
        made = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        self.apply(made, binding)
        return self.token(namespace, name)

    def token(self, namespace: str, name: str, audience: str = "skill-gateway") -> str:
        """Return a token of a ServiceAccount that is valid for a day."""
        wanted = (f"--audience={audience}", "--duration=24h")
        return self.kubectl("-n", namespace, "create", "token", name, *wanted).strip()

    @contextmanager
    def namespace(self, prefix: str = "test", labels: dict[str, str] | None = None) -> Iterator[str]:
        """Make a namespace with a new name, and delete it afterwards."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}})
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")
