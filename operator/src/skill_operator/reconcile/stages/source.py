"""source: the code of a Skill, pinned or written by a model.

This stage owns the ledger. What a model is asked, it is asked in the background; the pass only reads and writes the
ledger, and comes again when the reply is there. Everything about a call is written before it is made, and over nothing
but what this pass has seen: of two operators that both believe that they lead, one fails to write, and makes no call.
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

from skill_operator import naming
from skill_operator.api.conditions import GENERATED
from skill_operator.api.v1alpha1 import GenerationFailure, GenerationStatus, Skill
from skill_operator.generation import daily_quota as accounts
from skill_operator.generation import ledger as book
from skill_operator.generation import ledger_history as shelf
from skill_operator.generation import request
from skill_operator.generation import store as resource
from skill_operator.generation.circuit_breaker import CircuitBreaker
from skill_operator.generation.daily_quota import DailyQuota, DailyUsage
from skill_operator.generation.ledger import Call, Candidate, GenerationLimits, Ledger, Stop, Wait
from skill_operator.generation.ledger_history import LedgerHistory
from skill_operator.generation.provider import STEADY, Completion, ModelRefused, ModelUnavailable, Provider, estimate
from skill_operator.generation.reply import extract, fingerprint
from skill_operator.generation.request import CompletionRequest
from skill_operator.generation.request_pool import RequestPool
from skill_operator.k8s.interface import Object
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, EventNote, Progress, Result
from skill_operator.reconcile.stages.check import CheckReport
from skill_operator.settings import ModelEndpoint, Settings

log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
STALLED_PAUSE = 1800.0  # after too many failures in a row: an outage ends, and nobody has to ask again for every Skill
GRACE = timedelta(seconds=30)  # a trial call may wait so long for its turn


@dataclass(frozen=True)
class _Page:
    """What is known of a Skill's calls, and its limits."""

    books: LedgerHistory
    account: DailyUsage
    models: list[ModelEndpoint]
    limits: GenerationLimits

    @property
    def ledger(self) -> Ledger:
        return self.books.present

    @property
    def model(self) -> ModelEndpoint:
        """Whose turn it is."""
        return request.turn(self.models, self.ledger)

    def with_ledger(self, ledger: Ledger, uid: str) -> _Page:
        """The account follows the ledger."""
        account = accounts.settle(self.account, uid, ledger)
        return replace(self, books=self.books.model_copy(update={"present": ledger}), account=account)


