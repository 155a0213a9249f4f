"""The ledger records, for one input of a Skill, each call of a model, its cost and its outcome.

It is stored in the cluster before a request is sent, so a crash can lose a reply but never repeat a call for free. All
functions are pure; a ledger is never changed, only replaced. `ledger_history.py` holds all ledgers of one Skill.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise, takewhile
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from skill_operator.generation.disputes import Dispute, find_dispute

AttemptState = Literal["reserved", "candidate", "passed", "failed", "repeat", "empty"]
OpinionState = Literal["reserved", "candidate", "agrees", "differs", "none", "skipped"]
CallKind = Literal["first", "repair", "fresh"]
MIN_REPLY_TOKENS = 256  # with less left, a call could not produce a file
MAX_CONSECUTIVE_EMPTY_REPLIES = 2
MIN_REPLY_GROWTH_RATIO = 1.5  # less is not worth another call after a reply whose limit reasoning took up
MAX_REPEATS = 2
MAX_STALLS_IN_A_ROW = 3  # so that the first repairs are never cut short: one of three that succeed has stalled before
MAX_PROGRAMS_IN_DISPUTE = 3  # two that agree are wrong together more often than the example is
MAX_SOURCES_BYTES = 400 * 1024  # all code of a ledger, as JSON; a ConfigMap ends at 1 MiB
MAX_REPORT_CHARACTERS = 3000
REVIEW_GATE = "review"  # of code that passed every gate of the check, and that a person rejected
GATES = ("size", "policy", "ruff", "mypy", "examples", "schema", "hidden")
CLARIFY_ADVICE = "make the description or the examples clearer, and generation starts again"
NO_PROGRESS = f"the model makes no progress, even after a fresh start: {CLARIFY_ADVICE}"
NO_ANSWER = "no-answer"  # flaw of a reply whose limit reasoning took up: more tokens help, other words do not
REFUSED = "refused"  # flaw of a reply in which the model or a filter declines
_CUT_OFF = frozenset({"cut-off", NO_ANSWER})
_NO_FAULT = {"faults": 0, "unanswered": 0, "fault": "", "fault_reason": "", "fault_endpoint": "", "retry_at": None}
_EXAMPLE_COUNT = re.compile(r"\b(\d{1,4})(?:/| of )(\d{1,4})\b")
_CODE_EXCERPT = re.compile(r"^[> ] +\d+ \| .*\n?", re.MULTILINE)
_VARYING_PART = re.compile(r"0x[0-9a-fA-F]+|\d+|(/[\w.-]+)+")


class StoredModel(BaseModel):
    """StoredModel is the base of what ConfigMaps keep as JSON.

    Its field names are the stored format: a renamed field would lose what earlier versions of the operator recorded.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")


class Attempt(StoredModel):
    """An attempt is one reply of a model, or the reservation for it.

    Number 0 is code that was accepted before, and is checked again without a call.
    """

    number: int
    state: AttemptState
    endpoint: str
    tokens: int  # reserved at first, then what was charged
    estimated: bool = True
    source: str = ""
    fingerprint: str = ""
    gate: str = ""
    message: str = ""
    private: str = ""  # what failed among the held-out examples: people read it, and no prompt holds it
    line: int | None = None
    words: str = ""  # of the model or its endpoint, for people: no prompt quotes them
    reply_limit: int = 0  # tokens that the reply could have; 0 in ledgers of earlier versions
    limited: bool = False  # by the endpoint: a longer reply cannot be had from it
    reasoning_tokens: int = 0  # charged, and not in the reply's text

    @property
    def example_counts(self) -> tuple[int, int]:
        """The numbers of examples that passed and that ran, as the check's report states them."""
        count = _EXAMPLE_COUNT.search(self.message) if self.gate in {"examples", "hidden"} else None
        return (int(count[1]), int(count[2])) if count else (0, 0)

    @property
    def progress(self) -> tuple[int, int]:
        """The index of the gate that refused the code, and the number of examples that passed. Higher is better."""
        if self.gate == REVIEW_GATE:
            return (len(GATES), 0)
        gate = self.gate if self.gate in GATES else "examples"  # the gate in which code runs and may end the check
        return (GATES.index(gate), self.example_counts[0])

    @property
    def complaint(self) -> str:
        """The report without its excerpts of code, which differ from one candidate to the next."""
        return _CODE_EXCERPT.sub("", self.message)

    @property
    def signature(self) -> tuple[str, str]:
        """The gate and the complaint without numbers, addresses and paths: equal for the same kind of failure."""
        return (self.gate, _VARYING_PART.sub("#", self.complaint))


