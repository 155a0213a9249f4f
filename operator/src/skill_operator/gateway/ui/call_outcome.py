"""Show what became of a call that a person made on the page: the answer or the problem, and how long it took."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from skill_operator.gateway import json_bounds
from skill_operator.gateway.invocation import InvocationResponse
from skill_operator.gateway.problems import Problem
from skill_operator.untrusted.text import printable

MAX_ANSWER_CHARACTERS: Final = 64 << 10
MAX_SHOWN_JSON_CHARACTERS: Final = 16 << 10


class CallOutcome(NamedTuple):
    """CallOutcome is what became of a call that was made on the page."""

    title: str
    tone: str
    status: int
    text: str
    facts: list[tuple[str, str]]


def answered(response: InvocationResponse, seconds: float, request_id: str) -> CallOutcome:
    """Return the outcome of a call that a pod has answered."""
    cold = response.headers.get("X-Skill-Cold-Start", "")
    facts = [("Time", f"{seconds * 1000:,.0f} ms")]
    facts.append(("Cold start", f"{int(cold):,} ms" if cold.isdecimal() else "none: it was awake"))
    facts.append(("Request id", request_id))
    value, text = _read(response.body)
    if response.status < 300:
        return CallOutcome("Answer", "good", response.status, _limited(text), facts)
    title = value.get("title") if isinstance(value, dict) else None
    shown = printable(title, 200) if isinstance(title, str) else f"HTTP {response.status}"
    return CallOutcome(shown, "bad", response.status, _limited(text), facts)


def _read(body: bytes) -> tuple[Any, str]:
    """Return the value of an answer, and how it is shown: as it is where it is no JSON, or too much to parse."""
    if json_bounds.is_small(body):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            pass
        else:
            return value, pretty(value, MAX_ANSWER_CHARACTERS)
    return None, body[: 4 * (MAX_ANSWER_CHARACTERS + 1)].decode("utf-8", "replace")  # of four bytes at most


def refused(problem: Problem) -> CallOutcome:
    """Return the outcome of a call that the gateway has not passed on, or got no answer to."""
    return CallOutcome(problem.title, "bad", problem.status, printable(problem.detail, 4096, lines=True), [])


def pretty(value: Any, limit: int = MAX_SHOWN_JSON_CHARACTERS) -> str:
    """Return a value as indented JSON that can be shown, cut to `limit` characters."""
    return printable(json.dumps(value, indent=2, ensure_ascii=False)[: limit + 1], limit, lines=True)


def _limited(text: str) -> str:
    return printable(text[: MAX_ANSWER_CHARACTERS + 1], MAX_ANSWER_CHARACTERS, lines=True)
