"""Run a cluster in namespaces of this machine, without Docker or systemd; `down` leaves nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster import binaries, cgroups, coredns, engine, network, node_images, packages, pki, records
from hack.cluster.api import Api
from hack.cluster.components import Components
from hack.cluster.identity import NODE_NAME, OUTSIDE, Identity
from hack.cluster.node import Node
from hack.cluster.shell import ClusterError, say, step, succeeds, wait

_COMPLETE = "complete"
"""A file of the state: `up` came to its end."""


@dataclass(frozen=True)
class Bare:
    """Bare is one cluster in namespaces, known by its name."""

    name: str

    def up(self) -> None:
        """Start it; leave a healthy one alone, repair what can be repaired, and start the rest anew."""
        if os.geteuid():
            raise ClusterError("without a Docker engine the cluster needs root")
        with records.exclusively(self.name):
            if self.status()["healthy"]:
                say(f"{self.name} is up")
                return
            packages.ensure(packages.NODE)
            binaries.ensure((*binaries.NODE, *node_images.FOR_NODE, "helm"))
            with step(f"{self.name} is up"):
                if self._repair():
                    return
                cluster = records.claim(self.name)
                self._end(cluster)
                self._start(cluster)
                (cluster.state / _COMPLETE).touch()

    def down(self) -> None:
        """End it, or what is left of it."""
        with records.exclusively(self.name):
            if cluster := records.find(self.name):
                self._end(cluster)
                network.forget(cluster)
                records.release(cluster)

    def status(self) -> dict[str, Any]:
        """Return its state."""
        cluster = records.find(self.name)
        if not cluster:
            return {"name": self.name, "engine": "namespaces", "healthy": False, "state": "absent"}
        node, api = Node(cluster), Api(cluster.api, pki.Pki(cluster.state / "pki"))
        init = node.first()
        parts = Components(cluster, node, api.pki).commands()
        running = {name: bool(init) and node.running(name) for name in parts}
        healthy = (
            all(running.values())
            and api.ready()
            and api.node_ready(NODE_NAME)
            and api.available("kube-system", "coredns")
        )
        return {
            "name": self.name,
            "engine": "namespaces",
            "healthy": healthy,
            "state": str(cluster.state),
            "slot": cluster.slot,
            "init": init,
            "api": cluster.api,
            "host": str(cluster.host),
            "node": str(cluster.node),
            "pods": str(cluster.pods),
            "services": str(cluster.services),
            "internet": list(OUTSIDE),
            "components": {name: "running" if alive else "dead" for name, alive in running.items()},
        }

    def load(self, archives: Sequence[Path]) -> None:
        """Import archives into the node's containerd."""
        for archive in archives:
            self._node().run(binaries.path("ctr"), "-n", "k8s.io", "images", "import", archive.resolve())

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs a command on the node."""
        return self._node().enter(*command)

    def start(self, component: str) -> None:
        """Start a component that was killed."""
        self._components().start(component)

    def kill(self, component: str) -> None:
        """Kill a component, so that a test sees whether the rest survives."""
        self._node().kill(component)

    def trust(self, *issuers: dict[str, Any]) -> None:
        """Have the API server trust the tokens of these issuers, and of no others beside its own."""
        self._components().trust(*issuers)

    def _start(self, cluster: Identity) -> None:
        node = Node(cluster)
        cgroups.create(cluster.cgroup)
        with ThreadPoolExecutor(2) as pool:
            keys = pool.submit(pki.create, cluster)
            network.connect(cluster, node, node.begin())
            network.internet(node.run, route_all=True)
            parts = Components(cluster, node, keys.result())
            parts.configure()
            parts.start_runtime()
            nodes = pool.submit(self._load_first, node)
            charts = pool.submit(self._load_after, nodes)
            api = Api(cluster.api, parts.pki)
            self._await("the API server", api.ready)
            parts.start_rest()
            self._offer(parts.pki)
            nodes.result()  # a pod whose image is not there yet would be tried again ever later
            engine.kubectl(self.name, "apply", "--server-side", "-f", "-", stdin=coredns.manifests(cluster))
            self._await("the node", lambda: api.node_ready(NODE_NAME))
            parts.start("netpol")
            self._await("cluster DNS", lambda: api.available("kube-system", "coredns"))
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._await("the default service account", lambda: bool(api.get(account)))
            with step("the last image"):
                charts.result()

    def _load_first(self, node: Node) -> None:
        wait("containerd", 30, lambda: succeeds(*node.enter(binaries.path("ctr"), "version")))
        self.load(node_images.of_node())

    def _load_after(self, others: Future[None]) -> None:
        others.result()
        self.load(node_images.of_chart())

    def _await(self, what: str, ready: Callable[[], bool]) -> None:
        state = self._identity().state
        with step(what):
            wait(f"{what} (see {state}/logs)", 90, ready)

    def _offer(self, keys: pki.Pki) -> None:
        engine.offer_tools(self.name)
        target = engine.kubeconfig(self.name)
        draft = target.with_suffix(".draft")
        shutil.copy(keys.kubeconfig("admin"), draft)
        draft.rename(target)

    def _end(self, cluster: Identity) -> None:
        engine.withdraw(self.name)
        Node(cluster).end()
        network.disconnect(cluster)
        cgroups.remove(cluster.cgroup)
        records.empty(cluster)

    def _repair(self) -> bool:
        """Start what died of a cluster that was complete. One that is just busy is not taken away from its users."""
        cluster = records.find(self.name)
        if not cluster or not (cluster.state / _COMPLETE).exists() or not Node(cluster).first():
            return False
        for name, state in self.status()["components"].items():
            if state != "running":
                say(f"{name} died and is started again (see {cluster.state}/logs)")
                self.start(name)
        try:
            wait("health", 60, lambda: bool(self.status()["healthy"]))
        except ClusterError:
            say("it is not healthy again: starting it anew")
            return False
        return True

    def _identity(self) -> Identity:
        cluster = records.find(self.name)
        if not cluster:
            raise ClusterError(f"cluster {self.name} is not running")
        return cluster

    def _node(self) -> Node:
        return Node(self._identity())

    def _components(self) -> Components:
        cluster = self._identity()
        return Components(cluster, Node(cluster), pki.Pki(cluster.state / "pki"))
