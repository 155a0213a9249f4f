"""Bounds of strangers' JSON that is parsed or described in the loop: of its text before it is parsed, and of values."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

from skill_operator import runtime_contract
from skill_operator.gateway.invocation import MAX_BODY_BYTES
from skill_operator.gateway.problems import Problem
from skill_operator.untrusted.json_values import CHARACTERS_PER_UNIT, children, flaw

ENVELOPE_BYTES = 1 << 16  # around a call's arguments
MAX_REQUEST_BYTES = MAX_BODY_BYTES + ENVELOPE_BYTES
MAX_MARKS = 16_384  # brackets, braces and commas: at least one for each value
MAX_LEVELS = runtime_contract.MAX_LEVELS
MAX_WEIGHT = 8_192  # of what one Skill adds to a description: each value counts twice, 64 characters once
MAX_STRINGS = 2 * MAX_MARKS + 2  # of JSON with so many marks: a name and a value for each comma and each bracket
# A string, up to the end where it has none. It gives nothing back: one pass.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+', re.DOTALL)
_NO_MARKS = bytes(sorted(set(range(256)) - set(b"[]{},")))
_STEPS = [
    {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}.get(byte, 0) for byte in range(256)
]  # to the next level


def measure(body: bytes) -> tuple[int, int]:
    """Return the number of marks in a JSON text, and of its levels; it looks at one mark more than there may be.

    What has more than MAX_STRINGS is too much, or no JSON: then marks in the strings behind those count, too.
    """
    marks = _STRING.sub(b"", body, count=MAX_STRINGS).translate(None, _NO_MARKS)[: MAX_MARKS + 1]
    return len(marks), max(accumulate(map(_STEPS.__getitem__, marks)), default=0)


def is_small(body: bytes) -> bool:
    """Tell whether a JSON text has so few values, and so few levels of them, that the loop may parse it."""
    marks, levels = measure(body)
    return marks <= MAX_MARKS and levels <= MAX_LEVELS


def check_request(body: bytes) -> None:
    """Raise Problem (400, 413) for a body that is not UTF-8, or too much to parse."""
    if json.detect_encoding(body) not in {"utf-8", "utf-8-sig"}:
        raise Problem("bad-request", "an MCP request is JSON in UTF-8")
    marks, levels = measure(body)
    if levels > MAX_LEVELS:
        raise Problem("bad-request", f"an MCP request has {MAX_LEVELS} levels of arrays and objects at most")
    if marks > MAX_MARKS:
        detail = f"an MCP request has {MAX_MARKS} brackets, braces and commas at most; call the skill over HTTP instead"
        raise Problem("too-large", detail)


def bounded_weight(*values: Any) -> int | None:
    """Return the weight of these values together, or None where it is too much, or one is too deep or no plain JSON."""
    total, waiting = 0, list(values)
    while waiting:
        node = waiting.pop()
        total += 1 + (len(node) // CHARACTERS_PER_UNIT if isinstance(node, str) else 0)
        if isinstance(node, dict | list):
            total += len(node)
        if total > MAX_WEIGHT:
            return None
        for key, child in children(node):
            total += len(key) // CHARACTERS_PER_UNIT if isinstance(key, str) else 0
            waiting.append(child)
    return None if any(flaw(value) for value in values) else total
