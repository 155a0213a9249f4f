"""The types of a generation step say what it depends on, and what is to be written and started after it.

They are the door of generation: a reconcile hands in a GenerationInput, and gets a GenerationStep or a GenerationUpdate
back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from skill_operator.api.v1alpha1 import GenerationStatus, Skill
from skill_operator.generation.decision import Decision, GenerationLimits
from skill_operator.generation.ledger import SecondOpinion
from skill_operator.generation.ledger_history import RejectedCode
from skill_operator.generation.request import CompletionRequest
from skill_operator.k8s.interface import Object
from skill_operator.naming import SkillKey
from skill_operator.settings import ModelEndpoint


@dataclass(frozen=True)
class GenerationInput:
    """GenerationInput is all that a step depends on, beside the calls that run.

    `types` is the text of skill_types.py, `manifest` lists the libraries of the base image, and `checker` is the
    checker's image. `stored_history` and `stored_usage` are the ConfigMaps as they were read. `accepted_source` is code
    that was accepted for the same task, or empty. `retry` is the value of the retry annotation, or empty.
    """

    skill: Skill
    models: tuple[ModelEndpoint, ...]  # at least one
    types: str
    manifest: dict[str, object]
    checker: str
    stored_history: Object | None
    stored_usage: Object | None
    accepted_source: str
    retry: str

    @property
    def key(self) -> SkillKey:
        """The key of the Skill."""
        return SkillKey(self.skill.metadata.namespace, self.skill.metadata.name)


@dataclass(frozen=True)
class GenerationEvent:
    """GenerationEvent is a warning about a call that no condition shows."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class GenerationUpdate:
    """GenerationUpdate is what is to be written; then `request`, if any, is to be started.

    `records` must be written first, in this order: the daily usage may count a call too many, but never misses one.
    `view` is for people to read. `attempt` names the latest attempt in a sentence, or is empty. `opinion` is the second
    opinion on the accepted program, if one was requested or could not be.
    """

    attempt: str
    tokens: int
    status: GenerationStatus
    records: tuple[Object, ...]
    view: tuple[Object, ...]
    request: CompletionRequest | None = None
    opinion: SecondOpinion | None = None


@dataclass(frozen=True, kw_only=True)
class GenerationStep(GenerationUpdate):
    """GenerationStep is a decision and what is to be written.

    `rejection` is that of the latest code, if a person rejected it.
    `deadline`: when generation ends, once a model has replied, which it first did at `first_reply`.
    """

    decision: Decision
    rejection: RejectedCode | None = None
    first_reply: datetime | None = None
    deadline: datetime | None = None
    events: tuple[GenerationEvent, ...] = ()


def describe_attempt(number: int, limits: GenerationLimits) -> str:
    """Return the words that name the attempt of this number in a sentence."""
    return f"attempt {number} of {limits.max_attempts}" if number else "the code accepted before"
