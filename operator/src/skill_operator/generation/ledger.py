"""The ledger of one Skill: what was asked of models, what it cost, what came of it.

It stands in the cluster before a request leaves, so a crash can lose a reply but never repeat a call for free. All
functions are pure; a ledger is never changed, only replaced.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

State = Literal["reserved", "candidate", "passed", "failed", "repeat", "empty", "lost"]
SMALLEST_REPLY = 256  # tokens; with less left there is no point in asking
EMPTY_IN_A_ROW = 2
REPEATS, STALLS = 2, 2
LARGEST = 400 * 1024  # bytes of all code, as JSON; it is stored beside the ledger once more, and 1 MiB is the end
GATES = ("size", "policy", "ruff", "mypy", "examples", "hidden")
_COUNT = re.compile(r"\b(\d{1,4})(?:/| of )(\d{1,4})\b")
_EXCERPT = re.compile(r"^[> ] +\d+ \| .*\n?", re.MULTILINE)
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+|(/[\w.-]+)+")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Attempt(_Frozen):
    number: int
    state: State
    endpoint: str
    tokens: int  # reserved at first, then what was charged
    estimated: bool = True
    source: str = ""
    fingerprint: str = ""
    gate: str = ""
    message: str = ""
    line: int | None = None

    @property
    def examples(self) -> tuple[int, int]:
        """How many passed of those that were run, as the report says it."""
        count = _COUNT.search(self.message) if self.gate in {"examples", "hidden"} else None
        return (int(count[1]), int(count[2])) if count else (0, 0)

    @property
    def progress(self) -> tuple[int, int]:
        """How far it came: the gate that refused it, and the examples it passed."""
        return (GATES.index(self.gate) if self.gate in GATES else len(GATES), self.examples[0])

    @property
    def complaint(self) -> str:
        """The report without the lines of code in it, which differ from one candidate to the next."""
        return _EXCERPT.sub("", self.message)

    @property
    def signature(self) -> tuple[str, str]:
        """What was wrong with it, whatever the numbers, addresses and paths."""
        return (self.gate, _VARYING.sub("#", self.complaint))


class Ledger(_Frozen):
    """Of one input hash. `faults`: calls in a row that never reached a model's answer."""

    input_hash: str
    opened: AwareDatetime
    attempts: tuple[Attempt, ...] = ()
    faults: int = 0
    fault: str = ""
    retry_at: AwareDatetime | None = None
    fault_tokens: int = 0
    stop: str = ""
    stop_message: str = ""
    stop_limit: int = 0
    retried: str = ""  # value of the retry annotation that opened this ledger

    @property
    def tokens(self) -> int:
        return sum(a.tokens for a in self.attempts) + self.fault_tokens

    @property
    def last(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def candidates(self) -> int:
        """What counts against maxAttempts: every reply with code, and every reply that was lost."""
        return sum(a.state != "empty" for a in self.attempts)


class Limits(_Frozen):
    max_attempts: int
    token_budget: int
    max_reply: int
    faults: int
    deadline: timedelta


@dataclass(frozen=True)
class Call:
    """Ask the model: `kind` says how, `max_tokens` how long the reply may be."""

    kind: Literal["first", "repair", "fresh"]
    max_tokens: int
    reserve: int


@dataclass(frozen=True)
class Candidate:
    attempt: Attempt
    accepted: bool


@dataclass(frozen=True)
class Stop:
    """`limit`: the limit that was reached, where a higher one lets the work go on."""

    reason: str
    message: str
    limit: int = 0


@dataclass(frozen=True)
class Wait:
    seconds: float
    reason: str
    message: str


def decide(ledger: Ledger, limits: Limits, prompt_tokens: int, now: datetime) -> Call | Candidate | Stop | Wait:
    """The next step. Rules that stop come before those that spend."""
    if ledger.stop and not _raised(ledger, limits):
        return Stop(ledger.stop, ledger.stop_message, ledger.stop_limit)
    last = ledger.last
    if last is not None and last.state == "reserved":
        return Wait(0, "Generating", f"attempt {last.number} of {limits.max_attempts}: {last.endpoint} is writing")
    if last is not None and last.state in {"candidate", "passed"}:
        return Candidate(last, accepted=last.state == "passed")
    if (stop := _stop(ledger, limits, now)) is not None:
        return stop
    if ledger.retry_at is not None and ledger.retry_at > now:
        wait = (ledger.retry_at - now).total_seconds()
        return Wait(wait, "ModelUnavailable", f"{ledger.fault} It is asked again at {ledger.retry_at:%H:%M:%S} UTC")
    left = limits.token_budget - ledger.tokens
    reply = min(limits.max_reply, left - prompt_tokens)
    if reply < SMALLEST_REPLY:
        return Stop(
            "BudgetExhausted",
            f"{ledger.tokens} of {limits.token_budget} tokens are spent and the next question needs about "
            f"{prompt_tokens}: raise spec.generation.tokenBudget, or simplify the spec. {_why(ledger)}",
            limits.token_budget,
        )
    kind: Literal["first", "repair", "fresh"] = "first"
    if last is not None and last.state == "failed" and not _stalls(ledger.attempts[-2:]):
        kind = "repair"
    elif any(a.state in {"failed", "repeat"} for a in ledger.attempts):
        kind = "fresh"
    return Call(kind, reply, prompt_tokens + reply)


def _stop(ledger: Ledger, limits: Limits, now: datetime) -> Stop | None:
    attempts = ledger.attempts
    if sum(a.state == "repeat" for a in attempts) >= REPEATS:
        return Stop("LoopDetected", f"the model keeps writing the same code. {_why(ledger)}")
    refused = [a.signature for a in attempts if a.state == "failed" and a.gate == "policy"]
    if len(refused) > len(set(refused)):
        return Stop("PolicyRefused", f"the model insists on something forbidden. {_why(ledger)}")
    disputed = [a.complaint for a in attempts if _disputes(a)]
    if len(disputed) > len(set(disputed)):
        return Stop(
            "SuspectSpec", f"different programs agree with each other, and not with the example. {_why(ledger)}"
        )
    if _stalls(attempts) >= STALLS:
        return Stop("NoProgress", f"the model comes no further, a fresh start included. {_why(ledger)}")
    if [a.state for a in attempts[-EMPTY_IN_A_ROW:]] == ["empty"] * EMPTY_IN_A_ROW:
        return Stop("NoCode", f"{EMPTY_IN_A_ROW} replies in a row held no usable code: {attempts[-1].message}")
    if ledger.candidates >= limits.max_attempts:
        count = f"{ledger.candidates} of {limits.max_attempts} attempts"
        return Stop("AttemptsExhausted", f"{count} were refused. {_why(ledger)}", limits.max_attempts)
    if ledger.faults >= limits.faults:
        return Stop("ModelUnavailable", f"{ledger.faults} calls in a row failed: {ledger.fault}")
    if now - ledger.opened > limits.deadline:
        return Stop("DeadlineExceeded", f"no code was accepted within {limits.deadline}. {_why(ledger)}")
    return None


def _raised(ledger: Ledger, limits: Limits) -> bool:
    """Whether the limit that ended the work was raised since."""
    now = {"BudgetExhausted": limits.token_budget, "AttemptsExhausted": limits.max_attempts}
    return now.get(ledger.stop, 0) > ledger.stop_limit


def _stalls(attempts: tuple[Attempt, ...]) -> int:
    """How often a candidate failed as the one before it did and came no further."""
    failed = [a for a in attempts if a.state == "failed"]
    return sum(b.signature == a.signature and b.progress <= a.progress for a, b in pairwise(failed))


def _disputes(attempt: Attempt) -> bool:
    """All examples but one pass, and that one got an answer, no exception: rather than the code, it may be wrong."""
    passed, total = attempt.examples
    answered = attempt.state == "failed" and attempt.gate == "examples" and attempt.line is None
    return answered and 1 < total == passed + 1


def _why(ledger: Ledger) -> str:
    failed = [a for a in ledger.attempts if a.state == "failed"]
    if not failed:
        return ""
    last = failed[-1]
    line = f", line {last.line}" if last.line else ""
    return (
        f"The last refusal, by {last.gate}{line}: {last.message}\nMake the description or the examples clearer; "
        "a changed spec starts anew"
    )


def reserve(ledger: Ledger, endpoint: str, tokens: int) -> Ledger:
    number = ledger.candidates + 1
    opened = ledger.model_copy(update={"stop": "", "stop_message": "", "stop_limit": 0})
    return _with(opened, Attempt(number=number, state="reserved", endpoint=endpoint, tokens=tokens))


def settle(ledger: Ledger, tokens: int, *, estimated: bool, source: str, fingerprint: str, problem: str) -> Ledger:
    """A reply came. Without code it costs tokens but no attempt; code seen before is not checked again."""
    if not _awaits(ledger, "reserved"):
        return ledger
    seen = {a.fingerprint for a in ledger.attempts if a.fingerprint}
    state: State = "empty" if not source else "repeat" if fingerprint in seen else "candidate"
    values = {"state": state, "tokens": tokens, "estimated": estimated, "source": source, "fingerprint": fingerprint}
    told = problem or ("the same code as before" if state == "repeat" else "")
    settled = _last(ledger, **values, message=told)
    return _fitted(settled.model_copy(update={"faults": 0, "fault": "", "retry_at": None}))


def lost(ledger: Ledger) -> Ledger:
    """Nobody waits for the reply any more (the operator was restarted): the reservation counts as spent."""
    if not _awaits(ledger, "reserved"):
        return ledger
    return _last(ledger, state="lost", message="the operator was restarted while the model was writing")


def fault(ledger: Ledger, message: str, charged: int, retry_at: datetime) -> Ledger:
    """The call failed before an answer: no attempt is spent. `charged`: what may have been billed all the same."""
    if not _awaits(ledger, "reserved"):
        return ledger
    return ledger.model_copy(
        update={
            "attempts": ledger.attempts[:-1],
            "faults": ledger.faults + 1,
            "fault": message,
            "fault_tokens": ledger.fault_tokens + charged,
            "retry_at": retry_at,
        }
    )


def judged(ledger: Ledger, *, passed: bool, gate: str, message: str, line: int | None) -> Ledger:
    """The verdict on the last candidate; a second verdict changes nothing."""
    if not _awaits(ledger, "candidate"):
        return ledger
    return _last(ledger, state="passed" if passed else "failed", gate=gate, message=message, line=line)


def stopped(ledger: Ledger, stop: Stop) -> Ledger:
    return ledger.model_copy(
        update={"stop": stop.reason, "stop_message": stop.message[:3000], "stop_limit": stop.limit}
    )


def _awaits(ledger: Ledger, state: State) -> bool:
    """Whether the last attempt is in this state; what comes too late changes nothing."""
    return ledger.last is not None and ledger.last.state == state


def _fitted(ledger: Ledger) -> Ledger:
    """Without the oldest code, if all of it does not fit a ConfigMap; fingerprints and reports stay."""
    kept = list(ledger.attempts)
    room = LARGEST
    for at in reversed(range(len(kept))):
        room -= len(json.dumps(kept[at].source))
        if room < 0 and at < len(kept) - 1:
            kept[at] = kept[at].model_copy(update={"source": ""})
    return ledger.model_copy(update={"attempts": tuple(kept)})


def _with(ledger: Ledger, attempt: Attempt) -> Ledger:
    return ledger.model_copy(update={"attempts": (*ledger.attempts, attempt)})


def _last(ledger: Ledger, **values: object) -> Ledger:
    *before, last = ledger.attempts
    return ledger.model_copy(update={"attempts": (*before, last.model_copy(update=values))})
