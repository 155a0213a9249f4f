"""The pool: bounded, fair, nothing twice, nothing lost. Steps of the event loop instead of time."""

from __future__ import annotations

import asyncio

import pytest

from skill_operator.generation.request_pool import RequestPool
from skill_operator.naming import SkillKey


class Bench:
    """A pool, and calls that end when the test says so."""

    def __init__(self, size: int) -> None:
        self.done: list[SkillKey] = []
        self.started: list[SkillKey] = []
        self.running = 0
        self.most = 0
        self.gates: dict[SkillKey, asyncio.Future[str]] = {}
        self.pool: RequestPool[str] = RequestPool(size, self.done.append)

    def submit(self, *keys: SkillKey) -> None:
        for key in keys:
            self.pool.submit(key, "call", lambda key=key: self._work(key))

    async def _work(self, key: SkillKey) -> str:
        self.started.append(key)
        self.running += 1
        self.most = max(self.most, self.running)
        gate = self.gates[key] = asyncio.get_running_loop().create_future()
        try:
            return await gate
        finally:
            self.running -= 1

    async def end(self, *keys: SkillKey) -> None:
        for key in keys:
            self.gates[key].set_result(key[1])
        await settle()


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


A1, A2, A3, B1, B2, C1 = ("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("b", "2"), ("c", "1")


async def test_a_result_is_announced_once_and_stays_until_it_was_used() -> None:
    bench = Bench(1)
    bench.submit(A1)
    assert bench.pool.contains(A1, "call")
    assert bench.pool.finished_task(A1) is None
    await settle()
    await bench.end(A1)
    assert bench.done == [A1]
    for _ in range(2):  # whoever took it may have failed to store it
        bench.pool.cancel(A1, unless="call")
        task = bench.pool.finished_task(A1)
        assert task is not None
        assert task.result() == "1"
    bench.pool.cancel(A1)
    assert bench.pool.finished_task(A1) is None
    assert not bench.pool.contains(A1, "call")


async def test_an_error_is_a_result() -> None:
    async def fails() -> str:
        raise KeyError("x")

    done: list[SkillKey] = []
    pool: RequestPool[str] = RequestPool(1, done.append)
    pool.submit(A1, "call", fails)
    await settle()
    task = pool.finished_task(A1)
    assert task is not None
    with pytest.raises(KeyError):
        task.result()
    assert done == [A1]


async def test_no_more_than_allowed_at_once() -> None:
    bench = Bench(2)
    bench.submit(A1, A2, A3, B1, B2, C1)
    await settle()
    while bench.gates:
        _, gate = bench.gates.popitem()
        gate.set_result("")
        await settle()
    assert bench.most == 2
    assert sorted(bench.done) == sorted([A1, A2, A3, B1, B2, C1])


async def test_a_namespace_with_many_calls_does_not_starve_the_others() -> None:
    bench = Bench(1)
    bench.submit(A1, A2, A3, B1, B2, C1)
    order = []
    for _ in range(6):
        await settle()
        order.append(bench.started[-1])
        await bench.end(bench.started[-1])
    assert order == [A1, A2, B1, C1, A3, B2]


async def test_a_call_is_made_once() -> None:
    bench = Bench(2)
    bench.submit(A1, A1)
    await settle()
    bench.submit(A1)
    await settle()
    assert bench.started == [A1]
    await bench.end(A1)
    bench.submit(A1)
    await settle()
    assert bench.started == [A1], "its result waits"


async def test_another_call_of_the_same_skill_ends_the_first() -> None:
    bench = Bench(2)
    bench.submit(A1)
    await settle()
    bench.pool.submit(A1, "next", lambda: bench._work(A1))
    await settle()
    assert bench.started == [A1, A1]
    assert bench.running == 1
    assert not bench.pool.contains(A1, "call")
    assert bench.pool.contains(A1, "next")
    await bench.end(A1)
    assert bench.done == [A1]
    assert bench.pool.finished_task(A1) is not None


async def test_a_cancelled_call_ends_announces_nothing_and_frees_its_slot() -> None:
    bench = Bench(1)
    bench.submit(A1, B1)
    await settle()
    bench.pool.cancel(A1)
    assert not bench.pool.contains(A1, "call")
    await settle()
    assert bench.running == 1
    assert bench.started == [A1, B1]
    assert bench.done == []


async def test_a_call_that_waits_can_be_cancelled() -> None:
    bench = Bench(1)
    bench.submit(A1, A2, A3)
    await settle()
    bench.pool.cancel(A2)
    assert not bench.pool.contains(A2, "call")
    await bench.end(A1)
    assert bench.started == [A1, A3]


async def test_a_namespace_whose_only_call_was_cancelled_holds_nobody_up() -> None:
    bench = Bench(1)
    bench.submit(A1, B1, C1)
    await settle()
    bench.pool.cancel(B1)
    await bench.end(A1)
    assert bench.started == [A1, C1]


async def test_a_call_that_ignores_its_cancellation_keeps_its_slot_and_its_result_to_itself() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def stubborn() -> str:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    bench = Bench(1)
    bench.pool.submit(A1, "call", stubborn)
    await started.wait()
    bench.pool.cancel(A1)
    bench.submit(A1)
    await settle()
    assert bench.started == [], "its slot is taken for as long as it runs"
    release.set()
    await settle()
    assert bench.started == [A1]
    assert bench.done == []
    assert bench.pool.finished_task(A1) is None


async def test_cancelling_the_unknown_is_nothing() -> None:
    Bench(1).pool.cancel(A1)
