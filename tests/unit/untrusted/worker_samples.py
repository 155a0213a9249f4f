"""Functions for a worker process to run. Each but the first two exceeds a limit or ends badly."""

from __future__ import annotations

import itertools
import os

from skill_operator.untrusted.worker import MAX_RESULT_BYTES


def echo(*values: object) -> tuple[object, ...]:
    return values


def environment() -> list[str]:
    return sorted(os.environ)


def run_for_ever() -> None:
    for _ in itertools.repeat(None):
        pass


def fill_memory() -> int:
    return len(b"x" * (1 << 30))


def fail() -> None:
    raise ValueError("no")


def end() -> None:
    os._exit(0)


def answer_much() -> str:
    return "x" * (MAX_RESULT_BYTES + 1)
