"""Inputs near those of the examples: each differs from one of them in one place.

What stands there instead is next to what stood there, or to what the code itself names: there it does something else.
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any

MAX_INPUTS = 36
MAX_INPUT_CHARACTERS = 2000
"""Length of an input, as JSON."""
_MAX_PLACES, _MAX_LITERALS, _MAX_WORDS, _MAX_TRIES, _MAX_DEPTH = 60, 24, 8, 300, 12


def vary(
    samples: Sequence[Any], literals: Sequence[Any], fits: Callable[[Any], bool], count: int = MAX_INPUTS
) -> list[Any]:
    """Return up to `count` different inputs for which `fits` holds, always the same ones for the same arguments.

    `literals` are numbers and texts of the code.
    """
    texts = {json.dumps(sample, sort_keys=True) for sample in samples}
    rng = random.Random(sha256("".join(sorted(texts)).encode()).digest())
    kinds = [
        list(variations)
        for sample in samples
        for variations in (
            _vary_places(sample, _near),
            _vary_places(sample, lambda value: _named(value, literals)),
            _vary_from(sample, samples),
        )
    ]
    for variations in kinds:
        rng.shuffle(variations)
    inputs: list[Any] = []
    for _, value in zip(range(_MAX_TRIES), _take_turns(kinds), strict=False):
        text = json.dumps(value, sort_keys=True)
        if text not in texts and len(text) <= MAX_INPUT_CHARACTERS and fits(value):
            texts.add(text)
            inputs.append(value)
        if len(inputs) == count:
            break
    return inputs


def find_literals(source: str) -> list[Any]:
    """Return numbers and texts that the code names, and the numbers next to them; none of what cannot be parsed."""
    try:
        nodes = [*ast.walk(ast.parse(source))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    values = [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, int | float | str)
        and not isinstance(node.value, bool)
    ]
    near: list[Any] = []
    for value in [*dict.fromkeys(values)][:_MAX_LITERALS]:
        near += (value,) if isinstance(value, str) else (value, value - 1, value + 1)
    return near


def _take_turns(lists: Sequence[list[Any]]) -> Iterator[Any]:
    for number in range(max(map(len, lists), default=0)):
        yield from (each[number] for each in lists if number < len(each))


def _vary_places(sample: Any, others: Callable[[Any], Iterable[Any]]) -> Iterator[Any]:
    """Yield the sample with another value of the same type in one of its places."""
    for _, path in zip(range(_MAX_PLACES), _places(sample), strict=False):
        value = _at(sample, path)
        yield from (_replaced(sample, path, new) for new in others(value) if type(new) is type(value) and new != value)


def _vary_from(sample: Any, samples: Sequence[Any]) -> Iterator[Any]:
    """Yield the sample with what another one has in the same place."""
    for _, path in zip(range(_MAX_PLACES), _places(sample), strict=False):
        yield from (_replaced(sample, path, new) for each in samples if (new := _at(each, path)) is not None)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if len(path) < _MAX_DEPTH:
        keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            yield from _places(value[key], (*path, key))


def _at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        known = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        if key not in known:
            return None
        value = value[key]
    return value


def _replaced(value: Any, path: Sequence[Any], new: Any) -> Any:
    if not path:
        return new
    key, *rest = path
    changed = _replaced(value[key], rest, new)
    if isinstance(value, dict):
        return {**value, key: changed}
    return [*value[:key], changed, *value[key + 1 :]]


def _named(value: Any, literals: Sequence[Any]) -> Iterator[Any]:
    """Yield what the code names, and a text of several words with one of them in the place of each."""
    yield from literals
    words = value.split(" ")[:_MAX_WORDS] if isinstance(value, str) else []
    if len(words) > 1:
        for literal in literals:
            if isinstance(literal, str) and literal:
                yield from (" ".join([*words[:n], literal, *words[n + 1 :]]) for n in range(len(words)))


def _near(value: Any) -> Iterator[Any]:
    """Yield what is next to a value, and at the end of its kind."""
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, value - 1, 0, 1, -value, 2 * value)
        case float():
            yield from (value + 1, value - 1, 0.0, -value, value / 2, value + 0.005)
        case str():
            yield from ("", value[1:], value[:-1], value + value, value.swapcase(), f" {value} ", value[::-1])
            yield value[:1]
            yield " ".join(reversed(value.split(" ")))
        case list():
            yield from ([], value[1:], value[:-1], value[:1], value[::-1], value + value[:1], value + value[-1:])
        case dict():
            yield from ({name: value[name] for name in value if name != left_out} for left_out in value)
