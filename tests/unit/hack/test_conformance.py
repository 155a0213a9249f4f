"""How the findings of the conformance suite are held against those that are expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.test_conformance import REVISIONS, TOOLS, compare, read_baseline, read_findings, translate

FOUND = {"tools": ["a: bad", "b: worse"], "prompts": ["c: none"], "ping": []}


@pytest.mark.parametrize(
    ("expected", "unexpected", "stale"),
    [
        (["tools", "prompts"], [], []),
        (["tools/a", "tools/b", "prompts"], [], []),
        (["tools/a", "prompts"], ["tools/b: worse"], []),
        (["tools"], ["prompts/c: none"], []),
        (["tools", "prompts", "ping"], [], ["ping"]),
        (["tools", "tools/x", "prompts"], [], ["tools/x"]),
        (["tools", "prompts", "another"], [], ["another"]),
        ([], ["prompts/c: none", "tools/a: bad", "tools/b: worse"], []),
    ],
)
def test_new_findings_and_stale_expectations_are_named(
    expected: list[str], unexpected: list[str], stale: list[str]
) -> None:
    assert compare(FOUND, expected) == (unexpected, stale)


def test_failures_and_warnings_are_findings(tmp_path: Path) -> None:
    folder = tmp_path / "server-server-stateless-2026-11-29T14-49-13-093Z"
    folder.mkdir()
    states = ("SUCCESS", "FAILURE", "WARNING", "INFO", "SKIPPED")
    checks = [{"id": state.lower(), "status": state, "errorMessage": "?"} for state in states]
    (folder / "checks.json").write_text(json.dumps(checks))
    assert read_findings(tmp_path) == {"server-stateless": ["failure: ?", "warning: ?"]}


def test_every_expectation_has_a_reason_and_stands_once() -> None:
    for revision in REVISIONS:
        assert read_baseline(revision)


def test_names_are_translated_whole() -> None:
    assert translate(b'{"name":"test_headers","x":"my_test_headers_2"}', TOOLS) == (
        b'{"name":"test-headers","x":"my_test_headers_2"}'
    )
    assert all(len(tool) == len(skill) for tool, skill in TOOLS.items()), "a Content-Length holds for both"
