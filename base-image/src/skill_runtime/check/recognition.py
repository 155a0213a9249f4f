"""Answers that one example gets by being recognised: a constant, from code that runs for no other input.

What the code does is judged, whatever its spelling: digests, ranges, texts that are put together, exceptions. A rule
of the task that one example alone shows looks the same, so this is a question, and no reason to refuse.
"""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from skill_runtime import replies
from skill_runtime.check import nearby_inputs
from skill_runtime.check.candidate import CandidateProcess
from skill_runtime.check.constants import ConstantEvaluator, bound_values
from skill_runtime.check.information import (
    MIN_INFORMATION,
    count_information,
    find_leaves,
    is_trivial,
)
from skill_runtime.check.questions import OpenQuestion
from skill_runtime.check.request import CheckExample, CheckRequest
from skill_runtime.text import one_line_json

Place = tuple[int, int, int, int]
"""Where an expression or a statement stands: its first and last line, its first and last column."""

ROUND_SECONDS, CALL_SECONDS = 2.0, 0.5
"""The time for all calls, and for one. Code that takes longer, traced step by step, is not judged."""
MIN_EXAMPLES: Final = 3
"""Of fewer visible examples, each may well be the only one that shows a rule."""
MAX_RATIO: Final = 1 / 3
"""Of all visible examples, those that are recognised. Where more are, the task is a table of cases."""
_NARROW_RATIO: Final = 0.03
"""How far from a number, relative to it, a range of that number alone may reach."""


@dataclass(frozen=True)
class Trace:
    """Trace is an input, and the places in the code that run for it."""

    input: Any
    places: frozenset[Place]


@dataclass(frozen=True)
class _Result:
    """_Result is a constant that the code returns or keeps, and the places that run where it does."""

    value: Any
    line: int
    places: frozenset[Place]


async def ask(request: CheckRequest, traced: CandidateProcess, inputs: Sequence[Any]) -> tuple[OpenQuestion, ...]:
    """Return a question about each visible example that is recognised, by the code with the tracer of places.

    `inputs` are in no example. Those near an example that seems to be recognised are tried as well.
    """
    deadline = time.monotonic() + ROUND_SECONDS
    visible = [example for example in request.examples if not example.hidden]
    hidden = [example.input for example in request.examples if example.hidden]
    shown = await _trace(traced, [example.input for example in visible], deadline)
    others = await _trace(traced, [*hidden, *inputs], deadline)
    if shown is None or others is None:
        return ()
    suspects = find_recognised(request.source, visible, shown, others)
    known = {json.dumps(trace.input, sort_keys=True) for trace in (*shown, *others)}
    nearby = [
        value
        for number in suspects
        for value in _vary(request, visible[number].input)
        if json.dumps(value, sort_keys=True) not in known
    ]
    more = await _trace(traced, nearby, deadline)
    if more is None:
        return ()
    recognised = find_recognised(request.source, visible, shown, [*others, *more])
    return tuple(_question(visible[number], line) for number, line in recognised.items())


def find_recognised(
    source: str, examples: Sequence[CheckExample], shown: Sequence[Trace], others: Sequence[Trace]
) -> dict[int, int]:
    """Return the numbers of examples that are recognised, with the lines that answer them.

    `shown` are the traces of the examples. A place may run for other inputs that have the same telling value: they
    are recognised, too.
    """
    if len(examples) < MIN_EXAMPLES:
        return {}
    results = list(_constant_results(ast.parse(source)))
    found = dict[int, int]()
    for number, (example, trace) in enumerate(zip(examples, shown, strict=True)):
        rest = [*shown[:number], *shown[number + 1 :], *others]
        for result in results:
            own = result.places & trace.places
            if not own or number in found or not _answers(result.value, example.output):
                continue
            if _tells(trace.input, [other.input for other in rest if own & other.places]):
                found[number] = result.line
    return found if len(found) <= MAX_RATIO * len(examples) else {}


