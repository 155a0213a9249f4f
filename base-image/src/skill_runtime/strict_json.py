"""JSON from outside, strictly: what is let in here has one meaning for every reader after it."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100


class DocumentError(Exception):
    """Not JSON, or JSON that not all parsers agree on; the message says what is wrong."""


def parse(data: bytes) -> Any:
    """One JSON value in UTF-8; no NaN, infinity, half surrogate, absurd number or nesting. Raises DocumentError."""
    return canonical(data)[0]


def canonical(data: bytes) -> tuple[Any, bytes]:
    """As `parse`, with the value's one spelling: no duplicate keys, no escapes or white space of the original."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse)
        _refuse_depth(value)
        return value, json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise DocumentError(f"nested deeper than {MAX_DEPTH}") from None
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise DocumentError("a string holds half of a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except ValueError as error:
        raise DocumentError(f"a number out of range: {error}") from None


def lenient(data: bytes) -> Any:
    """JSON of the operator's own making, whose strings may quote anything. Raises DocumentError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"not JSON: {error}") from error


def _refuse(constant: str) -> None:
    raise DocumentError(f"not JSON: {constant}")


def _refuse_depth(value: Any) -> None:
    level = [value] if type(value) in (dict, list) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) in (dict, list)
        ]
    raise DocumentError(f"nested deeper than {MAX_DEPTH}")
