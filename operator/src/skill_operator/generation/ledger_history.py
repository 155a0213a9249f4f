"""The ledger history of one Skill holds the ledger of its present input and those of earlier inputs.

A spec that is changed back finds its ledger again, and with it the code that was accepted or the reason why none was:
changing between two specs buys no attempts.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from pydantic import AwareDatetime, ValidationError

from skill_operator.generation.ledger import MAX_SOURCES_BYTES, Ledger, StoredModel

MAX_PAST_LEDGERS = 8
MAX_REJECTIONS = 64  # the newest; each holds at most the words of a reviewer


class RejectedCode(StoredModel):
    """RejectedCode is code that a person rejected, whatever its input: it is offered to nobody again."""

    fingerprints: tuple[str, ...]  # of the text, and of the program where a reply was seen to hold it
    token: str  # of what was rejected
    revision: str  # label of it
    by: str
    message: str
    at: AwareDatetime
    source_digest: str = ""  # in ledgers of earlier versions


class LedgerHistory(StoredModel):
    """LedgerHistory is what a Skill's ledger ConfigMap stores.

    `retried` is the latest value of the retry annotation that was obeyed.
    """

    present: Ledger = Ledger(input_hash="")
    past: tuple[Ledger, ...] = ()  # newest first
    retried: str = ""
    rejections: tuple[RejectedCode, ...] = ()  # newest first

    @property
    def rejected_messages(self) -> dict[str, str]:
        """The words of reviewers about code that they rejected, by its fingerprint."""
        rejections = reversed(self.rejections)
        return {found: rejected.message for rejected in rejections for found in rejected.fingerprints}

    @property
    def standing_rejection(self) -> RejectedCode | None:
        """The latest rejection of this input's code, while no other code has passed its check."""
        rejected, last = self.present.rejected, self.present.last
        if rejected is None or (last is not None and last.state == "passed"):
            return None
        return next((known for known in self.rejections if rejected.fingerprint in known.fingerprints), None)

    def fingerprints_of(self, source: str) -> set[str]:
        """Return the fingerprints that attempts with this source have, for whatever input."""
        ledgers = (self.present, *self.past)
        return {a.fingerprint for ledger in ledgers for a in ledger.attempts if a.source == source and a.fingerprint}

    def with_rejection(self, rejected: RejectedCode) -> LedgerHistory:
        """Return the history with one more rejection."""
        others = (other for other in self.rejections if other.fingerprints != rejected.fingerprints)
        return self.model_copy(update={"rejections": (rejected, *others)[:MAX_REJECTIONS]})


def read(text: str) -> LedgerHistory | None:
    """Parse a stored history. Return None for text that is none: nothing is known then."""
    try:
        return LedgerHistory.model_validate_json(text)
    except ValidationError:
        return None


def select(history: LedgerHistory, input_hash: str, retry: str, min_interval: timedelta) -> LedgerHistory:
    """Return the history with the ledger of this input as the present one.

    A new value of the retry annotation opens a new ledger; each value works once. `min_interval` is the time between
    the first calls of two ledgers.
    """
    present = history.present
    is_retry = bool(present.input_hash) and retry not in {"", history.retried}
    if present.input_hash == input_hash and not is_retry:
        return history
    known_ledgers = [ledger for ledger in (present, *history.past) if ledger.input_hash]
    selected_ledger = next((ledger for ledger in known_ledgers if ledger.input_hash == input_hash), None)
    if selected_ledger is None or is_retry:
        selected_ledger = Ledger(input_hash=input_hash, not_before=_not_before(present, min_interval), anew=is_retry)
    past = [ledger for ledger in known_ledgers if ledger.input_hash != input_hash]
    past_ledgers = _limit_size(selected_ledger, past)
    selected = {"present": selected_ledger, "past": past_ledgers, "retried": retry or history.retried}
    return history.model_copy(update=selected)


def _not_before(previous: Ledger, min_interval: timedelta) -> datetime | None:
    """Return when a model may be called for a new input: at most once per interval and Skill."""
    return previous.not_before if previous.first_call is None else previous.first_call + min_interval


def _limit_size(present: Ledger, past: list[Ledger]) -> tuple[Ledger, ...]:
    """Return the newest ledgers that fit. Each is kept whole or not at all: a part of one would hide what it spent."""
    remaining_bytes = MAX_SOURCES_BYTES - _sources_size(present)
    kept_ledgers: list[Ledger] = []
    for ledger in past[:MAX_PAST_LEDGERS]:
        remaining_bytes -= _sources_size(ledger)
        if remaining_bytes < 0:
            break
        kept_ledgers.append(ledger)
    return tuple(kept_ledgers)


def _sources_size(ledger: Ledger) -> int:
    """Return the bytes of the ledger's code as JSON."""
    opinions = [ledger.opinion.source] if ledger.opinion is not None else []
    return sum(len(json.dumps(source)) for source in (*(attempt.source for attempt in ledger.attempts), *opinions))