def _tells(value: Any, reached: Sequence[Any]) -> bool:
    """Return whether an input says enough to be recognised, by one value that all `reached` inputs have as well."""
    leaves = [leaf for leaf in find_leaves(value) if not is_trivial(leaf)]
    if not reached:
        return sum(map(count_information, leaves)) >= MIN_INFORMATION
    telling = [leaf for leaf in leaves if count_information(leaf) >= MIN_INFORMATION]
    for other in reached:
        telling = [leaf for leaf in telling if any(_is_close(leaf, each) for each in find_leaves(other))]
    return bool(telling)


def _is_close(one: Any, other: Any) -> bool:
    """Return whether code that recognises one value may well take the other for it."""
    if isinstance(one, str) and isinstance(other, str):
        first, second = (re.sub(r"\W", "", text.casefold()) or text for text in (one, other))
        is_most = 2 * len(second) >= len(first) and second in first
        return is_most or first in second or sorted(first) == sorted(second)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= _NARROW_RATIO * abs(one)
    return False


def _answers(constant: Any, output: Any) -> bool:
    """Return whether a constant may be what is answered. Of several values, one of everyday use says nothing."""
    is_one = len(list(islice(find_leaves(output), 2))) == 1
    return _is_part(constant, output) and (is_one or constant == output or not is_trivial(constant))


def _is_part(constant: Any, output: Any) -> bool:
    """Return whether an output is a constant, or has it at some place."""
    if isinstance(output, dict | list):
        parts: Iterable[Any] = output.values() if isinstance(output, dict) else output
        return bool(constant == output) or any(_is_part(constant, part) for part in parts)
    return type(constant) is type(output) and bool(constant == output)


def _constant_results(tree: ast.Module) -> Iterator[_Result]:
    """Yield the constants that statements return or keep, and those between which a condition chooses."""
    values: dict[str, list[ast.expr | None]] = {}
    for node in ast.walk(tree):
        for name, value in bound_values(node):
            values.setdefault(name, []).append(value)
    evaluator = ConstantEvaluator(values)
    for node in ast.walk(tree):
        for statement, result in _results(node):
            if (constant := evaluator.value_or_none(result)) is not None:
                yield _Result(constant, result.lineno, frozenset((_place(statement), _place(result))))


def _results(node: ast.AST) -> Iterator[tuple[ast.stmt | ast.expr, ast.expr]]:
    match node:
        case ast.Return(value=ast.expr() as value) | ast.Assign(value=value):
            yield node, value
        case ast.AnnAssign(value=ast.expr() as value):
            yield node, value
        case ast.IfExp(body=body, orelse=orelse):
            yield from ((body, body), (orelse, orelse))
        case _:
            pass


def _place(node: ast.stmt | ast.expr) -> Place:
    return node.lineno, node.end_lineno or 0, node.col_offset, node.end_col_offset or 0


def _vary(request: CheckRequest, value: Any) -> list[Any]:
    literals = nearby_inputs.find_literals(request.source)
    return nearby_inputs.vary([value], literals, lambda each: request.contract.input.violation(each) is None)


async def _trace(traced: CandidateProcess, inputs: Sequence[Any], deadline: float) -> list[Trace] | None:
    """Return the traces of inputs; None where one takes too long, or the code does not say."""
    traces = list[Trace]()
    for value in inputs:
        reply = await traced.call(value, min(CALL_SECONDS, deadline - time.monotonic()))
        if not isinstance(reply, replies.SkillOutput) or not isinstance(reply.value, list):
            return None
        traces.append(Trace(value, frozenset(tuple(place) for place in reply.value if isinstance(place, list))))
    return traces


def _question(example: CheckExample, line: int) -> OpenQuestion:
    rule = f"what follows for other inputs (line {line} answers this example alone)"
    return OpenQuestion.about("special", example.input, (one_line_json(example.output, 200), rule))
