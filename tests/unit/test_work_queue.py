from __future__ import annotations

import asyncio

import pytest

from skill_operator.naming import SkillKey
from skill_operator.work_queue import WorkQueue

A, B = SkillKey("n", "a"), SkillKey("n", "b")


async def take(queue: WorkQueue, seconds: float = 1.0) -> SkillKey:
    async with asyncio.timeout(seconds):
        return (await queue.take())[0]


async def test_a_key_waits_once() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.add(A)
    queue.add(B)
    assert len(queue) == 2
    assert [await take(queue), await take(queue)] == [A, B]


async def test_a_key_that_is_added_meanwhile_comes_again_but_not_at_once() -> None:
    queue = WorkQueue()
    queue.add(A)
    assert await take(queue) == A
    queue.add(A)
    queue.add(A)
    with pytest.raises(TimeoutError):
        await take(queue, 0.05)
    queue.done(A)
    assert await take(queue) == A
    queue.done(A)
    assert len(queue) == 0


async def test_the_earliest_wish_counts() -> None:
    queue = WorkQueue()
    queue.add_after(A, 60)
    queue.add_after(A, 0.01)
    queue.add_after(A, 30)
    assert await take(queue) == A


async def test_failures_come_back_later_each_time() -> None:
    queue = WorkQueue()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(3):
        queue.add_failed(A)
        assert await take(queue, 5) == A
        queue.done(A)
    third = loop.time() - began
    queue.reset_backoff(A)
    began = loop.time()
    queue.add_failed(A)
    assert await take(queue, 5) == A
    assert loop.time() - began < third
