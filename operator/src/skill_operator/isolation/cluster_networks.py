"""The cluster's own networks, which no grant opens: learned from the API server, completed by the chart's values."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from skill_operator.api.egress_networks import BlockedNetwork, block
from skill_operator.k8s.errors import Forbidden, NotFound
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.settings import Settings

FRESH_SECONDS = 60.0
HOW = "set isolation.clusterCIDRs in the chart's values to the networks of pods, services and nodes"


class ClusterNetworksUnknown(Exception):
    """Nobody can say what must stay shut, so nothing is opened; the message says what to do."""


@dataclass
class ClusterNetworks:
    """Read when a Skill asks for egress, and at most once a minute: a Node's list can be long."""

    cluster: Cluster
    settings: Settings
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Callable[[], float] = time.monotonic
    _known: tuple[BlockedNetwork, ...] = ()
    _until: float = float("-inf")

    async def read(self) -> tuple[BlockedNetwork, ...]:
        """Raises RangesUnknown, ClusterError."""
        if self.clock() >= self._until:
            self._known = await self._read()
            self._until = self.clock() + FRESH_SECONDS
        return self._known

    async def _read(self) -> tuple[BlockedNetwork, ...]:
        given = block("the cluster's own (isolation.clusterCIDRs)", *map(str, self.settings.isolation.cluster_cidrs))
        given += block("the registry (registry.cidrs)", *self.settings.registry_cidrs)
        try:
            found = await self._detected()
        except (Forbidden, NotFound) as error:
            if not self.settings.isolation.cluster_cidrs:
                raise ClusterNetworksUnknown(
                    f"the cluster's own networks are not known: {error.message}; {HOW}"
                ) from error
            found = ()
        known = (*given, *found)
        for name, what in (("POD_IP", "the operator's own pod"), ("KUBERNETES_SERVICE_HOST", "the API server")):
            address = self.environment.get(name, "")
            if address and not _covered(address, known):
                raise ClusterNetworksUnknown(
                    f"{what} has the address {address}, which is in no network known to be shut: {HOW}"
                )
        return known

    async def _detected(self) -> tuple[BlockedNetwork, ...]:
        found: list[BlockedNetwork] = []
        for node in await self.cluster.list("Node"):
            found += _of_node(node)
        for services in await self.cluster.list("ServiceCIDR"):
            found += block("the cluster's services", *services["spec"]["cidrs"])
        api = await self.cluster.get("EndpointSlice", "default", "kubernetes")
        for endpoint in (api or {}).get("endpoints") or ():
            found += block("the API server", *endpoint["addresses"])
        return tuple(found)


def _of_node(node: Object) -> Iterator[BlockedNetwork]:
    name = node["metadata"]["name"]
    yield from block(f"the pods of node {name}", *node.get("spec", {}).get("podCIDRs", ()))
    for address in node.get("status", {}).get("addresses", ()):
        if address["type"] in {"InternalIP", "ExternalIP"}:
            yield from block(f"the node {name}", address["address"])


def _covered(address: str, known: tuple[BlockedNetwork, ...]) -> bool:
    at = ip_address(address)
    return any(at in one.network for one in known)
