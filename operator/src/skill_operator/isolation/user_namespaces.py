"""Decide whether a pod asks for a user namespace, by what the kubelets report of their nodes.

In a user namespace (KEP-127), root of the pod is nobody on the node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from skill_operator.isolation.timed_cache import TimedCache
from skill_operator.k8s.errors import Forbidden
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.settings import IsolationSettings

FRESH_SECONDS = 60.0
REQUIREMENTS = "kernel 6.3, containerd 2.0 and runc 1.2 or later have them"


@dataclass(frozen=True)
class UserNamespace:
    """UserNamespace says whether a pod asks for one, and why, in words for the condition Isolated."""

    enabled: bool
    message: str


@dataclass(frozen=True)
class NodeFeatures:
    """NodeFeatures holds the nodes as they were listed, or None where the operator may not list them."""

    nodes: Sequence[Object] | None

    def user_namespace(self, isolation: IsolationSettings, runtime_class: str = "") -> UserNamespace:
        """Return what a pod of this runtime class gets; an empty class is the installation's default."""
        if isolation.user_namespaces == "Never":
            return UserNamespace(enabled=False, message="no user namespace (isolation.userNamespaces: Never)")
        known = (self.nodes or ()) if isolation.user_namespaces == "Auto" else ()
        if without := nodes_without_user_namespaces(known, runtime_class or isolation.runtime_class_name):
            some = ", ".join(without[:3]) + (" …" if len(without) > 3 else "")
            message = f"no user namespace, since nodes have none: {some}; {REQUIREMENTS}"
            return UserNamespace(enabled=False, message=message)
        # A node that has none reports an error when the pod starts.
        return UserNamespace(enabled=True, message="in a user namespace of its own")


def nodes_without_user_namespaces(nodes: Sequence[Object], runtime_class: str) -> list[str]:
    """Return the names of nodes that have no user namespaces. The default runtime handler has no name."""
    names = []
    for node in nodes:
        handlers = node.get("status", {}).get("runtimeHandlers") or []
        mine = [handler for handler in handlers if not runtime_class and not handler.get("name")] or handlers
        if not any((handler.get("features") or {}).get("userNamespaces") for handler in mine):
            names.append(node["metadata"]["name"])
    return names


class NodeFeaturesCache:
    """NodeFeaturesCache lists the nodes at most once a minute, and only where the settings depend on them."""

    def __init__(
        self, cluster: Cluster, isolation: IsolationSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._isolation = isolation
        self._cache = TimedCache(self._load, FRESH_SECONDS, clock)

    async def read(self) -> NodeFeatures:
        """Return the features of the nodes. Raises ClusterError."""
        return await self._cache.get() if self._isolation.user_namespaces == "Auto" else NodeFeatures(None)

    async def _load(self) -> NodeFeatures:
        try:
            return NodeFeatures(await self._cluster.list("Node"))
        except Forbidden:
            return NodeFeatures(None)
