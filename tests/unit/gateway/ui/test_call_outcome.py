"""What the page shows of a skill's answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from skill_operator.gateway import json_bounds
from skill_operator.gateway.invocation import InvocationResponse
from skill_operator.gateway.ui import call_outcome
from skill_operator.gateway.ui.call_outcome import MAX_ANSWER_CHARACTERS, CallOutcome


def outcome(body: bytes, status: int = 200) -> CallOutcome:
    return call_outcome.answered(InvocationResponse(status, {}, body), 0.1, "r")


def test_an_answer_is_indented() -> None:
    assert outcome(b'{"a": [1]}').text == json.dumps({"a": [1]}, indent=2)


@pytest.mark.parametrize("status", [200, 422, 500])
@pytest.mark.parametrize(
    "body",
    [
        b"[" + b",".join([b"[]"] * json_bounds.MAX_MARKS) + b"]",
        b"[" * 200 + b"]" * 200,
        b'{"title": "t", "x": [' + b"{}," * 300_000,
        "é".encode() * 400_000 + b"[" * 400,
    ],
)
def test_an_answer_that_is_too_much_is_shown_as_it_is(
    status: int, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call of the parser keeps all other threads from running, the loop's too."""
    parsed: list[Any] = []
    monkeypatch.setattr(json, "loads", parsed.append)
    shown = outcome(body, status)
    assert parsed == []
    assert shown.text.rstrip("…") in body.decode()
    assert len(shown.text) <= MAX_ANSWER_CHARACTERS + 1
    assert shown.title == ("Answer" if status == 200 else f"HTTP {status}")


@pytest.mark.parametrize("body", [b"\xff\xfe", b"{", b"NaN]", b""])
def test_an_answer_that_is_no_json_is_shown_as_text(body: bytes) -> None:
    assert outcome(body).status == 200
