"""The decision says what comes next in generation, by the ledger and its limits: a call, a check, a wait or the end.

All functions are pure. Each rule that ends generation names what a person can do about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise, takewhile
from typing import Literal

from skill_operator.generation.disputes import Dispute, find_dispute
from skill_operator.generation.ledger import NO_ANSWER, REFUSED, Attempt, Ledger, StoredModel

CallKind = Literal["first", "repair", "fresh"]
MIN_REPLY_TOKENS = 256  # with less left, a call could not produce a file
MAX_CONSECUTIVE_EMPTY_REPLIES = 2
MIN_REPLY_GROWTH_RATIO = 1.5  # less is not worth another call after a reply whose limit reasoning took up
MAX_REPEATS = 2
MAX_STALLS_IN_A_ROW = 3  # so that the first repairs are never cut short: one of three that succeed has stalled before
MAX_PROGRAMS_IN_DISPUTE = 3  # two that agree are wrong together more often than the example is
CLARIFY_ADVICE = "make the description or the examples clearer, and generation starts again"
NO_PROGRESS = f"the model makes no progress, even after a fresh start: {CLARIFY_ADVICE}"
_CUT_OFF = frozenset({"cut-off", NO_ANSWER})


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


Decision = Call | ReadyCandidate | Stop | Wait


def decide(ledger: Ledger, limits: GenerationLimits, prompt_tokens: int, now: datetime) -> Decision:
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
