"""Who has waited long enough is told so, once, and in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from skill_operator.gateway.http.deadlines import SWEEP_SECONDS, Deadlines

pytestmark = pytest.mark.timeout(30)


class Waiting:
    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.told: list[float] = []
        self.over = asyncio.Event()
        self._then = then

    def on_timeout(self) -> None:
        self.told.append(time.monotonic())
        self.over.set()
        self._then()


async def told(*waiting: Waiting) -> None:
    async with asyncio.timeout(20):
        for who in waiting:
            await who.over.wait()


async def test_nobody_is_told_early_and_nobody_much_too_late() -> None:
    deadlines = Deadlines()
    began = time.monotonic()
    ends = [number * 0.037 for number in range(20)]
    waiting = [Waiting() for _ in ends]
    for who, seconds in zip(waiting, ends, strict=True):
        deadlines.set(who, seconds)
    await told(*waiting)
    for who, seconds in zip(waiting, ends, strict=True):
        (at,) = who.told
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
    await told(marker)
    assert (done.told, moved.told) == ([], [])


async def test_one_may_end_or_begin_another_s_wait() -> None:
    deadlines = Deadlines()
    second, third = Waiting(), Waiting()

    def end_it() -> None:
        deadlines.clear(second)
        deadlines.set(third, 0)

    first = Waiting(end_it)
    deadlines.set(first, 0)
    deadlines.set(second, 0)
    await told(first, third)
    assert second.told == []


async def test_one_that_fails_keeps_nobody_else_waiting() -> None:
    def fail() -> None:
        raise RuntimeError

    seen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    deadlines = Deadlines()
    bad, good, later = Waiting(fail), Waiting(), Waiting()
    for who, seconds in ((bad, 0.0), (good, 0.0), (later, 0.3)):
        deadlines.set(who, seconds)
    await told(bad, good, later)
    assert [len(who.told) for who in (bad, good, later)] == [1, 1, 1]
    assert [type(context["exception"]) for context in seen] == [RuntimeError]


async def test_nothing_is_looked_at_while_nobody_waits() -> None:
    deadlines = Deadlines()
    who = Waiting()
    deadlines.set(who, 0)
    await told(who)
    assert deadlines._sweep_timer is None
    who.over.clear()
    deadlines.set(who, 0)
    await told(who)
    assert len(who.told) == 2
