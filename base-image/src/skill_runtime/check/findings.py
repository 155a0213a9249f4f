"""Findings: what a gate reports of a candidate that does not pass it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Gate = Literal["size", "policy", "ruff", "mypy", "examples", "schema", "hidden"]


@dataclass(frozen=True)
class GateFinding:
    """GateFinding names the first gate that a candidate fails, and says why to a model and to a person."""

    gate: Gate
    message: str
    line: int | None = None
    private: str = ""
    """People read it. No model ever may, since the model is tested by it."""


def excerpt(source: str, line: int | None, context: int = 2) -> str:
    """Return the line of the source with its neighbours, numbered."""
    lines = source.splitlines()
    if line is None or not 0 < line <= len(lines):
        return ""
    first = max(1, line - context)
    return "\n".join(
        f"{'>' if number == line else ' '} {number:4} | {text[:160]}"
        for number, text in enumerate(lines[first - 1 : line + context], first)
    )


class BrokenCheckError(Exception):
    """The check itself failed: there is no verdict, whatever the candidate is like."""
