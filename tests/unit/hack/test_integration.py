"""The parts of `make integration`: each test of the cluster runs in one of them."""

from __future__ import annotations

import sys
from itertools import product

import pytest
from _pytest.mark.expression import Expression

from hack import integration

PARTS = (integration.SIDE_BY_SIDE, integration.ONE_BY_ONE, integration.AT_THE_END)


@pytest.mark.parametrize("is_set", list(product([False, True], repeat=3)))
def test_each_test_of_the_cluster_runs_in_one_part(is_set: tuple[bool, ...]) -> None:
    marks = dict(zip(("cluster", "serial", "last"), is_set, strict=True))
    chosen = [part for part in PARTS if Expression.compile(part).evaluate(lambda name, **_: marks[name])]
    assert len(chosen) == marks["cluster"]


@pytest.mark.parametrize(("code", "fails", "outcome"), [(0, "", 0), (3, "", 1), (0, integration.ONE_BY_ONE, 1)])
def test_what_runs_beside_counts_as_the_parts_do(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], code: int, fails: str, outcome: int
) -> None:
    parts: list[str] = []

    def passes(marks: str, *_options: str, **_environment: str) -> bool:
        parts.append(marks)
        return marks != fails

    monkeypatch.setattr(integration, "passes", passes)
    program = f"import os, sys; print('beside by', os.nice(0)); sys.exit({code})"
    assert integration.main("4", sys.executable, "-c", program) == outcome
    assert tuple(parts) == PARTS, "in this order, whatever fails"
    assert "beside by 19" in capfd.readouterr().out


def test_nothing_needs_to_run_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration, "passes", lambda *_options, **_environment: True)
    assert integration.main("4") == 0
