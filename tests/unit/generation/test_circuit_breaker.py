"""The circuit before an endpoint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from skill_operator.generation.circuit_breaker import FAILURES, LONGEST, SHORTEST, CircuitBreaker

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PATIENCE = timedelta(seconds=60)


def opened(times: int = FAILURES, retry_after: float | None = None) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(times):
        breaker.failed(NOW, "main failed (503).", retry_after)
    return breaker


def test_a_few_failures_are_nothing_and_a_success_ends_the_row() -> None:
    breaker = opened(FAILURES - 1)
    assert (breaker.state(NOW), breaker.wait(NOW)) == ("closed", 0)
    breaker.succeeded()
    breaker.failed(NOW, "again", None)
    assert breaker.state(NOW) == "closed"


def test_it_opens_then_lets_one_through_which_decides() -> None:
    breaker = opened()
    assert breaker.state(NOW) == "open"
    assert SHORTEST <= timedelta(seconds=breaker.wait(NOW)) <= SHORTEST * 1.3
    assert "open after 5 failures" in breaker.message(NOW)
    assert "503" in breaker.message(NOW)
    later = NOW + SHORTEST * 2
    assert (breaker.state(later), breaker.wait(later)) == ("half-open", 0)
    breaker.begin(later, PATIENCE)
    assert breaker.wait(later) == 60, "the others wait for the one"
    assert "half-open" in breaker.message(later)
    breaker.succeeded()
    assert (breaker.state(later), breaker.wait(later)) == ("closed", 0)


def test_a_trial_that_fails_opens_it_for_longer_to_a_limit() -> None:
    breaker, now, waits = opened(), NOW, []
    for _ in range(12):
        waits.append(breaker.wait(now))
        now += timedelta(seconds=waits[-1])
        breaker.begin(now, PATIENCE)
        breaker.failed(now, "still", None)
    assert waits[1] > waits[0]
    assert max(waits) <= LONGEST.total_seconds() * 1.3
    assert breaker.state(now) == "open"


def test_a_trial_that_never_ends_is_not_waited_for_for_ever() -> None:
    breaker = opened()
    later = NOW + SHORTEST * 2
    breaker.begin(later, PATIENCE)
    assert breaker.wait(later + PATIENCE) == 0


def test_the_endpoint_s_own_word_counts() -> None:
    assert opened(retry_after=500).wait(NOW) == 500


def test_calls_that_were_out_when_it_opened_do_not_lengthen_it() -> None:
    breaker = opened()
    wait = breaker.wait(NOW)
    for _ in range(20):
        breaker.failed(NOW, "late", None)
    assert breaker.wait(NOW) == wait
