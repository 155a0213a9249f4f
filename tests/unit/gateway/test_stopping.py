"""A gateway that is replaced finishes its calls; one that takes too long is told so, never cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from skill_operator.gateway.access.authorizer import AllowAll, Caller
from skill_operator.naming import SkillKey
from tests.unit.gateway.http.test_routes import ALICE, Guarded
from tests.unit.gateway.objects import deployment, skill
from tests.unit.gateway.test_mcp import agent, deployed
from tests.unit.gateway.world import GOOD, SETTINGS, Call, World, reply

pytestmark = pytest.mark.timeout(60)
STOPPING = "urn:skill-operator:stopping"
HURRIED = SETTINGS.model_copy(update={"gateway": SETTINGS.gateway.model_copy(update={"finish_seconds": 0})})


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


class Slow:
    """A pod that answers once it is told to."""

    def __init__(self) -> None:
        self.came, self.release = asyncio.Event(), asyncio.Event()
        self.left = asyncio.Event()  # the gateway hung up

    async def say(self, call: Call) -> None:
        self.came.set()
        gone = asyncio.create_task(call.gone())
        released = asyncio.create_task(self.release.wait())
        await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            self.left.set()
        else:
            await call.say(reply(GOOD))
        gone.cancel()


async def start(world: World, slow: Slow) -> None:
    world.settings = HURRIED
    await world.start()
    await world.pod(slow.say)


async def until_refused(world: World) -> None:
    async with asyncio.timeout(20):
        while True:
            await world.call(b'{"lines": 7}')


async def test_a_call_is_finished(stack: AsyncExitStack) -> None:
    slow, world = Slow(), World(stack)
    await world.start()
    await world.pod(slow.say)
    world.know()
    call = asyncio.create_task(world.call())
    await slow.came.wait()
    world.end.set()
    with pytest.raises(aiohttp.ClientConnectionError):
        await until_refused(world)
    slow.release.set()
    assert (await call)[0] == 200


async def test_a_call_that_a_pod_has_is_told_that_it_may_have_been_done(stack: AsyncExitStack) -> None:
    slow, world = Slow(), World(stack)
    await start(world, slow)
    world.know()
    call = asyncio.create_task(world.call())
    await slow.came.wait()
    world.end.set()
    status, problem, answer = await call
    assert (status, problem["type"], "Retry-After" in answer.headers) == (503, STOPPING, False)
    assert "may have done" in problem["detail"]
    await slow.left.wait()


@pytest.mark.parametrize("size", [0, 300_000])
async def test_a_call_that_waits_for_a_pod_is_told_to_come_again(stack: AsyncExitStack, size: int) -> None:
    world = World(stack)
    await start(world, Slow())
    world.directory.on_skill("ADDED", skill())
    world.directory.on_deployment("ADDED", deployment(0))
    waking = asyncio.Event()

    async def wakes() -> None:
        waking.set()

    world.scaler.then = wakes
    call = asyncio.create_task(world.call(b'{"lines": ["' + b"x" * size + b'"]}'))
    await waking.wait()
    world.end.set()
    status, problem, answer = await call
    assert (status, problem["type"], answer.headers["Retry-After"]) == (503, STOPPING, "1")
    assert not world.invoker.places.held
    assert not world.invoker.bodies.held


async def test_a_call_that_is_authorized_after_all_were_told_is_told_as_well(stack: AsyncExitStack) -> None:
    slow, world = Slow(), World(stack)
    asked, told = asyncio.Event(), asyncio.Event()

    class Waiting(AllowAll):
        def cached_caller(self, authorization: str, key: SkillKey) -> None:
            return None

        async def authorize(self, caller: Caller, key: SkillKey) -> None:
            asked.set()
            await told.wait()

    world.authorizer = Waiting()
    await start(world, slow)
    world.know()
    stop_calls = world.invoker.stop_calls

    def stop_all() -> None:
        stop_calls()
        told.set()

    setattr(world.invoker, "stop_calls", stop_all)  # noqa: B010
    call = asyncio.create_task(world.call())
    await asked.wait()
    world.end.set()
    status, problem, answer = await call
    assert (status, problem["type"], answer.headers["Retry-After"]) == (503, STOPPING, "1")
    assert not slow.came.is_set(), "no pod has got it"


async def test_an_agent_is_told_in_words(stack: AsyncExitStack) -> None:
    slow, world = Slow(), Guarded(stack)
    await start(world, slow)
    world.know(body=deployed())
    async with agent(world, "auto", ALICE) as client:
        call = asyncio.create_task(client.call_tool("finance__invoice", {"lines": []}))
        await slow.came.wait()
        world.end.set()
        result = await call
        assert result.is_error
        assert "may have done" in result.content[0].text  # type: ignore[union-attr]
    await slow.left.wait()
