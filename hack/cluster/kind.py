"""Run a cluster by kind, where a Docker engine answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

from hack.cluster import binaries, engine, network, node_images, records
from hack.cluster.identity import CHECKOUT, OUTSIDE
from hack.cluster.shell import ClusterError, run, say, step, succeeds

CONFIG = CHECKOUT / "kind-config.yaml"


def usable() -> bool:
    """Return whether this machine has kind and a Docker engine for it."""
    return bool(which("kind")) and bool(which("docker")) and succeeds("docker", "info")


@dataclass(frozen=True)
class Kind:
    """Kind is one cluster of kind, known by its name."""

    name: str

    def up(self) -> None:
        """Start it; leave a healthy one alone, and start a broken one anew."""
        with records.exclusively(self.name):
            if self.status()["healthy"]:
                say(f"{self.name} is up")
                return
            binaries.ensure((*node_images.FOR_CHART, "helm", *([] if which("kubectl") else ["kube"])))
            self._clear()
            with step(f"{self.name} is up"):
                self._start()

    def down(self) -> None:
        """Delete it."""
        with records.exclusively(self.name):
            self._clear()

    def status(self) -> dict[str, Any]:
        """Return its state."""
        answer = {"name": self.name, "engine": "kind", "healthy": False, "state": "absent"}
        if self.name not in run("kind", "get", "clusters").split():
            return answer
        ready = self._has_internet() and self._all_ready()
        addresses = json.loads(run("docker", "network", "inspect", "kind", "--format", "{{json .IPAM.Config}}"))
        gateways = [each["Gateway"] for each in addresses if "." in each.get("Gateway", "")]
        return {
            **answer,
            "healthy": ready,
            "state": self._node,
            "host": next(iter(gateways), ""),
            "internet": list(OUTSIDE),
        }

    def load(self, archives: Sequence[Path]) -> None:
        """Bring archives to the node's containerd."""
        for archive in archives:
            run("kind", "load", "image-archive", archive.resolve(), "--name", self.name)

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs a command on the node."""
        return ["docker", "exec", "--interactive", self._node, *command]

    @property
    def _node(self) -> str:
        return f"{self.name}-control-plane"

    def _start(self) -> None:
        config = ("--config", str(CONFIG), "--kubeconfig", str(engine.kubeconfig(self.name)))
        engine.offer_tools(self.name, kubectl_of_machine=which("kubectl"))
        create = ["kind", "create", "cluster", "--name", self.name, *config, "--wait", "180s"]
        if subprocess.run(create, check=False, stdout=subprocess.DEVNULL).returncode:
            raise ClusterError("kind could not create the cluster, see above")
        network.internet(self._on_node, route_all=False)
        self.load(node_images.of_chart())
        engine.kubectl(self.name, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")

    def _clear(self) -> None:
        if self.name in run("kind", "get", "clusters").split():
            run("kind", "delete", "cluster", "--name", self.name, "--kubeconfig", engine.kubeconfig(self.name))
        engine.withdraw(self.name)

    def _on_node(self, *command: str) -> str:
        return run(*self.enter(*command))

    def _has_internet(self) -> bool:
        return succeeds(*self.enter("ip", "-n", network.INTERNET, "address"))

    def _all_ready(self) -> bool:
        kubectl = (
            engine.tools(self.name) / "kubectl",
            f"--kubeconfig={engine.kubeconfig(self.name)}",
            "wait",
            "--timeout=0s",
        )
        node = (*kubectl, "--for=condition=Ready", "nodes", "--all")
        dns = (*kubectl, "--for=condition=Available", "-n", "kube-system", "deployment/coredns")
        return succeeds(*node) and succeeds(*dns)
