"""JSON values of strangers: where something is in them, how much they are, and when two are equal."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Hashable, Iterator
from typing import Any, Final

from skill_operator.untrusted.text import printable

Place = tuple[str | int, ...]

DEEPEST: Final = 32
LARGEST_INTEGER: Final = 2**63 - 1
CHARACTERS_PER_UNIT: Final = 64


def reject_constant(name: str) -> None:
    """Raise ValueError for `NaN` and the infinities, which Python's parser takes though JSON has none (RFC 8259)."""
    raise ValueError(f"{name} is no JSON")


def finite_float(text: str) -> float:
    """Return the number. Raises ValueError where no float is that large, though Python's parser says infinity."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is out of range")
    return value


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text, in UTF-8 (RFC 8259, section 8.1) and without a byte order mark.

    Raises ValueError, or RecursionError where it is nested too deeply.
    """
    if isinstance(text, bytes):
        if text.startswith(codecs.BOM_UTF8):
            raise ValueError("it begins with a byte order mark")
        text = text.decode()
    return json.loads(text, parse_constant=reject_constant, parse_float=finite_float)


def located(base: str, place: Place) -> str:
    """Return the place as people write it: `spec.input.a[0].qty`, with `["a b"]` for other keys than plain words."""
    parts = [base]
    for step in place:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif step.replace("$", "_").replace("-", "_").isidentifier():
            parts.append(f".{step}")
        else:
            parts.append(f"[{json.dumps(step)}]")
    return "".join(parts)


def brief(value: Any, limit: int = 60) -> str:
    """Return the start of a value as printable JSON. It takes what `flaw` accepts."""
    return printable(json.dumps(value, ensure_ascii=False), limit)


def children(value: Any) -> Iterator[tuple[str | int, Any]]:
    """Yield the values right inside a value, with their keys."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def weight(value: Any, limit: float = math.inf) -> int:
    """Return the size of a value in units: its nodes, and a share of its text. Beyond `limit` it counts no further."""
    total, waiting = 0, [value]
    while waiting and total <= limit:
        node = waiting.pop()
        total += 1
        if isinstance(node, str):
            total += len(node) // CHARACTERS_PER_UNIT
        elif isinstance(node, dict):
            for key in node:
                if isinstance(key, str):
                    total += len(key) // CHARACTERS_PER_UNIT
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return total


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether a value has more levels of objects and arrays."""
    level = [value]
    for _ in range(levels + 1):
        level = [child for node in level if isinstance(node, dict | list) for _, child in (*children(node), ("", None))]
    return bool(level)


def flaw(value: Any) -> tuple[Place, str] | None:
    """Return place and description of the first flaw that makes a value no JSON for other programs, or None."""
    if _is_sound(value):
        return None
    waiting: list[tuple[Place, Any]] = [((), value)]
    while waiting:
        place, node = waiting.pop()
        if len(place) > DEEPEST:
            return place[:4], f"is nested more than {DEEPEST} levels deep"
        if message := _flaw_of_one(node):
            return place, message
        waiting.extend(((*place, key), child) for key, child in reversed(list(children(node))))
    return None


def _is_sound(value: Any) -> bool:
    """Return whether a value has no flaw; nearly all have none, and to know that takes no places: a tenth of the time.

    It goes level by level, and encodes the texts of each together.
    """
    level = [value]
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        texts: list[str] = []
        for node in level:
            kind = type(node)
            if kind is str:
                texts.append(node)
            elif kind is dict:
                texts.extend(node)
                below.extend(node.values())
            elif kind is list:
                below.extend(node)
            elif kind is int:
                if abs(node) > LARGEST_INTEGER:
                    return False
            elif kind is float:
                if not math.isfinite(node):
                    return False
            elif node is not None and kind is not bool:
                return False
        try:
            if not encodes("".join(texts)):
                return False
        except TypeError:  # a key that is no text
            return False
        level = below
    return not level


def _flaw_of_one(node: Any) -> str | None:
    match node:
        case None | bool() | list():
            return None
        case dict():
            strange = next((key for key in node if not isinstance(key, str) or not encodes(key)), None)
            return None if strange is None else "has a key that is no text"
        case str():
            return None if encodes(node) else "holds half of a surrogate pair, which is no text"
        case int():
            return None if abs(node) <= LARGEST_INTEGER else "is an integer of more than 64 bits"
        case float():
            return None if math.isfinite(node) else "is no JSON number"
        case _:
            return "is no JSON value"


def encodes(text: str) -> bool:
    """Return whether the text is one: no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def canonical(value: Any) -> Hashable:
    """Return a key that is equal for equal JSON values alone: 1 is 1.0, True is not 1. It takes what `flaw` accepts."""
    match value:
        case dict():
            return ("object", frozenset((key, canonical(child)) for key, child in value.items()))
        case list():
            return ("array", tuple(map(canonical, value)))
        case bool():
            return ("boolean", value)
        case int() | float():
            return ("number", value)
        case _:
            return value if value is None else str(value)
