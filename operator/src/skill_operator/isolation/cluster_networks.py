"""Find the cluster's own networks, which no grant opens: by the API server, completed by the chart's values."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address

from skill_operator.api.egress_networks import BlockedNetwork, block
from skill_operator.isolation.timed_cache import TimedCache
from skill_operator.k8s.errors import Forbidden, NotFound
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.settings import Settings

FRESH_SECONDS = 60.0
REMEDY = "set isolation.clusterCIDRs in the chart's values to the networks of pods, services and nodes"


class ClusterNetworksUnknown(Exception):
    """ClusterNetworksUnknown says why nothing is opened: the networks to block are not known. It says what to do."""


class ClusterNetworks:
    """ClusterNetworks reads them when a Skill asks for egress, and at most once a minute: a Node's list can be long."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._environment = os.environ if environment is None else environment
        self._cache = TimedCache(self._load, FRESH_SECONDS, clock)

    async def read(self) -> tuple[BlockedNetwork, ...]:
        """Return the networks that no grant opens. Raises ClusterNetworksUnknown, ClusterError."""
        return await self._cache.get()

    async def _load(self) -> tuple[BlockedNetwork, ...]:
        cidrs = self._settings.isolation.cluster_cidrs
        configured = block("the cluster's own (isolation.clusterCIDRs)", *map(str, cidrs))
        configured += block("the registry (registry.cidrs)", *self._settings.registry_cidrs)
        try:
            detected = await self._detect()
        except (Forbidden, NotFound) as error:
            if not cidrs:
                raise ClusterNetworksUnknown(
                    f"the operator cannot find the cluster's own networks: {error.message}; {REMEDY}"
                ) from error
            detected = ()
        known = (*configured, *detected)
        for name, owner in (("POD_IP", "the operator's own pod"), ("KUBERNETES_SERVICE_HOST", "the API server")):
            address = self._environment.get(name, "")
            if address and not _contain(known, address):
                raise ClusterNetworksUnknown(
                    f"{owner} has the address {address}, which is in none of the blocked networks: {REMEDY}"
                )
        return known

    async def _detect(self) -> tuple[BlockedNetwork, ...]:
        found: list[BlockedNetwork] = []
        for node in await self._cluster.list("Node"):
            found += _node_networks(node)
        for services in await self._cluster.list("ServiceCIDR"):
            found += block("the cluster's services", *services["spec"]["cidrs"])
        api = await self._cluster.get("EndpointSlice", "default", "kubernetes")
        for endpoint in (api or {}).get("endpoints") or ():
            found += block("the API server", *endpoint["addresses"])
        return tuple(found)


def _node_networks(node: Object) -> Iterator[BlockedNetwork]:
    name = node["metadata"]["name"]
    yield from block(f"the pods of node {name}", *node.get("spec", {}).get("podCIDRs", ()))
    for address in node.get("status", {}).get("addresses", ()):
        if address["type"] in {"InternalIP", "ExternalIP"}:
            yield from block(f"the node {name}", address["address"])


def _contain(networks: tuple[BlockedNetwork, ...], address: str) -> bool:
    parsed = ip_address(address)
    return any(parsed in blocked.network for blocked in networks)
