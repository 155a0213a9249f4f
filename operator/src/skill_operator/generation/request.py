"""A completion request carries the messages of one call of a model; hashes tell whether two requests are the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from skill_operator import naming
from skill_operator.api.v1alpha1 import Example, Skill, SkillSpec
from skill_operator.generation import prompt
from skill_operator.generation.decision import CallKind
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.ledger import NO_ANSWER, REVIEW_GATE, Attempt, Ledger
from skill_operator.generation.provider import DEFAULT_TEMPERATURE
from skill_operator.settings import ModelEndpoint, Settings

_FAILED_EXAMPLE = re.compile(r"^example '([^'\n]{1,80})':$", re.MULTILINE)  # as the check's report names it
MAX_NAMED_EXAMPLES = 5  # of one attempt
FRESH_START_TEMPERATURE = 0.8  # higher, or the model would repeat what it has written twice


@dataclass(frozen=True)
class CompletionRequest:
    """CompletionRequest is one call of a model. The ledger knows it by its `call_id`.

    `accepted_source` is code that was accepted before and refused since, or empty: writing it again is a repeat.
    """

    skill: naming.SkillKey
    call_id: str
    endpoint: ModelEndpoint
    messages: list[prompt.Message]
    max_tokens: int
    temperature: float = DEFAULT_TEMPERATURE
    accepted_source: str = ""


def select_models(settings: Settings, skill: Skill) -> list[ModelEndpoint]:
    """Return the endpoints that are called in turn; an empty list where none is configured.

    These are the one that the Skill names, or those of generation.escalation, or the first of all.
    """
    models_by_name = {model.name: model for model in settings.models}
    model_name = skill.spec.generation.model
    names = [model_name] if model_name else settings.generation.escalation or [*models_by_name][:1]
    return [models_by_name[name] for name in names if name in models_by_name]


def next_model(models: Sequence[ModelEndpoint], ledger: Ledger) -> ModelEndpoint:
    """Return the endpoint of the next attempt.

    The first attempt goes to the first endpoint, and so on; the last endpoint gets all further attempts.
    """
    return models[min(ledger.attempt_count, len(models) - 1)]


def task_hash(spec: SkillSpec) -> str:
    """Return the hash of what the code must do: while it is the same, accepted code deserves another check."""
    secrets = [secret.name for secret in spec.secrets]
    return naming.digest(
        spec.description,
        spec.input,
        spec.output,
        spec.deterministic,
        [egress.model_dump(mode="json", exclude_none=True) for egress in spec.egress],
        secrets,
    )


def input_hash(spec: SkillSpec, models: Sequence[ModelEndpoint], manifest: dict[str, object], checker: str) -> str:
    """Return the hash of what replies and verdicts depend on: when it changes, a new ledger is opened."""
    return naming.digest(
        task_hash(spec),
        [example.model_dump(mode="json") for example in spec.examples],
        spec.call_timeout_seconds,
        [(model.name, model.model) for model in models],
        prompt.PROMPT_VERSION,
        manifest,
        checker,
    )


def build_messages(
    spec: SkillSpec, types: str, manifest: dict[str, object], ledger: Ledger, kind: CallKind
) -> list[prompt.Message]:
    """Return the messages of the next call: the task, and at most the best code so far with what is wrong with it.

    It is never a growing chat.
    """
    visible, _ = split_examples(spec.examples)
    messages = prompt.initial_messages(spec, types, visible, manifest)
    refused_attempts = [attempt for attempt in ledger.attempts if attempt.state in {"failed", "repeat"}]
    best = ledger.best
    if kind == "repair" and best is not None:
        worse = [_summarize(a, visible) for a in refused_attempts if a.state == "failed" and a.number > best.number]
        if best.gate == REVIEW_GATE:
            messages = prompt.rejection_messages(messages, best.source, best.message, worse)
        else:
            messages = prompt.repair_messages(messages, best.source, best.gate, best.message, worse)
    elif kind == "fresh":
        refuted = [_summarize(attempt, visible) for attempt in refused_attempts]
        messages = prompt.fresh_start_messages(messages, refuted)
    last = ledger.last
    if last is not None and last.state == "empty" and last.gate != NO_ANSWER:  # other words help not there
        messages = prompt.unusable_reply_messages(messages, last.message)
    return messages


def _summarize(attempt: Attempt, visible: Sequence[Example]) -> str:
    """Return one line on why the attempt was refused, with the names of the visible examples that it failed."""
    first_line = attempt.message.splitlines()[0] if attempt.message else ""
    reported_names = set(_FAILED_EXAMPLE.findall(attempt.message)) if attempt.gate == "examples" else set[str]()
    failed_names = [example.name for example in visible if example.name in reported_names][:MAX_NAMED_EXAMPLES]
    failures = f" Failed: {', '.join(failed_names)}." if failed_names else ""
    return f"{attempt.gate or 'repeat'}: {first_line}{failures}"
