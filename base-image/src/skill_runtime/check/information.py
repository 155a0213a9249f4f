"""The information in the values of an input, which tells whether anybody would write them by chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

MIN_INFORMATION: Final = 4
"""Digits and letters that constants share with an input before they are that input, and no coincidence."""
_TRIVIAL: Final = (None, True, False, 0, 1, -1, "")
_COMMON_WORD_CHARACTERS: Final = 12
"""A word no longer than this is the name of a unit, an operation, a color."""


def find_leaves(value: Any) -> Iterator[Any]:
    """Yield the values in an object or a list, at whatever depth."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from find_leaves(item)
    else:
        yield value


def equality_key(leaf: Any) -> str:
    """Return what equal values have in common: 3 and 3.0, and texts but for case and spaces around them."""
    if isinstance(leaf, str):
        return leaf.casefold().strip()
    is_number = isinstance(leaf, int | float) and not isinstance(leaf, bool) and abs(leaf) < 2**53
    return repr(float(leaf) if is_number else leaf)


def is_trivial(leaf: Any) -> bool:
    """Return whether a value is one of everyday use."""
    return any(leaf is each or (type(leaf) is type(each) and leaf == each) for each in _TRIVIAL) or leaf in (0.0, 1.0)


def count_information(leaf: Any) -> int:
    """Return how many digits or letters of a value nobody would write by chance."""
    if isinstance(leaf, str):
        is_common = leaf.isidentifier() and len(leaf) <= _COMMON_WORD_CHARACTERS
        return 0 if len(leaf) < 3 else 1 if is_common else len(leaf)
    return len(repr(leaf).strip("-").rstrip("0").replace(".", "")) or 1
