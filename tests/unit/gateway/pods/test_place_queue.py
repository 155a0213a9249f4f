"""Calls beyond what a pod takes wait for a place: all are answered, once, in order, and fairly."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_operator import runtime_contract as rc
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.pods import place_queue
from skill_operator.gateway.pods.activator import Activator
from skill_operator.gateway.pods.connection import ConnectionPool
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.gateway.pods.place_queue import CALL_PLACES, PlaceQueue
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey
from skill_operator.settings import WakeSettings
from tests.unit.gateway.objects import UID, deployment, pod, skill
from tests.unit.gateway.world import GOOD, Call, World, fine, reply
from tests.unit.runtime import harness

pytestmark = pytest.mark.timeout(120)
NO_PLACE = reply(
    b'{"type": "urn:skill-operator:overloaded"}',
    "503 Service Unavailable",
    f"{rc.HEADER_NOT_TAKEN}: {rc.NOT_TAKEN_NO_PLACE}",
    "Retry-After: 1",
)


async def settled(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - both ends are in this loop
            await asyncio.sleep(0.002)


def nothing_is_left(world: World) -> bool:
    return not (world.directory.in_flight or world.invoker._queue.waiting or world.invoker._queue._queues)


class Crowded:
    """A pod that takes so many calls at once, refuses the others, and ends one whenever it is told to."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.taken: list[bytes] = []
        self.refused = 0
        self.running: list[asyncio.Future[None]] = []
        self.most = 0

    async def say(self, call: Call) -> None:
        if len(self.running) >= self.places:
            self.refused += 1
            await call.say(NO_PLACE)
            return
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken.append(call.body)
        self.running.append(end)
        self.most = max(self.most, len(self.running))
        await end
        await call.say(reply(GOOD))

    def end_all(self) -> None:
        while self.running:
            self.running.pop().set_result(None)

    async def work(self) -> None:
        """End calls, the oldest first, for ever."""
        while True:
            if self.running:
                self.running.pop(0).set_result(None)
            await asyncio.sleep(0.001)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


def working(stack: AsyncExitStack, crowded: Crowded) -> None:
    task = asyncio.create_task(crowded.work())
    stack.callback(task.cancel)


async def burst(world: World, number: int, size: int = 0) -> tuple[Counter[tuple[int, str]], list[bytes]]:
    """Call so many times at once; how they were answered, and the bodies, which all differ."""
    bodies = [json.dumps({"lines": [index, "x" * size]}).encode() for index in range(number)]
    answers = await asyncio.gather(*(world.call(body) for body in bodies))
    return Counter((status, document.get("type", "")) for status, document, _ in answers), bodies


