"""Inputs that a schema allows, made up; always the same ones for the same schema and samples.

The libraries that do this are heavier than all of the checker, or left alone for years; and what a gate needs is less
than they offer: a few ordinary values, the ends of every range, and never one that the schema does not speak for.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

COUNT = 12
"""Inputs that are made at most."""
LONGEST = 8000
"""Characters of an input, as JSON."""
_TRIES, _REDRAWS, _DEEPEST, _MOST_NODES, _MORE_ITEMS = 60, 8, 12, 300, 3
_FULLNESS = (0.0, 1.0, 0.5)
"""Of the first inputs, and of all others."""
_WINDOW = 100
"""A number without an end in the schema is no farther than this from 0, or from the end that there is."""
_TEXTS = ("", "a", "Hello, World", "0", "-1.5", "two words", "été", "a\nb", "x" * 40, "A1-b_2", " ", "💥")
_FORMATS = {
    "date": ("2024-02-29", "1999-12-31", "2030-01-01"),
    "date-time": ("2024-02-29T12:30:00Z", "1999-12-31T23:59:59+02:00"),
    "time": ("12:30:00Z", "00:00:00Z"),
    "duration": ("P1D", "PT36H"),
    "email": ("ada@example.org", "a.b+c@example.com"),
    "hostname": ("example.org", "a.example"),
    "ipv4": ("192.0.2.7", "0.0.0.0"),
    "ipv6": ("2001:db8::1", "::"),
    "uri": ("https://example.org/a?b=c#d", "urn:isbn:0"),
    "uri-reference": ("/a/b", "https://example.org/"),
    "uuid": ("123e4567-e89b-12d3-a456-426614174000", "00000000-0000-4000-8000-000000000000"),
    "regex": ("a+", "^$"),
    "json-pointer": ("/a/0", ""),
}
_SHAPES = {"properties": "object", "items": "array", "minLength": "string", "pattern": "string", "minimum": "number"}


@dataclass(frozen=True)
class Made:
    """An input. `sure`: the schema says of every part of it what it is. `least`: nothing in it could be left out."""

    value: Any
    sure: bool
    least: bool


class _StuckError(Exception):
    """No value was found for a place."""


def make(schema: Any, samples: Sequence[Any], fits: Callable[[Any], bool], count: int = COUNT) -> list[Made]:
    """Different inputs for which `fits` holds, the smallest first; few or none, if the schema is too peculiar."""
    chance = random.Random(sha256(json.dumps(schema, sort_keys=True).encode()).digest())
    found: dict[str, Made] = {}
    for number in range(_TRIES):
        writer = _Writer(schema, chance, fullness=_FULLNESS[min(number, 2)])
        try:
            value = writer.value(schema, list(samples), 0)
        except (_StuckError, RecursionError, ArithmeticError, ValueError):
            continue
        text = json.dumps(value, sort_keys=True)
        if len(text) <= LONGEST and text not in found and fits(value):
            found[text] = Made(value, writer.sure, number == 0)
        if len(found) == count:
            break
    return list(found.values())


class _Writer:
    """One input in the making. `samples` are what the examples have in the same place."""

    def __init__(self, root: Any, chance: random.Random, fullness: float) -> None:
        self._root, self._chance, self._fullness = root, chance, fullness
        self._nodes = self._lists = 0
        self.sure = True

    def value(self, schema: Any, samples: list[Any], depth: int) -> Any:
        self._nodes += 1
        if schema is False or depth > _DEEPEST or self._nodes > _MOST_NODES:
            raise _StuckError
        if not isinstance(schema, dict):
            return self._unspoken(samples)
        schema = self._flat(schema, depth)
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._chance.choice(schema["enum"])
        if "const" in schema:
            return schema["const"]
        match self._kind(schema):
            case "object":
                return self._object(schema, [s for s in samples if isinstance(s, dict)], depth)
            case "array":
                return self._array(schema, [s for s in samples if isinstance(s, list)], depth)
            case "string":
                return self._string(schema, [s for s in samples if isinstance(s, str)])
            case "integer":
                return self._number(schema, samples, whole=True)
            case "number":
                return self._number(schema, samples, whole=False)
            case "boolean":
                return self._chance.random() < 0.5
            case "null":
                return None
            case _:
                return self._unspoken(samples)

    def _flat(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """The schema without references, alternatives and conjunctions."""
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                target = _resolve(self._root, schema["$ref"])
                schema = _merged({key: value for key, value in schema.items() if key != "$ref"}, target)
                continue
            key = next((key for key in ("allOf", "anyOf", "oneOf") if isinstance(schema.get(key), list)), None)
            if key is None:
                return schema
            parts = schema[key] if key == "allOf" else [self._option(schema[key], depth)]
            schema = {name: value for name, value in schema.items() if name != key}
            for part in parts:
                schema = _merged(schema, part)
        raise _StuckError

    def _option(self, options: list[Any], depth: int) -> Any:
        """Of alternatives that nest, the first ends soonest more often than not."""
        return options[0] if not options or depth > _DEEPEST // 2 else self._chance.choice(options)

    def _kind(self, schema: dict[str, Any]) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._chance.choice(kind) if kind else None
        return kind or next((shape for key, shape in _SHAPES.items() if key in schema), None)

    def _unspoken(self, samples: list[Any]) -> Any:
        """Nothing is said of this place, so nothing is promised: the examples know best."""
        self.sure = False
        return self._chance.choice(samples) if samples else "x"

    def _object(self, schema: dict[str, Any], samples: list[Any], depth: int) -> Any:
        fields, rest = schema.get("properties"), schema.get("additionalProperties")
        fields = fields if isinstance(fields, dict) else {}
        needed = schema.get("required")
        needed = [name for name in needed if isinstance(name, str)] if isinstance(needed, list) else []
        if not fields and not needed and not isinstance(rest, dict):
            self.sure = self.sure and rest is False
            return self._chance.choice(samples) if samples and rest is not False else {}
        made = {}
        for name in dict.fromkeys((*needed, *fields)):
            if name in needed or (self._chance.random() < self._fullness and depth < _DEEPEST // 2):
                found = [sample[name] for sample in samples if name in sample]
                made[name] = self.value(fields.get(name, rest if isinstance(rest, dict) else True), found, depth + 1)
        if isinstance(rest, dict):
            self._entries(made, schema, rest, samples, depth)
        return made

    def _entries(
        self, made: dict[str, Any], schema: dict[str, Any], rest: dict[str, Any], samples: list[Any], depth: int
    ) -> None:
        """Of a map, whose keys are data."""
        known = sorted({key for sample in samples for key in sample if key not in made})
        least = max(0, _whole(schema, "minProperties", 0) - len(made))
        values = [value for sample in samples for key, value in sample.items() if key in known]
        for name in (*known, "a", "b c", "d")[: least + self._some(_MORE_ITEMS)]:
            made[name] = self.value(rest, values, depth + 1)

    def _array(self, schema: dict[str, Any], samples: list[Any], depth: int) -> Any:
        first, items = schema.get("prefixItems"), schema.get("items", True)
        first = first if isinstance(first, list) else []
        if not first and not isinstance(items, dict) and items is not False:
            self.sure = False
            return self._chance.choice(samples) if samples else []
        least = _whole(schema, "minItems", 0)
        most = min(_whole(schema, "maxItems", least + _MORE_ITEMS), least + _MORE_ITEMS)
        count = least + self._some(most - least) if depth < _DEEPEST // 2 else least
        inside = [value for sample in samples for value in sample]
        made: list[Any] = []
        self._lists += 1
        for number in range(min(count, _MOST_NODES)):
            value = self.value(first[number] if number < len(first) else items, inside, depth + 1)
            for _ in range(_REDRAWS):
                if value not in made or not (schema.get("uniqueItems") or self._fullness == 0.0):
                    break
                value = self.value(first[number] if number < len(first) else items, inside, depth + 1)
            made.append(value)
        self._lists -= 1
        return made

    def _some(self, most: int) -> int:
        """From none to `most`, by how full it is to be."""
        if self._fullness in (0.0, 1.0):
            return int(self._fullness * most)
        return self._chance.randint(0, max(0, most))

    def _string(self, schema: dict[str, Any], samples: list[Any]) -> Any:
        hints = [text for text in (schema.get("default"), *_list(schema.get("examples"))) if isinstance(text, str)]
        form = schema.get("format")
        if "pattern" in schema or (form is not None and form not in _FORMATS):
            if not (samples or hints):
                raise _StuckError
            return self._chance.choice([*samples, *hints])
        if form is not None:
            return self._chance.choice([*_FORMATS[form], *samples])
        least = _whole(schema, "minLength", 0)
        most = _whole(schema, "maxLength", max(least, 10_000))
        if self._fullness == 0.0 and not least:
            return ""
        texts = [text for text in (*_TEXTS, *samples, *samples, *hints) if least <= len(text) <= most]
        return self._chance.choice(texts or [("abc " * (least // 4 + 1))[:least]])

    def _number(self, schema: dict[str, Any], samples: list[Any], *, whole: bool) -> Any:
        least, most = _ends(schema, step=1 if whole else 0.25)
        step = schema.get("multipleOf")
        if isinstance(step, int | float) and step > 0 and not isinstance(step, bool):
            lowest, highest = math.ceil(least / step), math.floor(most / step)
            value = self._chance.randint(lowest, max(lowest, highest)) * step
            return int(value) if whole else value
        if self._fullness == 0.0 and not self._lists:  # in a list, all being equal is no less than differing
            nearest = min(max(least, 0), most)
            return int(nearest) if whole else nearest
        ends = [least, most, *(n for n in (0, 1, -1, 2) if least <= n <= most)]
        known = [n for n in samples if isinstance(n, int | float) and not isinstance(n, bool)]
        inside = self._chance.randint(int(least), max(int(least), int(most)))
        drawn = self._chance.choice([*ends, inside, inside + 0.25, *known, *(n + 1 for n in known)])
        return int(drawn) if whole else drawn


def _ends(schema: dict[str, Any], step: float) -> tuple[Any, Any]:
    """The least and the largest number to be made."""
    low = [n for n in (_real(schema, "minimum"), _real(schema, "exclusiveMinimum", step)) if n is not None]
    high = [n for n in (_real(schema, "maximum"), _real(schema, "exclusiveMaximum", -step)) if n is not None]
    if low and high:
        return max(low), max(*low, min(high))
    if low:
        return max(low), max(low) + _WINDOW
    if high:
        return min(high) - _WINDOW, min(high)
    return -_WINDOW, _WINDOW


def _real(schema: dict[str, Any], name: str, more: float = 0) -> Any:
    value = schema.get(name)
    return value + more if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(schema: dict[str, Any], name: str, absent: int) -> int:
    value = schema.get(name)
    return int(value) if isinstance(value, int | float) and 0 <= value < 1 << 20 else absent


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _merged(one: dict[str, Any], other: Any) -> dict[str, Any]:
    """Both at once, nearly: what is wrong about it the real validator sees."""
    if other is False:
        raise _StuckError
    if not isinstance(other, dict):
        return one
    both = {**one, **other}
    for name in ("properties", "required"):
        mine, others = one.get(name), other.get(name)
        if isinstance(mine, dict) and isinstance(others, dict):
            both[name] = {**mine, **others}
        elif isinstance(mine, list) and isinstance(others, list):
            both[name] = [*mine, *others]
    return both


def _resolve(root: Any, reference: Any) -> Any:
    """What `#` or `#/$defs/line` names; anything, if it is another kind of reference."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return True
    node = root
    for part in reference[2:].split("/") if len(reference) > 1 else ():
        step = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or step not in node:
            return True
        node = node[step]
    return node
