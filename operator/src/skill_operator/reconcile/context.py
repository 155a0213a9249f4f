"""The context of a reconcile: the state of the installation, and what all stages share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from skill_operator.api.egress_networks import BlockedNetwork
from skill_operator.generation.author import Author
from skill_operator.isolation.monitor import IsolationVerdict
from skill_operator.isolation.user_namespaces import NodeFeatures
from skill_operator.reconcile.job_queue import JobQueues
from skill_operator.registry.monitor import RegistryState
from skill_operator.settings import Settings


@dataclass(frozen=True)
class ReconcileContext:
    """ReconcileContext reads the state of the installation that concerns every Skill.

    `read_registry` tells what is known of the registry. `is_image_lost` tells whether the registry answers and no
    longer has an image; where its second argument is true, the registry itself is asked. `blocked_networks` are the
    networks that no grant of egress opens. `isolation` is the latest proof that NetworkPolicies are enforced.
    `node_features` tell whether pods get user namespaces. `start_egress_proxy` runs the egress proxy and returns
    whether it answers.
    """

    read_registry: Callable[[], Awaitable[RegistryState]]
    is_image_lost: Callable[[str, bool], Awaitable[bool]]
    blocked_networks: Callable[[], Awaitable[tuple[BlockedNetwork, ...]]]
    isolation: Callable[[], IsolationVerdict]
    node_features: Callable[[], Awaitable[NodeFeatures]]
    start_egress_proxy: Callable[[tuple[BlockedNetwork, ...]], Awaitable[bool]]


@dataclass(frozen=True)
class StageContext:
    """StageContext is what every stage of one reconcile gets beside what was observed of its Skill."""

    settings: Settings
    now: datetime
    author: Author
    job_queues: JobQueues
    is_image_lost: Callable[[str, bool], Awaitable[bool]]
