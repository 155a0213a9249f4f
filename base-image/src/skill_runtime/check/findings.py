"""What a gate says of a candidate that does not pass it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Gate = Literal["size", "policy", "ruff", "mypy", "examples", "schema", "hidden"]


@dataclass(frozen=True)
class Finding:
    """The first gate that a candidate fails, and why, in words for a model and for a person."""

    gate: Gate
    message: str
    line: int | None = None
    private: str = ""
    """For people alone: what no model may ever be told, since it is judged by it."""


def excerpt(source: str, line: int | None, around: int = 2) -> str:
    """The line of the source with its neighbours, numbered."""
    lines = source.splitlines()
    if line is None or not 0 < line <= len(lines):
        return ""
    first = max(1, line - around)
    return "\n".join(
        f"{'>' if number == line else ' '} {number:4} | {text[:160]}"
        for number, text in enumerate(lines[first - 1 : line + around], first)
    )


class BrokenCheckError(Exception):
    """The check itself failed: no verdict, whatever the candidate is like."""
