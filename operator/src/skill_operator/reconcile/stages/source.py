"""source: the code of a Skill, pinned or written by a model.

This stage owns the ledger. What a model is asked, it is asked in the background; the pass only reads and writes the
ledger, and comes again when the reply is there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from skill_operator import naming
from skill_operator.api.conditions import GENERATED
from skill_operator.api.v1alpha1 import Failure, GenerationStatus, Skill
from skill_operator.generation import ledger as book
from skill_operator.generation import prompt
from skill_operator.generation.examples import split
from skill_operator.generation.ledger import Call, Candidate, Ledger, Limits, Stop, Wait
from skill_operator.generation.pool import Pool
from skill_operator.generation.provider import Completion, ModelRefused, ModelUnavailable, Provider, estimate
from skill_operator.generation.reply import extract, fingerprint
from skill_operator.observability import metrics
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Result, Work, finding
from skill_operator.reconcile.stages.check import Report
from skill_operator.resources import ledger as resource
from skill_operator.settings import ModelEndpoint, Settings

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0


class Author:
    """Has code written. `wake` is told the namespace and name of a Skill whose reply has come."""

    def __init__(self, settings: Settings, provider: Provider, wake: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._provider = provider
        self._pool: Pool[Completion] = Pool(settings.generation.concurrency, lambda key: wake(*key))
        self._asked: dict[tuple[str, str], str] = {}  # input hash of the call under way

    def forget(self, namespace: str, name: str) -> None:
        """The Skill is gone: its call is of no use to anyone."""
        self._asked.pop((namespace, name), None)
        self._pool.cancel((namespace, name))

    def source(self, seen: Observed, work: Work, now: datetime) -> Result:
        """One step of the loop. The next stage may go on once there is a candidate."""
        skill = seen.skill
        if skill.spec.source is not None:
            self.forget(skill.metadata.namespace, skill.metadata.name)
            work.source = skill.spec.source.inline
            work.status["generation"] = None
            return Result((finding(GENERATED, "True", "Pinned", "spec.source is used as it is"),), done=True)
        endpoint = _endpoint(self._settings, skill)
        if endpoint is None:
            return _no_model(self._settings, skill)
        before = _open(seen, endpoint, now)
        ledger = self._take_reply(skill, before, now)
        limits = _limits(self._settings, skill, endpoint)
        asked = _question(seen, work, ledger, "first")
        step = book.decide(ledger, limits, estimate(asked), now)
        if isinstance(step, Call):
            asked = _question(seen, work, ledger, step.kind)
            step = book.decide(ledger, limits, estimate(asked), now)
        if isinstance(step, Call):
            ledger = book.reserve(ledger, endpoint.name, step.reserve)
        elif isinstance(step, Stop):
            ledger = book.stopped(ledger, step)
        work.status["generation"] = _status(ledger, endpoint)
        write = () if ledger == before and before.attempts else (resource.config_map(skill, ledger),)
        return replace(_told(step, ledger, limits, work), apply=write)

    def start(self, seen: Observed, work: Work, call: Call) -> None:
        """Make the call that the ledger now holds. Called after the ledger was written."""
        skill = seen.skill
        key = (skill.metadata.namespace, skill.metadata.name)
        endpoint = _endpoint(self._settings, skill)
        if endpoint is None:
            return
        ledger = _open(seen, endpoint, datetime.now().astimezone())
        messages = _question(seen, work, ledger, call.kind)
        self._asked[key] = ledger.input_hash

        async def ask() -> Completion:
            api_key = await asyncio.to_thread(_read_key, endpoint)
            return await self._provider.complete(endpoint, api_key, messages, call.max_tokens)

        self._pool.submit(key, ask)

    def judged(self, seen: Observed, work: Work, report: Report, result: Result, now: datetime) -> Result:
        """The verdict on the candidate, entered into the ledger; a refused one leads to the next step at once."""
        skill = seen.skill
        if skill.spec.source is not None:
            return result if report.passed else replace(result, stalled=True)
        endpoint = _endpoint(self._settings, skill)
        if endpoint is None:
            return result
        ledger = _open(seen, endpoint, now)
        if ledger.last is None or ledger.last.state != "candidate":
            return result
        ledger = book.judged(
            ledger, passed=report.passed, gate=report.gate or "", message=report.message, line=report.line
        )
        work.status["generation"] = _status(ledger, endpoint)
        written = (*result.apply, resource.config_map(skill, ledger))
        return replace(result, apply=written, after=None if report.passed else 0.0)

    def _take_reply(self, skill: Skill, ledger: Ledger, now: datetime) -> Ledger:
        """Enter what came back; a reservation that nobody works on is lost."""
        key = (skill.metadata.namespace, skill.metadata.name)
        if self._asked.get(key, ledger.input_hash) != ledger.input_hash:
            self.forget(*key)  # an answer to an outdated question
        if ledger.last is None or ledger.last.state != "reserved":
            return ledger
        call = self._pool.take(key)
        if call is None:
            return ledger if self._pool.busy(key) else book.lost(ledger)
        endpoint = ledger.last.endpoint
        try:
            done = call.result()
        except ModelUnavailable as error:
            metrics.called(endpoint, "unavailable", 0)
            pause = error.retry_after or min(LONGEST_PAUSE, FIRST_PAUSE * 2**ledger.faults)
            pause *= random.uniform(1.0, 1.3)
            charged = ledger.last.tokens if error.billed else 0
            return book.fault(ledger, str(error), charged, now + timedelta(seconds=pause))
        except ModelRefused as error:
            metrics.called(endpoint, "refused", 0)
            return book.stopped(book.fault(ledger, str(error), 0, now), Stop("ModelRefused", str(error)))
        metrics.called(endpoint, "answered", done.tokens)
        reply = extract(done.text, done.finish_reason)
        return book.settle(
            ledger,
            done.tokens,
            estimated=done.estimated,
            source=reply.source,
            fingerprint=fingerprint(reply.source) if reply.source else "",
            problem=reply.message,
        )


def input_hash(seen: Observed, endpoint: ModelEndpoint) -> str:
    """What a reply depends on: with any of it changed, a new ledger is opened."""
    spec = seen.skill.spec
    visible, _ = split(spec.examples)
    return naming.digest(
        spec.description,
        spec.input,
        spec.output,
        [e.model_dump(mode="json") for e in visible],
        [e.model_dump(mode="json") for e in spec.egress],
        [secret.name for secret in spec.secrets],
        endpoint.name,
        endpoint.model,
        prompt.PROMPT_VERSION,
        seen.base.manifest,
    )


def _open(seen: Observed, endpoint: ModelEndpoint, now: datetime) -> Ledger:
    """The ledger of the present input. A person opens a new one by a new value of the retry annotation."""
    wanted = input_hash(seen, endpoint)
    retry = seen.skill.metadata.annotations.get(naming.RETRY_ANNOTATION, "")
    stored = seen.config_maps.get(naming.ledger(seen.skill.metadata.name))
    if stored is not None:
        try:
            ledger = Ledger.model_validate_json(stored.get("data", {}).get(resource.KEY, ""))
        except ValidationError:
            ledger = None
        if ledger is not None and ledger.input_hash == wanted and retry in {"", ledger.retried}:
            return ledger
    return Ledger(input_hash=wanted, opened=now, retried=retry)


def _question(seen: Observed, work: Work, ledger: Ledger, kind: str) -> list[prompt.Message]:
    visible, _ = split(seen.skill.spec.examples)
    asked = prompt.first(seen.skill.spec, work.types, visible, seen.base.manifest)
    tried = [a for a in ledger.attempts if a.state in {"failed", "repeat"}]
    if kind == "repair" and tried:
        return prompt.repair(asked, tried[-1].source, tried[-1].gate, tried[-1].message)
    if kind == "fresh" and tried:
        return prompt.fresh(
            asked, [f"{a.gate or 'repeat'}: {a.message.splitlines()[0] if a.message else ''}" for a in tried]
        )
    return asked


def _endpoint(settings: Settings, skill: Skill) -> ModelEndpoint | None:
    wanted = skill.spec.generation.model
    return next((m for m in settings.models if not wanted or m.name == wanted), None)


def _no_model(settings: Settings, skill: Skill) -> Result:
    wanted = skill.spec.generation.model
    names = ", ".join(m.name for m in settings.models) or "none"
    message = (
        f"spec.generation.model {wanted!r} is not configured; the chart's models[] has: {names}"
        if wanted
        else "no model is configured: set models[] in the chart's values, or give the code in spec.source.inline"
    )
    return Result((finding(GENERATED, "False", "NoModel", message),), stalled=True, after=60.0)


def _limits(settings: Settings, skill: Skill, endpoint: ModelEndpoint) -> Limits:
    spec = skill.spec.generation
    return Limits(
        max_attempts=spec.max_attempts,
        token_budget=spec.token_budget,
        max_reply=endpoint.maxReplyTokens,
        faults=settings.generation.infrastructureFailures,
        deadline=timedelta(seconds=settings.generation.deadlineSeconds),
    )


def _told(step: Call | Candidate | Stop | Wait, ledger: Ledger, limits: Limits, work: Work) -> Result:
    match step:
        case Call():
            number = ledger.last.number if ledger.last else 1
            text = (
                f"attempt {number} of {limits.max_attempts}: {ledger.last.endpoint if ledger.last else ''} is writing"
            )
            return Result((finding(GENERATED, "Unknown", "Generating", text),), call=step)
        case Candidate(attempt=attempt):
            work.source = attempt.source
            text = f"attempt {attempt.number} of {limits.max_attempts}, {ledger.tokens} tokens so far"
            return Result((finding(GENERATED, "True", "Generated", text),), done=True)
        case Stop(reason=reason, message=message):
            return Result((finding(GENERATED, "False", reason, message),), stalled=True)
        case Wait(seconds=seconds, reason=reason, message=message):
            return Result((finding(GENERATED, "Unknown", reason, message),), after=seconds or None)


def _status(ledger: Ledger, endpoint: ModelEndpoint) -> GenerationStatus:
    failed = next((a for a in reversed(ledger.attempts) if a.state == "failed"), None)
    return GenerationStatus(
        attempts=ledger.candidates,
        tokens=ledger.tokens,
        model=endpoint.model,
        last_failure=Failure(gate=failed.gate, message=failed.message, line=failed.line) if failed else None,
    )


def _read_key(endpoint: ModelEndpoint) -> str:
    if not endpoint.apiKeyFile:
        return ""
    try:
        return Path(endpoint.apiKeyFile).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ModelRefused(f"the key of {endpoint.name} cannot be read: {error.strerror}; see apiKeySecret") from error
