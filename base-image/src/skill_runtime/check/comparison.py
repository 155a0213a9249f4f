"""The comparison of a candidate with the accepted program: where two independent readings of one task differ.

Both get the same generated inputs. Which of two answers is right is not decided here: it is a question for the owner.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from skill_runtime import operator_contract as oc
from skill_runtime import replies
from skill_runtime.check import dynamic, examples, input_generator, nearby_inputs
from skill_runtime.check.candidate import NOTHING_WRITABLE, CandidateProcess, WritablePaths, start_candidate
from skill_runtime.check.findings import GateFinding
from skill_runtime.check.questions import OpenQuestion
from skill_runtime.check.request import CheckRequest
from skill_runtime.contract import Schema
from skill_runtime.text import one_line
from skill_runtime.worker_client import WorkerError

ROUND_SECONDS, CALL_SECONDS = 10.0, 2.0
"""Time for one process to answer all generated inputs, and for one call of it."""

_NO_OUTPUT = {
    "unserialisable": "an output that JSON does not have",
    "oversized": "an output that is too long",
    "malformed": "an output that JSON does not have",
    "died": "the end of the process",
}


async def compare_programs(
    request: CheckRequest, skill: Path, reference: Path, writable: WritablePaths = NOTHING_WRITABLE
) -> dynamic.DynamicResult:
    """Run the candidate in the file `skill` and the accepted program in the file `reference`, each in its processes.

    A candidate that fails an example has no opinion, nor one that answers an input in two ways. Errors are compared
    by their class, outputs as those of examples are. What takes too much time or memory is left out.
    """
    deadline = time.monotonic() + dynamic.TIMEOUT_SECONDS
    visible = [example for example in request.examples if not example.hidden]
    hidden = [example for example in request.examples if example.hidden]
    inputs = _make_inputs(request, [example.input for example in visible])
    accepted = replace(request, source=request.reference)
    try:
        async with start_candidate(request, skill, writable, deadline) as candidate:
            result = await examples.run_examples(request, visible, candidate)
            if result.finding:
                return dynamic.DynamicResult(result.finding, result.passed)
            others = await _answer(candidate, inputs)
        async with start_candidate(accepted, reference, writable, deadline) as candidate:
            replies_of_accepted = await _answer(candidate, inputs)
        compared = [
            (value, one, other)
            for value, one, other in zip(inputs, replies_of_accepted, others, strict=False)
            if not (_is_inconclusive(one) or _is_inconclusive(other))
        ]
        output = request.contract.output
        different = [row for row in compared if not _are_same(output, row[1], row[2])]
        async with start_candidate(request, skill, writable, deadline) as candidate:
            again = await _answer(candidate, [value for value, _, _ in different])
            held_out = await examples.run_examples(request, hidden, candidate)
    except WorkerError as error:
        return dynamic.DynamicResult(GateFinding("examples", f"the file cannot be loaded: {error}"), 0)
    passed = result.passed + held_out.passed
    if held_out.finding:
        return dynamic.DynamicResult(held_out.finding, passed)
    if not compared:
        finding = GateFinding(
            "schema", "no input could be made of the input schema, so that there is nothing to compare"
        )
        return dynamic.DynamicResult(finding, passed)
    certain = [
        _ask(output, *row)
        for row, second in zip(different, again, strict=False)
        if not _is_inconclusive(second) and _are_same(output, row[2], second)
    ]
    return dynamic.DynamicResult(None, passed, questions=tuple(certain[: oc.MAX_QUESTIONS]))


def _make_inputs(request: CheckRequest, samples: Sequence[Any]) -> list[Any]:
    """Return the inputs that the schema gate makes too, and some near those of the examples; the shortest first."""

    def fits(value: Any) -> bool:
        return request.contract.input.violation(value) is None

    generated = [each.value for each in input_generator.generate(request.contract.input.document, samples, fits)]
    literals = [
        literal for source in (request.reference, request.source) for literal in nearby_inputs.find_literals(source)
    ]
    nearby = nearby_inputs.vary(samples, literals, fits)
    held_out = {json.dumps(example.input, sort_keys=True) for example in request.examples if example.hidden}
    by_text = {json.dumps(value, sort_keys=True): value for value in (*generated, *nearby)}
    return [by_text[text] for text in sorted(by_text.keys() - held_out, key=lambda text: (len(text), text))]


async def _answer(candidate: CandidateProcess, inputs: Sequence[Any]) -> list[replies.WorkerReply]:
    """Return the reply to each input, in their order; fewer, where time runs out."""
    deadline = time.monotonic() + ROUND_SECONDS
    answers = list[replies.WorkerReply]()
    for value in inputs:
        if time.monotonic() > deadline:
            break
        answers.append(await candidate.call(value, CALL_SECONDS))
    return answers


def _is_inconclusive(reply: replies.WorkerReply) -> bool:
    """Return whether the reply says more of the check's time and memory than of the program."""
    if isinstance(reply, replies.SkillOutput):
        return False
    return reply.kind in ("timeout", "memory") or "MemoryError" in reply.types


def _are_same(output: Schema, one: replies.WorkerReply, other: replies.WorkerReply) -> bool:
    if isinstance(one, replies.SkillOutput) and isinstance(other, replies.SkillOutput):
        return examples.first_difference(one.value, other.value) is None
    if isinstance(one, replies.WorkerFailure) and isinstance(other, replies.WorkerFailure):
        return _is_a(one, other) or _is_a(other, one) or _format(output, one) == _format(output, other)
    return False


def _is_a(one: replies.WorkerFailure, other: replies.WorkerFailure) -> bool:
    """Return whether an example that expects the second exception would take the first one."""
    return one.kind == other.kind == "raised" and bool(other.types) and other.types[0] in one.types


def _ask(output: Schema, value: Any, accepted: replies.WorkerReply, other: replies.WorkerReply) -> OpenQuestion:
    """Return the question which answer is right. Of two long outputs, the other is described by where it differs."""
    one, two = _format(output, accepted), _format(output, other)
    if one == two and isinstance(accepted, replies.SkillOutput) and isinstance(other, replies.SkillOutput):
        two = f"the same, but {examples.first_difference(accepted.value, other.value)}"
    return OpenQuestion.about("opinion", value, (one, two))


def _format(output: Schema, reply: replies.WorkerReply) -> str:
    """Return the answer as a text of one line: an output, the class of an exception, or what came in their place."""
    if isinstance(reply, replies.SkillOutput):
        text = one_line(reply.text.decode(), oc.MAX_QUESTION_ANSWER_CHARACTERS)
        if output.violation(reply.value) is None:
            return text
        note = " (not of the output schema)"
        return one_line(text, oc.MAX_QUESTION_ANSWER_CHARACTERS - len(note)) + note
    if reply.kind == "raised":
        return one_line(reply.types[0], oc.MAX_QUESTION_ANSWER_CHARACTERS) if reply.types else "an exception"
    return _NO_OUTPUT.get(reply.kind, reply.kind)
