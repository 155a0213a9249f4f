"""The egress proxy runs while a Skill has a grant of a host. The whole internet is open before it, and nothing of the
cluster: its policy is renewed as the cluster's networks change."""

from __future__ import annotations

import time
from collections.abc import Callable

from skill_operator.api.egress_networks import BlockedNetwork
from skill_operator.k8s.interface import Cluster, Items, Object
from skill_operator.reconcile.writer import apply_changed
from skill_operator.resources.network_policy import proxy_policy
from skill_operator.settings import Settings

SETTLED = 60.0
"""Seconds after the last wish for it before it may be ended: a list of Skills may be older than a Skill."""


class EgressProxy:
    """The chart's Deployment of that name; only its number of pods is the controller's."""

    def __init__(self, cluster: Cluster, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._wanted = float("-inf")

    async def serve(self, blocked_networks: tuple[BlockedNetwork, ...]) -> bool:
        """Have it run, its walls first; whether it answers. Raises ClusterError."""
        self._wanted = self._clock()
        live = await self._live()
        if live is None:
            return False
        await apply_changed(self._cluster, proxy_policy(self._settings, blocked_networks, live))
        if live["spec"].get("replicas", 1) != (wanted := self._settings.egress_proxy.replicas):
            await self._scale(wanted)
        return bool(live.get("status", {}).get("availableReplicas"))

    async def rest(self) -> None:
        """No Skill needs it. Raises ClusterError."""
        if not self._settings.egress_proxy.address or self._clock() - self._wanted < SETTLED:
            return
        live = await self._live()
        if live is not None and live["spec"].get("replicas", 1):
            await self._scale(0)

    async def _live(self) -> Object | None:
        return await self._cluster.get("Deployment", self._settings.namespace, self._settings.egress_proxy.deployment)

    async def _scale(self, replicas: int) -> None:
        """A scale of zero has no replicas, so that `add` it is, which replaces, too."""
        change: Items = [{"op": "add", "path": "/spec/replicas", "value": replicas}]
        where = (self._settings.namespace, self._settings.egress_proxy.deployment)
        await self._cluster.patch("Deployment", *where, change, "scale")
