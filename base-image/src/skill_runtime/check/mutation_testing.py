"""Mutation testing: how many small mistakes the examples would find, and an input that would find more.

Each mutant of the accepted code runs as a candidate does, and is asked what the examples ask. One that passes them, and
yet answers another input otherwise than the accepted code, shows what the examples leave open.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skill_runtime import operator_contract as oc
from skill_runtime import replies, resource_limits
from skill_runtime.check import candidate, mutants, nearby_inputs, recognition, tracers, variants
from skill_runtime.check.examples import compare_reply
from skill_runtime.check.questions import OpenQuestion
from skill_runtime.check.report import MutantCount
from skill_runtime.check.request import CheckRequest
from skill_runtime.check.schema_properties import RecordedCall, is_kept, is_same
from skill_runtime.worker_client import LoadError, WorkerError

BUDGET_SECONDS = 10.0
"""The time for all of it, whatever happens."""
LOAD_SECONDS = 5.0
"""The time for the accepted code to load, with all that it imports. What takes longer is not tested."""
REFERENCE_SECONDS = 2.0
"""The time for the accepted code to answer everything once. What takes longer is not tested."""
MIN_MUTANT_SECONDS = 1.0
MIN_CALL_SECONDS = 0.25
_TIMES_SLOWER = 5
"""How much slower than the accepted code a mutant may be."""
MEMORY_BYTES = 1 << 28
"""Memory that a mutant may use, in each of its two processes; less than a candidate, of which there is but one."""


@dataclass(frozen=True)
class MutationResult:
    """MutationResult is the number of mutants that the examples find, and the question that would find the most."""

    count: MutantCount
    questions: tuple[OpenQuestion, ...] = ()


async def run_mutants(
    request: CheckRequest,
    skill: Path,
    writable: candidate.WritablePaths,
    records: Sequence[RecordedCall],
    seconds: float = BUDGET_SECONDS,
) -> MutationResult:
    """Return how many mutants of the accepted code the examples find, as far as `seconds` suffice.

    `records` are calls of the accepted code.
    """
    if request.granted:
        return MutationResult(MutantCount(skipped="Granted"))
    if not request.deterministic:
        return MutationResult(MutantCount(skipped="NotDeterministic"))
    limits = candidate.LIMITS | {"DATA": resource_limits.memory_share(MEMORY_BYTES)}
    async with variants.start_variants(request, skill, replace(writable, log=None), limits) as pool:
        run = _MutationRun(request, pool)
        try:
            async with asyncio.timeout(seconds):
                if not await run.ask_accepted(_choose_inputs(request, records)):
                    return MutationResult(MutantCount(skipped="Slow"))
                await run.find_recognised()
                for mutant in mutants.make_mutants(request.source, await run.find_lines()):
                    await run.ask_mutant(mutant)
        except TimeoutError:
            pass  # what was found in time counts
    return run.result()


def _choose_inputs(request: CheckRequest, records: Sequence[RecordedCall]) -> list[Any]:
    """Return inputs that are in no example, the shortest first: generated ones, and some near the visible examples."""
    schema = request.contract.input
    visible = [example.input for example in request.examples if not example.hidden]
    inputs = [record.input for record in records if record.is_promise_kept]
    literals = nearby_inputs.find_literals(request.source)
    inputs += nearby_inputs.vary(visible, literals, lambda value: schema.violation(value) is None)
    by_text = {json.dumps(value, sort_keys=True): value for value in inputs}
    known = {json.dumps(example.input, sort_keys=True) for example in request.examples}
    return [by_text[text] for text in sorted(by_text.keys() - known, key=lambda text: (len(text), text))]


class _MutationRun:
    """_MutationRun asks the accepted code and its mutants, one after the other, and counts."""

    def __init__(self, request: CheckRequest, pool: variants.VariantPool) -> None:
        self._request, self._pool = request, pool
        self._load_seconds, self._mutant_seconds, self._call_seconds = (
            LOAD_SECONDS,
            REFERENCE_SECONDS,
            REFERENCE_SECONDS,
        )
        self._answers: list[tuple[Any, replies.WorkerReply]] = []
        self._killed = self._total = 0
        self._survivors: dict[int, list[replies.WorkerReply]] = {}
        self._recognised: tuple[OpenQuestion, ...] = ()

    async def ask_accepted(self, inputs: Sequence[Any]) -> bool:
        """Ask the accepted code, under the limits of mutants. Return whether it is quick enough, and passes."""
        start, slowest_seconds = time.monotonic(), 0.0
        try:
            process = await self._load(self._request.source, first=True)
        except WorkerError:
            return False
        loaded = time.monotonic()
        for example in self._request.examples:
            call_start = time.monotonic()
            if compare_reply(self._request, example, await process.call(example.input)) is not None:
                return False
            slowest_seconds = max(slowest_seconds, time.monotonic() - call_start)
        for value in inputs:
            reply = await process.call(value)
            if is_kept(self._request, reply):
                self._answers.append((value, reply))
        seconds = time.monotonic() - loaded
        self._load_seconds = _TIMES_SLOWER * (loaded - start)
        self._call_seconds = max(MIN_CALL_SECONDS, _TIMES_SLOWER * slowest_seconds)
        self._mutant_seconds = max(MIN_MUTANT_SECONDS, _TIMES_SLOWER * seconds)
        return seconds <= REFERENCE_SECONDS

    async def find_recognised(self) -> None:
        """Look for visible examples that the accepted code answers apart from all other inputs."""
        try:
            traced = await self._load(self._request.source + tracers.PLACES)
        except WorkerError:
            return
        self._recognised = await recognition.ask(self._request, traced, [value for value, _ in self._answers])

    async def find_lines(self) -> set[int] | None:
        """Return the lines of the accepted code that run for any example or input; None where it does not say."""
        lines: set[int] = set()
        inputs = [*(example.input for example in self._request.examples), *(value for value, _ in self._answers)]
        try:
            process = await self._load(self._request.source + tracers.LINES)
        except WorkerError:
            return None
        for value in inputs:
            reply = await process.call(value, self._call_seconds)
            if not isinstance(reply, replies.SkillOutput) or not isinstance(reply.value, list):
                return None
            lines.update(line for line in reply.value if isinstance(line, int))
        return lines

    async def ask_mutant(self, mutant: mutants.Mutant) -> None:
        """Ask a mutant what the examples ask, and then whatever it may answer otherwise than the accepted code."""
        try:
            process = await self._load(mutant.source, fresh=mutant.is_outside)
        except WorkerError as error:
            if not (isinstance(error, LoadError) and "SyntaxError" in error.failure.types):
                self._count(killed=True)
            return
        for example in self._request.examples:
            reply = await process.call(example.input, self._call_seconds)
            if compare_reply(self._request, example, reply) is not None:
                self._count(killed=True)
                return
        await self._compare(process)

    async def _compare(self, process: candidate.CandidateProcess) -> None:
        """Compare the answers of a mutant that passes the examples. One that answers all alike counts as no mutant."""
        others: dict[int, replies.WorkerReply] = {}
        for number, (value, reply) in enumerate(self._answers):
            other = await process.call(value, self._call_seconds)
            if is_same(reply, other):
                continue
            if not is_kept(self._request, other):  # the schemas find it, whatever the examples are
                self._count(killed=True)
                return
            others[number] = other
        if others:
            self._count(killed=False)
        for number, other in others.items():
            self._survivors.setdefault(number, []).append(other)

    def _count(self, *, killed: bool) -> None:
        self._total += 1
        self._killed += killed

    def result(self) -> MutationResult:
        """Return what was counted, and questions: the last is what most mutants answer otherwise."""
        count = MutantCount(self._killed, self._total)
        if not self._survivors:
            return MutationResult(count, self._recognised)
        number = max(self._survivors, key=lambda each: (len(self._survivors[each]), -each))
        value, reply = self._answers[number]
        others = Counter(map(_answer, self._survivors[number]))
        answers = _show_difference(_answer(reply), others.most_common(1)[0][0])
        return MutationResult(count, (*self._recognised, OpenQuestion.about("mutant", value, answers)))

    async def _load(self, source: str, *, first: bool = False, fresh: bool = False) -> candidate.CandidateProcess:
        """Load a program, whose time begins now. Where it is the first of its process, it has time to import all."""
        seconds = self._mutant_seconds + (self._load_seconds if first or fresh else 0.0)
        return await self._pool.load_variant(source, time.monotonic() + seconds, fresh=fresh)


def _answer(reply: replies.WorkerReply) -> str:
    return reply.text.decode() if isinstance(reply, replies.SkillOutput) else reply.exception


def _show_difference(one: str, other: str) -> tuple[str, str]:
    """Return the answers, or the parts of them in which they differ where these are far from the beginning."""
    longest = oc.MAX_QUESTION_ANSWER_CHARACTERS
    place = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = place - longest // 2
    if start <= 0 or max(len(one), len(other)) <= longest:
        return one, other
    return f"…{one[start:]}", f"…{other[start:]}"
