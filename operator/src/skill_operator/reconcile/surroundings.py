"""What a pass asks of the world beside what belongs to its Skill."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from skill_operator.api.egress import Shut
from skill_operator.cage.proof import Verdict
from skill_operator.cage.users import Nodes
from skill_operator.registry import Base


@dataclass(frozen=True)
class Surroundings:
    """`base` is read from the registry; `stays_shut` are the networks that no grant of egress opens; `cage` is the
    latest proof that policies are enforced; `nodes` tell whether pods get user ids of their own; `proxy` has the egress
    proxy run, and says whether it does."""

    base: Callable[[], Awaitable[Base]]
    stays_shut: Callable[[], Awaitable[tuple[Shut, ...]]]
    cage: Callable[[], Verdict]
    nodes: Callable[[], Awaitable[Nodes]]
    proxy: Callable[[tuple[Shut, ...]], Awaitable[bool]]
