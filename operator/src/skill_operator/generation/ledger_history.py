"""The books of one Skill: the ledger of its present input, and those of inputs it had before.

A spec that is changed back finds its ledger again, and with it the code that was accepted or the reason why none was:
going to and fro between two specs buys no attempts.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, ValidationError

from skill_operator.generation.ledger import LARGEST, Ledger

MOST_PAST = 8


class LedgerHistory(BaseModel):
    """`retried`: the latest value of the retry annotation that was obeyed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    present: Ledger = Ledger(input_hash="")
    past: tuple[Ledger, ...] = ()  # newest first
    retried: str = ""


def read(text: str) -> LedgerHistory | None:
    """None for what is no book: nothing is known then."""
    try:
        return LedgerHistory.model_validate_json(text)
    except ValidationError:
        return None


def select(books: LedgerHistory, input_hash: str, retry: str, floor: timedelta) -> LedgerHistory:
    """The books with the ledger of this input as the present one. A person opens a new one by a new value of the
    retry annotation; each value works once."""
    present = books.present
    again = bool(present.input_hash) and retry not in {"", books.retried}
    if present.input_hash == input_hash and not again:
        return books
    others = [ledger for ledger in (present, *books.past) if ledger.input_hash]
    known = next((ledger for ledger in others if ledger.input_hash == input_hash), None)
    if known is None or again:
        known = Ledger(input_hash=input_hash, not_before=_not_before(present, floor), anew=again)
    past = [ledger for ledger in others if ledger.input_hash != input_hash]
    return LedgerHistory(present=known, past=_fitted(known, past), retried=retry or books.retried)


def _not_before(previous: Ledger, floor: timedelta) -> datetime | None:
    """A model is asked about one Skill's new input at most once in so long."""
    return previous.not_before if previous.first_call is None else previous.first_call + floor


def _fitted(present: Ledger, past: list[Ledger]) -> tuple[Ledger, ...]:
    """Whole ledgers or none: what is kept of one must be all that was spent."""
    room = LARGEST - _size(present)
    kept: list[Ledger] = []
    for ledger in past[:MOST_PAST]:
        room -= _size(ledger)
        if room < 0:
            break
        kept.append(ledger)
    return tuple(kept)


def _size(ledger: Ledger) -> int:
    return sum(len(json.dumps(attempt.source)) for attempt in ledger.attempts)
