"""The result of a stage: its conditions, what it wants in the cluster, and whether the next stage may go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Self, TypedDict, Unpack

from skill_operator.api.v1alpha1 import (
    ApprovalRequest,
    ArchiveStatus,
    EarlierRequest,
    Evidence,
    GenerationStatus,
    Provenance,
    Rejection,
    Review,
    Revision,
    ServedContract,
    Trial,
)
from skill_operator.generation.ledger import SecondOpinion
from skill_operator.generation.request import CompletionRequest
from skill_operator.k8s.interface import Object

Outcome = Literal["done", "waiting", "stalled"]


@dataclass(frozen=True)
class Ref:
    """A reference to an object by its kind and name."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Patch:
    """A JSON Patch (RFC 6902) of one object. If one of its tests fails, somebody else was quicker: nothing is done."""

    kind: str
    namespace: str
    name: str
    operations: tuple[Object, ...]


@dataclass(frozen=True)
class ConditionUpdate:
    """A condition that a stage wants in the status, without its times."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


@dataclass(frozen=True)
class EventNote:
    """An event for something that no condition shows."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Writes(TypedDict, total=False):
    """Writes are the objects that a result wants written, in the writer's order; see the fields of Result."""

    record: tuple[Object, ...]
    call: CompletionRequest | None
    patch: tuple[Patch, ...]
    delete: tuple[Ref, ...]
    evict: tuple[Object, ...]
    apply: tuple[Object, ...]
    create: tuple[Object, ...]
    events: tuple[EventNote, ...]


@dataclass(frozen=True)
class Result:
    """The result of one stage in one reconcile. Stages make it with `done`, `waiting`, `failed` or `stalled`.

    `after` is the number of seconds until the next reconcile, where no event will announce a change. `record` is
    written before all else, in this order, and only over what was observed: if somebody else wrote it meanwhile, the
    reconcile ends. `call` is a request to a model; it starts in the background once all of `record` is written.
    `evict` are pods that never started; others take their place. `create` is for what cannot change once it exists
    (Jobs), `apply` for all else. Nothing is written twice: what already is as wanted stays untouched.
    """

    conditions: tuple[ConditionUpdate, ...]
    outcome: Outcome
    after: float | None = None
    record: tuple[Object, ...] = ()
    call: CompletionRequest | None = None
    patch: tuple[Patch, ...] = ()
    delete: tuple[Ref, ...] = ()
    evict: tuple[Object, ...] = ()
    apply: tuple[Object, ...] = ()
    create: tuple[Object, ...] = ()
    events: tuple[EventNote, ...] = ()

    @classmethod
    def done(cls, *conditions: ConditionUpdate, after: float | None = None, **writes: Unpack[Writes]) -> Self:
        """Return a result that lets the next stage go on."""
        return cls(conditions, "done", after, **writes)

    @classmethod
    def waiting(cls, *conditions: ConditionUpdate, after: float | None = None, **writes: Unpack[Writes]) -> Self:
        """Return a result that waits: for an event, or for `after` seconds."""
        return cls(conditions, "waiting", after, **writes)

    @classmethod
    def failed(cls, *conditions: ConditionUpdate, retry_after: float | None, **writes: Unpack[Writes]) -> Self:
        """Return a result that waits for another attempt in `retry_after` seconds; None leaves that to an event."""
        return cls(conditions, "waiting", retry_after, **writes)

    @classmethod
    def stalled(cls, *conditions: ConditionUpdate, after: float | None = None, **writes: Unpack[Writes]) -> Self:
        """Return a result that only a changed spec or a person can get past (Stalled of kstatus)."""
        return cls(conditions, "stalled", after, **writes)

    @property
    def is_done(self) -> bool:
        """Tell whether the next stage may go on."""
        return self.outcome == "done"

    @property
    def is_stalled(self) -> bool:
        """Tell whether only a changed spec or a person can help."""
        return self.outcome == "stalled"


class StatusPatch(TypedDict, total=False):
    """The fields of SkillStatus, beside the conditions, that a reconcile changes. A field that is absent stays."""

    url: str
    image: str
    revision: str
    revision_digest: str
    generation: GenerationStatus | None
    provenance: Provenance
    evidence: Evidence
    verdict: str
    approved: dict[str, str]
    review: Review | None
    rejection: Rejection | None
    rejected: list[str]
    approval_request: ApprovalRequest | None
    earlier_requests: list[EarlierRequest]
    history: list[Revision]
    trial: Trial | None
    serving: ServedContract | None
    last_active_time: datetime
    archive: ArchiveStatus | None


@dataclass
class Progress:
    """Progress is handed on from stage to stage within one reconcile. `revision` is its whole digest.

    `deadline`: when the generation of the source ends; None for pinned code and for code that has passed.
    `scaled_to_zero` says that this very reconcile puts the Skill to sleep.
    `provenance` is of the source; None until there is one. `verified` is the condition of a check that passed, with
    what the second opinion adds to it, and `opinion` that opinion. `review` says who approved it, where a person was
    asked.
    """

    source: str = ""
    provenance: Provenance | None = None
    deadline: datetime | None = None
    types: str = ""
    verified: ConditionUpdate | None = None
    opinion: SecondOpinion | None = None
    review: Review | None = None
    revision: str = ""
    image: str = ""
    scaled_to_zero: bool = False
    status: StatusPatch = field(default_factory=StatusPatch)
