"""The ledger records, for one input of a Skill, each call of a model, its cost and its outcome.

It is stored in the cluster before a request is sent, so a crash can lose a reply but never repeat a call for free. A
ledger is never changed, only replaced: `ledger_entries.py` writes what has happened, `decision.py` reads what comes
next. `ledger_history.py` holds all ledgers of one Skill.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

AttemptState = Literal["reserved", "candidate", "passed", "failed", "repeat", "empty"]
OpinionState = Literal["reserved", "candidate", "agrees", "differs", "none", "skipped"]
MAX_SOURCES_BYTES = 400 * 1024  # all code of a ledger, as JSON; a ConfigMap ends at 1 MiB
REVIEW_GATE = "review"  # of code that passed every gate of the check, and that a person rejected
GATES = ("size", "policy", "ruff", "mypy", "examples", "schema", "hidden")
NO_ANSWER = "no-answer"  # flaw of a reply whose limit reasoning took up: more tokens help, other words do not
REFUSED = "refused"  # flaw of a reply in which the model or a filter declines
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