@contextmanager
def runtime_at(port: int, folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[harness.Served]:
    """The real runtime, at this port."""
    (folder / "skill.py").write_text(source)
    document = {"name": "n/s", "input": {"type": "object"}, "output": {"type": "object"}, "callTimeoutSeconds": 30}
    (folder / "contract.json").write_text(json.dumps(document))
    monkeypatch.setattr(harness, "contract", lambda *_: None)
    ports = itertools.chain([port], iter(harness.closed_port, None))
    monkeypatch.setattr(harness, "closed_port", lambda: next(ports))
    with harness.serving(folder, source) as served:
        yield served


@pytest.mark.parametrize("size", [0, 50_000])
@pytest.mark.parametrize("number", [60, 100])
async def test_a_burst_at_a_sleeping_skill_is_answered(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, size: int
) -> None:
    """By the real runtime, which takes 36 calls."""
    world.directory.on_skill("ADDED", skill())
    world.directory.on_deployment("ADDED", deployment(0))
    with ExitStack() as stack:
        starting: list[asyncio.Task[Any]] = []

        async def start() -> None:
            runtime = runtime_at(world.port, tmp_path, "def run(input):\n    return {'total': 3}\n", monkeypatch)
            await asyncio.to_thread(stack.enter_context, runtime)
            world.directory.on_pod("ADDED", pod("p0", "127.0.0.1", ready=True))

        async def wakes() -> None:
            world.directory.on_deployment("MODIFIED", deployment(1))
            starting.append(asyncio.create_task(start()))

        world.scaler.then = wakes
        answers, _ = await burst(world, number, size)
        await starting[0]
        assert answers == {(200, ""): number}
        assert len(world.scaler.patches) == 1
        again, _ = await burst(world, number, size)
        assert again == {(200, ""): number}, "so is one at an awake skill"
        assert nothing_is_left(world)
        assert world.invoker.bodies.held == 0
        await asyncio.to_thread(stack.close)


@pytest.mark.parametrize("places", [1, 3, CALL_PLACES - 1, CALL_PLACES, 2 * CALL_PLACES])
async def test_what_a_pod_refuses_for_want_of_a_place_is_sent_again(
    world: World, stack: AsyncExitStack, places: int
) -> None:
    """As where other gateways hold the other places."""
    crowded = Crowded(places)
    await world.pod(crowded.say)
    world.know()
    working(stack, crowded)
    answers, bodies = await burst(world, 80)
    assert answers == {(200, ""): 80}
    assert sorted(crowded.taken) == sorted(bodies), "each runs once"
    assert crowded.most <= min(places, CALL_PLACES)
    assert nothing_is_left(world)


async def test_so_it_is_over_mcp(world: World, stack: AsyncExitStack) -> None:
    crowded = Crowded(5)
    await world.pod(crowded.say)
    world.know()
    working(stack, crowded)
    entry = world.directory.entries[SkillKey("finance", "invoice")]
    bodies = [b'{"lines": [%d]}' % number for number in range(80)]
    calls = (world.invoker.invoke(entry, body, caller=Caller("c"), request_id="r") for body in bodies)
    assert {(answer.status, answer.body) for answer in await asyncio.gather(*calls)} == {(200, GOOD)}
    assert sorted(crowded.taken) == sorted(bodies)
    assert nothing_is_left(world)


async def test_gateways_share_the_places_of_a_pod(world: World, stack: AsyncExitStack) -> None:
    other = World(stack)
    await other.start()
    other.invoker._pool._port = world.port
    crowded = Crowded(CALL_PLACES)
    await world.pod(crowded.say)
    world.know()
    other.know()
    working(stack, crowded)
    for answers, _ in await asyncio.gather(burst(world, 100), burst(other, 100)):
        assert answers == {(200, ""): 100}
    assert len(crowded.taken) == 200
    assert crowded.refused < 400, "most are held until there is a place"
    assert nothing_is_left(world)
    assert nothing_is_left(other)


async def test_a_large_body_is_kept_for_a_pod_that_has_no_place(world: World, stack: AsyncExitStack) -> None:
    crowded = Crowded(2)
    await world.pod(crowded.say)
    world.know()
    working(stack, crowded)
    answers, bodies = await burst(world, 20, 200_000)
    assert answers == {(200, ""): 20}
    assert sorted(crowded.taken) == sorted(bodies)
    assert world.invoker.bodies.held == 0


async def test_large_bodies_that_wait_are_bounded(world: World, stack: AsyncExitStack) -> None:
    crowded = Crowded(CALL_PLACES)
    await world.pod(crowded.say)
    world.know()
    held = [asyncio.create_task(world.call()) for _ in range(CALL_PLACES)]
    await settled(lambda: len(crowded.running) == CALL_PLACES)
    world.invoker.bodies.total = 300_000
    calls = [asyncio.create_task(world.call(json.dumps({"lines": ["x" * 90_000]}).encode())) for _ in range(8)]
    await settled(lambda: sum(call.done() for call in calls) + world.invoker._queue.waiting[UID] == 8)
    told = [call.result() for call in calls if call.done()]
    assert told
    assert {(status, document["type"]) for status, document, _ in told} == {(503, "urn:skill-operator:overloaded")}
    assert {answer.headers["Retry-After"] for _, _, answer in told} == {"1"}
    assert 0 < world.invoker.bodies.held <= 300_000
    working(stack, crowded)
    answers = await asyncio.gather(*held, *(call for call in calls if not call.done()))
    assert {status for status, _, _ in answers} == {200}
    assert nothing_is_left(world)
    assert world.invoker.bodies.held == 0


async def test_a_call_beyond_the_bound_is_refused_at_once(world: World) -> None:
    world.wake.__dict__["queue"] = 3
    crowded = Crowded(CALL_PLACES)
    await world.pod(crowded.say)
    world.know()
    held = [asyncio.create_task(world.call()) for _ in range(CALL_PLACES + 3)]
    await settled(lambda: world.invoker._queue.waiting[UID] == 3)
    status, document, answer = await world.call()
    assert (status, document["type"]) == (503, "urn:skill-operator:overloaded")
    assert "gateway.wake.queue" in document["detail"]
    assert answer.headers["Retry-After"] == "1"
    for call in held:
        call.cancel()
    await settled(lambda: nothing_is_left(world))
    crowded.end_all()


async def test_a_pod_that_never_has_a_place_is_not_waited_for_without_end(world: World) -> None:
    world.wake.__dict__["seconds"] = 0.4
    crowded = Crowded(0)
    await world.pod(crowded.say)
    world.know()
    for way in ("http", "mcp"):
        if way == "http":
            status, document, answer = await world.call()
            assert (status, document["type"]) == (503, "urn:skill-operator:overloaded")
            assert answer.headers["Retry-After"] == "1"
        else:
            entry = world.directory.entries[SkillKey("finance", "invoice")]
            with pytest.raises(Problem, match=r"place|as many calls"):
                await world.invoker.invoke(entry, b'{"lines": []}', caller=Caller("c"), request_id="r")
    assert 2 <= crowded.refused <= 20, "it is asked now and then"
    assert nothing_is_left(world)


@pytest.mark.parametrize("status", ["200 OK", "422 Unprocessable", "500 X", "502 X", "504 X"])
@pytest.mark.parametrize("reason", [rc.NOT_TAKEN_NO_PLACE, rc.NOT_TAKEN_DRAINING, rc.NOT_TAKEN_OTHER_SKILL, "", "x"])
async def test_the_header_hides_no_answer(world: World, status: str, reason: str) -> None:
    async def say(call: Call) -> None:
        await call.say(reply(b'{"a": 1}', status, f"{rc.HEADER_NOT_TAKEN}: {reason}"))

    calls = await world.pod(say)
    world.know()
    assert (await world.call())[:2] == (int(status[:3]), {"a": 1})
    assert len(calls) == 1


@pytest.mark.parametrize("reason", [rc.NOT_TAKEN_DRAINING, rc.NOT_TAKEN_OTHER_SKILL])
async def test_a_pod_that_is_not_for_the_call_is_left_for_another(world: World, reason: str) -> None:
    async def refuse(call: Call) -> None:
        await call.say(reply(b"{}", "503 X", f"{rc.HEADER_NOT_TAKEN.upper()}: {reason}"))

    refused = await world.pod(refuse, "127.0.0.2")
    taken = await world.pod(fine)
    world.know("127.0.0.2")
    world.directory.on_pod("ADDED", pod("own", "127.0.0.1", ready=False))
    assert [(await world.call())[0] for _ in range(2)] == [200, 200]
    assert (len(refused), len(taken)) == (1, 2)


async def test_a_caller_who_leaves_leaves_its_place_in_the_queue(world: World) -> None:
    crowded = Crowded(CALL_PLACES)
    await world.pod(crowded.say)
    world.know()
    held = [asyncio.create_task(world.call()) for _ in range(CALL_PLACES)]
    await settled(lambda: len(crowded.running) == CALL_PLACES)
    waiting = [asyncio.create_task(world.call()) for _ in range(5)]
    await settled(lambda: world.invoker._queue.waiting[UID] == 5)
    for call in waiting:
        call.cancel()
    await settled(lambda: not world.invoker._queue.waiting)
    assert not world.invoker._queue._queues
    crowded.end_all()
    assert {status for status, _, _ in await asyncio.gather(*held)} == {200}
    assert nothing_is_left(world)


async def test_calls_go_to_the_pod_that_has_a_place(world: World) -> None:
    full, other = Crowded(1), Crowded(CALL_PLACES)
    await world.pod(full.say, "127.0.0.1")
    await world.pod(other.say, "127.0.0.2")
    world.know("127.0.0.1", "127.0.0.2")
    calls = [asyncio.create_task(world.call()) for _ in range(30)]
    await settled(lambda: len(full.taken) + len(other.taken) == 30)
    full.end_all()
    other.end_all()
    assert {status for status, _, _ in await asyncio.gather(*calls)} == {200}


class Waiting:
    """A call as the queue sees it."""

    def __init__(self, entry: SkillEntry, directory: Directory, namespace: str, number: int) -> None:
        self.entry = entry
        self.caller = Caller(f"system:serviceaccount:{namespace}:c")
        self.request_id = f"{namespace}-{number}"
        self.number = number
        self.wait_deadline: float | None = None
        self.address = ""
        self._directory = directory

    def assign_pod(self, address: str) -> None:
        in_flight = self._directory.in_flight
        if self.address:
            in_flight[self.address] -= 1
        self.address = address
        if address:
            in_flight[address] = in_flight.get(address, 0) + 1


def a_queue(limit: int, *addresses: str) -> tuple[PlaceQueue, Directory, SkillEntry]:
    directory = Directory()
    directory.on_skill("ADDED", skill())
    for number, address in enumerate(addresses):
        directory.on_pod("ADDED", pod(f"p{number}", address, ready=True))
    wake = WakeSettings(seconds=20, queue=limit)
    activator = Activator(None, directory, ConnectionPool(1), wake)  # type: ignore[arg-type]
    return PlaceQueue(directory, activator), directory, directory.entries[SkillKey("finance", "invoice")]


async def test_namespaces_take_turns() -> None:
    queue, directory, entry = a_queue(100, "10.0.0.1")
    directory.in_flight["10.0.0.1"] = CALL_PLACES
    served: list[str] = []

    async def wait(call: Waiting) -> None:
        await queue.wait(call)
        served.append(call.request_id)

    calls = [Waiting(entry, directory, name, number) for name, most in (("a", 6), ("b", 2)) for number in range(most)]
    tasks = []
    for call in calls:
        tasks.append(asyncio.create_task(wait(call)))
        await asyncio.sleep(0)
    for _ in calls:
        directory.in_flight["10.0.0.1"] -= 1
        queue.on_call_end(UID, "10.0.0.1")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert served == ["a-0", "b-0", "a-1", "b-1", "a-2", "a-3", "a-4", "a-5"]


async def test_a_namespace_that_fills_the_queue_makes_room_for_another() -> None:
    queue, directory, entry = a_queue(4, "10.0.0.1")
    directory.in_flight["10.0.0.1"] = CALL_PLACES
    many = [asyncio.create_task(queue.wait(Waiting(entry, directory, "a", number))) for number in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Problem, match=r"gateway\.wake\.queue"):
        await queue.wait(Waiting(entry, directory, "a", 4))
    other = [asyncio.create_task(queue.wait(Waiting(entry, directory, "b", number))) for number in range(2)]
    await settled(lambda: sum(task.done() for task in many) == 2)
    assert [task.done() for task in many] == [False, False, True, True], "the youngest"
    assert {task.exception().slug for task in many[2:]} == {"overloaded"}  # type: ignore[union-attr]
    with pytest.raises(Problem):
        await queue.wait(Waiting(entry, directory, "b", 2))
    for task in (*many, *other):
        task.cancel()
    await settled(lambda: not queue._queues)


@given(
    seed=st.integers(0, 2**32),
    places=st.lists(st.integers(0, 3), min_size=1, max_size=3).filter(any),
    calls=st.integers(1, 40),
)
@settings(max_examples=25, deadline=None)
def test_whatever_happens_each_call_gets_a_place_once(seed: int, places: list[int], calls: int) -> None:
    """Pods refuse as they like, callers leave, and calls end in any order: nothing is lost, and nothing is left."""
    rng = random.Random(seed)

    async def run() -> None:
        addresses = [f"10.0.0.{number}" for number in range(len(places))]
        queue, directory, entry = a_queue(calls, *addresses)
        room = dict(zip(addresses, places, strict=True))
        held: Counter[str] = Counter()
        ended = Counter[str]()

        async def one(call: Waiting) -> None:
            while True:
                address, _ = await queue.wait(call)
                await asyncio.sleep(rng.random() / 1000)
                if held[address] < room[address]:
                    break
                call.assign_pod("")
                queue.on_refusal(address)
                assert queue.may_wait(call)
            held[address] += 1
            await asyncio.sleep(rng.random() / 1000)
            held[address] -= 1
            call.assign_pod("")
            queue.on_call_end(UID, address)
            ended[call.request_id] += 1

        tasks = [
            asyncio.create_task(one(Waiting(entry, directory, rng.choice("ab"), number))) for number in range(calls)
        ]
        leaving = {task for task in tasks if rng.random() < 0.2}
        await asyncio.sleep(0)
        leavers = [task for task in leaving if not directory.in_flight.total() or rng.random() < 0.5]
        waiting_now = queue.waiting[UID]
        for task in leavers[:waiting_now]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
        assert set(ended.values()) <= {1}
        assert ended.total() == sum(result is None for result in results)
        assert not queue._queues
        assert not queue.waiting

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place_queue, "RETRY_SECONDS", 0.002)
        patch.setattr(place_queue, "MAX_RETRY_SECONDS", 0.01)
        asyncio.run(run())
