"""What a stage says: its condition, what it wants in the cluster, and whether the next stage may go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from skill_operator.generation.request import CompletionRequest
from skill_operator.k8s.interface import Object


@dataclass(frozen=True)
class Ref:
    """An object by name."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Patch:
    """A JSON Patch of one object. Where one of its tests fails, somebody else was quicker, and nothing is done."""

    kind: str
    namespace: str
    name: str
    operations: tuple[Object, ...]


@dataclass(frozen=True)
class ConditionUpdate:
    """A condition in the making."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


@dataclass(frozen=True)
class EventNote:
    """An event that no condition tells."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Result:
    """Of one stage in one pass.

    `record` is written before all else, in this order, and only over what was seen: whoever wrote it meanwhile ends the
    pass. `create` is for what cannot be changed once it exists (Jobs); `apply` for all else. Nothing is written twice:
    what already is as wanted is left alone. `after`: seconds until another look, where no event will tell.
    `stalled`: only a changed spec or a person can help.
    """

    findings: tuple[ConditionUpdate, ...]
    done: bool = False
    stalled: bool = False
    after: float | None = None
    record: tuple[Object, ...] = ()
    apply: tuple[Object, ...] = ()
    create: tuple[Object, ...] = ()
    delete: tuple[Ref, ...] = ()
    patch: tuple[Patch, ...] = ()
    call: CompletionRequest | None = None  # of a model: asked in the background, once all of `record` is written
    notes: tuple[EventNote, ...] = ()


@dataclass
class Progress:
    """What the stages of one pass hand on to each other."""

    source: str = ""
    types: str = ""
    revision: str = ""
    image: str = ""
    status: dict[str, object] = field(default_factory=dict)  # of SkillStatus, beside the conditions
