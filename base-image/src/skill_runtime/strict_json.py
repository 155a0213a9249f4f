"""Strict JSON (RFC 8259): what is accepted here has one meaning for every reader after it."""

from __future__ import annotations

import codecs
import json
import math
from typing import Any

from skill_runtime import operator_contract as oc

MAX_DEPTH = oc.MAX_LEVELS


class StrictJsonError(Exception):
    """Not JSON, or JSON that not all parsers agree on; the message says what is wrong."""


def parse(data: bytes) -> Any:
    """Parse one JSON value in UTF-8.

    Raises StrictJsonError for NaN, infinity, half a surrogate pair, a number out of range and deep nesting.
    """
    return canonicalize(data)[0]


def canonicalize(data: bytes) -> tuple[Any, bytes]:
    """Parse a value, and return it with its one spelling: no duplicate keys, no escapes, no white space."""
    try:
        if data.startswith(codecs.BOM_UTF8):
            raise StrictJsonError("it begins with a byte order mark; send UTF-8 without one")
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite_float)
        _refuse_depth(value)
        return value, encode(value)
    except RecursionError:
        raise StrictJsonError(f"nested deeper than {MAX_DEPTH}") from None
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise StrictJsonError("a string holds half of a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise StrictJsonError(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except ValueError as error:
        raise StrictJsonError(f"a number out of range: {error}") from None


def encode(value: Any) -> bytes:
    """Return the one spelling of a value. Raises ValueError for what is no JSON, UnicodeEncodeError for half a pair."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def parse_lenient(data: bytes) -> Any:
    """Parse JSON of the operator's own making, whose strings may quote anything. Raises StrictJsonError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StrictJsonError(f"not JSON: {error}") from error


def _refuse_constant(constant: str) -> None:
    raise StrictJsonError(f"not JSON: {constant}")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text[:20])
    return value


def _refuse_depth(value: Any) -> None:
    level = [value] if type(value) in (dict, list) else []
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) in (dict, list)
        ]
    raise StrictJsonError(f"nested deeper than {MAX_DEPTH}")
