"""A worker process ends at its limits, and whoever waits for it is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skill_operator.untrusted.worker import Worker, WorkerFailed
from tests.unit.untrusted import worker_samples as samples


async def test_what_goes_in_comes_out() -> None:
    values = [1, "\u00e9\u4e2d\ud800", [None, True, {"a": 1.5}]]
    assert await Worker().call(samples.echo, *values) == values


async def test_the_process_gets_nothing_of_the_environment() -> None:
    assert set(await Worker().call(samples.environment)) <= {"PYTHONPATH", "LC_CTYPE"}


@pytest.mark.parametrize(
    "function", [samples.run_for_ever, samples.fill_memory, samples.fail, samples.end, samples.answer_much]
)
async def test_a_limit_or_a_fault_ends_the_call(function: Callable[[], object]) -> None:
    with pytest.raises(WorkerFailed):
        await Worker(cpu_seconds=1).call(function)


async def test_the_deadline_ends_the_process() -> None:
    with pytest.raises(WorkerFailed, match="longer than"):
        await Worker(deadline_seconds=0.2).call(samples.run_for_ever)
