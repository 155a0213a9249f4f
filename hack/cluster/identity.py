"""Name a cluster and everything that belongs to it.

A cluster has a name (from CLUSTER, or from the path of the checkout) and a slot (a small number, taken when it comes
up). Names and addresses derive from the two, so clusters stand side by side and none ends another's.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hack.cluster.shell import ClusterError

CHECKOUT = Path(__file__).resolve().parents[2]
RELEASE = "skill-operator"
"""Name and namespace of the chart's release."""
STATES = Path(os.environ.get("SKILL_CLUSTERS", "/tmp/skill-clusters"))
SLOTS = 16
NODE_NAME = "node1"
OUTSIDE = ("203.0.113.10", "198.51.100.10")
"""Addresses of documentation (RFC 5737): hosts that play the internet, in a namespace with no way out."""


def cluster_name() -> str:
    """Return the name of this checkout's cluster, or the one that CLUSTER gives."""
    given = os.environ.get("CLUSTER")
    if not given:
        return _default_name()
    name = given if given.startswith("skill-") else f"skill-{given}"
    if not re.fullmatch(r"[a-z0-9-]{1,25}[a-z0-9]", name):
        raise ClusterError(f"CLUSTER={given!r}: use at most 20 of a-z, 0-9 and -")
    return name


def user_folder(name: str) -> Path:
    """Return the folder of a cluster's kubeconfig and tools: .cluster, or a folder in it where CLUSTER is set."""
    folder = CHECKOUT / ".cluster"
    return folder if name == _default_name() else folder / name


def _default_name() -> str:
    return f"skill-{hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Identity:
    """Identity has one cluster's names and addresses."""

    name: str
    slot: int

    @property
    def state(self) -> Path:
        """Everything the cluster writes."""
        return STATES / self.name

    @property
    def cgroup(self) -> str:
        """Return its control group, which is the same in every hierarchy."""
        return self.name

    @property
    def veth(self) -> str:
        """Return the name of the host's end of the wire to the node."""
        return f"skill{self.slot}"

    @property
    def wire(self) -> IPv4Network:
        """Return the network of host and node."""
        return IPv4Network(f"10.250.{self.slot}.0/24")

    @property
    def host(self) -> IPv4Address:
        """Return the host's address as the node and its pods see it."""
        return self.wire[1]

    @property
    def node(self) -> IPv4Address:
        """Return the node's address, that of API server, kubelet and NodePorts."""
        return self.wire[2]

    @property
    def pods(self) -> IPv4Network:
        """Return the network of the pods."""
        return IPv4Network(f"10.244.{self.slot}.0/24")

    @property
    def services(self) -> IPv4Network:
        """Return the network of the services."""
        return IPv4Network(f"10.96.{self.slot * 16}.0/20")

    @property
    def api_service(self) -> IPv4Address:
        """Return the API server's address as pods see it."""
        return self.services[1]

    @property
    def dns_service(self) -> IPv4Address:
        """Return the address of the cluster's name server."""
        return self.services[10]

    @property
    def api(self) -> str:
        """Return the URL of the API server."""
        return f"https://{self.node}:6443"
