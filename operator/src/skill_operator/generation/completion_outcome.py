"""The outcome of a call becomes an entry in the ledger, and an event for people where no condition shows it.

A call ends with a reply, which may hold no code, with a fault that may pass, or with a refusal; or it is lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import datetime, timedelta

from skill_operator.generation import ledger_entries
from skill_operator.generation.completion_client import ReadCompletion
from skill_operator.generation.completion_reader import MAX_QUOTED_CHARACTERS
from skill_operator.generation.decision import GenerationLimits
from skill_operator.generation.generation_step import GenerationEvent, describe_attempt
from skill_operator.generation.ledger import NO_ANSWER, REFUSED, Ledger
from skill_operator.generation.ledger_entries import ReplyDetails
from skill_operator.generation.provider import ModelRefused, ModelUnavailable
from skill_operator.untrusted.text import single_line

log = logging.getLogger(__name__)
FIRST_RETRY_SECONDS = 2.0
MAX_RETRY_SECONDS = 300.0
STALLED_RETRY_SECONDS = 1800.0  # after too many faults in a row: an outage ends, and nobody must retry each Skill

_EMPTY_REPLY_REASONS = {"cut-off": "ReplyCutOff", NO_ANSWER: "ReplyCutOff", REFUSED: "TaskRefused"}


def record_outcome(
    ledger: Ledger, task: asyncio.Task[ReadCompletion], now: datetime, *, max_faults: int, endpoint_version: str
) -> Ledger:
    """Return the ledger with the outcome of its last attempt's call, whose `task` has finished.

    `max_faults` is the number of faults in a row after which a Skill counts as stalled. `endpoint_version` is the
    present version of the endpoint's settings.
    """
    if ledger.last is None or task.cancelled():
        return ledger_entries.record_loss(ledger, now)
    reserved_tokens = ledger.last.tokens
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
            endpoint_version=endpoint_version,
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
            endpoint_version=endpoint_version,
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


def describe_reply(before: Ledger, after: Ledger, limits: GenerationLimits) -> tuple[GenerationEvent, ...]:
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
        attempt = describe_attempt(before.last.number, limits)
        text = (
            f"{attempt}: {last.endpoint} wrote code that was refused before ({last.tokens} tokens); it is not checked"
        )
        return (GenerationEvent("CodeRepeated", text),)
    return ()


def _retry_at(now: datetime, seconds: float) -> datetime:
    """Return a time at least `seconds` from now, and up to 30 % more: not all Skills retry at once."""
    return now + timedelta(seconds=seconds * random.uniform(1.0, 1.3))
