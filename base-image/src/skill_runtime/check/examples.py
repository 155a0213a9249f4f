"""Examples: the candidate is asked, and PID 1, which alone knows what is expected, compares."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skill_runtime import replies
from skill_runtime.check.candidate import Candidate
from skill_runtime.check.findings import Finding, excerpt
from skill_runtime.check.request import CheckExample, CheckRequest
from skill_runtime.text import one_line

SHOWN = 3
"""Failures told of, and looked for."""
VALUE = 200
"""Characters of a value in a message."""


@dataclass(frozen=True)
class Failed:
    """An example that does not hold."""

    example: CheckExample
    got: str
    failure: replies.WorkerFailure | None = None
    where: str = ""
    """The first place in which what came differs from what was expected."""


@dataclass(frozen=True)
class ExamplesResult:
    """How the examples went."""

    finding: Finding | None
    passed: int


async def run(bundle: CheckRequest, examples: Sequence[CheckExample], session: Candidate) -> ExamplesResult:
    """Ask for each until three have failed. All are visible, or all are hidden."""
    passed, failed = 0, list[Failed]()
    for example in examples:
        if len(failed) == SHOWN:
            break
        wrong = compare(bundle, example, await session.ask(example.input))
        if wrong:
            failed.append(wrong)
        else:
            passed += 1
    if not failed:
        return ExamplesResult(None, passed)
    tell = _hidden if failed[0].example.hidden else _visible
    return ExamplesResult(tell(failed, passed, len(examples), bundle.source), passed)


def compare(bundle: CheckRequest, example: CheckExample, reply: replies.Reply) -> Failed | None:
    """Whether the reply is what the example expects."""
    if isinstance(reply, replies.WorkerFailure):
        if example.error and reply.kind == "raised" and example.error in reply.types:
            return None
        return Failed(example, reply.exception, reply)
    got = one_line(reply.text.decode(), VALUE)
    if example.error:
        return Failed(example, got)
    if wrong := bundle.contract.output.problem(reply.value):
        return Failed(example, f"{got}, which does not fit the output schema: {wrong}")
    where = difference(example.output, reply.value) if example.has_output else None
    return None if where is None else Failed(example, got, where=where)


def difference(expected: Any, got: Any, path: str = "") -> str | None:
    """Where two JSON values first differ, as a path and what is there; None if they are equal.

    Numbers may differ by rounding, and 3 is 3.0.
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in expected | got:
            if key not in got or key not in expected:
                return f"{path}/{key} is {'missing' if key in expected else 'not expected'}"
            if (found := difference(expected[key], got[key], f"{path}/{key}")) is not None:
                return found
        return None
    if isinstance(expected, list) and isinstance(got, list):
        for index, (one, other) in enumerate(zip(expected, got, strict=False)):
            if (found := difference(one, other, f"{path}/{index}")) is not None:
                return found
        return None if len(expected) == len(got) else f"{path or '/'} has {len(got)} items, not {len(expected)}"
    return None if _same(expected, got) else f"{path or '/'} is {_brief(got)}, not {_brief(expected)}"


def _same(expected: Any, got: Any) -> bool:
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, int | float) and isinstance(got, int | float):
        try:
            return expected == got or math.isclose(expected, got, rel_tol=1e-9, abs_tol=1e-12)
        except OverflowError:  # an integer beyond any float
            return False
    return type(expected) is type(got) and bool(expected == got)


def _visible(failed: list[Failed], passed: int, total: int, source: str) -> Finding:
    parts = [f"{passed}/{total} visible examples pass.", *(_told(wrong, source) for wrong in failed)]
    line = next((wrong.failure.line for wrong in failed if wrong.failure and wrong.failure.line), None)
    return Finding("examples", "\n".join(parts), line)


def _hidden(failed: list[Failed], passed: int, total: int, source: str) -> Finding:
    """What can be said without what was asked and what was expected: a model must not learn the answers one by one.

    Not even a line or the name of an exception: the code chooses these, and could choose them by what it was asked.
    """
    kind = failed[0].failure.kind if failed[0].failure else ""
    how = {"timeout": "got no answer in time", "died": "ended the process", "raised": "raised an exception"}.get(kind)
    message = (
        f"All visible examples pass, but only {passed} of {total} held-out ones. The first that fails "
        f"{how or 'returned something else than expected'}. Do all that the description says, for every input that "
        "fits the input schema."
    )
    return Finding("hidden", message, private="\n".join(_told(wrong, source) for wrong in failed))


def _told(wrong: Failed, source: str) -> str:
    expected = wrong.example.error or one_line(_spelled(wrong.example.output), VALUE)
    parts = [
        f"example {one_line(wrong.example.name, 80)!r}:",
        f"  input:    {one_line(_spelled(wrong.example.input), VALUE)}",
        f"  expected: {expected}",
        f"  got:      {one_line(wrong.got, 2 * VALUE)}",
    ]
    if wrong.where.partition(" ")[0] not in ("", "/"):
        parts.append(f"  differs:  {one_line(wrong.where, VALUE)}")
    if wrong.failure and (context := excerpt(source, wrong.failure.line)):
        parts.append(f"  at line {wrong.failure.line}:\n{context}")
    return "\n".join(parts)


def _brief(value: Any) -> str:
    return one_line(_spelled(value), 60)


def _spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
