"""What a ledger says of its attempts, and that it is read back as it was written."""

from __future__ import annotations

from skill_operator.generation import ledger_entries
from skill_operator.generation.decision import Stop
from skill_operator.generation.ledger import GATES, Attempt, Ledger
from tests.unit.generation.ledger_samples import NOW, opened, refused, replied, report, reserved


def test_a_later_gate_is_progress() -> None:
    attempts = [Attempt(number=1, state="failed", endpoint="m", tokens=1, gate=gate) for gate in GATES]
    assert sorted(attempts, key=lambda attempt: attempt.progress) == attempts


def test_the_best_code_is_kept() -> None:
    ledger = refused(opened(), "a", message=report(3, 5))
    ledger = refused(ledger, "b", gate="ruff", message="E9")
    assert ledger.best is not None
    assert ledger.best.source == "a"
    ledger = refused(ledger, "c", message=report(3, 5, got="other"))
    assert ledger.best.source == "c", "the latest of equals"


def test_a_ledger_is_read_back_as_it_was_written() -> None:
    ledger = ledger_entries.stop(refused(replied(opened(), ""), "ü\n\"'\0"), Stop("LoopDetected", "x"))
    ledger = ledger_entries.record_fault(reserved(ledger), "late", 5, NOW)
    assert Ledger.model_validate_json(ledger.model_dump_json()) == ledger
    assert Ledger.model_validate_json('{"input_hash": "h", "new": 1}') == opened()
