"""Whom a candidate respects, by its own clock alone."""

from __future__ import annotations

import time
from typing import Any

import pytest

from skill_operator.k8s.lease import Lease


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("skill_operator.k8s.lease.time", made)
    return made


def record(holder: str = "other", renewed: str = "1970-01-01T00:00:00.000000Z", seconds: int = 10) -> dict[str, Any]:
    return {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": seconds}


def candidate() -> Lease:
    return Lease(None, "ns", "leader", "me", 15)  # type: ignore[arg-type]


@pytest.mark.parametrize("renewed", ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z", "nonsense"])
def test_a_holder_is_respected_for_its_whole_duration_whatever_its_clock_says(clock: Clock, renewed: str) -> None:
    lease = candidate()
    assert lease._is_valid(False, record(renewed=renewed))
    clock.now += 9.9
    assert lease._is_valid(False, record(renewed=renewed))
    clock.now += 0.2
    assert not lease._is_valid(False, record(renewed=renewed))


def test_every_renewal_begins_it_anew(clock: Clock) -> None:
    lease = candidate()
    for second in range(30):
        assert lease._is_valid(False, record(renewed=str(second)))
        clock.now += 9


def test_a_new_holder_is_a_new_duration(clock: Clock) -> None:
    lease = candidate()
    assert lease._is_valid(False, record("first"))
    clock.now += 9.9
    assert lease._is_valid(False, record("second"))
    clock.now += 9.9
    assert lease._is_valid(False, record("second"))


def test_who_released_it_is_not_waited_for() -> None:
    assert not candidate()._is_valid(False, record(holder=""))
    assert not candidate()._is_valid(False, {})
    assert not candidate()._is_valid(True, {})


def test_a_lease_that_was_deleted_had_a_holder(clock: Clock) -> None:
    """Who does not know yet that it is gone."""
    lease = candidate()
    assert lease._is_valid(False, record())
    clock.now += 14
    assert lease._is_valid(True, {})
    clock.now += 2
    assert not lease._is_valid(True, {})


def test_our_own_is_ours(clock: Clock) -> None:
    lease = candidate()
    assert lease._is_valid(False, record())
    assert not lease._is_valid(False, record("me"))


def test_a_process_that_was_paused_does_not_believe_that_it_leads(clock: Clock) -> None:
    lease = candidate()
    assert not lease.is_held
    lease._until = clock.now + 10
    assert lease.is_held
    clock.now += 10
    assert not lease.is_held
    assert not lease.lost.is_set(), "its loop had no chance to notice"
    assert time.monotonic() != clock.now
