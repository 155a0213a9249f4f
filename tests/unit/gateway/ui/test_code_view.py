"""Code, diffs and attempts, as strangers write them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from skill_operator.gateway.ui import code_view
from tests.unit.gateway.ui.page_world import config_map


def text_of(lines: list[code_view.CodeLine]) -> list[str]:
    return ["".join(span.text for span in line.spans) for line in lines]


def test_code_keeps_every_character_and_has_its_numbers() -> None:
    source = 'def run(input: dict) -> dict:\n    """Sum."""\n\n    x = f"{1}" + \'a\\\'b\'  # "no string"\n    return {"a": 0x1f, "é": x}\n'
    lines = code_view.code_lines(source)
    assert text_of(lines) == source.split("\n")[:-1]
    assert [line.number for line in lines] == [1, 2, 3, 4, 5]
    kinds = {(span.kind, span.text) for line in lines for span in line.spans}
    assert ("keyword", "def") in kinds
    assert ("comment", '# "no string"') in kinds
    assert ("string", "'a\\'b'") in kinds
    assert ("number", "0x1f") in kinds


def test_what_an_editor_hides_is_seen() -> None:
    (line,) = text_of(code_view.code_lines("a = 1  # \u202e \u200b \x1b"))
    assert line == "a = 1  # \\u202e \\u200b \\x1b"


@pytest.mark.parametrize(
    "source", ['"' * 60_000, "'\\" * 30_000, "rb" * 30_000, "\n" * 60_000, "a" * 200_000, "\U000e0001" * 60_000]
)
def test_odd_code_costs_little(source: str) -> None:
    start_time = time.process_time()
    lines = code_view.code_lines(source)
    assert time.process_time() - start_time < 2
    assert len(lines) <= code_view.MAX_LINES + 1
    assert all(len(line) <= code_view.MAX_LINE_CHARACTERS + 1 for line in text_of(lines))


def test_a_diff_has_its_kinds() -> None:
    lines = code_view.diff_lines("--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n z")
    assert [line.kind for line in lines] == ["at", "at", "at", "del", "add", "same"]


def test_attempts_come_newest_first_and_bounded() -> None:
    attempts = [{"number": n, "state": "failed", "gate": "mypy", "endpoint": "m", "tokens": n} for n in range(30)]
    data = {"ledger.json": json.dumps({"tokens": 7, "attempts": attempts, "stop": None}), "attempt-29.py": "x = 1"}
    view = code_view.read_generation(config_map(data))
    assert view is not None
    assert [one.title for one in view.attempts] == [f"Attempt {n}" for n in range(29, 17, -1)]
    assert view.attempts[0].verdict == "refused by mypy"
    assert text_of(view.attempts[0].code) == ["x = 1"]


@pytest.mark.parametrize(
    "data", [None, [], {}, {"ledger.json": 5}, {"ledger.json": "[1]"}, {"ledger.json": '{"attempts": {}}'}]
)
def test_an_odd_config_map_is_none(data: object) -> None:
    found = code_view.read_generation({"data": data})
    assert found is None or found.attempts == []
    assert code_view.read_source({"data": data}) == ""


def test_a_ledger_that_is_too_much_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Any] = []
    monkeypatch.setattr(json, "loads", parsed.append)
    assert code_view.read_generation(config_map({"ledger.json": f"[{'[],' * 300_000}[]]"})) is None
    assert parsed == []
