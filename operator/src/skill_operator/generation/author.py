"""The author has a model write the code of a Skill: it decides each step, and makes the calls in the background.

A step reads what is stored and returns what is to be stored. Everything about a call is written before the call is
made, and only over the version that was read: if two operators both believe that they lead, one fails to write, and
makes no call.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from skill_operator.api.v1alpha1 import Rejection
from skill_operator.generation import daily_quota, ledger_entries, second_opinion, store
from skill_operator.generation.circuit_breaker import CircuitBreaker
from skill_operator.generation.completion_client import CompletionClient, ReadCompletion
from skill_operator.generation.completion_outcome import describe_reply, record_outcome
from skill_operator.generation.daily_quota import DailyQuota
from skill_operator.generation.decision import Call, Decision, GenerationLimits, Stop, Wait, deadline, decide
from skill_operator.generation.fingerprint import text_fingerprint
from skill_operator.generation.generation_state import (
    GenerationState,
    changed_records,
    endpoint_version,
    generation_status,
    open_state,
)
from skill_operator.generation.generation_step import (
    GenerationInput,
    GenerationStep,
    GenerationUpdate,
    describe_attempt,
)
from skill_operator.generation.ledger import Ledger, SecondOpinion
from skill_operator.generation.ledger_history import RejectedCode
from skill_operator.generation.prompt import Message
from skill_operator.generation.provider import DEFAULT_TEMPERATURE, Provider, estimate
from skill_operator.generation.request import (
    FRESH_START_TEMPERATURE,
    CompletionRequest,
    build_messages,
    task_hash,
)
from skill_operator.generation.request_pool import RequestPool
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.settings import ModelEndpoint, Settings
from skill_operator.untrusted.worker import Worker

TRIAL_GRACE = timedelta(seconds=30)  # a circuit breaker's trial call may wait so long for a slot of the pool


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
        self._settings = settings
        self._provider = provider
        self._clock = clock
        self._pool: RequestPool[ReadCompletion] = RequestPool(settings.generation.concurrency, wake)
        self._breakers = {model.name: CircuitBreaker() for model in settings.models}
        self._client = CompletionClient(provider, worker or Worker(), self._breakers, clock)
        self._unsent: dict[SkillKey, CompletionRequest] = {}

    def cancel(self, key: SkillKey) -> None:
        """Cancel the Skill's call: its reply is of no use."""
        self._unsent.pop(key, None)
        self._cancel_call(key)

    def _cancel_call(self, key: SkillKey, *, unless: str = "") -> None:
        """Cancel the Skill's call, unless it has this id. Nobody waits for the outcome of it any more."""
        if call_id := self._pool.cancel(key, unless=unless):
            for breaker in self._breakers.values():
                breaker.record_cancelled(call_id)

    def advance(self, inputs: GenerationInput, now: datetime) -> GenerationStep:
        """Record the reply that has arrived, if any, and return the next step."""
        key, meta = inputs.key, inputs.skill.metadata
        state = open_state(inputs, self._settings, now)
        before = state.ledger
        self._cancel_call(key, unless=before.pending_call)
        request: CompletionRequest | None = None
        unsent_request = self._unsent.get(key)
        if unsent_request is not None and unsent_request.call_id == before.pending_call:
            request = unsent_request  # the ledger was written, and the reconcile ended before the call was made
        else:
            ledger = self._record_reply(inputs, before, now)
            state = state.with_ledger(ledger_entries.refuse_rejected(ledger, state.history.rejected_messages))
        events = describe_reply(before, state.ledger, state.limits)
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
            attempt=describe_attempt(last.number, state.limits) if last is not None else "",
            tokens=state.ledger.tokens,
            status=generation_status(state),
            records=changed_records(inputs, self._settings, state),
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
        self._breakers[request.endpoint.name].record_start(request.call_id, self._clock(), timeout)
        self._pool.submit(request.skill, request.call_id, lambda: self._client.complete_and_read(request))

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
        state = open_state(inputs, self._settings, now)
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
        state = open_state(inputs, self._settings, rejection.at)
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
            source_digest=rejection.source_digest,
        )
        ledger = second_opinion.reopen(ledger_entries.record_rejection(state.ledger, rejection.message))
        state = replace(state, history=state.history.with_rejection(rejected)).with_ledger(ledger)
        return self._update(inputs, state)

    def conclude_opinion(self, inputs: GenerationInput, outcome: SecondOpinion, now: datetime) -> GenerationUpdate:
        """Record the outcome of the comparison of both programs."""
        state = open_state(inputs, self._settings, now)
        ledger = second_opinion.conclude(state.ledger, outcome.state, outcome.message, outcome.differences)
        return self._update(inputs, state.with_ledger(ledger))

    def opinion_deadline(self, opinion: SecondOpinion, now: datetime) -> datetime:
        """Return when the wait for the reply to the call for an opinion ends."""
        timeouts = [model.timeout_seconds for model in self._settings.models if model.name == opinion.endpoint]
        return (opinion.since or now) + timedelta(seconds=max(timeouts, default=0.0)) + TRIAL_GRACE

    def _update(
        self, inputs: GenerationInput, state: GenerationState, request: CompletionRequest | None = None
    ) -> GenerationUpdate:
        last = state.ledger.last
        return GenerationUpdate(
            attempt=describe_attempt(last.number, state.limits) if last is not None else "",
            tokens=state.ledger.tokens,
            status=generation_status(state),
            records=changed_records(inputs, self._settings, state),
            view=(store.candidates_map(inputs.skill, state.ledger),),
            request=request,
            opinion=state.ledger.opinion,
        )

    def _request_opinion(
        self, inputs: GenerationInput, state: GenerationState, now: datetime
    ) -> tuple[GenerationState, CompletionRequest | None]:
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

    def _decide(self, inputs: GenerationInput, state: GenerationState, now: datetime) -> Decision:
        """Return the ledger's decision; a call may have to wait for the daily quota or the endpoint's circuit."""
        decision = self._decide_by_ledger(inputs, state, now)
        if not isinstance(decision, Call):
            return decision
        return self._find_wait(inputs, state, decision, now) or decision

    def _find_wait(self, inputs: GenerationInput, state: GenerationState, call: Call, now: datetime) -> Wait | None:
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

    def _call_limits(self, state: GenerationState) -> GenerationLimits:
        """Return the limits with those of the endpoint that is called next."""
        known = self._provider.reply_limits(state.model)
        return state.limits.model_copy(
            update={
                "max_reply_tokens": state.model.max_reply_tokens,
                "needed_reply_tokens": known.needed_tokens,
                "reply_ceiling": known.max_tokens,
            }
        )

    def _decide_by_ledger(self, inputs: GenerationInput, state: GenerationState, now: datetime) -> Decision:
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
        if second_opinion.is_refused(inputs.skill.spec, opinion):
            problem = second_opinion.REFUSED
        elif now > self.opinion_deadline(opinion, now) and self._pool.finished_task(key) is None:
            problem = f"{opinion.endpoint} did not answer in time"
        if problem:  # what a model may have written until now is charged
            self._cancel_call(key)
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
        max_faults = self._settings.generation.infrastructure_failures
        version = self._endpoint_version(ledger.last.endpoint)
        return record_outcome(ledger, task, now, max_faults=max_faults, endpoint_version=version)

    def _endpoint_version(self, name: str) -> str:
        """Return the version of the endpoint of that name, or an empty string where there is none."""
        return next((endpoint_version(model) for model in self._settings.models if model.name == name), "")
