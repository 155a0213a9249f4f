"""What the schemas promise: input that fits gets an answer that fits or is refused with ValueError, and the same input
gets the same answer. What does not fit never reaches the code: PID 1 refuses it, in a check as in production."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skill_runtime import replies
from skill_runtime.check import input_generator
from skill_runtime.check.candidate import Candidate
from skill_runtime.check.examples import VALUE, difference
from skill_runtime.check.findings import Finding, excerpt
from skill_runtime.check.request import CheckExample, CheckRequest
from skill_runtime.text import one_line

SECONDS, CALL_SECONDS = 10.0, 2.0
"""For each of the two rounds, and for one call of it. What takes longer is judged by examples alone."""

_MISTAKES = frozenset(("TypeError", "AttributeError", "NameError", "ImportError"))


@dataclass(frozen=True)
class Answer:
    """What the first process made of an input."""

    input: Any
    reply: replies.Reply


async def ask(
    bundle: CheckRequest, visible: Sequence[CheckExample], session: Candidate
) -> tuple[list[Answer], Finding | None]:
    """Answers to the inputs of the examples and to made up ones, or the first that breaks the promise."""
    end = time.monotonic() + SECONDS
    made = input_generator.make(
        bundle.contract.input.document,
        [example.input for example in visible],
        lambda value: bundle.contract.input.problem(value) is None,
    )
    answers = []
    for one in made:
        if time.monotonic() > end:
            break
        reply = await session.ask(one.value, CALL_SECONDS)
        if finding := _broken(bundle, one, reply):
            return [], finding
        answers.append(Answer(one.value, reply))
    if not bundle.deterministic:
        return answers, None
    for example in visible:
        if time.monotonic() > end:
            break
        answers.append(Answer(example.input, await session.ask(example.input, CALL_SECONDS)))
    return answers, None


async def ask_again(answers: Sequence[Answer], session: Candidate) -> Finding | None:
    """Ask another process the same, in the opposite order."""
    end = time.monotonic() + SECONDS
    for answer in reversed(answers):
        if time.monotonic() > end:
            break
        if finding := _changed(answer, await session.ask(answer.input, CALL_SECONDS)):
            return finding
    return None


def _broken(bundle: CheckRequest, made: input_generator.Made, reply: replies.Reply) -> Finding | None:
    told = f"an input that fits the input schema:\n  input:    {_brief(made.value)}\n"
    if isinstance(reply, replies.Output):
        wrong = bundle.contract.output.problem(reply.value)
        if wrong is None:
            return None
        got = f"  got:      {one_line(reply.text.decode(), VALUE)}\n  expected: an output that fits its schema: {wrong}"
        return Finding("schema", told + got)
    if not made.sure or bundle.granted or _means_little(reply) or _refused(reply):
        return None
    if not made.least and _may_be_meant(reply):
        return None
    expected = "  expected: an output that fits its schema, or ValueError for what must be refused"
    where = f"\n  at line {reply.line}:\n{excerpt(bundle.source, reply.line)}" if reply.line else ""
    return Finding("schema", f"{told}{expected}\n  got:      {one_line(reply.exception, 2 * VALUE)}{where}", reply.line)


def _changed(first: Answer, second: replies.Reply) -> Finding | None:
    if isinstance(first.reply, replies.Output) and isinstance(second, replies.Output):
        same = difference(first.reply.value, second.value) is None
    else:
        both = (first.reply, second)
        unclear = any(isinstance(reply, replies.WorkerFailure) and _means_little(reply) for reply in both)
        same = unclear or _outcome(first.reply) == _outcome(second)
    if same:
        return None
    return Finding(
        "schema",
        "the same input was answered differently by two processes. Do not depend on time, chance, the order of a "
        "set or earlier calls (a Skill that is meant to sets spec.deterministic to false).\n"
        f"  input:    {_brief(first.input)}\n  once:     {_outcome(first.reply)}\n  then:     {_outcome(second)}",
    )


def _outcome(reply: replies.Reply) -> str:
    if isinstance(reply, replies.Output):
        return one_line(reply.text.decode(), VALUE)
    return reply.types[0] if reply.kind == "raised" and reply.types else reply.kind


def _means_little(failure: replies.WorkerFailure) -> bool:
    """A made up input may be more than a check has time and memory for."""
    return failure.kind == "timeout" or (failure.kind == "raised" and "MemoryError" in failure.types)


def _may_be_meant(failure: replies.WorkerFailure) -> bool:
    """Descriptions have rules that schemas cannot say (a square table, a sorted list), and who breaks one by chance may
    meet any error but those that tell of a mistake in the code. The least input breaks none by chance."""
    return failure.kind == "raised" and "Exception" in failure.types and _MISTAKES.isdisjoint(failure.types)


def _refused(failure: replies.WorkerFailure) -> bool:
    return failure.kind == "raised" and "ValueError" in failure.types


def _brief(value: Any) -> str:
    return one_line(json.dumps(value, ensure_ascii=False), VALUE)
