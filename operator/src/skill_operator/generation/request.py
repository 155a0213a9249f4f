"""What a model is asked about a Skill, and what makes two questions the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill, SkillSpec
from skill_operator.generation import prompt
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.ledger import Attempt, Kind, Ledger
from skill_operator.generation.provider import STEADY
from skill_operator.settings import ModelEndpoint, Settings

FRESH = 0.8  # temperature of a fresh start: what was written twice would be written again


@dataclass(frozen=True)
class CompletionRequest:
    """One call: `name` is the one that the ledger knows it by."""

    skill: naming.SkillKey
    name: str
    endpoint: ModelEndpoint
    messages: list[prompt.Message]
    max_tokens: int
    temperature: float = STEADY


def chain(settings: Settings, skill: Skill) -> list[ModelEndpoint]:
    """The endpoints that are asked in turn: the one that the Skill names, or those of generation.escalation, or the
    first of all. Empty where there is none."""
    known = {model.name: model for model in settings.models}
    wanted = skill.spec.generation.model
    names = [wanted] if wanted else settings.generation.escalation or [*known][:1]
    return [known[name] for name in names if name in known]


def turn(models: Sequence[ModelEndpoint], ledger: Ledger) -> ModelEndpoint:
    """The first attempt goes to the first of the chain, and so on; the last of it gets all further ones."""
    return models[min(ledger.candidates, len(models) - 1)]


def task_hash(spec: SkillSpec) -> str:
    """What the code must do: with none of it changed, code that was accepted once deserves another trial."""
    secrets = [secret.name for secret in spec.secrets]
    return naming.digest(
        spec.description,
        spec.input,
        spec.output,
        spec.deterministic,
        [e.model_dump(mode="json", exclude_none=True) for e in spec.egress],
        secrets,
    )


def input_hash(spec: SkillSpec, models: Sequence[ModelEndpoint], manifest: dict[str, object], checker: str) -> str:
    """What reply and verdict depend on: with any of it changed, a new ledger is opened."""
    return naming.digest(
        task_hash(spec),
        [e.model_dump(mode="json") for e in spec.examples],
        spec.call_timeout_seconds,
        [(model.name, model.model) for model in models],
        prompt.PROMPT_VERSION,
        manifest,
        checker,
    )


def messages(
    spec: SkillSpec, types: str, manifest: dict[str, object], ledger: Ledger, kind: Kind
) -> list[prompt.Message]:
    """Never a growing chat: the task, and at most the best code so far with what is wrong with it."""
    visible, _ = split_examples(spec.examples)
    asked = prompt.first(spec, types, visible, manifest)
    tried = [a for a in ledger.attempts if a.state in {"failed", "repeat"}]
    best = ledger.best
    if kind == "repair" and best is not None:
        worse = [_refuted(a) for a in tried if a.state == "failed" and a.number > best.number]
        asked = prompt.repair(asked, best.source, best.gate, best.message, worse)
    elif kind == "fresh":
        asked = prompt.fresh(asked, [_refuted(a) for a in tried])
    if ledger.last is not None and ledger.last.state == "empty":
        asked = prompt.unusable(asked, ledger.last.message)
    return asked


def _refuted(attempt: Attempt) -> str:
    said = attempt.message.splitlines()[0] if attempt.message else ""
    return f"{attempt.gate or 'repeat'}: {said}"
