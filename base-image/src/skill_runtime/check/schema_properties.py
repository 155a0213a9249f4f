"""The schema gate: input that fits gets output that fits or ValueError, and the same input gets the same output.

What does not fit never reaches the code: PID 1 rejects it, in a check as in production.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skill_runtime import replies
from skill_runtime.check import input_generator
from skill_runtime.check.candidate import CandidateProcess
from skill_runtime.check.examples import MAX_VALUE_CHARACTERS, first_difference
from skill_runtime.check.findings import GateFinding, excerpt
from skill_runtime.check.request import CheckExample, CheckRequest
from skill_runtime.text import one_line, one_line_json

ROUND_SECONDS, CALL_SECONDS = 10.0, 2.0
"""Time for each of the two rounds, and for one call of it. What takes longer is checked by examples alone."""

_MISTAKES = frozenset(("TypeError", "AttributeError", "NameError", "ImportError"))


@dataclass(frozen=True)
class RecordedCall:
    """RecordedCall is an input and the reply of the first process."""

    input: Any
    reply: replies.WorkerReply
    is_generated: bool = True

    @property
    def is_promise_kept(self) -> bool:
        """Return whether a generated input got an output that fits its schema, or ValueError."""
        kept = isinstance(self.reply, replies.SkillOutput) or _is_rejection(self.reply)
        return self.is_generated and kept


async def check_inputs(
    request: CheckRequest, visible: Sequence[CheckExample], candidate: CandidateProcess
) -> tuple[list[RecordedCall], GateFinding | None]:
    """Call with generated inputs and with those of the examples.

    Returns the replies, or the finding of the first one that violates the schema.
    """
    deadline = time.monotonic() + ROUND_SECONDS
    inputs = input_generator.generate(
        request.contract.input.document,
        [example.input for example in visible],
        lambda value: request.contract.input.violation(value) is None,
    )
    records = []
    for generated in inputs:
        if time.monotonic() > deadline:
            break
        reply = await candidate.call(generated.value, CALL_SECONDS)
        if finding := _find_violation(request, generated, reply):
            return [], finding
        records.append(RecordedCall(generated.value, reply))
    if not request.deterministic:
        return records, None
    for example in visible:
        if time.monotonic() > deadline:
            break
        reply = await candidate.call(example.input, CALL_SECONDS)
        records.append(RecordedCall(example.input, reply, is_generated=False))
    return records, None


async def check_determinism(records: Sequence[RecordedCall], candidate: CandidateProcess) -> GateFinding | None:
    """Repeat the calls in another process, in the opposite order, and return the first that differs."""
    deadline = time.monotonic() + ROUND_SECONDS
    for record in reversed(records):
        if time.monotonic() > deadline:
            break
        if finding := _find_change(record, await candidate.call(record.input, CALL_SECONDS)):
            return finding
    return None


def _find_violation(
    request: CheckRequest, generated: input_generator.GeneratedInput, reply: replies.WorkerReply
) -> GateFinding | None:
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


def _find_change(first: RecordedCall, second: replies.WorkerReply) -> GateFinding | None:
    if isinstance(first.reply, replies.SkillOutput) and isinstance(second, replies.SkillOutput):
        same = first_difference(first.reply.value, second.value) is None
    else:
        both = (first.reply, second)
        inconclusive = any(isinstance(reply, replies.WorkerFailure) and _is_inconclusive(reply) for reply in both)
        same = inconclusive or _outcome(first.reply) == _outcome(second)
    if same:
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
