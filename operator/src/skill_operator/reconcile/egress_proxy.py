"""The egress proxy, which runs while a Skill has a grant of a host.

The whole internet is open before it, and nothing of the cluster: its NetworkPolicy follows the cluster's networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from skill_operator.api.egress_networks import BlockedNetwork
from skill_operator.k8s.interface import Cluster, Items, Object
from skill_operator.reconcile.writer import apply_changed
from skill_operator.resources.network_policy import proxy_policy
from skill_operator.settings import Settings

# A list of Skills may be older than a Skill, so the proxy stops only so long after it was last needed.
IDLE_SECONDS = 60.0


class EgressProxy:
    """EgressProxy scales the chart's Deployment of that name; all else of it is the chart's."""

    def __init__(self, cluster: Cluster, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._needed_at = float("-inf")

    async def start(self, blocked_networks: tuple[BlockedNetwork, ...]) -> bool:
        """Have the proxy run, its NetworkPolicy first. Return whether it answers. Raises ClusterError."""
        self._needed_at = self._clock()
        live = await self._get()
        if live is None:
            return False
        await apply_changed(self._cluster, proxy_policy(self._settings, blocked_networks, live))
        if live["spec"].get("replicas", 1) != (replicas := self._settings.egress_proxy.replicas):
            await self._scale(replicas)
        return bool(live.get("status", {}).get("availableReplicas"))

    async def stop(self) -> None:
        """Scale the proxy to zero, unless a Skill needed it a moment ago. Raises ClusterError."""
        if not self._settings.egress_proxy.address or self._clock() - self._needed_at < IDLE_SECONDS:
            return
        live = await self._get()
        if live is not None and live["spec"].get("replicas", 1):
            await self._scale(0)

    async def _get(self) -> Object | None:
        return await self._cluster.get("Deployment", self._settings.namespace, self._settings.egress_proxy.deployment)

    async def _scale(self, replicas: int) -> None:
        """Write the replicas with `add`, which also replaces: a scale of zero has no such field."""
        operations: Items = [{"op": "add", "path": "/spec/replicas", "value": replicas}]
        namespace, name = self._settings.namespace, self._settings.egress_proxy.deployment
        await self._cluster.patch("Deployment", namespace, name, operations, "scale")
