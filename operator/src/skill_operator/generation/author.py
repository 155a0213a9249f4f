"""The author has a model write the code of a Skill: it decides each step, and makes the calls in the background.

A step reads what is stored and returns what is to be stored. Everything about a call is written before the call is
made, and only over the version that was read: if two operators both believe that they lead, one fails to write, and
makes no call.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from skill_operator.api.v1alpha1 import MESSAGE_LIMIT, GenerationFailure, GenerationStatus, Rejection, Skill
from skill_operator.generation import daily_quota, ledger_entries, ledger_history, second_opinion, store
from skill_operator.generation.circuit_breaker import CircuitBreaker
from skill_operator.generation.completion_reader import (
    MAX_QUOTED_CHARACTERS,
    CompletionContent,
    CompletionParts,
    read_completion,
)
from skill_operator.generation.daily_quota import DailyQuota, DailyUsage
from skill_operator.generation.decision import (
    Call,
    Decision,
    GenerationLimits,
    Stop,
    Wait,
    deadline,
    decide,
)
from skill_operator.generation.fingerprint import text_fingerprint
from skill_operator.generation.ledger import NO_ANSWER, REFUSED, Ledger, SecondOpinion
from skill_operator.generation.ledger_entries import ReplyDetails
from skill_operator.generation.ledger_history import LedgerHistory, RejectedCode
from skill_operator.generation.prompt import Message
from skill_operator.generation.provider import (
    DEFAULT_TEMPERATURE,
    Completion,
    ModelRefused,
    ModelUnavailable,
    Provider,
    estimate,
)
from skill_operator.generation.request import (
    FRESH_START_TEMPERATURE,
    CompletionRequest,
    build_messages,
    input_hash,
    next_model,
    task_hash,
)
from skill_operator.generation.request_pool import RequestPool
from skill_operator.k8s.interface import Object
from skill_operator.naming import SkillKey, digest
from skill_operator.observability import logs, metrics
from skill_operator.settings import ModelEndpoint, Settings
from skill_operator.untrusted.text import single_line
from skill_operator.untrusted.worker import Worker, WorkerFailed

log = logging.getLogger(__name__)
FIRST_RETRY_SECONDS = 2.0
MAX_RETRY_SECONDS = 300.0
STALLED_RETRY_SECONDS = 1800.0  # after too many faults in a row: an outage ends, and nobody must retry each Skill
TRIAL_GRACE = timedelta(seconds=30)  # a circuit breaker's trial call may wait so long for a slot of the pool

_EMPTY_REPLY_REASONS = {"cut-off": "ReplyCutOff", NO_ANSWER: "ReplyCutOff", REFUSED: "TaskRefused"}


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


@dataclass(frozen=True)
class ReadCompletion:
    """ReadCompletion is a completion with what was found in it."""

    completion: Completion
    content: CompletionContent


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


@dataclass(frozen=True)
class _GenerationState:
    """_GenerationState is what is recorded about the calls of a Skill, and its limits."""

    uid: str
    history: LedgerHistory
    usage: DailyUsage
    models: tuple[ModelEndpoint, ...]
    limits: GenerationLimits

    @property
    def ledger(self) -> Ledger:
        return self.history.present

    @property
    def model(self) -> ModelEndpoint:
        """The endpoint of the next attempt."""
        return next_model(self.models, self.ledger)

    def with_ledger(self, ledger: Ledger) -> _GenerationState:
        """Return the state with this ledger, and with the daily usage settled accordingly."""
        usage = daily_quota.settle(self.usage, self.uid, ledger)
        return replace(self, history=self.history.model_copy(update={"present": ledger}), usage=usage)


class Author:
    """Author decides the steps of generation and makes the calls. `wake` gets the key of a Skill whose reply came.

    Replies are read by `worker`.
    """

    def __init__(
        self,
        settings: Settings,
        provider: Provider,
        wake: Callable[[SkillKey], None],
        clock: Callable[[], datetime],
        worker: Worker | None = None,
    ) -> None:
        self._worker = worker or Worker()
        self._settings = settings
        self._provider = provider
        self._clock = clock
        self._pool: RequestPool[ReadCompletion] = RequestPool(settings.generation.concurrency, wake)
        self._breakers = {model.name: CircuitBreaker() for model in settings.models}
        self._unsent: dict[SkillKey, CompletionRequest] = {}

    def cancel(self, key: SkillKey) -> None:
        """Cancel the Skill's call: its reply is of no use."""
        self._unsent.pop(key, None)
        self._pool.cancel(key)

    def advance(self, inputs: GenerationInput, now: datetime) -> GenerationStep:
        """Record the reply that has arrived, if any, and return the next step."""
        key, meta = inputs.key, inputs.skill.metadata
        state = _open(inputs, self._settings, now)
        before = state.ledger
        self._pool.cancel(key, unless=before.pending_call)
        request: CompletionRequest | None = None
        unsent_request = self._unsent.get(key)
        if unsent_request is not None and unsent_request.call_id == before.pending_call:
            request = unsent_request  # the ledger was written, and the reconcile ended before the call was made
        else:
            ledger = self._record_reply(inputs, before, now)
            state = state.with_ledger(ledger_entries.refuse_rejected(ledger, state.history.rejected_messages))
        events = _describe_reply(before, state.ledger, state.limits)
        decision = self._decide(inputs, state, now)
        if isinstance(decision, Call):
            messages = build_messages(inputs.skill.spec, inputs.types, inputs.manifest, state.ledger, decision.kind)
            temperature = FRESH_START_TEMPERATURE if decision.kind == "fresh" else DEFAULT_TEMPERATURE
            readopted = ledger_entries.find_readopted(state.ledger)
            request = self._new_request(key, state.model, messages, decision, temperature, readopted)
            tokens = decision.reserved_tokens
            usage = daily_quota.reserve(state.usage, meta.uid, meta.namespace, request.call_id, tokens)
            ledger = ledger_entries.reserve(
                state.ledger, state.model.name, tokens, request.call_id, now, reply_limit=decision.max_tokens
            )
            state = replace(state.with_ledger(ledger), usage=usage)
        elif isinstance(decision, Stop):
            state = state.with_ledger(ledger_entries.stop(state.ledger, decision))
        last = state.ledger.last
        return GenerationStep(
            attempt=_describe_attempt(last.number, state.limits) if last is not None else "",
            tokens=state.ledger.tokens,
            status=_status(state),
            records=_changed_records(inputs, self._settings, state),
            view=(store.candidates_map(inputs.skill, state.ledger),) if state.ledger.attempts else (),
            decision=decision,
            rejection=state.history.standing_rejection,
            first_reply=state.ledger.first_reply,
            deadline=deadline(state.ledger, state.limits),
            request=request,
            opinion=state.ledger.opinion,
            events=events,
        )

    def start_call(self, request: CompletionRequest) -> None:
        """Make the call of a step in the background. The step's records must be written before."""
        self._unsent.pop(request.skill, None)
        timeout = timedelta(seconds=request.endpoint.timeout_seconds) + TRIAL_GRACE
        self._breakers[request.endpoint.name].record_start(self._clock(), timeout)
        self._pool.submit(request.skill, request.call_id, lambda: self._complete_and_read(request))

    def record_verdict(
        self,
        inputs: GenerationInput,
        now: datetime,
        *,
        passed: bool,
        gate: str,
        message: str,
        line: int | None,
        private: str = "",
    ) -> GenerationUpdate | None:
        """Record the verdict on the candidate. Return None if the ledger has no candidate.

        `private` is what the verdict says to people alone.
        """
        state = _open(inputs, self._settings, now)
        candidate = state.ledger.last
        if candidate is None or candidate.state not in {"candidate", "passed"}:
            return None
        ledger = ledger_entries.record_verdict(
            state.ledger, passed=passed, gate=gate, message=message, line=line, private=private
        )
        request: CompletionRequest | None = None
        if not passed:
            state = state.with_ledger(second_opinion.reopen(ledger))
        elif candidate.state == "candidate" and candidate.number and ledger.opinion is None:
            state, request = self._request_opinion(inputs, state.with_ledger(ledger), now)
        else:
            state = state.with_ledger(second_opinion.begin_comparison(ledger, now))
        return self._update(inputs, state, request)

    def record_rejection(self, inputs: GenerationInput, rejection: Rejection, source: str) -> GenerationUpdate | None:
        """Record that a person rejected the candidate. Return None if the ledger has no candidate of this source."""
        state = _open(inputs, self._settings, rejection.at)
        candidate = state.ledger.last
        if candidate is None or candidate.state not in {"candidate", "passed"} or candidate.source != source:
            return None
        rejected = RejectedCode(
            fingerprints=tuple(sorted({text_fingerprint(source)} | state.history.fingerprints_of(source))),
            token=rejection.token,
            revision=rejection.revision,
            by=rejection.by,
            message=rejection.message,
            at=rejection.at,
        )
        ledger = second_opinion.reopen(ledger_entries.record_rejection(state.ledger, rejection.message))
        state = replace(state, history=state.history.with_rejection(rejected)).with_ledger(ledger)
        return self._update(inputs, state)

    def conclude_opinion(self, inputs: GenerationInput, outcome: SecondOpinion, now: datetime) -> GenerationUpdate:
        """Record the outcome of the comparison of both programs."""
        state = _open(inputs, self._settings, now)
        ledger = second_opinion.conclude(state.ledger, outcome.state, outcome.message, outcome.differences)
        return self._update(inputs, state.with_ledger(ledger))

    def opinion_deadline(self, opinion: SecondOpinion, now: datetime) -> datetime:
        """Return when the wait for the reply to the call for an opinion ends."""
        timeouts = [model.timeout_seconds for model in self._settings.models if model.name == opinion.endpoint]
        return (opinion.since or now) + timedelta(seconds=max(timeouts, default=0.0)) + TRIAL_GRACE

    def _update(
        self, inputs: GenerationInput, state: _GenerationState, request: CompletionRequest | None = None
    ) -> GenerationUpdate:
        last = state.ledger.last
        return GenerationUpdate(
            attempt=_describe_attempt(last.number, state.limits) if last is not None else "",
            tokens=state.ledger.tokens,
            status=_status(state),
            records=_changed_records(inputs, self._settings, state),
            view=(store.candidates_map(inputs.skill, state.ledger),),
            request=request,
            opinion=state.ledger.opinion,
        )

    def _request_opinion(
        self, inputs: GenerationInput, state: _GenerationState, now: datetime
    ) -> tuple[_GenerationState, CompletionRequest | None]:
        """Return the state with the one call for an opinion reserved, or with the reason why none is made."""
        spec, meta, ledger = inputs.skill.spec, inputs.skill.metadata, state.ledger
        if not second_opinion.is_wanted(spec, self._settings.generation.second_opinion.below_examples):
            return state, None
        messages = build_messages(spec, inputs.types, inputs.manifest, Ledger(input_hash=ledger.input_hash), "first")
        limits = self._call_limits(state)
        prompt_tokens = estimate(messages)
        obstacle = second_opinion.find_obstacle(spec, ledger, limits, prompt_tokens, now)
        if obstacle is None:
            call = second_opinion.make_call(ledger, limits, prompt_tokens)
            wait = self._find_wait(inputs, state, call, now)
            if wait is None:
                request = self._new_request(inputs.key, state.model, messages, call, FRESH_START_TEMPERATURE)
                tokens, task = call.reserved_tokens, task_hash(spec)
                usage = daily_quota.reserve(state.usage, meta.uid, meta.namespace, request.call_id, tokens)
                ledger = second_opinion.reserve(ledger, state.model.name, tokens, request.call_id, task, now)
                return replace(state.with_ledger(ledger), usage=usage), request
            obstacle = wait.message.partition(". ")[0]  # the rest is about when generation goes on
        return state.with_ledger(second_opinion.skip(ledger, obstacle)), None

    def _new_request(
        self,
        key: SkillKey,
        model: ModelEndpoint,
        messages: list[Message],
        call: Call,
        temperature: float,
        accepted_source: str = "",
    ) -> CompletionRequest:
        """Return the request of a call under a new id. It is kept until it has started."""
        call_id = secrets.token_hex(8)
        request = CompletionRequest(key, call_id, model, messages, call.max_tokens, temperature, accepted_source)
        self._unsent[key] = request
        return request

    def _decide(self, inputs: GenerationInput, state: _GenerationState, now: datetime) -> Decision:
        """Return the ledger's decision; a call may have to wait for the daily quota or the endpoint's circuit."""
        decision = self._decide_by_ledger(inputs, state, now)
        if not isinstance(decision, Call):
            return decision
        return self._find_wait(inputs, state, decision, now) or decision

    def _find_wait(self, inputs: GenerationInput, state: _GenerationState, call: Call, now: datetime) -> Wait | None:
        """Return the wait for the daily quota or for the endpoint's circuit, if a call has to wait for one of them."""
        daily_tokens = self._settings.generation.daily_tokens
        quota = DailyQuota(daily_tokens.namespace, daily_tokens.operator)
        namespace = inputs.skill.metadata.namespace
        wait = daily_quota.find_wait(state.usage, namespace, call.reserved_tokens, quota, now)
        if wait is not None:
            return replace(wait, seconds=wait.seconds + random.uniform(1, 60))  # not all Skills at midnight
        name = state.model.name
        breaker = self._breakers[name]
        if (seconds := breaker.seconds_until_call(now)) > 0:
            metrics.set_circuit_state(name, breaker.state(now))
            return Wait(
                seconds * random.uniform(1.0, 1.2) + 1.0, "ModelUnavailable", f"{name}: {breaker.describe(now)}"
            )
        return None

    def _call_limits(self, state: _GenerationState) -> GenerationLimits:
        """Return the limits with those of the endpoint that is called next."""
        known = self._provider.reply_limits(state.model)
        return state.limits.model_copy(
            update={
                "max_reply_tokens": state.model.max_reply_tokens,
                "needed_reply_tokens": known.needed_tokens,
                "reply_ceiling": known.max_tokens,
            }
        )

    def _decide_by_ledger(self, inputs: GenerationInput, state: _GenerationState, now: datetime) -> Decision:
        """Return the ledger's decision. A call is decided twice: the length of its prompt depends on its kind."""
        spec, ledger = inputs.skill.spec, state.ledger
        limits = self._call_limits(state)
        messages = build_messages(spec, inputs.types, inputs.manifest, ledger, "first")
        decision = decide(ledger, limits, estimate(messages), now)
        if isinstance(decision, Call):
            messages = build_messages(spec, inputs.types, inputs.manifest, ledger, decision.kind)
            decision = decide(ledger, limits, estimate(messages), now)
        return decision

    def _record_reply(self, inputs: GenerationInput, ledger: Ledger, now: datetime) -> Ledger:
        """Return the ledger with the reply that has arrived, to an attempt or to the request for an opinion.

        Nobody waits for an opinion longer than one call may take, whatever holds it up.
        """
        key, opinion = inputs.key, ledger.opinion
        if opinion is None or not second_opinion.is_pending(ledger):
            return self._record_attempt_reply(inputs, ledger, now)
        attempt, problem = second_opinion.as_attempt(ledger, opinion), ""
        if second_opinion.is_refused(inputs.skill.spec):
            problem = second_opinion.REFUSED
        elif now > self.opinion_deadline(opinion, now) and self._pool.finished_task(key) is None:
            problem = f"{opinion.endpoint} did not answer in time"
        if problem:  # what a model may have written until now is charged
            self._pool.cancel(key)
            settled = ledger_entries.record_fault(attempt, problem, opinion.tokens, now)
        else:
            settled = self._record_attempt_reply(inputs, attempt, now)
        return second_opinion.from_attempt(ledger, settled, now)

    def _record_attempt_reply(self, inputs: GenerationInput, ledger: Ledger, now: datetime) -> Ledger:
        """Return the ledger with the reply that has arrived. A reservation without a call in the pool is lost."""
        key = inputs.key
        if ledger.last is None or not ledger.pending_call:
            return ledger
        if not self._pool.contains(key, ledger.pending_call):
            return ledger_entries.record_loss(ledger, now)
        task = self._pool.finished_task(key)
        if task is None:
            return ledger
        if task.cancelled():
            return ledger_entries.record_loss(ledger, now)
        reserved_tokens, max_faults = ledger.last.tokens, self._settings.generation.infrastructure_failures
        version = self._endpoint_version(ledger.last.endpoint)
        try:
            reply = task.result()
        except ModelUnavailable as error:
            seconds = error.retry_after or min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2**ledger.faults)
            if ledger.faults + 1 >= max_faults:
                seconds = max(seconds, STALLED_RETRY_SECONDS)
            charged = (reserved_tokens if error.tokens is None else error.tokens) if error.billed else 0
            return ledger_entries.record_fault(
                ledger,
                str(error),
                charged,
                _retry_at(now, seconds),
                endpoint_version=version,
                is_unanswered=error.billed and error.tokens is None,
            )
        except ModelRefused as error:
            return ledger_entries.record_fault(
                ledger,
                f"{error}.",
                error.tokens,
                _retry_at(now, STALLED_RETRY_SECONDS),
                reason="ModelRefused",
                fault_count=max_faults,
                endpoint_version=version,
            )
        except Exception as error:
            log.exception("the call of a model failed unexpectedly")
            message = f"The call failed: {type(error).__name__}. See the operator's log."
            retry_at = _retry_at(now, STALLED_RETRY_SECONDS)
            return ledger_entries.record_fault(ledger, message, reserved_tokens, retry_at, fault_count=max_faults)
        completion, content = reply.completion, reply.content
        return ledger_entries.settle(
            ledger,
            completion.tokens,
            now,
            estimated=completion.estimated,
            source=content.source,
            fingerprint=content.fingerprint,
            flaw=content.flaw,
            problem=content.message,
            details=ReplyDetails(
                words=single_line(content.words, MAX_QUOTED_CHARACTERS),
                reasoning_tokens=completion.reasoning_tokens,
                reply_limit=completion.reply_limit,
            ),
        )

    def _endpoint_version(self, name: str) -> str:
        """Return the version of the endpoint of that name, or an empty string where there is none."""
        return next((_endpoint_version(model) for model in self._settings.models if model.name == name), "")

    async def _complete_and_read(self, request: CompletionRequest) -> ReadCompletion:
        """Return the completion with the code in it. A reply that cannot be read within the limits has none."""
        completion = await self._complete(request)
        parts: CompletionParts = {
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "reasoning": completion.reasoning,
            "reasoning_field": completion.reasoning_field,
            "reasoning_tokens": completion.reasoning_tokens,
            "refusal": completion.refusal,
            "tool": completion.tool,
        }
        try:
            content = CompletionContent(*await self._worker.call(read_completion, parts, request.accepted_source))
        except WorkerFailed as error:
            log.warning("a reply cannot be read: %s", error, extra={"endpoint": request.endpoint.name})
            message = "the reply is too complex to be read; answer with simpler code"
            content = CompletionContent("", "no-code", message, "", "")
        if content.flaw == NO_ANSWER:
            self._provider.record_cut_reply(request.endpoint, completion.reply_limit or request.max_tokens)
        return ReadCompletion(replace(completion, text="", reasoning=""), content)

    async def _complete(self, request: CompletionRequest) -> Completion:
        """Return the completion. The endpoint's circuit breaker knows the outcome before anyone else."""
        name, breaker = request.endpoint.name, self._breakers[request.endpoint.name]
        outcome, tokens, reasoning_tokens = "failed", 0, 0
        try:
            api_key = await asyncio.to_thread(_read_api_key, request.endpoint)
            completion = await self._provider.complete(
                request.endpoint, api_key, request.messages, request.max_tokens, request.temperature
            )
        except ModelUnavailable as error:
            outcome, tokens = "unavailable", error.tokens or 0
            breaker.record_failure(self._clock(), str(error), error.retry_after)
            raise
        except ModelRefused as error:
            outcome, tokens = "refused", error.tokens
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        else:
            outcome, tokens, reasoning_tokens = "answered", completion.tokens, completion.reasoning_tokens
            breaker.record_success()
            return completion
        finally:
            metrics.record_model_request(name, outcome, tokens, reasoning_tokens)
            metrics.set_circuit_state(name, breaker.state(self._clock()))


