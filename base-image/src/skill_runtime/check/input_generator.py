"""The generator of inputs that a schema allows; always the same ones for the same schema and samples.

The libraries that do this are heavier than all of the checker, or left alone for years; and what a gate needs is less
than they offer: a few ordinary values, the ends of every range, and never one that the schema does not describe.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from skill_runtime.integers import resolve

MAX_INPUTS = 12
MAX_INPUT_CHARACTERS = 8000
"""Length of an input, as JSON."""
_MAX_TRIES, _MAX_REDRAWS, _MAX_DEPTH, _MAX_NODES, _MAX_EXTRA_ITEMS = 60, 8, 12, 300, 3
_FULLNESS_RATIOS = (0.0, 1.0, 0.5)
"""Share of the optional parts in the first input, the second one and all others."""
_WINDOW = 100
"""A number without an end in the schema is no farther than this from 0, or from the end that there is."""
_EXACT_IN_FLOAT = 2**53
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
class GeneratedInput:
    """GeneratedInput is an input, with what the schema says of it."""

    value: Any
    described: bool
    """The schema describes every part of it."""
    minimal: bool
    """Nothing in it could be left out."""


class _NoValueError(Exception):
    """No value was found for a part of the input."""


def generate(
    schema: Any, samples: Sequence[Any], fits: Callable[[Any], bool], count: int = MAX_INPUTS
) -> list[GeneratedInput]:
    """Return different inputs for which `fits` holds, the smallest first; few or none for an odd schema."""
    rng = random.Random(sha256(json.dumps(schema, sort_keys=True).encode()).digest())
    inputs: dict[str, GeneratedInput] = {}
    for number in range(_MAX_TRIES):
        builder = _InputBuilder(schema, rng, number)
        try:
            value = builder.value(schema, list(samples), 0)
        except (_NoValueError, RecursionError, ArithmeticError, ValueError):
            continue
        text = json.dumps(value, sort_keys=True)
        if len(text) <= MAX_INPUT_CHARACTERS and text not in inputs and fits(value):
            inputs[text] = GeneratedInput(value, builder.described, number == 0)
        if len(inputs) == count:
            break
    return list(inputs.values())


class _InputBuilder:
    """_InputBuilder builds one input, of the given number. `samples` are what the examples have in the same place."""

    def __init__(self, root: Any, rng: random.Random, number: int) -> None:
        fullness = _FULLNESS_RATIOS[min(number, 2)]
        self._root, self._rng, self._fullness = root, rng, fullness
        self._nodes = self._lists = 0
        self._integers = number
        self.described = True

    def value(self, schema: Any, samples: list[Any], depth: int) -> Any:
        """Return a value for a schema. Raises _NoValueError."""
        self._nodes += 1
        if schema is False or depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise _NoValueError
        if not isinstance(schema, dict):
            return self._undescribed(samples)
        schema = self._flatten(schema, depth)
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._rng.choice(schema["enum"])
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
                return self._rng.random() < 0.5
            case "null":
                return None
            case _:
                return self._undescribed(samples)

    def _flatten(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """Return the schema without references, alternatives and conjunctions."""
        for _ in range(_MAX_DEPTH):
            if "$ref" in schema:
                target = resolve(self._root, schema["$ref"])
                schema = _merge({key: value for key, value in schema.items() if key != "$ref"}, target)
                continue
            key = next((key for key in ("allOf", "anyOf", "oneOf") if isinstance(schema.get(key), list)), None)
            if key is None:
                return schema
            parts = schema[key] if key == "allOf" else [self._choose_option(schema[key], depth)]
            schema = {name: value for name, value in schema.items() if name != key}
            for part in parts:
                schema = _merge(schema, part)
        raise _NoValueError

    def _choose_option(self, options: list[Any], depth: int) -> Any:
        """Choose an alternative; deep inside the first one, which ends soonest more often than not."""
        return options[0] if not options or depth > _MAX_DEPTH // 2 else self._rng.choice(options)

    def _kind(self, schema: dict[str, Any]) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._rng.choice(kind) if kind else None
        return kind or next((shape for key, shape in _SHAPES.items() if key in schema), None)

    def _undescribed(self, samples: list[Any]) -> Any:
        """Return a sample: the schema does not describe this place, so the examples know best."""
        self.described = False
        return self._rng.choice(samples) if samples else "x"

    def _object(self, schema: dict[str, Any], samples: list[Any], depth: int) -> Any:
        fields, rest = schema.get("properties"), schema.get("additionalProperties")
        fields = fields if isinstance(fields, dict) else {}
        required = schema.get("required")
        required = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        if not fields and not required and not isinstance(rest, dict):
            self.described = self.described and rest is False
            return self._rng.choice(samples) if samples and rest is not False else {}
        result = {}
        for name in dict.fromkeys((*required, *fields)):
            if name in required or (self._rng.random() < self._fullness and depth < _MAX_DEPTH // 2):
                known = [sample[name] for sample in samples if name in sample]
                result[name] = self.value(fields.get(name, rest if isinstance(rest, dict) else True), known, depth + 1)
        if isinstance(rest, dict):
            self._add_entries(result, schema, rest, samples, depth)
        return result

    def _add_entries(
        self, result: dict[str, Any], schema: dict[str, Any], rest: dict[str, Any], samples: list[Any], depth: int
    ) -> None:
        """Add entries of a map, whose keys are data."""
        known = sorted({key for sample in samples for key in sample if key not in result})
        minimum = max(0, _whole(schema, "minProperties", 0) - len(result))
        values = [value for sample in samples for key, value in sample.items() if key in known]
        for name in (*known, "a", "b c", "d")[: minimum + self._draw_count(_MAX_EXTRA_ITEMS)]:
            result[name] = self.value(rest, values, depth + 1)

    def _array(self, schema: dict[str, Any], samples: list[Any], depth: int) -> Any:
        first, items = schema.get("prefixItems"), schema.get("items", True)
        first = first if isinstance(first, list) else []
        if not first and not isinstance(items, dict) and items is not False:
            self.described = False
            return self._rng.choice(samples) if samples else []
        minimum = _whole(schema, "minItems", 0)
        maximum = min(_whole(schema, "maxItems", minimum + _MAX_EXTRA_ITEMS), minimum + _MAX_EXTRA_ITEMS)
        count = minimum + self._draw_count(maximum - minimum) if depth < _MAX_DEPTH // 2 else minimum
        inside = [value for sample in samples for value in sample]
        result: list[Any] = []
        self._lists += 1
        for number in range(min(count, _MAX_NODES)):
            value = self.value(first[number] if number < len(first) else items, inside, depth + 1)
            for _ in range(_MAX_REDRAWS):
                if value not in result or not (schema.get("uniqueItems") or self._fullness == 0.0):
                    break
                value = self.value(first[number] if number < len(first) else items, inside, depth + 1)
            result.append(value)
        self._lists -= 1
        return result

    def _draw_count(self, maximum: int) -> int:
        """Return a number from 0 to `maximum`, by the fullness of the input."""
        if self._fullness in (0.0, 1.0):
            return int(self._fullness * maximum)
        return self._rng.randint(0, max(0, maximum))

    def _string(self, schema: dict[str, Any], samples: list[Any]) -> Any:
        hints = [text for text in (schema.get("default"), *_list(schema.get("examples"))) if isinstance(text, str)]
        format_ = schema.get("format")
        if "pattern" in schema or (format_ is not None and format_ not in _FORMATS):
            if not (samples or hints):
                raise _NoValueError
            return self._rng.choice([*samples, *hints])
        if format_ is not None:
            return self._rng.choice([*_FORMATS[format_], *samples])
        minimum = _whole(schema, "minLength", 0)
        maximum = _whole(schema, "maxLength", max(minimum, 10_000))
        if self._fullness == 0.0 and not minimum:
            return ""
        texts = [text for text in (*_TEXTS, *samples, *samples, *hints) if minimum <= len(text) <= maximum]
        return self._rng.choice(texts or [("abc " * (minimum // 4 + 1))[:minimum]])

    def _number(self, schema: dict[str, Any], samples: list[Any], *, whole: bool) -> Any:
        minimum, maximum = _range(schema, step=1 if whole else 0.25)
        step = schema.get("multipleOf")
        if isinstance(step, int | float) and step > 0 and not isinstance(step, bool):
            lowest, highest = math.ceil(minimum / step), math.floor(maximum / step)
            value = self._rng.randint(lowest, max(lowest, highest)) * step
            return self._integer(value) if whole else value
        if self._fullness == 0.0 and not self._lists:  # in a list, all being equal is no less than differing
            nearest = min(max(minimum, 0), maximum)
            return int(nearest) if whole else nearest
        ends = [minimum, maximum, *(n for n in (0, 1, -1, 2) if minimum <= n <= maximum)]
        known = [n for n in samples if isinstance(n, int | float) and not isinstance(n, bool)]
        inside = self._rng.randint(int(minimum), max(int(minimum), int(maximum)))
        number = self._rng.choice([*ends, inside, inside + 0.25, *known, *(n + 1 for n in known)])
        return self._integer(number) if whole else number

    def _integer(self, number: float) -> float:
        """Return a whole number, now and then with a fraction of zero: to JSON Schema 3.0 is an integer, too."""
        self._integers += 1
        is_exact = abs(number) < _EXACT_IN_FLOAT
        return float(int(number)) if is_exact and self._fullness and self._integers % 3 == 0 else int(number)


def _range(schema: dict[str, Any], step: float) -> tuple[Any, Any]:
    """Return the smallest and the largest number to generate."""
    low = [n for n in (_real(schema, "minimum"), _real(schema, "exclusiveMinimum", step)) if n is not None]
    high = [n for n in (_real(schema, "maximum"), _real(schema, "exclusiveMaximum", -step)) if n is not None]
    if low and high:
        return max(low), max(*low, min(high))
    if low:
        return max(low), max(low) + _WINDOW
    if high:
        return min(high) - _WINDOW, min(high)
    return -_WINDOW, _WINDOW


def _real(schema: dict[str, Any], name: str, offset: float = 0) -> Any:
    value = schema.get(name)
    return value + offset if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(schema: dict[str, Any], name: str, default: int) -> int:
    value = schema.get(name)
    return int(value) if isinstance(value, int | float) and 0 <= value < 1 << 20 else default


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _merge(one: dict[str, Any], other: Any) -> dict[str, Any]:
    """Merge two schemas, nearly: the real validator finds what is wrong about it."""
    if other is False:
        raise _NoValueError
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