class OpinionDifference(StoredModel):
    """An opinion difference is an input that two programs answer differently, with both answers, all as text."""

    input: str
    accepted: str
    other: str


class SecondOpinion(StoredModel):
    """A second opinion is a program that was written without sight of the accepted one, to be compared with it.

    It is `skipped` if no model was called for it, and `none` if it cannot be compared; `message` says why. Number 0 is
    one that was written for an earlier input of the same task. `since` is when its call or its comparison began.
    """

    state: OpinionState
    number: int = 0
    endpoint: str = ""
    tokens: int = 0
    estimated: bool = True
    source: str = ""
    fingerprint: str = ""
    message: str = ""
    task: str = ""  # hash of what both programs must do
    since: AwareDatetime | None = None
    differences: tuple[OpinionDifference, ...] = ()


class Ledger(StoredModel):
    """A ledger belongs to one input hash. `faults` counts the calls in a row that failed before a model answered."""

    input_hash: str
    anew: bool = False  # a person requested this generation: code that was accepted before is not tried
    not_before: AwareDatetime | None = None  # earliest first call, if it follows another ledger's first call closely
    first_call: AwareDatetime | None = None
    first_reply: AwareDatetime | None = None
    attempts: tuple[Attempt, ...] = ()
    call: str = ""  # id of the latest call; no other call has it
    charged: int | None = None  # tokens of the latest call; None while it runs
    faults: int = 0
    fault: str = ""
    fault_reason: str = ""
    unanswered: int = 0  # calls in a row that were sent and brought no reply
    fault_endpoint: str = ""  # version of the endpoint's settings that the fault is about
    retry_at: AwareDatetime | None = None
    fault_tokens: int = 0
    stop: str = ""
    stop_message: str = ""
    stop_report: str = ""
    stop_limit: int = 0
    stop_budget: int = 0
    opinion: SecondOpinion | None = None

    @property
    def tokens(self) -> int:
        """All tokens that were charged, plus those reserved for a reply that is pending."""
        opinion_tokens = self.opinion.tokens if self.opinion is not None else 0
        return sum(attempt.tokens for attempt in self.attempts) + opinion_tokens + self.fault_tokens

    @property
    def charged_tokens(self) -> int:
        """All tokens that were charged, without a pending reservation."""
        return self.tokens - (self.pending.tokens if self.pending is not None else 0)

    @property
    def last(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def attempt_count(self) -> int:
        """The number that counts against maxAttempts: every reply with code, the pending one, and a second opinion."""
        opinions = 1 if self.opinion is not None and self.opinion.number else 0
        return opinions + sum(attempt.state != "empty" for attempt in self.attempts if attempt.number)

    @property
    def pending(self) -> Attempt | SecondOpinion | None:
        """The attempt or the second opinion whose reply is pending."""
        return next((item for item in (self.last, self.opinion) if item is not None and item.state == "reserved"), None)

    @property
    def pending_call(self) -> str:
        """The id of the call whose reply is pending, or an empty string."""
        return self.call if self.pending is not None else ""

    @property
    def latest_code(self) -> Attempt | None:
        """The latest attempt that contained code, whether it was refused or not."""
        return next((attempt for attempt in reversed(self.attempts) if attempt.fingerprint), None)

    @property
    def rejected(self) -> Attempt | None:
        """The latest attempt that passed its check and that a person rejected."""
        return next((attempt for attempt in reversed(self.attempts) if attempt.gate == REVIEW_GATE), None)

    @property
    def best(self) -> Attempt | None:
        """The refused attempt with the most progress; the latest of equals."""
        failed_attempts = [attempt for attempt in self.attempts if attempt.state == "failed" and attempt.source]
        return max(reversed(failed_attempts), key=lambda attempt: attempt.progress, default=None)


class GenerationLimits(StoredModel):
    """GenerationLimits bounds the work on one input of a Skill."""

    max_attempts: int
    token_budget: int
    max_reply_tokens: int = MIN_REPLY_TOKENS  # of the model that is called next
    needed_reply_tokens: int = 0  # what that model's replies were seen to need, if that is more
    reply_ceiling: int = 0  # tokens of a reply that its endpoint allows at most; 0 while unknown
    max_faults: int  # in a row, before the Skill counts as stalled
    deadline: timedelta


@dataclass(frozen=True)
class Call:
    """The next step is a call of the model. `reserved_tokens` covers the prompt and a reply of `max_tokens`."""

    kind: CallKind
    max_tokens: int
    reserved_tokens: int


@dataclass(frozen=True)
class ReplyDetails:
    """ReplyDetails are facts about a reply that no rule but the one on reply limits depends on.

    `words` are those of the model, for people. `reasoning_tokens` were charged, and are not in the text. `reply_limit`
    is what the endpoint allowed, if that is less than what was reserved, else 0.
    """

    words: str = ""
    reasoning_tokens: int = 0
    reply_limit: int = 0


@dataclass(frozen=True)
class ReadyCandidate:
    """The next step is to check this code; `accepted`: it has passed before."""

    attempt: Attempt
    accepted: bool


@dataclass(frozen=True)
class Stop:
    """Generation has ended without accepted code.

    `report` describes the best code and may be long. `limit` is the limit that was reached, if raising it lets
    generation continue. `budget` is the token budget, where raising that helps as well.
    """

    reason: str
    message: str
    report: str = ""
    limit: int = 0
    budget: int = 0


@dataclass(frozen=True)
class Wait:
    """The next step is possible after `seconds`. `stalled`: the wait is so long that the Skill's owner should know."""

    seconds: float
    reason: str
    message: str
    stalled: bool = False


def decide(
    ledger: Ledger, limits: GenerationLimits, prompt_tokens: int, now: datetime
) -> Call | ReadyCandidate | Stop | Wait:
    """Return the next step. Rules that stop are applied before those that spend.

    After a call that was sent and not answered, the next asks for half as long a reply: all of it may be billed, a few
    in a row must not take up the budget, and an endpoint that is only slow may answer in time.
    """
    if ledger.stop and not _is_limit_raised(ledger, limits):
        return Stop(ledger.stop, ledger.stop_message, ledger.stop_report, ledger.stop_limit, ledger.stop_budget)
    last = ledger.last
    if last is not None and last.state == "reserved":
        return Wait(0, "Generating", f"attempt {last.number} of {limits.max_attempts}: {last.endpoint} is writing")
    if last is not None and last.state in {"candidate", "passed"}:
        return ReadyCandidate(last, accepted=last.state == "passed")
    if ledger.pending is not None:
        return Wait(0, "Generating", f"{ledger.pending.endpoint} is writing a second opinion")
    if (stop := _find_stop(ledger, limits, now)) is not None:
        return stop
    if (wait := _find_wait(ledger, limits, now)) is not None:
        return wait
    remaining = limits.token_budget - ledger.tokens
    reply_tokens = min(wanted_reply_tokens(ledger, limits), remaining - prompt_tokens)
    if last is not None and last.gate == NO_ANSWER and reply_tokens < MIN_REPLY_GROWTH_RATIO * last.reply_limit:
        return _stop_without_answer(last, ledger, limits)
    if reply_tokens < MIN_REPLY_TOKENS:
        spent = f"{ledger.tokens} of {limits.token_budget} tokens are spent"
        if ledger.rejected is not None:
            return _stop_after_rejection(ledger.rejected, spent, "tokenBudget", budget=limits.token_budget)
        return Stop(
            "BudgetExhausted",
            f"{spent}, and the next request needs about {prompt_tokens}: raise spec.generation.tokenBudget, or shorten "
            "the spec",
            _describe_best(ledger),
            limits.token_budget,
        )
    reply_tokens = max(MIN_REPLY_TOKENS, reply_tokens // 2**ledger.unanswered)
    return Call(_call_kind(ledger), reply_tokens, prompt_tokens + reply_tokens)


def wanted_reply_tokens(ledger: Ledger, limits: GenerationLimits) -> int:
    """Return the limit of the next reply, the budget aside: twice that of one whose limit reasoning took up."""
    doubled = [2 * attempt.reply_limit for attempt in ledger.attempts if attempt.gate == NO_ANSWER]
    wanted = max(limits.max_reply_tokens, limits.needed_reply_tokens, *doubled)
    if ledger.last is not None and ledger.last.limited and not ledger.stop:
        wanted = min(wanted, ledger.last.reply_limit)
    return min(wanted, limits.reply_ceiling or wanted)


def _call_kind(ledger: Ledger) -> CallKind:
    """Return `fresh` after a repeat or a stall: the model then starts without the code so far."""
    code = ledger.latest_code
    if code is None:
        return "first"
    return "repair" if code.state == "failed" and not _count_stalls_in_a_row(ledger.attempts[-2:]) else "fresh"


def _find_wait(ledger: Ledger, limits: GenerationLimits, now: datetime) -> Wait | None:
    if ledger.retry_at is not None and ledger.retry_at > now:
        seconds = (ledger.retry_at - now).total_seconds()
        text = f"{ledger.fault} The next call is at {ledger.retry_at:%H:%M:%S} UTC"
        return Wait(seconds, ledger.fault_reason, text, stalled=ledger.faults >= limits.max_faults)
    if ledger.first_call is None and ledger.not_before is not None and ledger.not_before > now:
        seconds = (ledger.not_before - now).total_seconds()
        text = f"the spec changed soon after the last call of a model; the next is at {ledger.not_before:%H:%M:%S} UTC"
        return Wait(seconds, "Throttled", text)
    return None


def _find_stop(ledger: Ledger, limits: GenerationLimits, now: datetime) -> Stop | None:
    attempts, report = ledger.attempts, _describe_best(ledger)
    if sum(attempt.state == "repeat" for attempt in attempts) >= MAX_REPEATS:
        return Stop("LoopDetected", f"the model keeps writing the same code: {CLARIFY_ADVICE}", report)
    policy_refusals = [
        attempt.signature for attempt in attempts if attempt.state == "failed" and attempt.gate == "policy"
    ]
    if len(policy_refusals) > len(set(policy_refusals)):
        advice = "grant it in the spec if it is an egress or a secret, or describe a way without it"
        return Stop("PolicyRefused", f"the model insists on something forbidden: {advice}", report)
    dispute = _find_dispute(attempts)
    if dispute is not None and dispute.programs >= MAX_PROGRAMS_IN_DISPUTE:
        return Stop("SuspectSpec", dispute.message, report)
    if _count_stalls_in_a_row(attempts) >= MAX_STALLS_IN_A_ROW:
        return Stop("NoProgress", NO_PROGRESS, report)
    was_cut_off = ledger.stop == "ReplyCutOff"  # and goes on, as a limit was raised
    if not was_cut_off and _count_empty_replies(ledger, limits) >= MAX_CONSECUTIVE_EMPTY_REPLIES:
        return _stop_after_empty_replies(attempts[-1], limits)
    if ledger.attempt_count >= limits.max_attempts:
        return _stop_at_limit(ledger, limits, dispute)
    ends_at = deadline(ledger, limits)
    if ends_at is not None and now > ends_at and not ledger.stop:  # what goes on again has its time anew
        message = f"no code was accepted within {limits.deadline} of the first reply: {CLARIFY_ADVICE}"
        return Stop("DeadlineExceeded", message, report, int(limits.deadline.total_seconds()))
    return None


def _stop_at_limit(ledger: Ledger, limits: GenerationLimits, dispute: Dispute | None) -> Stop:
    """Return the end for want of attempts, with the most specific reason that is known."""
    report, limit = _describe_best(ledger), limits.max_attempts
    if ledger.rejected is not None:
        spent = f"{ledger.attempt_count} of {limit} attempts are spent"
        return _stop_after_rejection(ledger.rejected, spent, "maxAttempts", limit=limit)
    if dispute is not None:
        return Stop("SuspectSpec", dispute.message, report, limit)
    if _count_stalls_in_a_row(ledger.attempts) > 1:  # so the fresh start between them came no further either
        return Stop("NoProgress", NO_PROGRESS, report, limit)
    count = f"{ledger.attempt_count} of {limit} attempts"
    return Stop("AttemptsExhausted", f"{count} were refused: {CLARIFY_ADVICE}", report, limit)


def _stop_after_rejection(rejected: Attempt, spent: str, setting: str, limit: int = 0, budget: int = 0) -> Stop:
    """Return the end for want of a limit, once a person has rejected what had passed."""
    subject = f"attempt {rejected.number}" if rejected.number else "the code accepted before"
    message = (
        f"a reviewer rejected {subject}, and {spent}: describe what the reviewer wants, raise "
        f"spec.generation.{setting}, or give the code in spec.source.inline"
    )
    return Stop("Rejected", message, f"The reviewer wrote: {rejected.message}", limit, budget)


def deadline(ledger: Ledger, limits: GenerationLimits) -> datetime | None:
    """Return when generation ends, or None before the first reply."""
    return ledger.first_reply + limits.deadline if ledger.first_reply is not None else None


def _count_empty_replies(ledger: Ledger, limits: GenerationLimits) -> int:
    """Return how many of the latest replies in a row had no code. One that the next may be longer than counts not."""
    wanted = wanted_reply_tokens(ledger, limits)
    empty = takewhile(lambda attempt: attempt.state == "empty", reversed(ledger.attempts))
    return sum(attempt.gate not in _CUT_OFF or not 0 < attempt.reply_limit < wanted for attempt in empty)


def _stop_after_empty_replies(last: Attempt, limits: GenerationLimits) -> Stop:
    count = f"{MAX_CONSECUTIVE_EMPTY_REPLIES} replies in a row"
    if last.gate in _CUT_OFF:
        advice = "raise maxReplyTokens of the model in the chart's values, or describe less in one Skill"
        return Stop("ReplyCutOff", f"{count} exceeded the reply limit: {advice}", limit=limits.max_reply_tokens)
    words = f". It wrote: {last.words}" if last.words else ""
    if last.gate == REFUSED:
        advice = "describe the task in other words, or use another model"
        return Stop("TaskRefused", f"{count} held no code, as {last.message}: {advice}{words}")
    return Stop("NoCode", f"{count} contained no usable code: {last.message}{words}")


def _stop_without_answer(last: Attempt, ledger: Ledger, limits: GenerationLimits) -> Stop:
    """Return the stop after a reply whose limit reasoning took up, where no much longer one is possible."""
    if last.limited:
        message = (
            f"{last.endpoint} allows {last.reply_limit} tokens for one reply, and reasoning takes them all: use an "
            "endpoint that allows more, or let it reason less"
        )
        return Stop("ReplyCutOff", message, _describe_best(ledger), limits.max_reply_tokens)
    message = (
        f"{last.endpoint} needs more than {last.reply_limit} tokens for one reply, most of them reasoning, and "
        f"{ledger.tokens} of {limits.token_budget} are spent: raise spec.generation.tokenBudget, raise maxReplyTokens "
        "of the model in the chart's values, or let it reason less"
    )
    budget = limits.token_budget
    return Stop("ReplyCutOff", message, _describe_best(ledger), limits.max_reply_tokens, budget)


def _is_limit_raised(ledger: Ledger, limits: GenerationLimits) -> bool:
    """Return whether a limit that stopped generation has been raised since. A stop without a limit stays."""
    current = {
        "BudgetExhausted": limits.token_budget,
        "ReplyCutOff": limits.max_reply_tokens,
        "DeadlineExceeded": int(limits.deadline.total_seconds()),
    }.get(ledger.stop, limits.max_attempts)
    return 0 < ledger.stop_limit < current or 0 < ledger.stop_budget < limits.token_budget


def _is_stall(earlier: Attempt, later: Attempt) -> bool:
    """Return whether a refused candidate failed like the one before it and made no more progress."""
    return later.signature == earlier.signature and later.progress <= earlier.progress


def _count_stalls_in_a_row(attempts: tuple[Attempt, ...]) -> int:
    """Return how many of the latest refused candidates stalled, one after the other."""
    failed_attempts = [attempt for attempt in attempts if attempt.state == "failed"]
    stalls = [_is_stall(earlier, later) for earlier, later in pairwise(failed_attempts)]
    return len(list(takewhile(bool, reversed(stalls))))


def _find_dispute(attempts: tuple[Attempt, ...]) -> Dispute | None:
    """Return the example that different programs answer alike, and not as it wants; a visible one first.

    A visible example is in dispute only where all others pass, a held-out one where all visible examples pass.
    """
    failed_attempts = [attempt for attempt in attempts if attempt.state == "failed"]
    visible = [attempt.message for attempt in failed_attempts if _fails_one_example(attempt)]
    held_out = [attempt.private for attempt in failed_attempts if attempt.gate == "hidden"]
    return find_dispute(visible, held_out=False) or find_dispute(held_out, held_out=True)


def _fails_one_example(attempt: Attempt) -> bool:
    """Return whether all visible examples but one pass, of at least two."""
    passed, total = attempt.example_counts
    return attempt.gate == "examples" and 1 < total == passed + 1


def _describe_best(ledger: Ledger) -> str:
    """Return what is wrong with the best code."""
    best = ledger.best
    if best is None:
        return ""
    subject = f"Attempt {best.number}" if best.number else "The code accepted before"
    line = f" at line {best.line}" if best.line else ""
    return f"{subject} came furthest. The gate {best.gate} refused it{line}: {best.message}"


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
