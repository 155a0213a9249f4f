"""The day's tokens: what is counted, and for whom."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from skill_operator.generation import daily_quota as accounts
from skill_operator.generation.daily_quota import DailyQuota, DailyUsage
from skill_operator.generation.ledger import Ledger

TODAY = date(2030, 1, 1)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
EMPTY = DailyUsage(day=TODAY)


def out(tokens: int = 500, call: str = "c1", uid: str = "u1", namespace: str = "team") -> DailyUsage:
    return accounts.reserve(EMPTY, uid, namespace, call, tokens)


def test_what_is_out_counts_until_its_price_is_known() -> None:
    assert out().tokens("team") == out().tokens() == 500
    waiting = Ledger(input_hash="h", call="c1")
    assert accounts.settle(out(), "u1", waiting) == out()
    done = accounts.settle(out(), "u1", waiting.model_copy(update={"charged": 70}))
    assert (done.tokens("team"), done.tokens(), done.out) == (70, 70, {})
    assert accounts.settle(done, "u1", waiting.model_copy(update={"charged": 70})) == done, "once"


@pytest.mark.parametrize("ledger", [Ledger(input_hash="h"), Ledger(input_hash="h", call="c2", charged=1)])
def test_a_call_that_no_ledger_knows_is_paid_whole(ledger: Ledger) -> None:
    assert accounts.settle(out(), "u1", ledger).spent == {"team": 500}


def test_namespaces_are_apart_and_add_up() -> None:
    both = accounts.reserve(out(), "u2", "other", "c2", 40)
    assert (both.tokens("team"), both.tokens("other"), both.tokens()) == (500, 40, 540)


@pytest.mark.parametrize(
    ("caps", "told"), [(DailyQuota(599, 9999), "namespace team"), (DailyQuota(9999, 599), "all Skills")]
)
def test_the_cap_is_checked_with_what_the_next_call_may_need(caps: DailyQuota, told: str) -> None:
    refused = accounts.refusal(out(), "team", 100, caps, NOON)
    assert refused is not None
    assert told in refused.message
    assert refused.seconds == 12 * 3600
    assert accounts.refusal(out(), "team", 99, caps, NOON) is None


def test_each_day_starts_anew_and_a_crooked_clock_frees_nothing() -> None:
    text = accounts.settle(out(), "u1", Ledger(input_hash="h")).model_dump_json()
    assert accounts.read(text, TODAY).tokens() == 500
    assert accounts.read(text, TODAY + timedelta(days=1)) == DailyUsage(day=TODAY + timedelta(days=1))
    before = accounts.read(text, TODAY - timedelta(days=400))
    assert (before.tokens(), before.day) == (500, TODAY - timedelta(days=400))


@pytest.mark.parametrize("text", ["", "null", "{}", '{"day": "never"}', "[" * 9999])
def test_rubbish_is_no_account(text: str) -> None:
    assert accounts.read(text, TODAY) == EMPTY
