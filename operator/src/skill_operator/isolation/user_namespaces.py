"""Whether a pod gets user ids of its own, under which root in the pod is nobody on the node: as kubelets tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from skill_operator.k8s.errors import Forbidden
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.settings import IsolationSettings

FRESH_SECONDS = 60.0
NEEDS = "kernel 6.3, containerd 2.0 and runc 1.2 or later have them"


@dataclass(frozen=True)
class UserNamespace:
    """`own`: the pod asks for them. `told` is for the condition Isolated."""

    own: bool
    told: str


@dataclass(frozen=True)
class NodeFeatures:
    """As they were listed; None where nobody may list them."""

    listed: Sequence[Object] | None

    def users(self, isolation: IsolationSettings, runtime_class: str = "") -> UserNamespace:
        """What a pod of this runtime class gets."""
        if isolation.user_namespaces == "Never":
            return UserNamespace(own=False, told="no user namespace (isolation.userNamespaces: Never)")
        known = (self.listed or ()) if isolation.user_namespaces == "Auto" else ()
        if without := lacking(known, runtime_class or isolation.runtime_class_name):
            some = ", ".join(without[:3]) + (" …" if len(without) > 3 else "")
            return UserNamespace(own=False, told=f"no user namespace, since nodes have none: {some}; {NEEDS}")
        return UserNamespace(
            own=True, told="in a user namespace of its own"
        )  # a node that has none says so by an error


def lacking(nodes: Sequence[Object], runtime_class: str) -> list[str]:
    """Names of nodes that have no user namespaces. Of runtime handlers, the default one has no name."""
    names = []
    for node in nodes:
        handlers = node.get("status", {}).get("runtimeHandlers") or []
        mine = [handler for handler in handlers if not runtime_class and not handler.get("name")] or handlers
        if not any((handler.get("features") or {}).get("userNamespaces") for handler in mine):
            names.append(node["metadata"]["name"])
    return names


@dataclass
class NodeFeaturesCache:
    """Lists the nodes, at most once a minute."""

    cluster: Cluster
    isolation: IsolationSettings
    clock: Callable[[], float] = time.monotonic
    _known: NodeFeatures = field(default_factory=lambda: NodeFeatures(None))
    _until: float = float("-inf")

    async def read(self) -> NodeFeatures:
        """Raises ClusterError."""
        if self.isolation.user_namespaces == "Auto" and self.clock() >= self._until:
            try:
                self._known = NodeFeatures(await self.cluster.list("Node"))
            except Forbidden:
                self._known = NodeFeatures(None)
            self._until = self.clock() + FRESH_SECONDS
        return self._known
