from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


async def test_a_key_rests_after_its_turn_while_others_do_not() -> None:
    queue = WorkQueue(rest_seconds=0.2)
    queue.add(A)
    assert await take(queue) == A
    began = asyncio.get_running_loop().time()
    queue.done(A)
    for _ in range(3):
        queue.add(A)
    queue.add(B)
    assert await take(queue, 0.1) == B
    assert await take(queue) == A
    assert asyncio.get_running_loop().time() - began >= 0.19
    queue.done(B)
    queue.done(A)
    with pytest.raises(TimeoutError):
        await take(queue, 0.3)


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


def keys(namespace: str, number: int) -> list[SkillKey]:
    return [SkillKey(namespace, f"s{n}") for n in range(number)]


async def test_namespaces_take_turns_and_keys_of_one_come_in_order() -> None:
    queue = WorkQueue()
    for key in [*keys("a", 3), *keys("b", 2), *keys("c", 1)]:
        queue.add(key)
    taken = [await take(queue) for _ in range(6)]
    assert [f"{key.namespace}{key.name[1:]}" for key in taken] == ["a0", "b0", "c0", "a1", "b1", "a2"]


@pytest.mark.parametrize("number", [1, 10, 1000])
async def test_a_namespace_that_never_rests_delays_another_by_one_key(number: int) -> None:
    """Its Skills are annotated in a loop: each is there again as soon as it was worked on, by whatever worker."""
    queue, restless = WorkQueue(), keys("a", number)
    for key in restless:
        queue.add(key)
    for _ in range(50):
        queue.add(SkillKey("b", "s0"))
        turns = 0
        while (key := await take(queue)).namespace != "b":
            turns += 1
            queue.add(key)
            queue.done(key)
        queue.done(key)
        assert turns <= 1


@pytest.mark.parametrize("workers", [2, 4, 7])
async def test_one_namespace_leaves_a_worker_to_others(workers: int) -> None:
    queue = WorkQueue(workers)
    for key in keys("a", 100):
        queue.add(key)
    working = [await take(queue) for _ in range(workers - 1)]
    waiting = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not waiting.done(), "it would be the last of them"
    queue.add(B._replace(namespace="b"))
    assert (await waiting)[0].namespace == "b", "at once, with all other workers held"
    queue.done(working[0])
    assert (await take(queue)).namespace == "a"


async def test_a_single_worker_is_shared_in_turns() -> None:
    queue = WorkQueue(1)
    queue.add(A)
    assert await take(queue) == A


async def test_a_worker_that_was_cancelled_while_it_waited_took_nothing() -> None:
    queue = WorkQueue(2)
    waiting = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add(A)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await take(queue) == A


ACTIONS = st.lists(st.tuples(st.sampled_from(["add", "take", "done"]), st.integers(0, 8)), max_size=80)


@settings(max_examples=50, deadline=None)
@given(ACTIONS, st.integers(1, 4))
def test_whatever_comes_no_key_is_lost_or_worked_on_twice_and_no_namespace_waits_long(
    actions: Sequence[tuple[str, int]], workers: int
) -> None:
    queue = WorkQueue(workers)
    every = [SkillKey(namespace, name) for namespace in "abc" for name in "xyz"]
    working: list[SkillKey] = []
    passed: dict[str, Counter[str]] = {}  # of a namespace that waits: the turns that others had meanwhile
    wanted: set[SkillKey] = set()

    def start() -> None:
        namespace = queue._next_namespace()
        if namespace is None or len(working) == workers:
            return
        key, _ = asyncio.run(queue.take())
        assert key.namespace == namespace
        assert key not in working
        working.append(key)
        wanted.discard(key)
        assert sum(one.namespace == namespace for one in working) <= max(1, workers - 1)
        passed.pop(namespace, None)
        if namespace in queue._ready:
            passed[namespace] = Counter()
        for other, turns in passed.items():
            turns[namespace] += 1
            assert turns[namespace] <= 1 or sum(k.namespace == other for k in working) >= max(1, workers - 1)

    for action, number in actions:
        if action == "add":
            queue.add(every[number])
            wanted.add(every[number])
            if every[number] not in working:
                passed.setdefault(every[number].namespace, Counter())
        elif action == "take":
            start()
        elif working:
            key = working.pop(number % len(working))
            queue.done(key)
            if key in wanted:
                passed.setdefault(key.namespace, Counter())
    while working or len(queue):
        start()
        if working:
            queue.done(working.pop())
    assert not wanted
    assert not queue._ready
    assert not queue._busy
