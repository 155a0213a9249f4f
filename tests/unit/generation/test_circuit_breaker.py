"""The circuit before an endpoint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from skill_operator.generation.circuit_breaker import FAILURE_THRESHOLD, MAX_OPEN_TIME, MIN_OPEN_TIME, CircuitBreaker

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TIMEOUT = timedelta(seconds=60)


def opened(times: int = FAILURE_THRESHOLD, retry_after_seconds: float | None = None) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(times):
        breaker.record_failure(NOW, "main failed (503).", retry_after_seconds)
    return breaker


def test_a_few_failures_are_nothing_and_a_success_ends_the_row() -> None:
    breaker = opened(FAILURE_THRESHOLD - 1)
    assert (breaker.state(NOW), breaker.seconds_until_call(NOW)) == ("closed", 0)
    breaker.record_success()
    breaker.record_failure(NOW, "again", None)
    assert breaker.state(NOW) == "closed"


def test_it_opens_then_lets_one_through_which_decides() -> None:
    breaker = opened()
    assert breaker.state(NOW) == "open"
    assert MIN_OPEN_TIME <= timedelta(seconds=breaker.seconds_until_call(NOW)) <= MIN_OPEN_TIME * 1.3
    assert "open after 5 failures" in breaker.describe(NOW)
    assert "503" in breaker.describe(NOW)
    later = NOW + MIN_OPEN_TIME * 2
    assert (breaker.state(later), breaker.seconds_until_call(later)) == ("half-open", 0)
    breaker.record_start("a", later, TIMEOUT)
    assert breaker.seconds_until_call(later) == 60, "the others wait for the one"
    assert "half-open" in breaker.describe(later)
    breaker.record_success()
    assert (breaker.state(later), breaker.seconds_until_call(later)) == ("closed", 0)


def test_a_trial_that_fails_opens_it_for_longer_to_a_limit() -> None:
    breaker, now, waits = opened(), NOW, []
    for _ in range(12):
        waits.append(breaker.seconds_until_call(now))
        now += timedelta(seconds=waits[-1])
        breaker.record_start("a", now, TIMEOUT)
        breaker.record_failure(now, "still", None)
    assert waits[1] > waits[0]
    assert max(waits) <= MAX_OPEN_TIME.total_seconds() * 1.3
    assert breaker.state(now) == "open"


def test_a_trial_that_never_ends_is_not_waited_for_for_ever() -> None:
    breaker = opened()
    later = NOW + MIN_OPEN_TIME * 2
    breaker.record_start("a", later, TIMEOUT)
    assert breaker.seconds_until_call(later + TIMEOUT) == 0


def test_a_trial_that_is_cancelled_is_not_waited_for() -> None:
    breaker = opened()
    later = NOW + MIN_OPEN_TIME * 2
    breaker.record_start("a", later, TIMEOUT)
    breaker.record_cancelled("b")
    assert breaker.seconds_until_call(later) == 60, "it was another call"
    breaker.record_cancelled("a")
    assert (breaker.state(later), breaker.seconds_until_call(later)) == ("half-open", 0)


def test_the_endpoint_s_own_word_counts() -> None:
    assert opened(retry_after_seconds=500).seconds_until_call(NOW) == 500


def test_calls_that_were_out_when_it_opened_do_not_lengthen_it() -> None:
    breaker = opened()
    wait = breaker.seconds_until_call(NOW)
    for _ in range(20):
        breaker.record_failure(NOW, "late", None)
    assert breaker.seconds_until_call(NOW) == wait