def _open(inputs: GenerationInput, settings: Settings, now: datetime) -> _GenerationState:
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
        if second_opinion.is_wanted(skill.spec, settings.generation.second_opinion.below_examples):
            ledger = second_opinion.carry(ledger, history.past, task_hash(skill.spec))
    if ledger.last is not None and (message := history.rejected_messages.get(ledger.last.fingerprint)):
        ledger = ledger_entries.record_rejection(ledger, message)
    if ledger.fault_endpoint:
        ledger = ledger_entries.forget_fault(ledger, _endpoint_version(next_model(inputs.models, ledger)))
    usage = daily_quota.read(store.read_daily_usage(inputs.stored_usage), now.date())
    state = _GenerationState(skill.metadata.uid, history, usage, inputs.models, _limits(settings, skill))
    return state.with_ledger(ledger)


def _limits(settings: Settings, skill: Skill) -> GenerationLimits:
    spec = skill.spec.generation
    return GenerationLimits(
        max_attempts=spec.max_attempts,
        token_budget=spec.token_budget,
        max_faults=settings.generation.infrastructure_failures,
        deadline=timedelta(seconds=settings.generation.deadline_seconds),
    )


def _changed_records(inputs: GenerationInput, settings: Settings, state: _GenerationState) -> tuple[Object, ...]:
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


