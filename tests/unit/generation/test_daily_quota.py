"""The daily quota: which tokens count, and for whom."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from skill_operator.generation import daily_quota
from skill_operator.generation.daily_quota import DailyQuota, DailyUsage
from skill_operator.generation.ledger import Ledger

TODAY = date(2030, 1, 1)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
EMPTY = DailyUsage(day=TODAY)


def reserved(tokens: int = 500, call: str = "c1", uid: str = "u1", namespace: str = "team") -> DailyUsage:
    return daily_quota.reserve(EMPTY, uid, namespace, call, tokens)


def test_what_is_out_counts_until_its_price_is_known() -> None:
    assert reserved().tokens("team") == reserved().tokens() == 500
    waiting = Ledger(input_hash="h", call="c1")
    assert daily_quota.settle(reserved(), "u1", waiting) == reserved()
    done = daily_quota.settle(reserved(), "u1", waiting.model_copy(update={"charged": 70}))
    assert (done.tokens("team"), done.tokens(), done.reservations) == (70, 70, {})
    assert daily_quota.settle(done, "u1", waiting.model_copy(update={"charged": 70})) == done, "once"


@pytest.mark.parametrize("ledger", [Ledger(input_hash="h"), Ledger(input_hash="h", call="c2", charged=1)])
def test_a_call_that_no_ledger_knows_is_paid_whole(ledger: Ledger) -> None:
    assert daily_quota.settle(reserved(), "u1", ledger).spent == {"team": 500}


def test_namespaces_are_apart_and_add_up() -> None:
    both = daily_quota.reserve(reserved(), "u2", "other", "c2", 40)
    assert (both.tokens("team"), both.tokens("other"), both.tokens()) == (500, 40, 540)


@pytest.mark.parametrize(
    ("quota", "expected"), [(DailyQuota(599, 9999), "namespace team"), (DailyQuota(9999, 599), "all Skills")]
)
def test_the_cap_is_checked_with_what_the_next_call_may_need(quota: DailyQuota, expected: str) -> None:
    wait = daily_quota.find_wait(reserved(), "team", 100, quota, NOON)
    assert wait is not None
    assert expected in wait.message
    assert wait.seconds == 12 * 3600
    assert daily_quota.find_wait(reserved(), "team", 99, quota, NOON) is None


def test_each_day_starts_anew_and_a_crooked_clock_frees_nothing() -> None:
    text = daily_quota.settle(reserved(), "u1", Ledger(input_hash="h")).model_dump_json()
    assert daily_quota.read(text, TODAY).tokens() == 500
    assert daily_quota.read(text, TODAY + timedelta(days=1)) == DailyUsage(day=TODAY + timedelta(days=1))
    before = daily_quota.read(text, TODAY - timedelta(days=400))
    assert (before.tokens(), before.day) == (500, TODAY - timedelta(days=400))


@pytest.mark.parametrize("text", ["", "null", "{}", '{"day": "never"}', "[" * 9999])
def test_rubbish_is_no_account(text: str) -> None:
    assert daily_quota.read(text, TODAY) == EMPTY
