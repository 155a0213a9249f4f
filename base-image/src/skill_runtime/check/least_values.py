"""Least values in an input (an empty list or text, zero, null, an absent field) that no example shows in their place.

What is right for them is often written nowhere: whether the mean of nothing is 0, null or a mistake of the caller.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Final

Place = tuple[str | int, ...]
"""Names of fields and indices of items, from the whole input to a part of it."""

_ABSENT: Final = object()
_ORDINARY_TEXT, _ORDINARY_NUMBER = "a", 1
_MAX_SAMPLES = 1000


def find_unshown(value: Any, samples: Sequence[Any], fields: frozenset[str]) -> list[Place]:
    """Return the places of least values that no sample has in the same place.

    `fields` are the names that the schema knows: an object without one of them, which all samples have, has its least
    value there, too.
    """
    return [place for place, _ in _find(value, list(samples), fields, ())]


def make_ordinary(
    value: Any, places: Sequence[Place], samples: Sequence[Any], fields: frozenset[str], kept: Place | None = None
) -> Any:
    """Return the value with what samples have at these places, but not at `kept`.

    Where no sample has anything, a text becomes another and a number 1; other values stay.
    """
    found = {place: others for place, others in _find(value, list(samples), fields, ()) if place in places}
    result = copy.deepcopy(value)
    for place, others in sorted(found.items(), key=lambda pair: -len(pair[0])):
        if place != kept:
            result = _replace(result, place, others)
    return result


def _find(value: Any, samples: list[Any], fields: frozenset[str], place: Place) -> Iterator[tuple[Place, list[Any]]]:
    """Yield each place, with the values of samples there."""
    if _is_least(value):
        if not any(_is_least(sample) and sample == value for sample in samples):
            yield place, samples
    elif isinstance(value, dict):
        yield from _find_in_object(value, [sample for sample in samples if isinstance(sample, dict)], fields, place)
    elif isinstance(value, list):
        inside = [item for sample in samples if isinstance(sample, list) for item in sample][:_MAX_SAMPLES]
        for index, item in enumerate(value):
            yield from _find(item, inside, fields, (*place, index))


def _find_in_object(
    value: dict[str, Any], samples: list[dict[str, Any]], fields: frozenset[str], place: Place
) -> Iterator[tuple[Place, list[Any]]]:
    for name, part in value.items():
        known = [sample[name] for sample in samples if name in sample]
        if not known and name not in fields:  # a map, whose keys are data
            known = [each for sample in samples for each in sample.values()][:_MAX_SAMPLES]
        yield from _find(part, known, fields, (*place, name))
    for name in sorted(fields.intersection(*samples) - value.keys() if samples else ()):
        yield (*place, name), [sample[name] for sample in samples]


def _is_least(value: Any) -> bool:
    return not isinstance(value, bool) and (value is None or value in (0, "") or value in ([], {}))


def _replace(whole: Any, place: Place, samples: list[Any]) -> Any:
    """Return the whole with an ordinary value at the place."""
    if not place:
        return _ordinary(whole, samples)
    parent = whole
    for step in place[:-1]:
        parent = parent[step]
    last = place[-1]
    present = isinstance(parent, list) or last in parent
    parent[last] = _ordinary(parent[last] if present else _ABSENT, samples)
    return whole


def _ordinary(value: Any, samples: list[Any]) -> Any:
    if samples:
        return copy.deepcopy(next((each for each in samples if not _is_least(each)), samples[0]))
    if value == "":
        return _ORDINARY_TEXT
    return _ORDINARY_NUMBER if isinstance(value, int | float) else value


def field_names(schema: Any) -> frozenset[str]:
    """Return the names of all fields that a schema has anywhere."""
    names, level = set[str](), [schema]
    while level:
        part = level.pop()
        if isinstance(part, dict):
            fields = part.get("properties")
            names |= {name for name in fields if isinstance(name, str)} if isinstance(fields, dict) else set()
            level += part.values()
        elif isinstance(part, list):
            level += part
    return frozenset(names)