def _describe_reply(before: Ledger, after: Ledger, limits: GenerationLimits) -> tuple[GenerationEvent, ...]:
    """Return an event on the outcome of a call that no condition shows."""
    if not before.pending_call or after.pending_call or before.last is None:
        return ()
    last = after.last
    if len(after.attempts) < len(before.attempts):
        return (GenerationEvent(after.fault_reason, f"{after.fault} No attempt is spent."),)
    if last is not None and last.state == "empty":
        reasoning = f", {last.reasoning_tokens} of them reasoning" if last.reasoning_tokens else ""
        words = f". It wrote: {last.words}" if last.words else ""
        price = f"{last.tokens} tokens{reasoning}, no attempt is spent"
        text = f"{last.endpoint} sent no usable code ({price}): {last.message}{words}"
        return (GenerationEvent(_EMPTY_REPLY_REASONS.get(last.gate, "NoCode"), text),)
    if last is not None and last.state == "repeat":
        attempt = _describe_attempt(before.last.number, limits)
        text = (
            f"{attempt}: {last.endpoint} wrote code that was refused before ({last.tokens} tokens); it is not checked"
        )
        return (GenerationEvent("CodeRepeated", text),)
    return ()


def _describe_attempt(number: int, limits: GenerationLimits) -> str:
    return f"attempt {number} of {limits.max_attempts}" if number else "the code accepted before"


def _status(state: _GenerationState) -> GenerationStatus:
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


def _endpoint_version(endpoint: ModelEndpoint) -> str:
    """Return a hash of the endpoint's settings, and of when its files were last written.

    The kubelet writes a file anew when its Secret changes, and when a pod starts.
    """
    paths = [Path(file) for file in (endpoint.api_key_file, endpoint.ca_file) if file]
    written = [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]
    return digest(endpoint.model_dump(mode="json"), written)[:16]


def _retry_at(now: datetime, seconds: float) -> datetime:
    """Return a time at least `seconds` from now, and up to 30 % more: not all Skills retry at once."""
    return now + timedelta(seconds=seconds * random.uniform(1.0, 1.3))


def _read_api_key(endpoint: ModelEndpoint) -> str:
    """Return the key of the endpoint, or an empty string where it needs none. Raises ModelRefused."""
    if not endpoint.api_key_file:
        return ""
    try:
        api_key = Path(endpoint.api_key_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ModelRefused(f"the key of {endpoint.name} cannot be read: {error.strerror}; see apiKeySecret") from error
    logs.hide_secret(api_key)
    return api_key
