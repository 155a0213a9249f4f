"""The generation state is what is recorded about the calls of a Skill: read from ConfigMaps, and written to them again.

Each step opens it anew, since another process of the operator may have gone on with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from skill_operator.api.v1alpha1 import MESSAGE_LIMIT, GenerationFailure, GenerationStatus, Skill
from skill_operator.generation import daily_quota, ledger_entries, ledger_history, second_opinion, store
from skill_operator.generation.daily_quota import DailyUsage
from skill_operator.generation.decision import GenerationLimits
from skill_operator.generation.fingerprint import text_fingerprint
from skill_operator.generation.generation_step import GenerationInput
from skill_operator.generation.ledger import Ledger
from skill_operator.generation.ledger_history import LedgerHistory
from skill_operator.generation.request import input_hash, next_model, task_hash
from skill_operator.k8s.interface import Object
from skill_operator.naming import digest
from skill_operator.settings import ModelEndpoint, Settings
from skill_operator.untrusted.text import single_line


@dataclass(frozen=True)
class GenerationState:
    """GenerationState is what is recorded about the calls of a Skill, and its limits."""

    uid: str
    history: LedgerHistory
    usage: DailyUsage
    models: tuple[ModelEndpoint, ...]
    limits: GenerationLimits

    @property
    def ledger(self) -> Ledger:
        """The ledger of the present input."""
        return self.history.present

    @property
    def model(self) -> ModelEndpoint:
        """The endpoint of the next attempt."""
        return next_model(self.models, self.ledger)

    def with_ledger(self, ledger: Ledger) -> GenerationState:
        """Return the state with this ledger, and with the daily usage settled accordingly."""
        usage = daily_quota.settle(self.usage, self.uid, ledger)
        return replace(self, history=self.history.model_copy(update={"present": ledger}), usage=usage)


def open_state(inputs: GenerationInput, settings: Settings, now: datetime) -> GenerationState:
    """Return the recorded state with the ledger of the present input.

    Code that was accepted for the same task is checked before a model is called: the base image, a model's name, the
    prompt or an example may have changed, but not the task.
    """
    skill = inputs.skill
    present_hash = input_hash(skill.spec, inputs.models, inputs.manifest, inputs.checker)
    min_interval = timedelta(seconds=settings.generation.floor_seconds)
    history = ledger_history.select(store.read_history(inputs.stored_history), present_hash, inputs.retry, min_interval)
    ledger = history.present
    if not ledger.attempts and ledger.first_call is None and not ledger.anew and inputs.accepted_source:
        ledger = ledger_entries.readopt(ledger, inputs.accepted_source, text_fingerprint(inputs.accepted_source))
        is_wanted = second_opinion.is_wanted(skill.spec, settings.generation.second_opinion.below_examples)
        ledger = second_opinion.carry(ledger, history.past, task_hash(skill.spec), only_open=not is_wanted)
    if ledger.last is not None and (message := history.rejected_messages.get(ledger.last.fingerprint)):
        ledger = ledger_entries.record_rejection(ledger, message)
    if ledger.fault_endpoint:
        ledger = ledger_entries.forget_fault(ledger, endpoint_version(next_model(inputs.models, ledger)))
    usage = daily_quota.read(store.read_daily_usage(inputs.stored_usage), now.date())
    state = GenerationState(skill.metadata.uid, history, usage, inputs.models, _limits(settings, skill))
    return state.with_ledger(ledger)


def _limits(settings: Settings, skill: Skill) -> GenerationLimits:
    spec = skill.spec.generation
    return GenerationLimits(
        max_attempts=spec.max_attempts,
        token_budget=spec.token_budget,
        max_faults=settings.generation.infrastructure_failures,
        deadline=timedelta(seconds=settings.generation.deadline_seconds),
    )


def changed_records(inputs: GenerationInput, settings: Settings, state: GenerationState) -> tuple[Object, ...]:
    """Return the records that differ from the stored ones: first the daily usage, then the ledger history."""
    records: list[Object] = []
    usage = store.daily_usage_map(settings, state.usage, inputs.stored_usage)
    if (state.usage.spent or state.usage.reservations) and not _has_same_data(usage, inputs.stored_usage):
        records.append(usage)
    history = store.history_map(inputs.skill, settings, state.history, inputs.stored_history)
    is_empty = not state.history.past and state.ledger == Ledger(input_hash=state.ledger.input_hash)
    if not is_empty and not _has_same_data(history, inputs.stored_history):
        records.append(history)
    return tuple(records)


def _has_same_data(config_map: Object, stored_map: Object | None) -> bool:
    return stored_map is not None and stored_map.get("data") == config_map["data"]


def generation_status(state: GenerationState) -> GenerationStatus:
    """Return the status for people: attempts, price, the latest model, and the latest failure."""
    ledger = state.ledger
    failed_attempt = next((attempt for attempt in reversed(ledger.attempts) if attempt.state == "failed"), None)
    endpoint = next(
        (attempt.endpoint for attempt in reversed(ledger.attempts) if attempt.endpoint), state.models[0].name
    )
    return GenerationStatus(
        attempts=ledger.attempt_count,
        tokens=ledger.charged_tokens,
        model=next((model.model for model in state.models if model.name == endpoint), endpoint),
        last_failure=GenerationFailure(
            gate=failed_attempt.gate,
            message=single_line(failed_attempt.message, MESSAGE_LIMIT),
            line=failed_attempt.line,
        )
        if failed_attempt
        else None,
    )


def endpoint_version(endpoint: ModelEndpoint) -> str:
    """Return a hash of the endpoint's settings, and of when its files were last written.

    The kubelet writes a file anew when its Secret changes, and when a pod starts.
    """
    paths = [Path(file) for file in (endpoint.api_key_file, endpoint.ca_file) if file]
    written = [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]
    return digest(endpoint.model_dump(mode="json"), written)[:16]
