"""What a pass asks of the world beside what belongs to its Skill."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from skill_operator.api.egress_networks import BlockedNetwork
from skill_operator.isolation.monitor import IsolationVerdict
from skill_operator.isolation.user_namespaces import NodeFeatures
from skill_operator.registry.client import BaseImage


@dataclass(frozen=True)
class ReconcileContext:
    """`base` is read from the registry; `blocked_networks` are the networks that no grant of egress opens; `cage` is
    the latest proof that policies are enforced; `nodes` tell whether pods get user ids of their own; `proxy` has the
    egress proxy run, and says whether it does."""

    base: Callable[[], Awaitable[BaseImage]]
    blocked_networks: Callable[[], Awaitable[tuple[BlockedNetwork, ...]]]
    cage: Callable[[], IsolationVerdict]
    nodes: Callable[[], Awaitable[NodeFeatures]]
    proxy: Callable[[tuple[BlockedNetwork, ...]], Awaitable[bool]]
