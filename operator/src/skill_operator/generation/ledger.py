"""The ledger of one input of a Skill: what was asked of models, what it cost, what came of it.

It stands in the cluster before a request leaves, so a crash can lose a reply but never repeat a call for free. All
functions are pure; a ledger is never changed, only replaced. The ledgers of one Skill are its books (`books.py`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

State = Literal["reserved", "candidate", "passed", "failed", "repeat", "empty"]
Kind = Literal["first", "repair", "fresh"]
SMALLEST_REPLY = 256  # tokens; with less left there is no point in asking
EMPTY_IN_A_ROW = 2
REPEATS, STALLS = 2, 2
LARGEST = 400 * 1024  # bytes of all code, as JSON; 1 MiB is the end of a ConfigMap
GATES = ("size", "policy", "ruff", "mypy", "examples", "schema", "hidden")
LONGEST_REPORT = 3000
CLEARER = "make the description or the examples clearer, and it starts anew"
_COUNT = re.compile(r"\b(\d{1,4})(?:/| of )(\d{1,4})\b")
_EXCERPT = re.compile(r"^[> ] +\d+ \| .*\n?", re.MULTILINE)
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+|(/[\w.-]+)+")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Attempt(_Frozen):
    """One reply, or the wait for it. Number 0 is no reply: code that was accepted before, on trial again."""

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
        gate = self.gate if self.gate in GATES else "examples"  # where code runs and may end the check itself
        return (GATES.index(gate), self.examples[0])

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
    anew: bool = False  # a person asked for it: no code of before will do
    not_before: AwareDatetime | None = None  # when the first call may be made, so soon after the ledger before
    first_call: AwareDatetime | None = None
    first_reply: AwareDatetime | None = None
    attempts: tuple[Attempt, ...] = ()
    call: str = ""  # the latest call: a name that no other call has
    charged: int | None = None  # what it came to; None while it is out
    faults: int = 0
    fault: str = ""
    fault_reason: str = ""
    retry_at: AwareDatetime | None = None
    fault_tokens: int = 0
    stop: str = ""
    stop_message: str = ""
    stop_report: str = ""
    stop_limit: int = 0

    @property
    def tokens(self) -> int:
        """Spent and, while a reply is awaited, what is reserved for it."""
        return sum(a.tokens for a in self.attempts) + self.fault_tokens

    @property
    def spent(self) -> int:
        return self.tokens - (self.last.tokens if self.last is not None and self.awaited else 0)

    @property
    def last(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def candidates(self) -> int:
        """What counts against maxAttempts: every reply with code, and the one that is awaited."""
        return sum(a.state != "empty" for a in self.attempts if a.number)

    @property
    def awaited(self) -> str:
        """The call whose reply is awaited."""
        return self.call if self.last is not None and self.last.state == "reserved" else ""

    @property
    def code(self) -> Attempt | None:
        """The latest code, be it refused."""
        return next((a for a in reversed(self.attempts) if a.fingerprint), None)

    @property
    def best(self) -> Attempt | None:
        """Of the refused ones, the one that came furthest; the latest of equals."""
        failed = [a for a in self.attempts if a.state == "failed" and a.source]
        return max(reversed(failed), key=lambda a: a.progress, default=None)


class GenerationLimits(_Frozen):
    max_attempts: int
    token_budget: int
    max_reply: int = SMALLEST_REPLY  # of the model whose turn it is
    faults: int
    deadline: timedelta


@dataclass(frozen=True)
class Call:
    """Ask the model: `kind` says how, `max_tokens` how long the reply may be."""

    kind: Kind
    max_tokens: int
    reserve: int


@dataclass(frozen=True)
class Candidate:
    attempt: Attempt
    accepted: bool


@dataclass(frozen=True)
class Stop:
    """`report`: on the best code; may be long. `limit`: what was reached, where a higher one lets the work go on."""

    reason: str
    message: str
    report: str = ""
    limit: int = 0


@dataclass(frozen=True)
class Wait:
    """`stalled`: so long that whoever waits for the Skill should be told."""

    seconds: float
    reason: str
    message: str
    stalled: bool = False


def decide(
    ledger: Ledger, limits: GenerationLimits, prompt_tokens: int, now: datetime
) -> Call | Candidate | Stop | Wait:
    """The next step. Rules that stop come before those that spend."""
    if ledger.stop and not _raised(ledger, limits):
        return Stop(ledger.stop, ledger.stop_message, ledger.stop_report, ledger.stop_limit)
    last = ledger.last
    if last is not None and last.state == "reserved":
        return Wait(0, "Generating", f"attempt {last.number} of {limits.max_attempts}: {last.endpoint} is writing")
    if last is not None and last.state in {"candidate", "passed"}:
        return Candidate(last, accepted=last.state == "passed")
    if (stop := _stop(ledger, limits, now)) is not None:
        return stop
    if (wait := _wait(ledger, limits, now)) is not None:
        return wait
    left = limits.token_budget - ledger.tokens
    reply = min(limits.max_reply, left - prompt_tokens)
    if reply < SMALLEST_REPLY:
        return Stop(
            "BudgetExhausted",
            f"{ledger.tokens} of {limits.token_budget} tokens are spent and the next question needs about "
            f"{prompt_tokens}: raise spec.generation.tokenBudget, or shorten the spec",
            _report(ledger),
            limits.token_budget,
        )
    return Call(_kind(ledger), reply, prompt_tokens + reply)


def _kind(ledger: Ledger) -> Kind:
    """After a repeat or no progress, a start without the code so far."""
    code = ledger.code
    if code is None:
        return "first"
    return "repair" if code.state == "failed" and not _stalls(ledger.attempts[-2:]) else "fresh"


def _wait(ledger: Ledger, limits: GenerationLimits, now: datetime) -> Wait | None:
    if ledger.retry_at is not None and ledger.retry_at > now:
        seconds = (ledger.retry_at - now).total_seconds()
        text = f"{ledger.fault} It is asked again at {ledger.retry_at:%H:%M:%S} UTC"
        return Wait(seconds, ledger.fault_reason, text, stalled=ledger.faults >= limits.faults)
    if ledger.first_call is None and ledger.not_before is not None and ledger.not_before > now:
        seconds = (ledger.not_before - now).total_seconds()
        text = f"the spec changed so soon after a model was asked; it is asked at {ledger.not_before:%H:%M:%S} UTC"
        return Wait(seconds, "Throttled", text)
    return None


def _stop(ledger: Ledger, limits: GenerationLimits, now: datetime) -> Stop | None:
    attempts, report = ledger.attempts, _report(ledger)
    if sum(a.state == "repeat" for a in attempts) >= REPEATS:
        return Stop("LoopDetected", f"the model keeps writing the same code: {CLEARER}", report)
    refused = [a.signature for a in attempts if a.state == "failed" and a.gate == "policy"]
    if len(refused) > len(set(refused)):
        grant = "grant it in the spec if it is an egress or a secret, or say how to do without"
        return Stop("PolicyRefused", f"the model insists on something forbidden: {grant}", report)
    disputed = [a.complaint for a in attempts if _disputes(a)]
    if len(disputed) > len(set(disputed)):
        told = "different programs agree with each other, and not with the example: correct it, or the description"
        return Stop("SuspectSpec", told, report)
    if _stalls(attempts) >= STALLS:
        return Stop("NoProgress", f"the model comes no further, a fresh start included: {CLEARER}", report)
    if [a.state for a in attempts[-EMPTY_IN_A_ROW:]] == ["empty"] * EMPTY_IN_A_ROW:
        return _unusable(attempts[-1])
    if ledger.candidates >= limits.max_attempts:
        count = f"{ledger.candidates} of {limits.max_attempts} attempts"
        return Stop("AttemptsExhausted", f"{count} were refused: {CLEARER}", report, limits.max_attempts)
    if ledger.first_reply is not None and now - ledger.first_reply > limits.deadline:
        told = f"no code was accepted within {limits.deadline} from the first reply: {CLEARER}"
        return Stop("DeadlineExceeded", told, report)
    return None


def _unusable(last: Attempt) -> Stop:
    if last.gate == "cut-off":
        told = "raise maxReplyTokens of the model in the chart's values, or ask for less in one Skill"
        return Stop("ReplyCutOff", f"{EMPTY_IN_A_ROW} replies in a row were longer than they may be: {told}")
    return Stop("NoCode", f"{EMPTY_IN_A_ROW} replies in a row held no usable code: {last.message}")


def _raised(ledger: Ledger, limits: GenerationLimits) -> bool:
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


def _report(ledger: Ledger) -> str:
    """What is wrong with the best code."""
    best = ledger.best
    if best is None:
        return ""
    which = f"Attempt {best.number}" if best.number else "The code of before"
    line = f" at line {best.line}" if best.line else ""
    return f"{which} came furthest. It was refused by {best.gate}{line}: {best.message}"


def reserve(ledger: Ledger, endpoint: str, tokens: int, call: str, now: datetime) -> Ledger:
    """`call` is its name."""
    opened = ledger.model_copy(
        update={
            "stop": "",
            "stop_message": "",
            "stop_report": "",
            "stop_limit": 0,
            "call": call,
            "charged": None,
            "first_call": ledger.first_call or now,
        }
    )
    return _with(opened, Attempt(number=ledger.candidates + 1, state="reserved", endpoint=endpoint, tokens=tokens))


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
) -> Ledger:
    """A reply came. Without code it costs tokens but no attempt; code seen before is not checked again."""
    if not ledger.awaited:
        return ledger
    seen = {a.fingerprint for a in ledger.attempts if a.fingerprint}
    state: State = "empty" if not source else "repeat" if fingerprint in seen else "candidate"
    values = {"state": state, "tokens": tokens, "estimated": estimated, "source": source, "fingerprint": fingerprint}
    told = problem or ("the same code as before" if state == "repeat" else "")
    settled = _last(ledger, **values, gate=flaw if state == "empty" else "", message=told)
    calm = {"faults": 0, "fault": "", "fault_reason": "", "retry_at": None}
    known = {"charged": tokens, "first_reply": ledger.first_reply or now}
    return _fitted(settled.model_copy(update=calm | known))


def record_fault(
    ledger: Ledger, message: str, charged: int, retry_at: datetime, *, reason: str = "ModelUnavailable", severe: int = 1
) -> Ledger:
    """The call failed before an answer: no attempt is spent. `charged`: what may have been billed all the same;
    `severe`: how many failures it counts as."""
    if not ledger.awaited:
        return ledger
    return ledger.model_copy(
        update={
            "attempts": ledger.attempts[:-1],
            "charged": charged,
            "faults": ledger.faults + severe,
            "fault": message,
            "fault_reason": reason,
            "fault_tokens": ledger.fault_tokens + charged,
            "retry_at": retry_at,
        }
    )


def record_loss(ledger: Ledger, now: datetime) -> Ledger:
    """Nobody waits for the reply any more (the operator was restarted): all that was reserved counts as spent."""
    if ledger.last is None:
        return ledger
    told = f"The operator was restarted while {ledger.last.endpoint} was writing; its reply is lost."
    return record_fault(ledger, told, ledger.last.tokens, now)


def readopt(ledger: Ledger, source: str, fingerprint: str) -> Ledger:
    """On trial first: code that was accepted for the same task, when it was asked for or judged in another way."""
    if ledger.attempts:
        return ledger
    return _with(
        ledger,
        Attempt(number=0, state="candidate", endpoint="", tokens=0, source=source, fingerprint=fingerprint),
    )


def record_verdict(ledger: Ledger, *, passed: bool, gate: str, message: str, line: int | None) -> Ledger:
    """The verdict on the last candidate. What has passed may still fail: a check is made again when it was lost."""
    if ledger.last is None or ledger.last.state not in {"candidate", "passed"}:
        return ledger
    return _last(ledger, state="passed" if passed else "failed", gate=gate, message=message, line=line)


def stop(ledger: Ledger, stop: Stop) -> Ledger:
    return ledger.model_copy(
        update={
            "stop": stop.reason,
            "stop_message": stop.message,
            "stop_report": stop.report[:LONGEST_REPORT],
            "stop_limit": stop.limit,
        }
    )


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
