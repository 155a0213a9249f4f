"""Counts work that must be bounded, on whatever machine the tests run."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable


def count_lines(function: Callable[[], object]) -> int:
    """Return how many lines of Python the function executes."""
    count, previous = 0, sys.gettrace()

    def trace(*_: object) -> object:
        nonlocal count
        count += 1
        return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(previous)
    return count


def peak_of(function: Callable[[], object]) -> int:
    """Return how many bytes of memory the function takes at most, beyond what was there."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
