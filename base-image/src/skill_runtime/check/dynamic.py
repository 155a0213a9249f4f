"""The gates that run the candidate: visible examples, properties of the schemas, held-out examples.

No held-out example runs before all else holds, so it cannot show in what is reported of the rest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skill_runtime.check import examples, extra_field, schema_properties
from skill_runtime.check.candidate import NOTHING_WRITABLE, CandidateProcess, WritablePaths, start_candidate
from skill_runtime.check.findings import GateFinding, excerpt
from skill_runtime.check.questions import OpenQuestion
from skill_runtime.check.request import CheckRequest
from skill_runtime.worker_client import LoadError, WorkerError

TIMEOUT_SECONDS = 75.0
"""The time for all of these gates together."""


@dataclass(frozen=True)
class DynamicResult:
    """DynamicResult says what is wrong with what a candidate does, or what was seen of it that is right."""

    finding: GateFinding | None
    passed: int = 0
    """Examples that pass."""
    records: Sequence[schema_properties.RecordedCall] = ()
    """Calls with generated inputs and, of a deterministic Skill, with those of visible examples."""
    questions: tuple[OpenQuestion, ...] = ()


async def run_gates(request: CheckRequest, skill: Path, writable: WritablePaths = NOTHING_WRITABLE) -> DynamicResult:
    """Return what is wrong with what the candidate does, and how many examples pass.

    It runs in two processes, one after the other: where they differ is chance, time or memory of earlier calls. The
    second finds nothing of what the first wrote.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    visible = [example for example in request.examples if not example.hidden]
    try:
        async with start_candidate(request, skill, writable, deadline) as candidate:
            result = await examples.run_examples(request, visible, candidate)
            if result.finding:
                return DynamicResult(result.finding, result.passed)
            inputs = await schema_properties.check_inputs(request, visible, candidate)
            if finding := inputs.finding or await extra_field.check(request, visible, candidate):
                return DynamicResult(finding, result.passed)
            if not request.deterministic:
                return await _run_hidden(request, candidate, result.passed, inputs)
        async with start_candidate(request, skill, writable, deadline) as candidate:
            finding = await schema_properties.check_determinism(inputs.records, candidate)
            if finding:
                return DynamicResult(finding, result.passed)
            return await _run_hidden(request, candidate, result.passed, inputs)
    except WorkerError as error:
        return DynamicResult(_load_finding(error, request.source))


async def _run_hidden(
    request: CheckRequest,
    candidate: CandidateProcess,
    passed: int,
    inputs: schema_properties.InputsResult,
) -> DynamicResult:
    hidden = [example for example in request.examples if example.hidden]
    result = await examples.run_examples(request, hidden, candidate)
    return DynamicResult(result.finding, passed + result.passed, inputs.records, inputs.questions)


def _load_finding(error: WorkerError, source: str) -> GateFinding:
    line = error.failure.line if isinstance(error, LoadError) else None
    return GateFinding("examples", f"the file cannot be loaded: {error}\n{excerpt(source, line)}".rstrip(), line)
