"""Ledger entries record what has happened to a call and its code: reservation, price, fault, verdict or rejection.

All functions are pure: each takes a ledger and returns the one that replaces it. What comes too late changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from skill_operator.generation.decision import Stop
from skill_operator.generation.ledger import MAX_SOURCES_BYTES, REVIEW_GATE, Attempt, AttemptState, Ledger

MAX_REPORT_CHARACTERS = 3000
_NO_FAULT = {"faults": 0, "unanswered": 0, "fault": "", "fault_reason": "", "fault_endpoint": "", "retry_at": None}


@dataclass(frozen=True)
class ReplyDetails:
    """ReplyDetails are facts about a reply that no rule but the one on reply limits depends on.

    `words` are those of the model, for people. `reasoning_tokens` were charged, and are not in the text. `reply_limit`
    is what the endpoint allowed, if that is less than what was reserved, else 0.
    """

    words: str = ""
    reasoning_tokens: int = 0
    reply_limit: int = 0


def reserve(ledger: Ledger, endpoint: str, tokens: int, call_id: str, now: datetime, *, reply_limit: int = 0) -> Ledger:
    """Return the ledger with a new attempt that reserves `tokens` for the call `call_id` of `endpoint`.

    `reply_limit` is the part of the tokens that the reply may have. The deadline of generation that goes on after a
    stop counts anew.
    """
    resumed_ledger = ledger.model_copy(
        update={
            "stop": "",
            "stop_message": "",
            "stop_report": "",
            "stop_limit": 0,
            "stop_budget": 0,
            "call": call_id,
            "charged": None,
            "first_call": ledger.first_call or now,
            "first_reply": None if ledger.stop else ledger.first_reply,
        }
    )
    number = ledger.attempt_count + 1
    attempt = Attempt(number=number, state="reserved", endpoint=endpoint, tokens=tokens, reply_limit=reply_limit)
    return _append(resumed_ledger, attempt)


def settle(
    ledger: Ledger,
    tokens: int,
    now: datetime,
    *,
    estimated: bool,
    source: str,
    fingerprint: str,
    flaw: str,
    problem: str,
    details: ReplyDetails | None = None,
) -> Ledger:
    """Return the ledger with the pending reply recorded, at the price of `tokens`.

    A reply without code costs tokens but no attempt; code with a known fingerprint is a repeat and is not checked.
    """
    if not ledger.pending_call:
        return ledger
    fingerprints = {attempt.fingerprint for attempt in ledger.attempts if attempt.fingerprint}
    state: AttemptState = "empty" if not source else "repeat" if fingerprint in fingerprints else "candidate"
    values: dict[str, object] = {"state": state, "tokens": tokens, "estimated": estimated}
    values |= {"source": source, "fingerprint": fingerprint}
    found = details or ReplyDetails()
    values |= {"words": found.words, "reasoning_tokens": found.reasoning_tokens}
    values["reply_limit"] = found.reply_limit or ledger.attempts[-1].reply_limit
    values["limited"] = bool(found.reply_limit)
    message = problem or ("the same code as before" if state == "repeat" else "")  # a prompt may quote it
    updated_ledger = _update_last(ledger, **values, gate=flaw if state == "empty" else "", message=message)
    outcome = {"charged": tokens, "first_reply": ledger.first_reply or now}
    return drop_oldest_sources(updated_ledger.model_copy(update=_NO_FAULT | outcome))


def forget_fault(ledger: Ledger, endpoint_version: str) -> Ledger:
    """Return the ledger without its fault, if that is about other settings of the endpoint than the present ones."""
    if not ledger.fault_endpoint or ledger.fault_endpoint == endpoint_version:
        return ledger
    return ledger.model_copy(update=_NO_FAULT)


def record_fault(
    ledger: Ledger,
    message: str,
    charged: int,
    retry_at: datetime,
    *,
    reason: str = "ModelUnavailable",
    fault_count: int = 1,
    endpoint_version: str = "",
    is_unanswered: bool = False,
) -> Ledger:
    """Return the ledger after a call that failed before an answer; it spends no attempt.

    `charged`: the tokens that may have been billed all the same. `fault_count`: the number of faults it counts as.
    `endpoint_version`: the settings of the endpoint that was called; once they change, there is nothing to wait for.
    `is_unanswered`: the call was sent, and nobody knows what the endpoint wrote.
    """
    if not ledger.pending_call:
        return ledger
    return ledger.model_copy(
        update={
            "attempts": ledger.attempts[:-1],
            "charged": charged,
            "faults": ledger.faults + fault_count,
            "fault": message,
            "fault_reason": reason,
            "fault_endpoint": endpoint_version,
            "fault_tokens": ledger.fault_tokens + charged,
            "unanswered": ledger.unanswered + is_unanswered,
            "retry_at": retry_at,
        }
    )


def record_loss(ledger: Ledger, now: datetime) -> Ledger:
    """Return the ledger after a restart of the operator lost the pending reply: the whole reservation is charged."""
    if ledger.last is None:
        return ledger
    message = f"The operator was restarted while {ledger.last.endpoint} was writing; its reply is lost."
    return record_fault(ledger, message, ledger.last.tokens, now)


def readopt(ledger: Ledger, source: str, fingerprint: str) -> Ledger:
    """Return an empty ledger with code that was accepted for the same task: it is checked before a model is called."""
    if ledger.attempts:
        return ledger
    return _append(
        ledger,
        Attempt(number=0, state="candidate", endpoint="", tokens=0, source=source, fingerprint=fingerprint),
    )


def find_readopted(ledger: Ledger) -> str:
    """Return the code that was accepted before this input, or an empty string."""
    return next((attempt.source for attempt in ledger.attempts if attempt.number == 0), "")


def record_verdict(
    ledger: Ledger, *, passed: bool, gate: str, message: str, line: int | None, private: str = ""
) -> Ledger:
    """Return the ledger with the verdict on the last candidate. `private` is for people alone.

    Code that has passed may still fail: the check runs again if its verdict was lost.
    """
    if ledger.last is None or ledger.last.state not in {"candidate", "passed"}:
        return ledger
    state = "passed" if passed else "failed"
    return _update_last(ledger, state=state, gate=gate, message=message, private=private, line=line)


def record_rejection(ledger: Ledger, message: str) -> Ledger:
    """Return the ledger after a person rejected the last candidate, in these words. Generation has its time anew."""
    if ledger.last is None or ledger.last.state not in {"candidate", "passed"}:
        return ledger
    rejected = _update_last(ledger, state="failed", gate=REVIEW_GATE, message=message, private="", line=None)
    return rejected.model_copy(update={"first_reply": None})


def refuse_rejected(ledger: Ledger, rejected: Mapping[str, str]) -> Ledger:
    """Return the ledger with a reply that repeats what a person rejected, for whatever input, as a repeat.

    `rejected` has the reviewer's words by the code's fingerprint.
    """
    last = ledger.last
    if last is None or last.state not in {"candidate", "repeat"} or last.fingerprint not in rejected:
        return ledger
    message = f"the same code as before, which a reviewer rejected: {rejected[last.fingerprint]}"
    return _update_last(ledger, state="repeat", message=message)


def stop(ledger: Ledger, stop: Stop) -> Ledger:
    """Return the ledger with the reason why generation has ended."""
    return ledger.model_copy(
        update={
            "stop": stop.reason,
            "stop_message": stop.message,
            "stop_report": stop.report[:MAX_REPORT_CHARACTERS],
            "stop_limit": stop.limit,
            "stop_budget": stop.budget,
        }
    )


def drop_oldest_sources(ledger: Ledger) -> Ledger:
    """Return the ledger without the oldest code, if all of it exceeds a ConfigMap; fingerprints and reports stay."""
    attempts = list(ledger.attempts)
    remaining_bytes = MAX_SOURCES_BYTES - len(json.dumps(ledger.opinion.source if ledger.opinion is not None else ""))
    for index in reversed(range(len(attempts))):
        remaining_bytes -= len(json.dumps(attempts[index].source))
        if remaining_bytes < 0 and index < len(attempts) - 1:
            attempts[index] = attempts[index].model_copy(update={"source": ""})
    return ledger.model_copy(update={"attempts": tuple(attempts)})


def _append(ledger: Ledger, attempt: Attempt) -> Ledger:
    return ledger.model_copy(update={"attempts": (*ledger.attempts, attempt)})


def _update_last(ledger: Ledger, **values: object) -> Ledger:
    *earlier, last = ledger.attempts
    return ledger.model_copy(update={"attempts": (*earlier, last.model_copy(update=values))})
