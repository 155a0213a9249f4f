"""When asking goes on and when it ends: rule by rule, and then every order in which things can happen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skill_operator.generation import ledger as book
from skill_operator.generation.ledger import Attempt, Call, Candidate, Ledger, Limits, Stop, Wait
from skill_operator.naming import digest
from skill_runtime.check.bundle import Example
from skill_runtime.check.examples import Failed, _hidden, _visible
from skill_runtime.check.findings import excerpt

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(max_attempts=3, token_budget=20_000, max_reply=4096, faults=5, deadline=timedelta(seconds=900))
PROMPT = 1000
WRONG = Example("one", {"a": 1}, hidden=False, output=3, has_output=True, error="")


def opened() -> Ledger:
    return Ledger(input_hash="h", opened=NOW)


def limits(**values: Any) -> Limits:
    return LIMITS.model_copy(update=values)


def step(ledger: Ledger, now: datetime = NOW, **values: Any) -> Call | Candidate | Stop | Wait:
    return book.decide(ledger, limits(**values), PROMPT, now)


def asked(ledger: Ledger, tokens: int = 2000) -> Ledger:
    return book.reserve(ledger, "main", tokens)


def replied(ledger: Ledger, source: str = "code", tokens: int = 1500, problem: str = "") -> Ledger:
    return book.settle(
        asked(ledger), tokens, estimated=False, source=source, fingerprint=source and digest(source), problem=problem
    )


def refused(
    ledger: Ledger, source: str, gate: str = "examples", message: str = "wrong", line: int | None = None
) -> Ledger:
    return book.judged(replied(ledger, source), passed=False, gate=gate, message=message, line=line)


def report(passed: int, total: int, got: str = "4") -> str:
    """As the checker words it."""
    return _visible([Failed(WRONG, got)], passed, total, "").message


def reason(found: Call | Candidate | Stop | Wait) -> str:
    return found.reason if isinstance(found, Stop | Wait) else getattr(found, "kind", type(found).__name__)


def test_the_first_call_reserves_prompt_and_reply() -> None:
    assert step(opened()) == Call("first", 4096, PROMPT + 4096)


def test_while_a_reply_is_awaited_there_is_nothing_to_do() -> None:
    found = step(asked(opened()))
    assert isinstance(found, Wait)
    assert found.reason == "Generating"


def test_a_candidate_is_checked_then_accepted_for_good() -> None:
    ledger = replied(opened())
    found = step(ledger)
    assert isinstance(found, Candidate)
    assert not found.accepted
    assert found.attempt.source == "code"
    passed = book.judged(ledger, passed=True, gate="", message="", line=None)
    found = step(passed, now=NOW + timedelta(days=9), token_budget=1)
    assert isinstance(found, Candidate)
    assert found.accepted


def test_the_real_price_replaces_the_reservation() -> None:
    assert asked(opened()).tokens == 2000
    assert replied(opened()).tokens == 1500


def test_a_refused_candidate_is_repaired() -> None:
    assert reason(step(refused(opened(), "a"))) == "repair"


def test_attempts_are_exhausted() -> None:
    ledger = refused(refused(refused(opened(), "a", message="x"), "b", message="y"), "c", message="z")
    found = step(ledger)
    assert isinstance(found, Stop)
    assert found.reason == "AttemptsExhausted"
    assert "z" in found.message


@pytest.mark.parametrize(("spent", "expected"), [(18_000, 1000), (18_744, 256), (18_745, 0), (20_000, 0), (25_000, 0)])
def test_the_budget_is_checked_before_the_call(spent: int, expected: int) -> None:
    found = step(replied(opened(), "", tokens=spent))
    if expected:
        assert found == Call("first", expected, PROMPT + expected)
    else:
        assert reason(found) == "BudgetExhausted"


def test_a_repeat_is_not_checked_once_started_afresh_then_stopped() -> None:
    once = replied(refused(opened(), "a"), "a")
    assert reason(step(once)) == "fresh"
    twice = replied(once, "a")
    assert reason(step(twice)) == "LoopDetected"
    assert "same code" in once.attempts[-1].message


def test_a_b_a_is_a_loop_too() -> None:
    ledger = replied(refused(refused(opened(), "a", message="x"), "b", message="y"), "a")
    assert ledger.attempts[-1].state == "repeat"


def test_no_progress_is_a_fresh_start_then_the_end() -> None:
    once = refused(refused(opened(), "a", message="got 3 at 0x7f"), "b", message="got 4 at 0x99")
    assert reason(step(once)) == "fresh"
    assert reason(step(refused(once, "c", message="got 5 at 0x11"))) == "NoProgress"
    other = refused(once, "c", message="another error")
    assert reason(step(other, max_attempts=4)) == "repair"


def test_more_examples_passed_is_progress() -> None:
    ledger = refused(opened(), "a", message=report(1, 5))
    assert reason(step(refused(ledger, "b", message=report(2, 5)))) == "repair"
    assert reason(step(refused(ledger, "b", message=report(1, 5, got="5")))) == "fresh"
    told = [_hidden([Failed(WRONG, "4")], passed, 3, "").message for passed in (1, 2)]
    held_out = [refused(opened(), "a", gate="hidden", message=message) for message in told]
    assert [ledger.attempts[0].progress for ledger in held_out] == [(5, 1), (5, 2)]


@pytest.mark.parametrize("gate", ["ruff", "mypy"])
def test_the_same_complaint_about_other_code_is_no_progress(gate: str) -> None:
    told = [f"line {n}: name-defined: 'x' is unknown\n{excerpt(code, n)}" for n, code in ((1, "x()"), (2, "\ny = x"))]
    once = refused(opened(), "a", gate=gate, message=told[0], line=1)
    assert reason(step(refused(once, "b", gate=gate, message=told[1], line=2))) == "fresh"


def test_a_later_gate_is_progress() -> None:
    attempts = [Attempt(number=1, state="failed", endpoint="m", tokens=1, gate=gate) for gate in book.GATES]
    assert sorted(attempts, key=lambda attempt: attempt.progress) == attempts


def test_different_programs_that_agree_against_one_example_make_the_spec_suspect() -> None:
    once = refused(opened(), "a", message=report(4, 5))
    assert reason(step(refused(once, "b", message=report(4, 5)))) == "SuspectSpec"
    assert reason(step(refused(once, "b", message=report(4, 5, got="7")))) == "fresh"
    assert reason(step(refused(refused(opened(), "a", message=report(3, 5)), "b", message=report(3, 5)))) == "fresh"
    assert reason(step(refused(refused(opened(), "a", message=report(0, 1)), "b", message=report(0, 1)))) == "fresh"


def test_the_same_exception_twice_says_nothing_against_the_spec() -> None:
    crash = report(4, 5, got="KeyError: 'a'")
    assert reason(step(refused(refused(opened(), "a", message=crash, line=3), "b", message=crash, line=4))) == "fresh"


def test_the_same_forbidden_thing_twice_is_for_a_person_to_decide() -> None:
    once = refused(opened(), "a", gate="policy", message="line 3: import socket is forbidden")
    assert reason(step(once)) == "repair"
    assert (
        reason(step(refused(once, "b", gate="policy", message="line 9: import socket is forbidden"))) == "PolicyRefused"
    )
    assert reason(step(refused(once, "b", gate="policy", message="line 3: import ctypes is forbidden"))) == "repair"


def test_a_reply_without_code_costs_tokens_and_no_attempt_and_two_are_the_end() -> None:
    once = replied(opened(), "", problem="no code")
    assert (once.candidates, once.tokens) == (0, 1500)
    assert reason(step(once)) == "first"
    assert reason(step(replied(once, "", problem="no code"))) == "NoCode"
    between = replied(refused(once, "a"), "", problem="no code")
    assert reason(step(between)) == "fresh"


def test_the_deadline_ends_asking_but_not_a_check_under_way() -> None:
    late = NOW + timedelta(seconds=901)
    assert reason(step(refused(opened(), "a"), now=late)) == "DeadlineExceeded"
    assert isinstance(step(replied(opened()), now=late), Candidate)


def test_faults_cost_no_attempt_wait_and_end() -> None:
    ledger = opened()
    for _ in range(5):
        ledger = book.fault(asked(ledger), "main failed (503).", 0, NOW + timedelta(seconds=10))
        assert ledger.candidates == ledger.tokens == 0
        found = step(ledger)
        if ledger.faults < 5:
            assert isinstance(found, Wait)
            assert found.seconds == 10
            assert isinstance(step(ledger, now=NOW + timedelta(seconds=10)), Call)
    assert reason(step(ledger)) == "ModelUnavailable"
    assert reason(step(book.fault(asked(opened()), "x", 7, NOW), now=NOW)) == "first"


def test_a_reply_ends_a_row_of_faults() -> None:
    ledger = replied(book.fault(asked(opened()), "x", 0, NOW + timedelta(hours=1)))
    assert (ledger.faults, ledger.fault, ledger.retry_at) == (0, "", None)


def test_what_may_have_been_billed_is_spent() -> None:
    ledger = book.fault(asked(opened(), 6000), "late", 6000, NOW)
    assert ledger.tokens == 6000


def test_a_lost_call_counts_and_is_spent() -> None:
    ledger = book.lost(asked(opened()))
    assert (ledger.candidates, ledger.tokens) == (1, 2000)
    assert reason(step(ledger)) == "first"
    assert reason(step(book.lost(asked(book.lost(asked(ledger)))))) == "AttemptsExhausted"


def test_what_was_stopped_stays_stopped() -> None:
    ledger = refused(opened(), "a")
    stopped = book.stopped(ledger, Stop("ModelRefused", "no key"))
    assert step(stopped, max_attempts=9, token_budget=10**6) == Stop("ModelRefused", "no key")


@pytest.mark.parametrize(("name", "value"), [("token_budget", 40_000), ("max_attempts", 4)])
def test_raising_the_limit_that_was_reached_lets_the_work_go_on(name: str, value: int) -> None:
    ledger = opened()
    if name == "max_attempts":
        ledger = refused(refused(refused(ledger, "a", message="x"), "b", message="y"), "c", message="z")
    else:
        ledger = replied(refused(ledger, "a"), "", tokens=19_000)
    found = step(ledger)
    assert isinstance(found, Stop)
    stopped = book.stopped(ledger, found)
    assert step(stopped) == found
    again = step(stopped, **{name: value})
    assert isinstance(again, Call)
    resumed = book.reserve(stopped, "main", again.reserve)
    assert isinstance(step(resumed), Wait), "the stop is over"
    assert step(book.stopped(ledger, found), deadline=timedelta(days=9)) == found


def test_what_comes_too_late_changes_nothing() -> None:
    for ledger in (opened(), replied(opened()), refused(opened(), "a"), book.lost(asked(opened()))):
        assert book.settle(ledger, 9, estimated=True, source="x", fingerprint="x", problem="") == ledger
        assert book.lost(ledger) == ledger
        assert book.fault(ledger, "x", 9, NOW) == ledger
    for ledger in (opened(), asked(opened()), refused(opened(), "a"), book.lost(asked(opened()))):
        assert book.judged(ledger, passed=True, gate="", message="", line=None) == ledger


def test_a_ledger_is_read_back_as_it_was_written() -> None:
    ledger = book.stopped(refused(replied(opened(), ""), "ü\n\"'\0"), Stop("LoopDetected", "x"))
    ledger = book.fault(asked(ledger), "late", 5, NOW)
    assert Ledger.model_validate_json(ledger.model_dump_json()) == ledger
    assert Ledger.model_validate_json('{"input_hash": "h", "opened": "2026-01-01T00:00:00Z", "new": 1}') == opened()


def test_the_oldest_code_goes_first_when_all_of_it_is_too_large() -> None:
    ledger = opened()
    for letter in "abc":
        ledger = refused(ledger, letter + "\x01" * 40_000)  # six bytes each, as JSON
    assert [bool(attempt.source) for attempt in ledger.attempts] == [False, False, True]
    assert all(attempt.fingerprint for attempt in ledger.attempts)
    assert len(ledger.model_dump_json()) < book.LARGEST + 100_000


class EveryOrder(RuleBasedStateMachine):
    """A controller that obeys the ledger, an endpoint that does what it wants, and a power switch."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = LIMITS
        self.now = NOW
        self.stored = opened()  # what the cluster holds: all that a restart leaves
        self.called = 0
        self.candidates = 0
        self.stops: list[str] = []

    def found(self) -> Call | Candidate | Stop | Wait:
        return book.decide(self.stored, self.limits, PROMPT, self.now)

    @rule()
    def reconcile(self) -> None:
        found = self.found()
        if isinstance(found, Call):
            assert not self.stops, "a failed Skill stays failed"
            assert self.stored.tokens + found.reserve <= self.limits.token_budget
            assert found.max_tokens > 0
            self.stored = book.reserve(self.stored, "main", found.reserve)
            self.called += 1
        elif isinstance(found, Stop):
            self.stored = book.stopped(self.stored, found)
            self.stops.append(found.reason)

    def awaiting(self) -> bool:
        return self.stored.last is not None and self.stored.last.state == "reserved"

    def checking(self) -> bool:
        return self.stored.last is not None and self.stored.last.state == "candidate"

    @precondition(awaiting)
    @rule(share=st.floats(0, 1), source=st.sampled_from(["", "a", "b", "c", "d", "e", "f", "g"]))
    def reply(self, share: float, source: str) -> None:
        assert self.stored.last is not None
        charged = int(self.stored.last.tokens * share)
        self.stored = book.settle(
            self.stored, charged, estimated=False, source=source, fingerprint=source, problem="" if source else "none"
        )
        self.candidates += bool(source)

    @precondition(awaiting)
    @rule(billed=st.booleans(), pause=st.integers(0, 100))
    def fault(self, billed: bool, pause: int) -> None:
        assert self.stored.last is not None
        retry_at = self.now + timedelta(seconds=pause)
        self.stored = book.fault(self.stored, "x", self.stored.last.tokens if billed else 0, retry_at)

    @precondition(awaiting)
    @rule()
    def refuse(self) -> None:
        """The endpoint takes no key: a person has to act."""
        freed = book.fault(self.stored, "401", 0, self.now)
        self.stored = book.stopped(freed, Stop("ModelRefused", "see the key"))
        self.stops.append("ModelRefused")

    @rule()
    def crash(self) -> None:
        """Whatever was under way is gone; the stored ledger is read anew."""
        self.stored = book.lost(Ledger.model_validate_json(self.stored.model_dump_json()))

    @precondition(checking)
    @rule(
        passed=st.sampled_from([False, False, False, True]),
        gate=st.sampled_from(book.GATES),
        got=st.sampled_from(["x", "y", "z 1", "z 2"]),
        examples=st.integers(0, 4),
    )
    def judge(self, passed: bool, gate: str, got: str, examples: int) -> None:
        message = report(examples, 5, got)
        self.stored = book.judged(self.stored, passed=passed, gate=gate, message=message, line=None)

    @rule(late=st.sampled_from(["settle", "fault", "lost", "judged"]))
    def something_late(self, late: str) -> None:
        if late == "judged" and not self.checking():
            self.stored = book.judged(self.stored, passed=True, gate="", message="", line=None)
        elif not self.awaiting():
            if late == "settle":
                self.stored = book.settle(
                    self.stored, 99_999, estimated=False, source="late", fingerprint="late", problem=""
                )
            elif late == "fault":
                self.stored = book.fault(self.stored, "late", 99_999, self.now)
            elif late == "lost":
                self.stored = book.lost(self.stored)

    @rule(seconds=st.integers(0, 200))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def never_more_than_allowed(self) -> None:
        assert self.candidates <= self.stored.candidates <= self.limits.max_attempts
        assert self.stored.tokens <= self.limits.token_budget
        assert self.called <= 2 * self.limits.max_attempts * self.limits.faults

    @invariant()
    def failed_stays_failed(self) -> None:
        if self.stops:
            assert len(set(self.stops)) == 1
            assert reason(self.found()) == self.stops[0]

    @invariant()
    def there_is_always_a_next_step_and_it_says_why(self) -> None:
        found = self.found()
        if isinstance(found, Stop):
            assert found.reason.isidentifier()
            assert found.message


TestEveryOrder = EveryOrder.TestCase
TestEveryOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
