"""What a stage says: its condition, what it wants in the cluster, and whether the next stage may go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from skill_operator.generation.ledger import Call
from skill_operator.resources.common import Object


@dataclass(frozen=True)
class Key:
    """A Skill, as the work queue knows it."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Ref:
    """An object by name."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Finding:
    """A condition in the making."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


@dataclass(frozen=True)
class Result:
    """Of one stage in one pass.

    `create` is for what cannot be changed once it exists (Jobs); `apply` for all else. Nothing is written twice:
    what already is as wanted is left alone. `after`: seconds until another look, where no event will tell.
    `stalled`: only a changed spec or a person can help.
    """

    findings: tuple[Finding, ...]
    done: bool = False
    stalled: bool = False
    after: float | None = None
    apply: tuple[Object, ...] = ()
    create: tuple[Object, ...] = ()
    delete: tuple[Ref, ...] = ()
    call: Call | None = None  # of the model: made in the background, after everything above is written


@dataclass
class Work:
    """What the stages of one pass hand on to each other."""

    source: str = ""
    types: str = ""
    revision: str = ""
    image: str = ""
    status: dict[str, object] = field(default_factory=dict)  # of SkillStatus, beside the conditions


def finding(type_: str, status: Literal["True", "False", "Unknown"], reason: str, message: str = "") -> Finding:
    return Finding(type_, status, reason, message)