class Author:
    """Has code written. `wake` is told the namespace and name of a Skill whose reply has come."""

    def __init__(
        self,
        settings: Settings,
        provider: Provider,
        wake: Callable[[str, str], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._clock = clock
        self._pool: RequestPool[Completion] = RequestPool(settings.generation.concurrency, lambda key: wake(*key))
        self._breakers = {model.name: CircuitBreaker() for model in settings.models}
        self._unsent: dict[SkillKey, CompletionRequest] = {}

    def forget(self, namespace: str, name: str) -> None:
        """Whatever is asked for this Skill is of no use to anyone."""
        self._unsent.pop(SkillKey(namespace, name), None)
        self._pool.keep(SkillKey(namespace, name), "")

    def source(self, seen: Observed, work: Progress, now: datetime) -> Result:
        """One step of the loop. The next stage may go on once there is a candidate."""
        skill, meta = seen.skill, seen.skill.metadata
        key = SkillKey(meta.namespace, meta.name)
        if skill.spec.source is not None:
            self.forget(*key)
            work.source = skill.spec.source.inline
            work.status["generation"] = None
            return Result((ConditionUpdate(GENERATED, "True", "Pinned", "spec.source is used as it is"),), done=True)
        models = request.chain(self._settings, skill)
        if not models:
            self.forget(*key)
            return _no_model(self._settings, skill)
        page = _open(seen, self._settings, models, now)
        before = page.ledger
        self._pool.keep(key, before.awaited)
        again = self._unsent.get(key)
        if again is not None and again.name == before.awaited:
            call: CompletionRequest | None = (
                again  # the ledger was written, and the pass ended before the call was made
            )
        else:
            call = None
            page = page.with_ledger(self._replied(key, before, now), meta.uid)
        notes = _notes(before, page.ledger, page.limits)
        step = self._next(seen, work, page, now)
        if isinstance(step, Call):
            asked = request.messages(skill.spec, work.types, seen.base.manifest, page.ledger, step.kind)
            warmth = request.FRESH if step.kind == "fresh" else STEADY
            self._unsent[key] = call = CompletionRequest(
                key, secrets.token_hex(8), page.model, asked, step.max_tokens, warmth
            )
            account = accounts.reserve(page.account, meta.uid, meta.namespace, call.name, step.reserve)
            ledger = book.reserve(page.ledger, page.model.name, step.reserve, call.name, now)
            page = replace(page.with_ledger(ledger, meta.uid), account=account)
        elif isinstance(step, Stop):
            page = page.with_ledger(book.stop(page.ledger, step), meta.uid)
        work.status["generation"] = _status(page)
        told = _told(step, page, skill, work)
        view = (resource.candidates_map(skill, page.ledger),) if page.ledger.attempts else ()
        return replace(told, record=_record(seen, self._settings, page), apply=view, call=call, notes=notes)

    def start(self, call: CompletionRequest) -> None:
        """Make the call that the ledger now holds."""
        self._unsent.pop(call.skill, None)
        patience = timedelta(seconds=call.endpoint.timeout_seconds) + GRACE
        self._breakers[call.endpoint.name].begin(self._clock(), patience)
        self._pool.submit(call.skill, call.name, lambda: self._ask(call))

    def judged(self, seen: Observed, work: Progress, report: CheckReport, result: Result, now: datetime) -> Result:
        """The verdict on the candidate, entered into the ledger; a refused one leads to the next step at once."""
        skill = seen.skill
        if skill.spec.source is not None:
            return result if report.passed else replace(result, stalled=True)
        models = request.chain(self._settings, skill)
        if not models:
            return result
        page = _open(seen, self._settings, models, now)
        candidate = page.ledger.last
        if candidate is None or candidate.state not in {"candidate", "passed"}:
            return result
        ledger = book.record_verdict(
            page.ledger, passed=report.passed, gate=report.gate or "", message=report.message, line=report.line
        )
        page = page.with_ledger(ledger, skill.metadata.uid)
        work.status["generation"] = _status(page)
        which = _which(candidate.number, page.limits)
        findings = tuple(
            replace(found, message=f"{which}: {found.message}") if found.status == "False" else found
            for found in result.findings
        )
        return replace(
            result,
            findings=findings,
            record=_record(seen, self._settings, page),
            apply=(*result.apply, resource.candidates_map(skill, ledger)),
            after=None if report.passed else 0.0,
        )

    def _next(self, seen: Observed, work: Progress, page: _Page, now: datetime) -> Call | Candidate | Stop | Wait:
        """The ledger decides; then the day's account and the endpoint's circuit may ask it to wait."""
        spec, manifest = seen.skill.spec, seen.base.manifest
        ledger, model = page.ledger, page.model
        limits = page.limits.model_copy(update={"max_reply": model.max_reply_tokens})
        asked = request.messages(spec, work.types, manifest, ledger, "first")
        step = book.decide(ledger, limits, estimate(asked), now)
        if isinstance(step, Call):
            asked = request.messages(spec, work.types, manifest, ledger, step.kind)
            step = book.decide(ledger, limits, estimate(asked), now)
        if not isinstance(step, Call):
            return step
        daily = self._settings.generation.daily_tokens
        caps = DailyQuota(daily.namespace, daily.operator)
        if (
            refused := accounts.refusal(page.account, seen.skill.metadata.namespace, step.reserve, caps, now)
        ) is not None:
            return replace(refused, seconds=refused.seconds + random.uniform(1, 60))  # not all at midnight
        breaker = self._breakers[model.name]
        if (seconds := breaker.wait(now)) > 0:
            metrics.set_circuit_state(model.name, breaker.state(now))
            pause = seconds * random.uniform(1.0, 1.2) + 1.0
            return Wait(pause, "ModelUnavailable", f"{model.name}: {breaker.message(now)}")
        return step

    def _replied(self, key: SkillKey, ledger: Ledger, now: datetime) -> Ledger:
        """Enter what came back; a reservation that nobody works on is lost."""
        if ledger.last is None or not ledger.awaited:
            return ledger
        if not self._pool.knows(key, ledger.awaited):
            return book.record_loss(ledger, now)
        task = self._pool.result(key)
        if task is None:
            return ledger
        if task.cancelled():
            return book.record_loss(ledger, now)
        reserved, cap = ledger.last.tokens, self._settings.generation.infrastructure_failures
        try:
            done = task.result()
        except ModelUnavailable as error:
            pause = error.retry_after or min(LONGEST_PAUSE, FIRST_PAUSE * 2**ledger.faults)
            if ledger.faults + 1 >= cap:
                pause = max(pause, STALLED_PAUSE)
            return book.record_fault(ledger, str(error), reserved if error.billed else 0, _later(now, pause))
        except ModelRefused as error:
            later = _later(now, STALLED_PAUSE)
            return book.record_fault(ledger, f"{error}.", 0, later, reason="ModelRefused", severe=cap)
        except Exception as error:
            log.exception("a call failed in a way that nobody thought of")
            told = f"The call failed: {type(error).__name__}; the operator's log tells more."
            return book.record_fault(ledger, told, reserved, _later(now, STALLED_PAUSE), severe=cap)
        reply = extract(done.text, done.finish_reason)
        return book.settle(
            ledger,
            done.tokens,
            now,
            estimated=done.estimated,
            source=reply.source,
            fingerprint=fingerprint(reply.source) if reply.source else "",
            flaw=reply.flaw,
            problem=reply.message,
        )

    async def _ask(self, call: CompletionRequest) -> Completion:
        """Whatever comes of it is known to the endpoint's circuit before anyone is told."""
        name, breaker = call.endpoint.name, self._breakers[call.endpoint.name]
        outcome, tokens = "failed", 0
        try:
            api_key = await asyncio.to_thread(_read_key, call.endpoint)
            done = await self._provider.complete(
                call.endpoint, api_key, call.messages, call.max_tokens, call.temperature
            )
        except ModelUnavailable as error:
            outcome = "unavailable"
            breaker.failed(self._clock(), str(error), error.retry_after)
            raise
        except ModelRefused:
            outcome = "refused"
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        else:
            outcome, tokens = "answered", done.tokens
            breaker.succeeded()
            return done
        finally:
            metrics.record_model_request(name, outcome, tokens)
            metrics.set_circuit_state(name, breaker.state(self._clock()))


def _open(seen: Observed, settings: Settings, models: list[ModelEndpoint], now: datetime) -> _Page:
    """The books at the present input. Code that was accepted for the same task goes on trial before a model is
    asked: the base image, a model's name, the wording of the prompt or an example may have changed, not the task."""
    skill = seen.skill
    books = resource.read_history(seen.ledger)
    wanted = request.input_hash(skill.spec, models, seen.base.manifest, settings.images.checker)
    retry = skill.metadata.annotations.get(naming.RETRY_ANNOTATION, "")
    turned = shelf.select(books, wanted, retry, timedelta(seconds=settings.generation.floor_seconds))
    ledger = turned.present
    if not ledger.attempts and ledger.first_call is None and not ledger.anew:
        known = resource.accepted(skill, seen.config_maps)
        ledger = book.readopt(ledger, known, fingerprint(known)) if known else ledger
    account = accounts.read(resource.read_daily_usage(seen.account), now.date())
    page = _Page(turned, account, models, _limits(settings, skill))
    return page.with_ledger(ledger, skill.metadata.uid)


def _limits(settings: Settings, skill: Skill) -> GenerationLimits:
    spec = skill.spec.generation
    return GenerationLimits(
        max_attempts=spec.max_attempts,
        token_budget=spec.token_budget,
        faults=settings.generation.infrastructure_failures,
        deadline=timedelta(seconds=settings.generation.deadline_seconds),
    )


def _record(seen: Observed, settings: Settings, page: _Page) -> tuple[Object, ...]:
    """What changed: first the account, which may count a call too much, but none too few."""
    made: list[Object] = []
    account = resource.daily_usage_map(settings, page.account, seen.account)
    if (page.account.spent or page.account.out) and not _same(account, seen.account):
        made.append(account)
    books = resource.history_map(seen.skill, settings, page.books, seen.ledger)
    if (page.books.past or page.ledger != Ledger(input_hash=page.ledger.input_hash)) and not _same(books, seen.ledger):
        made.append(books)
    return tuple(made)


def _same(wanted: Object, seen: Object | None) -> bool:
    return seen is not None and seen.get("data") == wanted["data"]


def _notes(before: Ledger, after: Ledger, limits: GenerationLimits) -> tuple[EventNote, ...]:
    """What came of a call that no condition will tell of."""
    if not before.awaited or after.awaited or before.last is None:
        return ()
    which, last = _which(before.last.number, limits), after.last
    if len(after.attempts) < len(before.attempts):
        return (EventNote("Warning", after.fault_reason, f"{after.fault} No attempt is spent."),)
    if last is not None and last.state == "empty":
        text = f"{last.endpoint} sent no usable code ({last.tokens} tokens, no attempt is spent): {last.message}"
        return (EventNote("Warning", "NoCode", text),)
    if last is not None and last.state == "repeat":
        text = f"{which}: {last.endpoint} wrote code that was refused before ({last.tokens} tokens); it is not checked"
        return (EventNote("Warning", "CodeRepeated", text),)
    return ()


def _which(number: int, limits: GenerationLimits) -> str:
    return f"attempt {number} of {limits.max_attempts}" if number else "the code of before"


def _no_model(settings: Settings, skill: Skill) -> Result:
    wanted = skill.spec.generation.model
    names = ", ".join(m.name for m in settings.models) or "none"
    message = (
        f"spec.generation.model {wanted!r} is not configured; the chart's models[] has: {names}"
        if wanted
        else "no model is configured: set models[] in the chart's values, or give the code in spec.source.inline"
    )
    return Result((ConditionUpdate(GENERATED, "False", "NoModel", message),), stalled=True, after=60.0)


def _told(step: Call | Candidate | Stop | Wait, page: _Page, skill: Skill, work: Progress) -> Result:
    last, limits = page.ledger.last, page.limits
    match step:
        case Call():
            text = f"{_which(last.number, limits)}: {last.endpoint} is writing" if last else ""
            return Result((ConditionUpdate(GENERATED, "Unknown", "Generating", text),))
        case Candidate(attempt=attempt):
            work.source = attempt.source
            text = f"{_which(attempt.number, limits)}, {page.ledger.tokens} tokens so far"
            return Result((ConditionUpdate(GENERATED, "True", "Generated", text),), done=True)
        case Stop(reason=reason, message=message, report=report):
            text = "\n".join(filter(None, (message, _advice(skill), report)))  # what may be cut goes last
            return Result((ConditionUpdate(GENERATED, "False", reason, text),), stalled=True)
        case Wait(seconds=seconds, reason=reason, message=message, stalled=stalled):
            found = ConditionUpdate(GENERATED, "False" if stalled else "Unknown", reason, message)
            return Result((found,), after=seconds or None, stalled=stalled)


def _advice(skill: Skill) -> str:
    meta = skill.metadata
    return (
        f"All candidates: kubectl get configmap -n {meta.namespace} "
        f"{naming.candidates(meta.name)} -o yaml. To try once more as it is: kubectl annotate skill -n "
        f"{meta.namespace} {meta.name} --overwrite {naming.RETRY_ANNOTATION}=$(date +%s)"
    )


def _status(page: _Page) -> GenerationStatus:
    ledger = page.ledger
    failed = next((a for a in reversed(ledger.attempts) if a.state == "failed"), None)
    model = next((a.endpoint for a in reversed(ledger.attempts) if a.endpoint), page.models[0].name)
    return GenerationStatus(
        attempts=ledger.candidates,
        tokens=ledger.spent,
        model=next((m.model for m in page.models if m.name == model), model),
        last_failure=GenerationFailure(gate=failed.gate, message=failed.message, line=failed.line) if failed else None,
    )


def _later(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds * random.uniform(1.0, 1.3))


def _read_key(endpoint: ModelEndpoint) -> str:
    if not endpoint.api_key_file:
        return ""
    try:
        return Path(endpoint.api_key_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ModelRefused(f"the key of {endpoint.name} cannot be read: {error.strerror}; see apiKeySecret") from error
