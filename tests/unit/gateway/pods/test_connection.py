"""A pod that does not take a call (421, or 503 and the end of the connection) is forgotten, and another gets it."""

from __future__ import annotations

import json

import pytest

from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.invocation import MAX_CONNECT_ATTEMPTS
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey
from tests.unit.gateway.objects import UID, pod
from tests.unit.gateway.world import GOOD, Call, World, fine, reply

PROBLEM = b'{"type": "urn:skill-operator:x"}'
REFUSALS = {
    "another skill's": reply(PROBLEM, "421 Misdirected Request"),
    "another skill's, and closes": reply(PROBLEM, "421 Misdirected Request", "Connection: close"),
    "no JSON": b"HTTP/1.1 421 x\r\nContent-Length: 0\r\n\r\n",
    "draining": reply(PROBLEM, "503 Service Unavailable", "Connection: close"),
}
STRANGER, OWN = "127.0.0.2", "127.0.0.1"


@pytest.fixture(params=REFUSALS)
async def refused(world: World, request: pytest.FixtureRequest) -> list[Call]:
    """The calls of a pod at an address of the Skill's that does not take them."""

    async def refuse(call: Call) -> None:
        await call.say(REFUSALS[request.param])

    return await world.pod(refuse, STRANGER)


async def test_the_skill_s_uid_goes_with_each_call(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    assert (await world.call(headers={"X-Skill-Uid": "the caller's"}))[0] == 200
    assert [line for line in calls[0].head.split("\r\n") if "uid" in line.lower()] == [f"X-Skill-Uid: {UID}"]


async def test_another_pod_gets_the_call(world: World, refused: list[Call]) -> None:
    taken = await world.pod(fine, OWN)
    world.know(STRANGER)
    world.directory.on_pod("ADDED", pod("own", OWN, ready=False))  # the second choice
    for _ in range(2):
        assert (await world.call(b'{"lines": [1]}'))[:2] == (200, {"total": 3})
    assert [call.body for call in taken] == [b'{"lines": [1]}'] * 2
    assert len(refused) == 1, "it is forgotten"
    assert not world.directory.in_flight


async def test_another_pod_gets_the_call_over_mcp(world: World, refused: list[Call]) -> None:
    taken = await world.pod(fine, OWN)
    world.know(STRANGER)
    world.directory.on_pod("ADDED", pod("own", OWN, ready=False))
    entry = world.directory.entries[SkillKey("finance", "invoice")]
    response = await world.invoker.invoke(entry, b'{"lines": []}', caller=Caller("c"), request_id="r-1")
    assert (response.status, response.body) == (200, GOOD)
    assert (len(refused), len(taken)) == (1, 1)


async def test_without_another_pod_the_caller_gets_a_problem(world: World, refused: list[Call]) -> None:
    world.know(STRANGER)
    status, problem, _ = await world.call()
    assert (status, problem["type"]) == (503, "urn:skill-operator:not-ready")
    entry = world.directory.entries[SkillKey("finance", "invoice")]
    with pytest.raises(Problem, match="kubectl describe skill"):
        await world.invoker.invoke(entry, b'{"lines": []}', caller=Caller("c"), request_id="r-1")
    assert len(refused) == 1


async def test_so_many_pods_and_no_more_are_tried(world: World) -> None:
    refused = []
    addresses = [f"127.0.0.{number}" for number in range(10, 20)]

    async def refuse(call: Call) -> None:
        refused.append(call)
        await call.say(REFUSALS["another skill's"])

    for address in addresses:
        await world.pod(refuse, address)
    world.know(*addresses)
    status, problem, answer = await world.call()
    assert (status, problem["type"]) == (503, "urn:skill-operator:pod-not-accepting")
    assert answer.headers["retry-after"] == "1"
    assert len(refused) == MAX_CONNECT_ATTEMPTS


async def test_a_large_body_is_kept_for_another_pod(world: World, refused: list[Call]) -> None:
    taken = await world.pod(fine, OWN)
    world.know(STRANGER)
    world.directory.on_pod("ADDED", pod("own", OWN, ready=False))
    body = json.dumps({"lines": ["x" * 1_000_000]}).encode()
    assert (await world.call(body))[0] == 200
    assert [call.body for call in taken] == [body]
    assert world.invoker.bodies.held == 0


async def test_a_body_for_which_there_is_no_memory_is_not_sent_again(world: World, refused: list[Call]) -> None:
    world.invoker.bodies.total, total = 90_000, world.invoker.bodies.total
    taken = await world.pod(fine, OWN)
    world.know(STRANGER)
    world.directory.on_pod("ADDED", pod("own", OWN, ready=False))
    body = json.dumps({"lines": ["x" * 100_000]}).encode()
    status, problem, _ = await world.call(body)
    assert (status, problem["type"]) == (503, "urn:skill-operator:pod-not-accepting")
    assert not taken
    world.invoker.bodies.total = total
    assert (await world.call(body))[0] == 200


async def test_a_pod_that_the_watch_tells_of_again_is_called_again(world: World, refused: list[Call]) -> None:
    world.know(STRANGER)
    await world.call()
    assert (await world.call())[0] == 503
    world.know(STRANGER)
    await world.call()
    assert len(refused) == 2


async def test_a_skill_that_has_too_much_to_do_keeps_its_answer(world: World) -> None:
    async def overloaded(call: Call) -> None:
        await call.say(reply(PROBLEM, "503 Service Unavailable", "Retry-After: 1"))

    calls = await world.pod(overloaded)
    world.know()
    assert [(await world.call())[0] for _ in range(2)] == [503, 503]
    assert len(calls) == 2
