"""What a worker says, read as the bytes of an enemy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from skill_runtime import frames, strict_json
from skill_runtime.text import printable

Kind = Literal["raised", "unserialisable", "oversized", "malformed", "died", "timeout", "memory"]
_SAID: tuple[Kind, ...] = ("raised", "unserialisable", "oversized")


@dataclass(frozen=True)
class Output:
    """What `run` returned, and its spelling."""

    value: Any
    text: bytes


@dataclass(frozen=True)
class WorkerFailure:
    """Why there is no output."""

    kind: Kind
    types: tuple[str, ...] = ()
    """Names of the exception's class and of its bases."""
    message: str = ""
    line: int | None = None
    """In skill.py."""

    @property
    def exception(self) -> str:
        """`ValueError: text`."""
        name = self.types[0] if self.types else self.kind
        return f"{name}: {self.message}" if self.message else name


Reply = Output | WorkerFailure


def read(payload: bytes) -> Reply:
    """The reply in a frame's payload; nonsense is a failure like any other."""
    try:
        value, text = strict_json.canonical(payload[1:])
    except strict_json.DocumentError as error:
        return WorkerFailure("malformed", message=f"the result is no JSON: {error}")
    if payload[:1] == frames.OUTPUT:
        return Output(value, text)
    if payload[:1] == frames.ERROR and isinstance(value, dict):
        return failure(value)
    return WorkerFailure("malformed", message="the worker did not answer in its own terms")


def failure(said: dict[str, Any]) -> WorkerFailure:
    """A failure as told by a zygote or a worker, whatever types it chose for its fields."""
    kind: Kind = next((kind for kind in _SAID if said.get("kind") == kind), "raised")
    names, line = said.get("types"), said.get("line")
    return WorkerFailure(
        kind,
        tuple(printable(str(name), 100) for name in names[:16]) if isinstance(names, list) else (),
        printable(str(said.get("message", "")), 600),
        line if isinstance(line, int) and not isinstance(line, bool) and 0 < line < 1 << 20 else None,
    )
