"""What each entry makes of a ledger: prices, faults, verdicts, and what comes too late."""

from __future__ import annotations

from datetime import timedelta

from skill_operator.generation import ledger_entries
from skill_operator.generation.decision import Call, ReadyCandidate
from skill_operator.generation.ledger import MAX_SOURCES_BYTES
from skill_operator.naming import digest
from tests.unit.generation.ledger_samples import NOW, opened, reason, refused, replied, reserved, step


def test_the_real_price_replaces_the_reservation() -> None:
    assert reserved(opened()).tokens == 2000
    assert replied(opened()).tokens == 1500


def test_a_b_a_is_a_loop_too() -> None:
    ledger = replied(refused(refused(opened(), "a", message="x"), "b", message="y"), "a")
    assert ledger.attempts[-1].state == "repeat"


def test_a_reply_ends_a_row_of_faults() -> None:
    ledger = replied(ledger_entries.record_fault(reserved(opened()), "x", 0, NOW + timedelta(hours=1)))
    assert (ledger.faults, ledger.fault, ledger.retry_at) == (0, "", None)


def test_what_may_have_been_billed_is_spent() -> None:
    ledger = ledger_entries.record_fault(reserved(opened(), 6000), "late", 6000, NOW)
    assert ledger.tokens == 6000


def test_a_lost_call_is_spent_whole_and_no_attempt() -> None:
    ledger = ledger_entries.record_loss(reserved(opened()), NOW)
    assert (ledger.attempt_count, ledger.tokens, ledger.charged) == (0, 2000, 2000)
    assert reason(step(ledger)) == "first"
    for _ in range(6):
        ledger = ledger_entries.record_loss(reserved(ledger), NOW)
    assert reason(step(ledger)) == "first"
    for _ in range(3):
        ledger = ledger_entries.record_loss(reserved(ledger), NOW)
    assert reason(step(ledger)) == "BudgetExhausted"


def test_code_accepted_before_is_tried_first_and_is_no_attempt() -> None:
    ledger = ledger_entries.readopt(opened(), "old", digest("old"))
    found = step(ledger)
    assert isinstance(found, ReadyCandidate)
    assert (ledger.attempt_count, ledger.tokens) == (0, 0)
    assert (
        ledger_entries.record_verdict(ledger, passed=True, gate="", message="", line=None).attempts[0].state == "passed"
    )
    wrong = ledger_entries.record_verdict(ledger, passed=False, gate="mypy", message="no", line=3)
    assert reason(step(wrong)) == "repair"
    assert replied(wrong, "old").attempts[-1].state == "repeat"
    assert ledger_entries.readopt(wrong, "other", digest("other")) == wrong


def test_what_has_passed_may_fail_when_it_is_checked_again() -> None:
    passed = ledger_entries.record_verdict(replied(opened()), passed=True, gate="", message="", line=None)
    failed = ledger_entries.record_verdict(passed, passed=False, gate="hidden", message="no", line=None)
    assert reason(step(failed)) == "repair"


def test_what_comes_too_late_changes_nothing() -> None:
    for ledger in (
        opened(),
        replied(opened()),
        refused(opened(), "a"),
        ledger_entries.record_loss(reserved(opened()), NOW),
    ):
        assert (
            ledger_entries.settle(ledger, 9, NOW, estimated=True, source="x", fingerprint="x", flaw="", problem="")
            == ledger
        )
        assert ledger_entries.record_loss(ledger, NOW) == ledger
        assert ledger_entries.record_fault(ledger, "x", 9, NOW) == ledger
    for ledger in (
        opened(),
        reserved(opened()),
        refused(opened(), "a"),
        ledger_entries.record_loss(reserved(opened()), NOW),
    ):
        assert ledger_entries.record_verdict(ledger, passed=True, gate="", message="", line=None) == ledger


def test_the_oldest_code_goes_first_when_all_of_it_is_too_large() -> None:
    ledger = opened()
    for letter in "abc":
        ledger = refused(ledger, letter + "\x01" * 40_000)  # six bytes each, as JSON
    assert [bool(attempt.source) for attempt in ledger.attempts] == [False, False, True]
    assert all(attempt.fingerprint for attempt in ledger.attempts)
    assert len(ledger.model_dump_json()) < MAX_SOURCES_BYTES + 100_000


def test_a_fault_is_forgotten_once_the_endpoint_is_another() -> None:
    ledger = ledger_entries.record_fault(
        reserved(opened()),
        "no.",
        0,
        NOW + timedelta(hours=1),
        reason="ModelRefused",
        fault_count=5,
        endpoint_version="a",
    )
    assert ledger_entries.forget_fault(ledger, "a") == ledger
    assert isinstance(step(ledger_entries.forget_fault(ledger, "b")), Call)
    older = ledger.model_copy(update={"fault_endpoint": ""})
    assert ledger_entries.forget_fault(older, "b") == older, "what an earlier version recorded waits as it did"
