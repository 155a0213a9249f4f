"""The second opinion: where examples are few, a second program shows what the description leaves open.

Once the first program has passed its check, a model is called once more with the first prompt again. Where the two
programs differ, the owner is asked; the first one is what runs. All functions are pure. The ledger keeps the opinion,
and it is written, like any call, before the call is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.generation.decision import (
    MIN_REPLY_TOKENS,
    Call,
    GenerationLimits,
    deadline,
    wanted_reply_tokens,
)
from skill_operator.generation.ledger import Attempt, Ledger, OpinionDifference, SecondOpinion
from skill_operator.generation.ledger_entries import drop_oldest_sources

REFUSED = "spec.generation.secondOpinion is Never"
COMPARABLE_STATES = frozenset({"candidate", "agrees", "differs"})


def is_wanted(spec: SkillSpec, below_examples: int) -> bool:
    """Return whether a Skill gets a second opinion: by its spec, or since it has fewer examples than the setting."""
    choice = spec.generation.second_opinion
    return choice == "Always" or (choice == "Auto" and len(spec.examples) < below_examples)


def is_refused(spec: SkillSpec, opinion: SecondOpinion) -> bool:
    """Return whether the owner wants no opinion, even where one is under way.

    One that was carried over calls no model: what it has shown to be open is not closed by wanting to know no more.
    """
    return spec.generation.second_opinion == "Never" and opinion.number > 0


def find_obstacle(
    spec: SkillSpec, ledger: Ledger, limits: GenerationLimits, prompt_tokens: int, now: datetime
) -> str | None:
    """Return why no model can be called for an opinion on the accepted program, or None if one can."""
    if not spec.deterministic:
        return "spec.deterministic is false, so that two programs cannot be compared"
    if spec.egress or spec.secrets:
        return "a check has neither network nor secrets, so that two programs cannot be compared"
    if ledger.attempt_count >= limits.max_attempts:
        return f"no attempt is left of {limits.max_attempts}"
    if _reply_tokens(ledger, limits, prompt_tokens) < MIN_REPLY_TOKENS:
        return f"{ledger.tokens} of {limits.token_budget} tokens are spent"
    ends_at = deadline(ledger, limits)
    if ends_at is not None and now > ends_at:
        return f"{limits.deadline} have passed since the first reply"
    return None


def make_call(ledger: Ledger, limits: GenerationLimits, prompt_tokens: int) -> Call:
    """Return the call for an opinion. There must be no obstacle."""
    reply_tokens = _reply_tokens(ledger, limits, prompt_tokens)
    return Call("first", reply_tokens, prompt_tokens + reply_tokens)


def _reply_tokens(ledger: Ledger, limits: GenerationLimits, prompt_tokens: int) -> int:
    return min(wanted_reply_tokens(ledger, limits), limits.token_budget - ledger.tokens - prompt_tokens)


def skip(ledger: Ledger, reason: str) -> Ledger:
    """Return the ledger of a program on which no opinion is requested, and never will be, with the reason."""
    return _replace(ledger, SecondOpinion(state="skipped", message=reason))


def reserve(ledger: Ledger, endpoint: str, tokens: int, call_id: str, task: str, now: datetime) -> Ledger:
    """Return the ledger with `tokens` reserved for the call `call_id` of `endpoint`: the one call for an opinion."""
    number = ledger.attempt_count + 1
    opinion = SecondOpinion(state="reserved", number=number, endpoint=endpoint, tokens=tokens, task=task, since=now)
    return _replace(ledger, opinion).model_copy(update={"call": call_id, "charged": None})


def is_pending(ledger: Ledger) -> bool:
    """Return whether the pending call is that for an opinion."""
    return ledger.pending is not None and ledger.pending is ledger.opinion


def as_attempt(ledger: Ledger, opinion: SecondOpinion) -> Ledger:
    """Return the ledger with the pending opinion as its last attempt, so that the rules of attempts settle the call."""
    attempt = Attempt(number=opinion.number, state="reserved", endpoint=opinion.endpoint, tokens=opinion.tokens)
    return ledger.model_copy(update={"attempts": (*ledger.attempts, attempt), "opinion": None})


def from_attempt(ledger: Ledger, settled: Ledger, now: datetime) -> Ledger:
    """Return the ledger with the outcome of the call for an opinion, which `settled` has as that of an attempt.

    A call that failed is not made again: nobody waits for an opinion longer than for one call.
    """
    if settled.pending is not None or ledger.opinion is None:
        return ledger
    opinion = ledger.opinion
    if len(settled.attempts) == len(ledger.attempts):
        tokens = settled.fault_tokens - ledger.fault_tokens
        opinion = opinion.model_copy(update={"state": "none", "tokens": tokens, "message": settled.fault})
    else:
        reply = settled.attempts[-1]
        values = {"tokens": reply.tokens, "estimated": reply.estimated, "fingerprint": reply.fingerprint}
        outcome: dict[str, object] = {"state": "candidate", "source": reply.source, "since": now}
        if not reply.source:
            outcome = {"state": "none", "message": f"{opinion.endpoint} sent no usable code: {reply.message}"}
        opinion = opinion.model_copy(update=values | outcome)
    return drop_oldest_sources(_replace(ledger, opinion).model_copy(update={"charged": settled.charged}))


def carry(ledger: Ledger, past: Iterable[Ledger], task: str, *, only_open: bool = False) -> Ledger:
    """Return the ledger with the opinion that was written for an earlier input of the same task, if there is one.

    The accepted program is carried over too, so both are compared anew, and no model is called. With `only_open`, the
    opinion is one that differs, or that was carried over and is not compared yet. It keeps its differences: they hold
    where the comparison comes to no end.
    """
    known = (earlier.opinion for earlier in past)
    comparable = (one for one in known if one and one.task == task and one.source and one.state in COMPARABLE_STATES)
    found = next((one for one in comparable if not only_open or _is_open(one)), None)
    if found is None:
        return ledger
    fresh = {"state": "candidate", "number": 0, "tokens": 0, "message": "", "since": None}
    return _replace(ledger, found.model_copy(update=fresh))


def _is_open(opinion: SecondOpinion) -> bool:
    return opinion.state == "differs" or (opinion.state == "candidate" and not opinion.number)


def begin_comparison(ledger: Ledger, now: datetime) -> Ledger:
    """Return the ledger as a comparison with the accepted program begins, or ends without a run.

    The same program agrees, and one that a gate has refused before has no opinion that counts.
    """
    opinion, accepted = ledger.opinion, ledger.last
    if opinion is None or accepted is None or opinion.state != "candidate":
        return ledger
    if opinion.fingerprint == accepted.fingerprint or opinion.source == accepted.source:
        return conclude(ledger, "agrees", f"{opinion.endpoint} wrote the same program again")
    if opinion.fingerprint in {attempt.fingerprint for attempt in ledger.attempts if attempt.fingerprint}:
        return conclude(ledger, "none", f"{opinion.endpoint} wrote code that was refused before")
    return ledger if opinion.since is not None else _replace(ledger, opinion.model_copy(update={"since": now}))


def conclude(ledger: Ledger, state: str, message: str, differences: tuple[OpinionDifference, ...] = ()) -> Ledger:
    """Return the ledger with the outcome of a comparison: `agrees`, `differs` or `none`."""
    if ledger.opinion is None:
        return ledger
    outcome = {"state": state, "message": message, "differences": differences}
    return _replace(ledger, ledger.opinion.model_copy(update=outcome))


def reopen(ledger: Ledger) -> Ledger:
    """Return the ledger after the program that the opinion was about was refused: the next one is compared anew."""
    opinion = ledger.opinion
    if opinion is None or not opinion.source or opinion.state not in COMPARABLE_STATES:
        return ledger
    fresh = {"state": "candidate", "message": "", "differences": (), "since": None}
    return _replace(ledger, opinion.model_copy(update=fresh))


def _replace(ledger: Ledger, opinion: SecondOpinion) -> Ledger:
    return ledger.model_copy(update={"opinion": opinion})
