"""Calls of skills that sleep, are about to, or cannot be woken."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import Any

import pytest

from skill_operator.gateway import invocation
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.pods import activator
from skill_operator.gateway.problems import Problem
from skill_operator.k8s.errors import Forbidden, Invalid, Unavailable
from skill_operator.observability import logs
from tests.unit.gateway.objects import UID, deployment, pod, skill
from tests.unit.gateway.world import Call, World, fine, reply

pytestmark = pytest.mark.timeout(60)


def sleeps(world: World, **more: Any) -> None:
    world.directory.see_skill("ADDED", skill(**more))
    world.directory.see_deployment("ADDED", deployment(0))


def wakes(world: World) -> None:
    """What the cluster does once the scale is patched: the address is published before anything listens there."""

    async def then() -> None:
        world.directory.see_deployment("MODIFIED", deployment(1))
        starting = pod("p0", "", ready=False)
        world.directory.see_pod("ADDED", starting)
        world.directory.see_pod("MODIFIED", pod("p0", "127.0.0.1", ready=False))

    world.scaler.then = then


async def settled(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - both ends are in this loop
            await asyncio.sleep(0.002)


async def test_a_call_wakes_the_skill_and_waits(world: World) -> None:
    sleeps(world)
    wakes(world)
    calling = asyncio.create_task(world.call())
    await settled(lambda: world.scaler.patches)
    calls = await world.pod(fine)
    status, body, answer = await calling
    assert (status, body) == (200, {"total": 3})
    assert int(answer.headers["X-Skill-Cold-Start"]) >= 0
    assert world.scaler.patches == [("finance", "skill-invoice")]
    _, _, again = await world.call()
    assert "X-Skill-Cold-Start" not in again.headers
    assert len(calls) == 2
    assert not world.directory.in_flight


async def test_many_calls_wake_it_once(world: World) -> None:
    sleeps(world)
    wakes(world)
    calling = [asyncio.create_task(world.call()) for _ in range(30)]
    await settled(lambda: world.calls.report().count('"held":30'))
    calls = await world.pod(fine)
    assert {status for status, _, _ in await asyncio.gather(*calling)} == {200}
    assert (len(calls), len(world.scaler.patches)) == (30, 1)


async def test_a_bad_input_wakes_nobody(world: World) -> None:
    sleeps(world)
    assert (await world.call(b'{"lines": 7}'))[0] == 422
    assert world.scaler.patches == []


async def test_who_was_woken_by_another_gateway_is_not_woken_again(world: World) -> None:
    async def lost() -> None:
        world.directory.see_deployment("MODIFIED", deployment(1))
        world.directory.see_pod("ADDED", pod("p0", "127.0.0.1", ready=False))
        raise Invalid("testing value /spec failed", 422)

    sleeps(world)
    await world.pod(fine)
    world.scaler.then = lost
    assert (await world.call())[0] == 200
    assert len(world.scaler.patches) == 1


async def test_a_call_that_is_given_up_is_forgotten(world: World) -> None:
    sleeps(world)
    calling = asyncio.create_task(world.call())
    await settled(lambda: world.scaler.patches)
    calling.cancel()
    await settled(lambda: not world.calls.activity.report({}, {}).skills[UID].open)
    wakes(world)
    calls = await world.pod(fine)
    assert (await world.call())[0] == 200
    assert len(calls) == 1


async def test_no_more_wait_than_there_is_room_for(world: World) -> None:
    world.wake.__dict__["queue"] = 2
    sleeps(world)
    calling = [asyncio.create_task(world.call()) for _ in range(2)]
    await settled(lambda: world.calls.report().count('"held":2'))
    status, body, answer = await world.call()
    assert (status, body["type"], answer.headers["Retry-After"]) == (503, "urn:skill-operator:wake-queue-full", "1")
    await world.pod(fine)
    world.directory.see_deployment("MODIFIED", deployment(1))
    world.directory.see_pod("ADDED", pod("p0", "127.0.0.1", ready=False))
    assert {status for status, _, _ in await asyncio.gather(*calling)} == {200}


async def test_what_takes_too_long(world: World) -> None:
    world.wake.__dict__["seconds"] = 0.2
    sleeps(world)
    wakes(world)
    status, body, answer = await world.call()
    assert (status, body["type"], answer.headers["Retry-After"]) == (504, "urn:skill-operator:wake-timeout", "5")
    assert "takes no connection yet" in body["detail"]


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (Forbidden("deployments/scale is forbidden", 403), "wake-rejected"),
        (Unavailable("the API server does not answer"), "api-server-unavailable"),
    ],
)
async def test_why_it_cannot_be_woken(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, slug: str
) -> None:
    monkeypatch.setattr(activator, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(activator, "LOOK_SECONDS", 0.05)

    async def refuse() -> None:
        raise error

    sleeps(world)
    world.scaler.then = refuse
    status, body, answer = await world.call()
    assert (status, body["type"]) == (503, f"urn:skill-operator:{slug}")
    assert int(answer.headers["Retry-After"]) > 0
    assert str(error) in body["detail"]


@pytest.mark.parametrize("way", ["http", "within"])
async def test_the_log_says_which_call_woke_it(world: World, way: str) -> None:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(logs._Formatter())
    logger = logging.getLogger(activator.__name__)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        await world.pod(fine)
        sleeps(world)
        wakes(world)
        if way == "http":
            assert (await world.call(headers={"X-Request-Id": "r-77"}))[0] == 200
        else:
            entry = world.calls.find(("finance", "invoice"))
            await world.calls.invoke(entry, b'{"lines": []}', caller=Caller("ada"), request_id="r-77")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    (woken,) = (json.loads(line) for line in lines.getvalue().splitlines() if "woken" in line)
    assert (woken["request"], woken["skill"]) == ("r-77", "invoice")
    reported = world.calls.activity.report({}, {}).skills[UID].woken
    assert (reported and (reported.request, reported.name)) == ("r-77", "invoice"), "the controller logs it, too"


async def test_an_api_server_that_is_only_just_up_refuses_for_a_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activator, "LOOK_SECONDS", 0.05)
    await world.pod(fine)
    sleeps(world)
    wakes(world)
    then = world.scaler.then
    assert then is not None

    async def at_first() -> None:
        if len(world.scaler.patches) < 4:
            raise Forbidden("RBAC: clusterrole.rbac.authorization.k8s.io not found", 403)
        await then()

    world.scaler.then = at_first
    assert (await world.call())[0] == 200
    assert len(world.scaler.patches) == 4


def waiting(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "skill", "image": "i", "state": state}]}


@pytest.mark.parametrize(
    ("status", "slug"),
    [
        (waiting("ImagePullBackOff", "no such image"), "image-pull-failed"),
        (waiting("CreateContainerConfigError", "no such secret"), "pod-start-failed"),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]},
            "unschedulable",
        ),
    ],
)
async def test_a_pod_that_cannot_start(
    world: World, monkeypatch: pytest.MonkeyPatch, status: dict[str, Any], slug: str
) -> None:
    monkeypatch.setattr(activator, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(activator, "LOOK_SECONDS", 0.05)

    async def stuck() -> None:
        world.directory.see_deployment("MODIFIED", deployment(1))
        world.directory.see_pod("ADDED", pod("p0", "") | {"status": status})

    sleeps(world)
    world.scaler.then = stuck
    code, body, answer = await world.call()
    assert (code, body["type"], answer.headers["Retry-After"]) == (503, f"urn:skill-operator:{slug}", "10")


async def test_a_quota_that_is_used_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activator, "LOOK_SECONDS", 0.05)

    async def refuse() -> None:
        world.directory.see_deployment("MODIFIED", deployment(1, refused='pods "x" is forbidden: exceeded quota'))

    sleeps(world)
    world.scaler.then = refuse
    status, body, _ = await world.call()
    assert (status, body["type"]) == (503, "urn:skill-operator:quota-exceeded")


async def test_suspended_or_broken_is_not_woken(world: World) -> None:
    sleeps(world, suspend=True)
    status, body, answer = await world.call()
    assert (status, body["type"], answer.headers["Retry-After"]) == (503, "urn:skill-operator:suspended", "60")
    broken = skill(ready=("False", "EgressNotBlocked", "the network plugin must enforce policies"))
    stalled = dict(broken["status"]["conditions"][0], type="Stalled", status="True")
    broken["status"]["conditions"].append(stalled)
    world.directory.see_skill("MODIFIED", broken)
    status, body, _ = await world.call()
    assert (status, body["type"]) == (503, "urn:skill-operator:not-ready")
    assert body["detail"].startswith("EgressNotBlocked: ")
    assert world.scaler.patches == []


async def test_a_skill_that_is_deleted_while_a_call_waits(world: World) -> None:
    sleeps(world)
    calling = asyncio.create_task(world.call())
    await settled(lambda: world.scaler.patches)
    world.directory.see_skill("DELETED", skill())
    world.directory.see_deployment("DELETED", deployment(0))
    assert (await calling)[0] == 404


async def test_a_call_that_comes_during_a_drain_is_held(world: World) -> None:
    """Its pod is about to end: the controller is told that somebody waits, and takes the mark back."""
    calls = await world.pod(fine)
    world.know()
    world.directory.see_deployment("ADDED", deployment(1, mark="m1"))
    calling = asyncio.create_task(world.call())
    await settled(lambda: world.calls.report().count('"held":1'))
    assert f'"draining":{{"{UID}":"m1"}}' in world.calls.report()
    assert calls == []
    world.directory.see_deployment("MODIFIED", deployment(1))
    assert (await calling)[0] == 200
    assert world.scaler.patches == []


async def test_a_drain_that_was_carried_out_is_a_wake(world: World) -> None:
    world.know()
    world.directory.see_deployment("ADDED", deployment(1, mark="m1"))
    calling = asyncio.create_task(world.call())
    await settled(lambda: world.calls.report().count('"held":1'))
    wakes(world)
    await world.pod(fine)
    world.directory.see_pod("DELETED", pod("p0", "127.0.0.1"))
    world.directory.see_deployment("MODIFIED", deployment(0))
    assert (await calling)[0] == 200
    assert len(world.scaler.patches) == 1


async def test_a_drain_that_nobody_ends_ends_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill_operator.gateway.pods.directory.DRAIN_ENDS_SECONDS", 0.1)
    monkeypatch.setattr(activator, "LOOK_SECONDS", 0.05)
    await world.pod(fine)
    world.know()
    world.directory.see_deployment("ADDED", deployment(1, mark="m1"))
    assert (await world.call())[0] == 200


def problem(kind: str, status: str = "500 X") -> bytes:
    body = json.dumps({"type": f"urn:skill-operator:{kind}", "title": "x", "status": 500, "detail": "x"}).encode()
    return reply(body, status).replace(b"application/json", b"application/problem+json")


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (problem("out-of-memory"), "out-of-memory"),
        (problem("timeout", "504 X"), "timeout"),
        (problem("disk-full"), "disk-full"),
        (problem("too-many-processes"), "too-many-processes"),
        (problem("skill-error"), None),
        (problem("out-of-memory", "200 OK"), None),
        (problem("x" * 5000), None),
        (reply(b"[" * 4000, "500 X"), None),
        (reply(b'{"type": {}}', "500 X"), None),
        (reply(b"7", "500 X"), None),
        (reply(b"", "500 X"), None),
    ],
)
@pytest.mark.parametrize("way", ["http", "within"])
async def test_a_call_that_used_too_much_is_told(world: World, way: str, raw: bytes, kind: str | None) -> None:
    async def answer(call: Call) -> None:
        await call.say(raw)

    await world.pod(answer)
    world.know()
    if way == "http":
        async with world.client.post(world.url + "/v1/skills/finance/invoice", data=b'{"lines": []}') as told:
            await told.read()
    else:
        entry = world.calls.find(("finance", "invoice"))
        await world.calls.invoke(entry, b'{"lines": []}', caller=Caller("ada"), request_id="r1")
    failure = world.calls.activity.report({}, {}).skills[UID].failure
    assert (failure and (failure.kind, failure.namespace, failure.name)) == (kind and (kind, "finance", "invoice"))


@pytest.mark.parametrize("way", ["http", "within"])
async def test_a_pod_that_does_not_even_say_that_it_is_late(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(invocation, "allowed", lambda _: 0.05)
    await world.pod(Call.gone)
    world.know()
    if way == "http":
        assert (await world.call())[0] == 504
    else:
        entry = world.calls.find(("finance", "invoice"))
        with pytest.raises(Problem, match="callTimeoutSeconds"):
            await world.calls.invoke(entry, b'{"lines": []}', caller=Caller("ada"), request_id="r1")
    failure = world.calls.activity.report({}, {}).skills[UID].failure
    assert failure is not None
    assert (failure.kind, bool(failure.request)) == ("timeout", True)


async def test_what_the_controller_hears(world: World) -> None:
    await world.pod(fine)
    world.know()
    before = world.calls.activity.report({}, {})
    assert before.skills == {}
    await world.call()
    after = world.calls.activity.report({}, {})
    assert after.age >= before.age
    assert (after.skills[UID].open, after.skills[UID].held) == (0, 0)
    assert 0 <= after.skills[UID].idle < 5
    world.directory.see_skill("DELETED", skill())
    assert '"skills":{}' in world.calls.report()


async def test_a_call_from_within(world: World) -> None:
    """As MCP makes it."""
    told: list[int] = []

    async def waking() -> None:
        told.append(len(world.scaler.patches))

    sleeps(world)
    wakes(world)
    await world.pod(fine)
    entry = world.calls.find(("finance", "invoice"))
    caller = Caller("ann")
    answer = await world.calls.invoke(entry, b'{"lines": []}', caller=caller, request_id="r1", waking=waking)
    assert (answer.status, answer.body) == (200, b'{"total": 3}')
    assert "X-Skill-Cold-Start" in answer.headers
    assert told == [0]
    with pytest.raises(Problem) as refused:
        await world.calls.invoke(entry, b"7", caller=caller, request_id="r2")
    assert refused.value.slug == "invalid-input"
    assert not world.directory.in_flight
