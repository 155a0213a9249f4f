"""The replies of a worker, parsed as the bytes of an enemy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from skill_runtime import frames, strict_json
from skill_runtime.text import printable

FailureKind = Literal["raised", "unserialisable", "oversized", "malformed", "died", "timeout", "memory"]
_REPORTED_KINDS: tuple[FailureKind, ...] = ("raised", "unserialisable", "oversized")
"""Kinds that a worker reports itself; PID 1 alone finds the others."""


@dataclass(frozen=True)
class SkillOutput:
    """SkillOutput is what `run` returned, and its JSON."""

    value: Any
    text: bytes


@dataclass(frozen=True)
class WorkerFailure:
    """WorkerFailure says why there is no output."""

    kind: FailureKind
    types: tuple[str, ...] = ()
    """Names of the exception's class and of its bases."""
    message: str = ""
    line: int | None = None
    """The line of skill.py."""

    @property
    def exception(self) -> str:
        """The exception as Python prints it: `ValueError: text`."""
        name = self.types[0] if self.types else self.kind
        return f"{name}: {self.message}" if self.message else name


WorkerReply = SkillOutput | WorkerFailure


def parse_reply(payload: bytes) -> WorkerReply:
    """Parse the reply in a frame's payload; nonsense is a failure like any other."""
    try:
        value, text = strict_json.canonicalize(payload[1:])
    except strict_json.StrictJsonError as error:
        return WorkerFailure("malformed", message=f"the result is not JSON: {error}")
    if payload[:1] == frames.OUTPUT:
        return SkillOutput(value, text)
    if payload[:1] == frames.ERROR and isinstance(value, dict):
        return parse_failure(value)
    return WorkerFailure("malformed", message="the worker's reply breaks the protocol")


def parse_failure(report: dict[str, Any]) -> WorkerFailure:
    """Parse a failure reported by a zygote or a worker, whatever types it chose for its fields."""
    kind: FailureKind = next((kind for kind in _REPORTED_KINDS if report.get("kind") == kind), "raised")
    names, line = report.get("types"), report.get("line")
    return WorkerFailure(
        kind,
        tuple(printable(str(name), 100) for name in names[:16]) if isinstance(names, list) else (),
        printable(str(report.get("message", "")), 600),
        line if isinstance(line, int) and not isinstance(line, bool) and 0 < line < 1 << 20 else None,
    )
