"""The limits of concurrency and rate."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.gateway.access import limits
from skill_operator.gateway.access.kubernetes import Caller
from skill_operator.gateway.access.limits import CallLimiter, FairShares
from skill_operator.gateway.pods.directory import SkillEntry, parse_skill
from skill_operator.gateway.problems import Problem
from skill_operator.settings import CallLimitSettings, GatewayLimitSettings
from tests.unit.gateway.objects import skill

ALICE, BOB = Caller("alice"), Caller("bob")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def entry(uid: str = "1", **spec: Any) -> SkillEntry:
    body = skill(**spec)
    body["metadata"]["uid"] = uid
    return parse_skill(body)


def limiter(
    clock: Clock, caller: CallLimitSettings | None = None, skill: CallLimitSettings | None = None
) -> CallLimiter:
    return CallLimiter(
        GatewayLimitSettings(caller=caller or CallLimitSettings(), skill=skill or CallLimitSettings()), clock
    )


def calls(limiter: CallLimiter, most: int, caller: Caller = ALICE, to: SkillEntry | None = None) -> int:
    """How many of so many calls, one after the other, are let in."""
    done = 0
    for _ in range(most):
        try:
            with limiter.admit(caller, to or entry()):
                done += 1
        except Problem as problem:
            assert problem.slug == "rate-limited"  # noqa: PT017
    return done


def test_a_rate_with_its_burst() -> None:
    clock = Clock()
    made = limiter(clock, caller=CallLimitSettings(per_minute=60))
    assert calls(made, 100) == 10
    assert calls(made, 100, BOB) == 10, "each caller has its own"
    clock.now += 3
    assert calls(made, 100) == 3
    with pytest.raises(Problem) as raised, made.admit(ALICE, entry()):
        pass
    assert (raised.value.status, raised.value.headers["Retry-After"]) == (429, "1")
    clock.now += 3600
    assert calls(made, 100) == 10, "no credit is saved up"


def test_a_minute_holds_no_more_than_it_should() -> None:
    clock = Clock()
    made = limiter(clock, skill=CallLimitSettings(per_minute=600))
    done = 0
    for _ in range(600):
        done += calls(made, 3)
        clock.now += 0.1
    assert 600 <= done <= 600 + 100


def test_a_slow_rate_still_lets_one_in() -> None:
    clock = Clock()
    made = limiter(clock, caller=CallLimitSettings(per_minute=1))
    assert calls(made, 5) == 1
    with pytest.raises(Problem) as raised, made.admit(ALICE, entry()):
        pass
    assert raised.value.headers["Retry-After"] == "60"
    clock.now += 59
    assert calls(made, 5) == 0
    clock.now += 1
    assert calls(made, 5) == 1


def test_calls_at_once() -> None:
    made = limiter(Clock(), caller=CallLimitSettings(concurrent=2), skill=CallLimitSettings(concurrent=3))
    with ExitStack() as open_calls:
        for _ in range(2):
            open_calls.enter_context(made.admit(ALICE, entry()))
        with pytest.raises(Problem) as raised, made.admit(ALICE, entry("2")):
            pass
        assert (raised.value.slug, raised.value.headers["Retry-After"]) == ("concurrency-limit", "1")
        assert "yours" in raised.value.detail
        open_calls.enter_context(made.admit(BOB, entry()))
        with pytest.raises(Problem) as raised, made.admit(BOB, entry()):
            pass
        assert "this skill" in raised.value.detail
        with made.admit(BOB, entry("2")):
            pass
    assert calls(made, 5) == 5


def test_a_failed_call_is_over_too() -> None:
    made = limiter(Clock(), caller=CallLimitSettings(concurrent=1))
    with pytest.raises(RuntimeError), made.admit(ALICE, entry()):
        raise RuntimeError
    assert calls(made, 1) == 1


def test_what_is_refused_costs_nothing() -> None:
    """A caller over one limit must not use up the other, which others need."""
    made = limiter(Clock(), caller=CallLimitSettings(per_minute=6), skill=CallLimitSettings(per_minute=60))
    assert calls(made, 50, ALICE) == 1
    assert sum(calls(made, 1, Caller(f"c{number}")) for number in range(20)) == 9


def test_a_skill_s_own_limits_win() -> None:
    clock = Clock()
    made = limiter(clock, skill=CallLimitSettings(per_minute=6, concurrent=1))
    own = entry("own", callLimits={"perMinute": 120})
    assert calls(made, 100, to=own) == 20
    clock.now += 60
    with made.admit(ALICE, own), pytest.raises(Problem), made.admit(BOB, own):
        pass  # the one that it says nothing of is the chart's
    assert calls(made, 100, to=entry("other")) == 1


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_IDLE_ENTRIES", 100)
    clock = Clock()
    made = limiter(clock, caller=CallLimitSettings(per_minute=60))
    with made.admit(ALICE, entry()):
        for number in range(1000):
            clock.now += 1
            assert calls(made, 1, Caller(f"c{number}")) == 1
        assert len(made._callers) <= 101
        assert "alice" in made._callers


def fill(shares: FairShares, *holders: tuple[str, str]) -> dict[str, int]:
    """Let each of these take all that it gets, again and again in turn; what each holds in the end."""
    held = dict.fromkeys(holders, 0)
    before = -1
    while before != sum(held.values()):
        before = sum(held.values())
        for namespace, caller in holders:
            while shares.take(namespace, caller):
                held[namespace, caller] += 1
    return {caller: count for (_, caller), count in held.items()}


def test_shares_of_a_pool() -> None:
    assert fill(FairShares(512), ("a", "a1")) == {"a1": 256}
    assert 341 <= sum(fill(FairShares(512), *[("a", f"a{number}") for number in range(20)]).values()) <= 342


@given(
    total=st.integers(100, 2000),
    holders=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")).map(lambda h: (h[0], "".join(h))), max_size=9
    ),
)
def test_whatever_a_few_hold_a_newcomer_gets_some(total: int, holders: list[tuple[str, str]]) -> None:
    shares = FairShares(total)
    fill(shares, *holders)
    namespaces = {namespace for namespace, _ in holders}
    assert total - shares.held >= total // 3 ** len(namespaces) - 2
    assert shares.take("new", "newcomer")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("ab"), st.integers(1, 50)), max_size=50))
def test_what_is_given_back_is_gone(takes: list[tuple[str, str, int]]) -> None:
    shares = FairShares(200)
    taken = [take for take in takes if shares.take(*take)]
    assert shares.held == sum(amount for *_, amount in taken) <= 200
    for take in taken:
        shares.give_back(*take)
    assert (shares.held, shares._namespaces, shares._callers) == (0, {}, {})


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        ("system:serviceaccount:team:app", "team"),
        ("alice", "user:alice"),
        ("team", "user:team"),
        ("system:serviceaccount:", ""),
        ("system:node:n1", "user:system:node:n1"),
    ],
)
def test_the_namespace_of_a_caller(name: str, namespace: str) -> None:
    assert Caller(name).namespace == namespace


def test_by_default_there_is_a_rate() -> None:
    assert calls(CallLimiter(GatewayLimitSettings(), Clock()), 3000) == 2000
