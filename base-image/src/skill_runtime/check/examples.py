"""The examples gate: the candidate is called, and PID 1, which alone knows what is expected, compares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skill_runtime import replies
from skill_runtime.check.candidate import CandidateProcess
from skill_runtime.check.findings import GateFinding, excerpt
from skill_runtime.check.request import CheckExample, CheckRequest
from skill_runtime.text import one_line, one_line_json

MAX_FAILURES = 3
"""Failures that are reported, and looked for."""
MAX_VALUE_CHARACTERS = 200
"""Length of a value in a message."""
_MAX_DIFFERENCE_CHARACTERS = 60


@dataclass(frozen=True)
class FailedExample:
    """FailedExample is an example that does not pass."""

    example: CheckExample
    actual: str
    failure: replies.WorkerFailure | None = None
    difference: str = ""
    """The first place in which the actual output differs from the expected one."""


@dataclass(frozen=True)
class ExamplesResult:
    """ExamplesResult says how many examples pass, and what is wrong with the first that fails."""

    finding: GateFinding | None
    passed: int


async def run_examples(
    request: CheckRequest, examples: Sequence[CheckExample], candidate: CandidateProcess
) -> ExamplesResult:
    """Run each example until MAX_FAILURES have failed. All are visible, or all are hidden."""
    passed, failures = 0, list[FailedExample]()
    for example in examples:
        if len(failures) == MAX_FAILURES:
            break
        failure = compare_reply(request, example, await candidate.call(example.input))
        if failure:
            failures.append(failure)
        else:
            passed += 1
    if not failures:
        return ExamplesResult(None, passed)
    report = report_hidden if failures[0].example.hidden else report_visible
    return ExamplesResult(report(failures, passed, len(examples), request.source), passed)


def compare_reply(request: CheckRequest, example: CheckExample, reply: replies.WorkerReply) -> FailedExample | None:
    """Return None where the reply is what the example expects."""
    if isinstance(reply, replies.WorkerFailure):
        if example.error and reply.kind == "raised" and example.error in reply.types:
            return None
        return FailedExample(example, reply.exception, reply)
    actual = one_line(reply.text.decode(), MAX_VALUE_CHARACTERS)
    if example.error:
        return FailedExample(example, actual)
    if violation := request.contract.output.violation(reply.value):
        return FailedExample(example, f"{actual}, which does not fit the output schema: {violation}")
    difference = first_difference(example.output, reply.value) if example.has_output else None
    return None if difference is None else FailedExample(example, actual, difference=difference)


def first_difference(expected: Any, actual: Any, path: str = "") -> str | None:
    """Return where two JSON values first differ, as a path and what is there; None if they are equal.

    Whole numbers are equal or not, and 3 is 3.0. Other numbers may differ by rounding.
    """
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in expected | actual:
            if key not in actual or key not in expected:
                return f"{path}/{key} is {'missing' if key in expected else 'not expected'}"
            if (difference := first_difference(expected[key], actual[key], f"{path}/{key}")) is not None:
                return difference
        return None
    if isinstance(expected, list) and isinstance(actual, list):
        for index, (one, other) in enumerate(zip(expected, actual, strict=False)):
            if (difference := first_difference(one, other, f"{path}/{index}")) is not None:
                return difference
        return None if len(expected) == len(actual) else f"{path or '/'} has {len(actual)} items, not {len(expected)}"
    if _equal(expected, actual):
        return None
    limit = _MAX_DIFFERENCE_CHARACTERS
    return f"{path or '/'} is {one_line_json(actual, limit)}, not {one_line_json(expected, limit)}"


def _equal(expected: Any, actual: Any) -> bool:
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        if expected == actual or _are_counts(expected, actual):
            return expected == actual
        try:
            return math.isclose(expected, actual, rel_tol=1e-9, abs_tol=1e-12)
        except OverflowError:  # an integer beyond any float
            return False
    return type(expected) is type(actual) and bool(expected == actual)


def _are_counts(*numbers: float) -> bool:
    """Return whether all are whole numbers, but for floats from 2**53 on, which are whole by want of digits alone."""
    whole = all(isinstance(number, int) or number.is_integer() for number in numbers)
    return whole and not all(isinstance(number, float) and abs(number) >= 2**53 for number in numbers)


def report_visible(failures: list[FailedExample], passed: int, total: int, source: str) -> GateFinding:
    """Report failed visible examples, with all that a repair needs."""
    parts = [f"{passed}/{total} visible examples pass.", *(_describe(failure, source) for failure in failures)]
    lines = [failed.failure.line for failed in failures if failed.failure and failed.failure.line]
    return GateFinding("examples", "\n".join(parts), lines[0] if lines else None)


def report_hidden(failures: list[FailedExample], passed: int, total: int, source: str) -> GateFinding:
    """Report failed held-out examples without inputs and expectations: a model must not learn these one by one.

    The message holds not even a line or the name of an exception: the code chooses these, and could choose them by its
    input.
    """
    kind = failures[0].failure.kind if failures[0].failure else ""
    effects = {"timeout": "got no answer in time", "died": "ended the process", "raised": "raised an exception"}
    message = (
        f"All visible examples pass, but only {passed} of {total} held-out ones. The first that fails "
        f"{effects.get(kind, 'returned something else than expected')}. Do all that the description says, for every "
        "input that fits the input schema."
    )
    return GateFinding("hidden", message, private="\n".join(_describe(failure, source) for failure in failures))


def _describe(failed: FailedExample, source: str) -> str:
    example = failed.example
    parts = [
        f"example {one_line(example.name, 80)!r}:",
        f"  input:    {one_line_json(example.input, MAX_VALUE_CHARACTERS)}",
        f"  expected: {example.error or one_line_json(example.output, MAX_VALUE_CHARACTERS)}",
        f"  got:      {one_line(failed.actual, 2 * MAX_VALUE_CHARACTERS)}",
    ]
    if failed.difference.partition(" ")[0] not in ("", "/"):
        parts.append(f"  differs:  {one_line(failed.difference, MAX_VALUE_CHARACTERS)}")
    if failed.failure and (context := excerpt(source, failed.failure.line)):
        parts.append(f"  at line {failed.failure.line}:\n{context}")
    return "\n".join(parts)
