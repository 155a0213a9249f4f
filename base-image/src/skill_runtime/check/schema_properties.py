"""The schema gate: input that fits gets output that fits or ValueError, and the same input gets the same output.

What does not fit never reaches the code: PID 1 rejects it, in a check as in production.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skill_runtime import replies
from skill_runtime.check import input_generator, least_values
from skill_runtime.check.candidate import CandidateProcess
from skill_runtime.check.examples import MAX_VALUE_CHARACTERS, first_difference
from skill_runtime.check.findings import GateFinding, excerpt
from skill_runtime.check.input_generator import GeneratedInput
from skill_runtime.check.questions import OpenQuestion
from skill_runtime.check.request import CheckExample, CheckRequest
from skill_runtime.text import one_line, one_line_json

ROUND_SECONDS, CALL_SECONDS = 10.0, 2.0
"""Time for each of the two rounds, and for one call of it. What takes longer is checked by examples alone."""

_MISTAKES = frozenset(("TypeError", "AttributeError", "NameError", "ImportError"))
_NEVER_OF_A_VALUE = frozenset(("NameError", "ImportError")), "UnboundLocalError"
"""Exceptions that no value explains, but for a variable that gets its value in a loop."""
_OTHER_ANSWER = "an answer, or ValueError?"
_MAX_CULPRITS = 4
"""Least values of one input that are tried alone."""


@dataclass(frozen=True)
class RecordedCall:
    """RecordedCall is an input and the reply of the first process."""

    input: Any
    reply: replies.WorkerReply
    is_generated: bool = True
    is_edge: bool = False
    """It failed on a least value alone, and is a question."""

    @property
    def is_promise_kept(self) -> bool:
        """Return whether a generated input got an output that fits its schema, or ValueError."""
        kept = isinstance(self.reply, replies.SkillOutput) or _is_rejection(self.reply)
        return self.is_generated and not self.is_edge and kept


@dataclass(frozen=True)
class InputsResult:
    """InputsResult holds the replies to all inputs, and what is wrong with the first that violates the schema."""

    records: Sequence[RecordedCall]
    finding: GateFinding | None = None
    questions: tuple[OpenQuestion, ...] = ()


async def check_inputs(
    request: CheckRequest, visible: Sequence[CheckExample], candidate: CandidateProcess
) -> InputsResult:
    """Call with generated inputs and with those of the examples.

    What fails on a least value alone, of which no example says what is right, is a question instead of a finding.
    """
    deadline = time.monotonic() + ROUND_SECONDS
    inputs = input_generator.generate(
        request.contract.input.document,
        [example.input for example in visible],
        lambda value: request.contract.input.violation(value) is None,
    )
    records, questions = [], dict[str, OpenQuestion]()
    for generated in inputs:
        if time.monotonic() > deadline:
            break
        reply = await candidate.call(generated.value, CALL_SECONDS)
        finding = _find_violation(request, generated, reply)
        if finding is not None:
            edge = await _find_edge(request, visible, generated, reply, candidate)
            if not isinstance(edge, OpenQuestion):
                return InputsResult([], edge or finding)
            questions.setdefault(f"{_outcome(reply)} {finding.line}", edge)
        records.append(RecordedCall(generated.value, reply, is_edge=finding is not None))
    edges = tuple(questions.values())
    if not request.deterministic:
        return InputsResult(records, None, edges)
    for example in visible:
        if time.monotonic() > deadline:
            break
        reply = await candidate.call(example.input, CALL_SECONDS)
        records.append(RecordedCall(example.input, reply, is_generated=False))
    return InputsResult(records, None, edges)


async def check_determinism(records: Sequence[RecordedCall], candidate: CandidateProcess) -> GateFinding | None:
    """Repeat the calls in another process, in the opposite order, and return the first that differs."""
    deadline = time.monotonic() + ROUND_SECONDS
    for record in reversed(records):
        if time.monotonic() > deadline:
            break
        if finding := _find_change(record, await candidate.call(record.input, CALL_SECONDS)):
            return finding
    return None


def _find_violation(request: CheckRequest, generated: GeneratedInput, reply: replies.WorkerReply) -> GateFinding | None:
    given = f"an input that fits the input schema:\n  input:    {_format(generated.value)}\n"
    if isinstance(reply, replies.SkillOutput):
        violation = request.contract.output.violation(reply.value)
        if violation is None:
            return None
        actual = one_line(reply.text.decode(), MAX_VALUE_CHARACTERS)
        expected = f"  got:      {actual}\n  expected: an output that fits its schema: {violation}"
        return GateFinding("schema", given + expected)
    if not generated.described or request.granted or _is_inconclusive(reply) or _is_rejection(reply):
        return None
    if not generated.minimal and _may_be_intended(reply):
        return None
    expected = "  expected: an output that fits its schema, or ValueError for what must be refused"
    context = f"\n  at line {reply.line}:\n{excerpt(request.source, reply.line)}" if reply.line else ""
    actual = one_line(reply.exception, 2 * MAX_VALUE_CHARACTERS)
    return GateFinding("schema", f"{given}{expected}\n  got:      {actual}{context}", reply.line)


async def _find_edge(
    request: CheckRequest,
    visible: Sequence[CheckExample],
    generated: GeneratedInput,
    reply: replies.WorkerReply,
    candidate: CandidateProcess,
) -> OpenQuestion | GateFinding | None:
    """Return the question that a failure is, where it follows from a least value that no example shows.

    The input is tried again with ordinary values in the place of all least ones, then of all but one. Returns the
    finding where it fails with ordinary values, too, and None where it has no such place or the failure is of
    another kind.
    """
    schema = request.contract.input
    samples, fields = [example.input for example in visible], least_values.field_names(schema.document)
    places = least_values.find_unshown(generated.value, samples, fields)
    if not places or not _may_be_of_a_value(reply):
        return None

    async def fails(kept: least_values.Place | None) -> tuple[GeneratedInput, replies.WorkerReply, GateFinding] | None:
        value = least_values.make_ordinary(generated.value, places, samples, fields, kept)
        changed = GeneratedInput(value, generated.described, generated.minimal)
        if value == generated.value or schema.violation(value) is not None:
            return None
        again = await candidate.call(value, CALL_SECONDS)
        finding = _find_violation(request, changed, again)
        return None if finding is None else (changed, again, finding)

    if failed := await fails(None):
        return failed[2]
    for place in places[:_MAX_CULPRITS]:
        if len(places) > 1 and (failed := await fails(place)) and _may_be_of_a_value(failed[1]):
            generated, reply, _ = failed
            break
    return OpenQuestion.about("edge", generated.value, (_describe(request, reply), _OTHER_ANSWER))


def _may_be_of_a_value(reply: replies.WorkerReply) -> bool:
    """Return whether a value may be why the call failed: not that of the process, of its time or of a missing name."""
    if isinstance(reply, replies.SkillOutput):
        return True
    never, but = _NEVER_OF_A_VALUE
    is_missing_name = not never.isdisjoint(reply.types) and but not in reply.types
    return reply.kind in ("raised", "unserialisable") and "Exception" in reply.types and not is_missing_name


def _describe(request: CheckRequest, reply: replies.WorkerReply) -> str:
    if isinstance(reply, replies.SkillOutput):
        return (
            f"{_outcome(reply)}, which does not fit the output schema: {request.contract.output.violation(reply.value)}"
        )
    return reply.exception


def is_kept(request: CheckRequest, reply: replies.WorkerReply) -> bool:
    """Return whether the reply is an output that fits its schema, or ValueError."""
    if isinstance(reply, replies.SkillOutput):
        return request.contract.output.violation(reply.value) is None
    return _is_rejection(reply)


def is_same(first: replies.WorkerReply, second: replies.WorkerReply) -> bool:
    """Return whether two replies say the same, or one of them took more time or memory than a check has."""
    if isinstance(first, replies.SkillOutput) and isinstance(second, replies.SkillOutput):
        return first_difference(first.value, second.value) is None
    both = (first, second)
    inconclusive = any(isinstance(reply, replies.WorkerFailure) and _is_inconclusive(reply) for reply in both)
    return inconclusive or _outcome(first) == _outcome(second)


def _find_change(first: RecordedCall, second: replies.WorkerReply) -> GateFinding | None:
    if is_same(first.reply, second):
        return None
    return GateFinding(
        "schema",
        "the same input was answered differently by two processes. Do not depend on time, chance, the order of a "
        "set or earlier calls (a Skill that is meant to sets spec.deterministic to false).\n"
        f"  input:    {_format(first.input)}\n  once:     {_outcome(first.reply)}\n  then:     {_outcome(second)}",
    )


def _outcome(reply: replies.WorkerReply) -> str:
    if isinstance(reply, replies.SkillOutput):
        return one_line(reply.text.decode(), MAX_VALUE_CHARACTERS)
    return reply.types[0] if reply.kind == "raised" and reply.types else reply.kind


def _is_inconclusive(failure: replies.WorkerFailure) -> bool:
    """Return whether a generated input may be more than a check has time and memory for."""
    return failure.kind == "timeout" or (failure.kind == "raised" and "MemoryError" in failure.types)


def _may_be_intended(failure: replies.WorkerFailure) -> bool:
    """Return whether the exception may follow a rule of the description rather than a mistake in the code.

    Descriptions have rules that schemas cannot say (a square table, a sorted list), and an input that breaks one by
    chance may meet any error but those that show a mistake. The minimal input breaks none by chance.
    """
    return failure.kind == "raised" and "Exception" in failure.types and _MISTAKES.isdisjoint(failure.types)


def _is_rejection(failure: replies.WorkerFailure) -> bool:
    return failure.kind == "raised" and "ValueError" in failure.types


def _format(value: Any) -> str:
    return one_line_json(value, MAX_VALUE_CHARACTERS)
