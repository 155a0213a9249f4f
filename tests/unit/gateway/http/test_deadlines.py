"""Each listener is called once at the end of its deadline, and in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from skill_operator.gateway.http.deadlines import SWEEP_SECONDS, Deadlines

pytestmark = pytest.mark.timeout(30)


class Waiting:
    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.calls: list[float] = []
        self.over = asyncio.Event()
        self._then = then

    def on_timeout(self) -> None:
        self.calls.append(time.monotonic())
        self.over.set()
        self._then()


async def called(*waiting: Waiting) -> None:
    async with asyncio.timeout(20):
        for listener in waiting:
            await listener.over.wait()


async def test_nobody_is_told_early_and_nobody_much_too_late() -> None:
    deadlines = Deadlines()
    began = time.monotonic()
    ends = [number * 0.037 for number in range(20)]
    waiting = [Waiting() for _ in ends]
    for listener, seconds in zip(waiting, ends, strict=True):
        deadlines.set(listener, seconds)
    await called(*waiting)
    for listener, seconds in zip(waiting, ends, strict=True):
        (at,) = listener.calls
        assert seconds <= at - began < seconds + SWEEP_SECONDS + 1, "a busy machine is a second late at most"


async def test_who_is_done_or_got_more_time_is_not_told() -> None:
    deadlines = Deadlines()
    done, moved, marker = Waiting(), Waiting(), Waiting()
    deadlines.set(done, 0)
    deadlines.set(moved, 0)
    deadlines.clear(done)
    deadlines.clear(done)
    deadlines.set(moved, 60)
    deadlines.set(marker, 0.2)
    await called(marker)
    assert (done.calls, moved.calls) == ([], [])


async def test_one_may_end_or_begin_another_s_wait() -> None:
    deadlines = Deadlines()
    second, third = Waiting(), Waiting()

    def end_it() -> None:
        deadlines.clear(second)
        deadlines.set(third, 0)

    first = Waiting(end_it)
    deadlines.set(first, 0)
    deadlines.set(second, 0)
    await called(first, third)
    assert second.calls == []


async def test_one_that_fails_keeps_nobody_else_waiting() -> None:
    def fail() -> None:
        raise RuntimeError

    contexts: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    deadlines = Deadlines()
    bad, good, later = Waiting(fail), Waiting(), Waiting()
    for listener, seconds in ((bad, 0.0), (good, 0.0), (later, 0.3)):
        deadlines.set(listener, seconds)
    await called(bad, good, later)
    assert [len(listener.calls) for listener in (bad, good, later)] == [1, 1, 1]
    assert [type(context["exception"]) for context in contexts] == [RuntimeError]


async def test_nothing_is_looked_at_while_nobody_waits() -> None:
    deadlines = Deadlines()
    listener = Waiting()
    deadlines.set(listener, 0)
    await called(listener)
    assert deadlines._sweep_timer is None
    listener.over.clear()
    deadlines.set(listener, 0)
    await called(listener)
    assert len(listener.calls) == 2
