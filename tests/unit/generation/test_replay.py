"""The replay of repair traces: it counts what the ledger's own rules keep, and leaves them as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.repair_traces import (
    MAX_ROUNDS,
    ProgramPool,
    RepairModel,
    RepairTrace,
    TracedCandidate,
    make_traces,
    read_traces,
    write_traces,
)
from benchmarks.replay import ATTEMPTS, RULES, measure, replay, report
from skill_operator.generation import decision

RIGHT = TracedCandidate("right", passed=True)
DISPUTED = "4/5 visible examples pass.\nexample 'a':\n  input:    1\n  expected: 2\n  got:      3"


def wrong(name: str, message: str = "") -> TracedCandidate:
    return TracedCandidate(name, passed=False, gate="examples", message=message or f"fails at {name}")


def trace(*names: str, message: str = "") -> RepairTrace:
    """Return a trace of wrong programs by name; `right` passes."""
    return RepairTrace("t", tuple(RIGHT if name == "right" else wrong(name, message) for name in names))


@pytest.mark.parametrize(
    ("made", "max_attempts", "expected"),
    [
        (trace("a", "b", "right"), 3, ("Accepted", 3)),
        (trace("a", "b", "c", "right"), 3, ("AttemptsExhausted", 3)),
        (trace("a", "b", "c", "right"), 4, ("Accepted", 4)),
        (trace("a", "a", "right"), 3, ("Accepted", 3)),
        (trace("a", "a", "a", "right"), 5, ("LoopDetected", 3)),
        (trace("a", "b", message="same"), 5, ("TraceEnded", 2)),
        (trace("a", "b", "c", "d", "right", message="same"), 5, ("NoProgress", 4)),
        (trace("a", "b", "right", message=DISPUTED), 3, ("Accepted", 3)),
        (trace("a", "b", "c", "right", message=DISPUTED), 5, ("SuspectSpec", 3)),
    ],
)
def test_a_trace_goes_through_the_rules_of_the_ledger(
    made: RepairTrace, max_attempts: int, expected: tuple[str, int]
) -> None:
    assert replay(made, max_attempts) == expected


def test_no_model_is_asked_more_often_than_it_may_whatever_it_repeats() -> None:
    names = ("a", "b", "a", "b", "c", "c", "d", "right")
    for max_attempts in ATTEMPTS:
        for constants in RULES.values():
            assert measure([trace(*names)], max_attempts, constants).repairs < max_attempts


def test_each_rule_set_is_measured_and_the_shipped_rules_are_back_afterwards() -> None:
    before = {name: getattr(decision, name) for constants in RULES.values() for name in constants}
    made = [trace("a", "a", "a", "right"), trace("a", "b", "right"), trace("a", "b", "c", "d", "e")]
    shipped = measure(made, 5, RULES["as shipped"])
    assert (shipped.fixed, shipped.kept, shipped.all_repairs, shipped.repairs) == (2, 1, 9, 2 + 2 + 4)
    assert shipped.lost_to == {"LoopDetected": 1}
    assert measure(made, 5, RULES["attempts alone"]).kept == 2
    assert measure(made, 5, RULES["end at the first repeat"]).repairs == 1 + 2 + 4
    assert {name: getattr(decision, name) for name in before} == before
    table = report(made)
    assert all(name in table for name in RULES)


def test_made_traces_are_the_same_for_a_seed_and_end_with_the_first_that_passes(tmp_path: Path) -> None:
    pool = ProgramPool("t", RIGHT, [wrong(f"w{n}") for n in range(5)], [wrong("special")])
    made = make_traces([pool], 300, 7)
    assert made == make_traces([pool], 300, 7) != make_traces([pool], 300, 8)
    for one in made:
        assert 2 <= len(one.candidates) <= MAX_ROUNDS
        assert [candidate.passed for candidate in one.candidates[:-1]] == [False] * (len(one.candidates) - 1)
    assert any(one.is_fixed for one in made)
    assert any(one.candidates[0] == one.candidates[1] for one in made)
    write_traces(tmp_path / "t.jsonl", made)
    assert list(read_traces(tmp_path / "t.jsonl")) == made


def test_a_model_that_never_repairs_never_repairs() -> None:
    pool = ProgramPool("t", RIGHT, [wrong("a"), replace(wrong("b"), private="x")])
    never = RepairModel(fixes=(0.0,), fixes_after_repeat=0.0)
    assert not any(made.is_fixed for made in make_traces([pool], 50, 1, never))
