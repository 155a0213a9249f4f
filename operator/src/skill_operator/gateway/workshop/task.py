"""The task of a request for a Skill. It is the object itself: its state is read from the conditions and kept nowhere.

So it survives every restart, and any replica of the gateway answers for it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from skill_operator import naming
from skill_operator.api.conditions import (
    BUILT,
    DEPLOYED,
    GENERATED,
    READY,
    STALLED,
    VERIFIED,
    get_condition,
    is_true,
)
from skill_operator.api.v1alpha1 import Condition, ObjectMeta, Skill
from skill_operator.untrusted.text import printable

Status = Literal["working", "input_required", "completed", "cancelled"]
MAX_ID_CHARACTERS: Final = 64
MAX_MESSAGE_CHARACTERS: Final = 1024
_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([1-9][0-9]{0,8})")
_STAGES: Final = (GENERATED, VERIFIED, BUILT, DEPLOYED)
# What its maker can help: the request itself is at fault, or too vague.
ANSWERABLE: Final = frozenset(
    {
        "AttemptsExhausted",
        "DeadlineExceeded",
        "LoopDetected",
        "NoCode",
        "NoProgress",
        "PolicyRefused",
        "ReplyCutOff",
        "SpecInvalid",
        "SuspectSpec",
        "TaskRefused",
    }
)
STARTING: Final = "the operator has not looked at it yet"


class TaskId(NamedTuple):
    """TaskId names a Skill's object, and the generation of it that a request made: `<uid>.<generation>`."""

    uid: str
    generation: int

    def __str__(self) -> str:
        return f"{self.uid}.{self.generation}"

    @classmethod
    def parse(cls, text: object) -> TaskId | None:
        """Return the id that a text is, or None."""
        match = _ID.fullmatch(text) if isinstance(text, str) and len(text) <= MAX_ID_CHARACTERS else None
        return cls(match[1], int(match[2])) if match else None


class InputRequest(NamedTuple):
    """InputRequest is what a task waits for. `key` differs for each question; only an `agent` answers here."""

    key: str
    who: Literal["agent", "person"]
    text: str


class Task(NamedTuple):
    """Task is how a request stands. `reason` and `message` are those of the condition that holds it up."""

    id: TaskId
    status: Status
    reason: str
    message: str
    input_request: InputRequest | None
    created_at: datetime | None
    updated_at: datetime | None

    @property
    def words(self) -> str:
        """Return the state in one line."""
        return f"{self.reason}: {self.message}" if self.message else self.reason


def task_of(skill: Skill, id_: TaskId | None = None) -> Task:
    """Return the task that a Skill is; `id_` is the one that was given out, which stays while answers change the spec.

    A task that was completed remains so: what becomes of a tool later is told by its state.
    """
    meta, conditions = skill.metadata, skill.status.conditions
    id_ = id_ or TaskId(meta.uid, meta.generation)
    times = (meta.creation_timestamp, max((c.last_transition_time for c in conditions), default=None))
    ready = get_condition(conditions, READY)
    deployed = bool(skill.status.history) and id_.generation <= 1
    if deployed or is_true(conditions, READY, max(id_.generation, meta.generation)):
        return Task(id_, "completed", "Ready", "it can be called", _weak_examples(skill), *times)
    if skill.spec.suspend:
        return Task(id_, "cancelled", "Suspended", "it was cancelled, or spec.suspend was set", None, *times)
    if ready is None or ready.observed_generation < meta.generation:
        return Task(id_, "working", "Pending", STARTING, None, *times)
    cause = _cause(skill) or ready
    message = printable(cause.message, MAX_MESSAGE_CHARACTERS)
    if cause.reason == "AwaitingApproval":
        text = f"A person must approve it; an agent cannot. {_approval(meta)}"
        return Task(id_, "input_required", cause.reason, text, _ask(skill, cause, "person", text), *times)
    if get_condition(conditions, STALLED) is not None:
        who: Literal["agent", "person"] = "agent" if cause.reason in ANSWERABLE else "person"
        return Task(id_, "input_required", cause.reason, message, _ask(skill, cause, who, message), *times)
    return Task(id_, "working", cause.reason, message, None, *times)


def describe(task: Task, meta: ObjectMeta) -> dict[str, Any]:
    """Return what callers are told of a task."""
    fields: dict[str, Any] = {
        "taskId": str(task.id),
        "status": task.status,
        "namespace": meta.namespace,
        "name": meta.name,
        "tool": naming.tool(meta.namespace, meta.name),
        "reason": task.reason,
        "message": task.message,
    }
    if task.input_request is not None:
        fields["question"] = {"for": task.input_request.who, "text": task.input_request.text}
    return fields


def _cause(skill: Skill) -> Condition | None:
    """Return the condition of the first stage that is not done."""
    found = (get_condition(skill.status.conditions, stage) for stage in _STAGES)
    return next((c for c in found if c is not None and c.status != "True" and c.reason != "Pending"), None)


def _weak_examples(skill: Skill) -> InputRequest | None:
    """Return what the examples leave open, which keeps nobody from calling the skill."""
    verified = get_condition(skill.status.conditions, VERIFIED)
    if verified is None or verified.reason != "WeakExamples":
        return None
    return _ask(skill, verified, "agent", printable(verified.message, MAX_MESSAGE_CHARACTERS))


def _ask(skill: Skill, cause: Condition, who: Literal["agent", "person"], text: str) -> InputRequest:
    return InputRequest(f"{cause.reason}-{skill.metadata.generation}", who, text)


def _approval(meta: ObjectMeta) -> str:
    return f"Whoever may finds the command in: kubectl describe skill -n {meta.namespace} {meta.name}"
