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
from skill_operator.gateway.pods.connection import PodConnection
from skill_operator.gateway.problems import Problem
from skill_operator.k8s.errors import Forbidden, Invalid, NotFound, Unavailable
from skill_operator.observability import logs
from tests.unit.gateway.objects import UID, deployment, in_archive, pod, skill
from tests.unit.gateway.world import Call, World, fine, reply

pytestmark = pytest.mark.timeout(60)


def sleeps(world: World, **more: Any) -> None:
    world.directory.on_skill("ADDED", skill(**more))
    world.directory.on_deployment("ADDED", deployment(0))


def wakes(world: World) -> None:
    """What the cluster does once the scale is patched: the address is published before anything listens there."""

    async def then() -> None:
        world.directory.on_deployment("MODIFIED", deployment(1))
        starting = pod("p0", "", ready=False)
        world.directory.on_pod("ADDED", starting)
        world.directory.on_pod("MODIFIED", pod("p0", "127.0.0.1", ready=False))

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
    await settled(lambda: world.invoker.usage_report().count('"waiting":30'))
    calls = await world.pod(fine)
    assert {status for status, _, _ in await asyncio.gather(*calling)} == {200}
    assert (len(calls), len(world.scaler.patches)) == (30, 1)


@pytest.mark.parametrize("round_trip_seconds", [0.001, 0.12, 0.3, 0.9])
async def test_a_distant_node_wakes_as_a_near_one(
    world: World, monkeypatch: pytest.MonkeyPatch, round_trip_seconds: float
) -> None:
    """The handshake's round trip is simulated: loopback has none."""
    pool = world.invoker._pool
    connect, attempts = pool.connect, 0

    async def distant(address: str) -> PodConnection:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(round_trip_seconds)
        return await connect(address)

    monkeypatch.setattr(pool, "connect", distant)
    loop = asyncio.get_running_loop()
    sleeps(world)
    wakes(world)
    calls = await world.pod(fine)
    started = loop.time()
    assert (await world.call())[0] == 200
    assert loop.time() - started < 4 * round_trip_seconds + 5, "no more than some round trips"
    assert attempts <= 2 + round_trip_seconds / activator.PROBE_OVERLAP_SECONDS
    assert len(calls) == 1
    assert not world.directory.in_flight


async def test_what_a_pod_drops_holds_up_no_later_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network drops all packets until it is set up: attempts of that time hear nothing."""
    pool = world.invoker._pool
    connect, attempts = pool.connect, 0

    async def dropped_at_first(address: str) -> PodConnection:
        nonlocal attempts
        attempts += 1
        if attempts <= 3:
            await asyncio.sleep(3600)
        return await connect(address)

    monkeypatch.setattr(pool, "connect", dropped_at_first)
    sleeps(world)
    wakes(world)
    await world.pod(fine)
    async with asyncio.timeout(1):
        assert (await world.call())[0] == 200
    assert attempts == 4


async def test_a_bad_input_wakes_nobody(world: World) -> None:
    sleeps(world)
    assert (await world.call(b'{"lines": 7}'))[0] == 422
    assert world.scaler.patches == []


@pytest.mark.parametrize("size", [0, 40_000, 200_000])
@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
async def test_a_body_in_another_encoding_wakes_nobody(world: World, encoding: str, size: int) -> None:
    sleeps(world)
    wakes(world)
    status, problem, _ = await world.call(json.dumps({"lines": ["x" * size]}).encode(encoding))
    assert (status, problem["type"]) == (400, "urn:skill-operator:invalid-json")
    assert "UTF-8" in problem["detail"]
    assert world.scaler.patches == []


async def test_who_was_woken_by_another_gateway_is_not_woken_again(world: World) -> None:
    async def lost() -> None:
        world.directory.on_deployment("MODIFIED", deployment(1))
        world.directory.on_pod("ADDED", pod("p0", "127.0.0.1", ready=False))
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
    await settled(lambda: not world.invoker.usage.report({}, {}).skills[UID].open)
    wakes(world)
    calls = await world.pod(fine)
    assert (await world.call())[0] == 200
    assert len(calls) == 1


async def test_no_more_wait_than_there_is_room_for(world: World) -> None:
    world.wake.__dict__["queue"] = 2
    sleeps(world)
    calling = [asyncio.create_task(world.call()) for _ in range(2)]
    await settled(lambda: world.invoker.usage_report().count('"waiting":2'))
    status, body, answer = await world.call()
    assert (status, body["type"], answer.headers["Retry-After"]) == (503, "urn:skill-operator:wake-queue-full", "1")
    await world.pod(fine)
    world.directory.on_deployment("MODIFIED", deployment(1))
    world.directory.on_pod("ADDED", pod("p0", "127.0.0.1", ready=False))
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
    monkeypatch.setattr(activator, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(activator, "RECHECK_SECONDS", 0.05)

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
    handler.setFormatter(logs._JsonFormatter())
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
            entry = world.invoker.lookup(("finance", "invoice"))
            await world.invoker.invoke(entry, b'{"lines": []}', caller=Caller("ada"), request_id="r-77")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    (woken,) = (json.loads(line) for line in lines.getvalue().splitlines() if "woken" in line)
    assert (woken["request"], woken["skill"]) == ("r-77", "invoice")
    reported = world.invoker.usage.report({}, {}).skills[UID].activation
    assert (reported and (reported.request, reported.name)) == ("r-77", "invoice"), "the controller logs it, too"


async def test_an_api_server_that_is_only_just_up_refuses_for_a_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activator, "RECHECK_SECONDS", 0.05)
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
    monkeypatch.setattr(activator, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(activator, "RECHECK_SECONDS", 0.05)

    async def stuck() -> None:
        world.directory.on_deployment("MODIFIED", deployment(1))
        world.directory.on_pod("ADDED", pod("p0", "") | {"status": status})

    sleeps(world)
    world.scaler.then = stuck
    code, body, answer = await world.call()
    assert (code, body["type"], answer.headers["Retry-After"]) == (503, f"urn:skill-operator:{slug}", "10")


async def test_a_quota_that_is_used_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activator, "RECHECK_SECONDS", 0.05)

    async def refuse() -> None:
        world.directory.on_deployment("MODIFIED", deployment(1, creation_error='pods "x" is forbidden: exceeded quota'))

    sleeps(world)
    world.scaler.then = refuse
    status, body, _ = await world.call()
    assert (status, body["type"]) == (503, "urn:skill-operator:quota-exceeded")


async def test_suspended_or_broken_is_not_woken(world: World) -> None:
    sleeps(world, suspend=True)
    status, body, answer = await world.call()
    assert (status, body["type"], answer.headers["Retry-After"]) == (503, "urn:skill-operator:suspended", "60")
    broken = skill(generation=2, ready=("False", "EgressNotBlocked", "the network plugin must enforce policies"))
    broken["status"]["conditions"][0]["observedGeneration"] = 2
    stalled = dict(broken["status"]["conditions"][0], type="Stalled", status="True")
    broken["status"]["conditions"].append(stalled)
    world.directory.on_skill("MODIFIED", broken)
    status, body, _ = await world.call()
    assert (status, body["type"]) == (503, "urn:skill-operator:not-ready")
    assert body["detail"].startswith("EgressNotBlocked: ")
    assert world.scaler.patches == []


async def test_an_earlier_revision_is_woken_while_another_one_failed_its_trial(world: World) -> None:
    sleeps(world)
    failed = skill(ready=("False", "TrialFailed", "example one"))
    failed["status"]["conditions"].append(dict(failed["status"]["conditions"][0], type="Stalled", status="True"))
    failed["status"]["trial"] = {
        "revision": "0123456789",
        "revisionDigest": "0" * 64,
        "image": "registry/skills/finance/invoice@sha256:" + "a" * 64,
        "digest": "d" * 64,
        "failure": "example one",
    }
    world.directory.on_skill("MODIFIED", failed)
    calling = asyncio.create_task(world.call())
    await settled(lambda: world.scaler.patches)
    calling.cancel()


async def test_a_skill_that_is_deleted_while_a_call_waits(world: World) -> None:
    sleeps(world)
    calling = asyncio.create_task(world.call())
    await settled(lambda: world.scaler.patches)
    world.directory.on_skill("DELETED", skill())
    world.directory.on_deployment("DELETED", deployment(0))
    assert (await calling)[0] == 404


async def test_a_call_that_comes_during_a_drain_is_held(world: World) -> None:
    """Its pod is about to end: the controller learns that a call waits, and withdraws the drain token."""
    calls = await world.pod(fine)
    world.know()
    world.directory.on_deployment("ADDED", deployment(1, drain_token="m1"))
    calling = asyncio.create_task(world.call())
    await settled(lambda: world.invoker.usage_report().count('"waiting":1'))
    assert f'"draining":{{"{UID}":"m1"}}' in world.invoker.usage_report()
    assert calls == []
    world.directory.on_deployment("MODIFIED", deployment(1))
    assert (await calling)[0] == 200
    assert world.scaler.patches == []


async def test_a_drain_that_was_carried_out_is_a_wake(world: World) -> None:
    world.know()
    world.directory.on_deployment("ADDED", deployment(1, drain_token="m1"))
    calling = asyncio.create_task(world.call())
    await settled(lambda: world.invoker.usage_report().count('"waiting":1'))
    wakes(world)
    await world.pod(fine)
    world.directory.on_pod("DELETED", pod("p0", "127.0.0.1"))
    world.directory.on_deployment("MODIFIED", deployment(0))
    assert (await calling)[0] == 200
    assert len(world.scaler.patches) == 1


async def test_a_drain_that_nobody_ends_ends_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill_operator.gateway.pods.directory.DRAIN_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(activator, "RECHECK_SECONDS", 0.05)
    await world.pod(fine)
    world.know()
    world.directory.on_deployment("ADDED", deployment(1, drain_token="m1"))
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
        async with world.client.post(world.url + "/v1/skills/finance/invoice", data=b'{"lines": []}') as response:
            await response.read()
    else:
        entry = world.invoker.lookup(("finance", "invoice"))
        await world.invoker.invoke(entry, b'{"lines": []}', caller=Caller("ada"), request_id="r1")
    failure = world.invoker.usage.report({}, {}).skills[UID].failure
    assert (failure and (failure.kind, failure.namespace, failure.name)) == (kind and (kind, "finance", "invoice"))


@pytest.mark.parametrize("way", ["http", "within"])
async def test_a_pod_that_does_not_even_say_that_it_is_late(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(invocation, "call_timeout_seconds", lambda _: 0.05)
    await world.pod(Call.gone)
    world.know()
    if way == "http":
        assert (await world.call())[0] == 504
    else:
        entry = world.invoker.lookup(("finance", "invoice"))
        with pytest.raises(Problem, match="callTimeoutSeconds"):
            await world.invoker.invoke(entry, b'{"lines": []}', caller=Caller("ada"), request_id="r1")
    failure = world.invoker.usage.report({}, {}).skills[UID].failure
    assert failure is not None
    assert (failure.kind, bool(failure.request)) == ("timeout", True)


async def test_what_the_controller_hears(world: World) -> None:
    await world.pod(fine)
    world.know()
    before = world.invoker.usage.report({}, {})
    assert before.skills == {}
    await world.call()
    after = world.invoker.usage.report({}, {})
    assert after.age >= before.age
    assert (after.skills[UID].open, after.skills[UID].waiting) == (0, 0)
    assert 0 <= after.skills[UID].idle < 5
    world.directory.on_skill("DELETED", skill())
    assert '"skills":{}' in world.invoker.usage_report()


async def test_a_call_from_within(world: World) -> None:
    """As MCP makes it."""
    patches: list[int] = []

    async def on_wait() -> None:
        patches.append(len(world.scaler.patches))

    sleeps(world)
    wakes(world)
    await world.pod(fine)
    entry = world.invoker.lookup(("finance", "invoice"))
    caller = Caller("ann")
    answer = await world.invoker.invoke(entry, b'{"lines": []}', caller=caller, request_id="r1", on_wait=on_wait)
    assert (answer.status, answer.body) == (200, b'{"total": 3}')
    assert "X-Skill-Cold-Start" in answer.headers
    assert patches == [0]
    with pytest.raises(Problem) as refused:
        await world.invoker.invoke(entry, b"7", caller=caller, request_id="r2")
    assert refused.value.slug == "invalid-input"
    assert not world.directory.in_flight


# --- a Skill that is archived ---

STALLED = {"type": "Stalled", "status": "True", "reason": "SpecInvalid", "lastTransitionTime": "2026-01-02T00:00:00Z"}


def requests(world: World) -> list[tuple[str, str]]:
    """The archives that the gateway's report asks to restore from, and the calls that need it."""
    skills = json.loads(world.invoker.usage_report())["skills"].values()
    return [(use["restore"]["archive"], use["restore"]["request"]) for use in skills if use["restore"]]


async def comes_back(world: World) -> list[Call]:
    """What the controller and the cluster do once they know of the call."""
    world.directory.on_skill("MODIFIED", in_archive(skill(), "Restoring", ("Unknown", "Building", "the build runs")))
    calls = await world.pod(fine)
    world.directory.on_deployment("ADDED", deployment(1))
    world.directory.on_pod("ADDED", pod("p0", "127.0.0.1", ready=False))
    return calls


async def test_a_call_waits_until_its_skill_is_restored(world: World) -> None:
    world.directory.on_skill("ADDED", in_archive(skill()))
    calling = [asyncio.create_task(world.call(headers={"X-Request-Id": f"r-{n}"})) for n in range(20)]
    await settled(lambda: requests(world) and world.invoker.usage_report().count('"waiting":20'))
    ((archive, request),) = requests(world)
    assert archive == "2026-01-02T00:00:00+00:00"
    assert request.startswith("r-")
    calls = await comes_back(world)
    answers = await asyncio.gather(*calling)
    assert {status for status, _, _ in answers} == {200}
    assert all(int(answer.headers["X-Skill-Cold-Start"]) >= 0 for _, _, answer in answers)
    assert len(calls) == 20
    assert world.scaler.patches == [], "it writes nothing"
    assert requests(world) == [(archive, request)], "the controller may have been away, and tells by the token"


@pytest.mark.parametrize("restoring", [True, False])
async def test_a_call_that_cannot_wait_so_long_is_told_why(world: World, restoring: bool) -> None:
    world.wake.__dict__["seconds"] = 0.3
    world.directory.on_skill("ADDED", in_archive(skill()))
    if restoring:
        world.directory.on_skill("MODIFIED", in_archive(skill(), "Restoring", ("Unknown", "Queued", "number 7")))
    status, body, answer = await world.call()
    assert (status, body["type"], answer.headers["Retry-After"]) == (503, "urn:skill-operator:restoring", "5")
    assert ("Queued: number 7" if restoring else "no controller has begun") in body["detail"]
    assert bool(requests(world)) == (not restoring), "the request outlives the call"


@pytest.mark.parametrize("archived", [True, False])
async def test_what_is_being_deleted_is_not_waited_for(world: World, archived: bool) -> None:
    deleting = ("False", "Deleting", "these finalizers hold it: example.com/mine")
    body = in_archive(skill(), ready=deleting) if archived else skill(ready=deleting)
    body["metadata"] |= {"deletionTimestamp": "2030-01-01T12:00:00Z", "finalizers": ["example.com/mine"]}
    world.directory.on_skill("ADDED", body)
    status, problem, _ = await world.call()
    assert (status, problem["type"]) == (503, "urn:skill-operator:not-ready")
    assert "Deleting: these finalizers hold it: example.com/mine" in problem["detail"]
    assert requests(world) == []


async def test_a_bad_input_restores_nothing(world: World) -> None:
    world.directory.on_skill("ADDED", in_archive(skill()))
    assert (await world.call(b'{"lines": 7}'))[0] == 422
    assert requests(world) == []


async def test_a_caller_who_leaves_still_has_it_restored(world: World) -> None:
    world.directory.on_skill("ADDED", in_archive(skill()))
    calling = asyncio.create_task(world.call())
    await settled(lambda: requests(world))
    calling.cancel()
    await settled(lambda: not world.invoker.usage.report({}, {}).skills[UID].open)
    assert len(requests(world)) == 1


async def test_a_second_archive_is_another_request(world: World) -> None:
    world.wake.__dict__["seconds"] = 0.1
    body = in_archive(skill())
    world.directory.on_skill("ADDED", body)
    await world.call()
    body["status"]["archive"] = body["status"]["archive"] | {"time": "2026-03-01T00:00:00Z"}
    world.directory.on_skill("MODIFIED", body)
    await world.call()
    assert [archive for archive, _ in requests(world)] == ["2026-03-01T00:00:00+00:00"]


@pytest.mark.parametrize(
    ("body", "slug", "words"),
    [
        (in_archive(skill(suspend=True)), "suspended", "spec.suspend"),
        (in_archive(skill(), ready=("False", "SpecInvalid", "says nothing")), "not-ready", "SpecInvalid"),
        (in_archive(skill(), "Restoring", ("Unknown", "AwaitingApproval", "approve")), "not-ready", "AwaitingApproval"),
    ],
)
async def test_where_a_person_must_help_nobody_waits(world: World, body: Any, slug: str, words: str) -> None:
    if slug == "not-ready" and words == "SpecInvalid":
        body["status"]["conditions"].append(STALLED)
    world.directory.on_skill("ADDED", body)
    started = asyncio.get_running_loop().time()
    status, problem, _ = await world.call()
    assert (status, problem["type"]) == (503, f"urn:skill-operator:{slug}")
    assert words in problem["detail"]
    assert asyncio.get_running_loop().time() - started < 5
    assert requests(world) == []


async def test_while_its_deployment_is_there_it_wakes_as_ever(world: World) -> None:
    """The controller has recorded the archive, and not taken anything away yet."""
    world.directory.on_skill("ADDED", in_archive(skill()))
    world.directory.on_deployment("ADDED", deployment(0))
    wakes(world)
    await world.pod(fine)
    assert (await world.call())[0] == 200
    assert len(world.scaler.patches) == 1
    assert requests(world) == []


async def test_a_deployment_that_goes_while_it_is_woken(world: World) -> None:
    """The watch tells of the archive last of all."""

    async def gone() -> None:
        world.directory.on_deployment("DELETED", deployment(0))
        raise NotFound("deployments.apps skill-invoice not found", 404)

    world.scaler.then = gone
    body = skill(archiveAfterSeconds=60)
    world.directory.on_skill("ADDED", body)
    world.directory.on_deployment("ADDED", deployment(0))
    calling = asyncio.create_task(world.call())
    await settled(lambda: world.scaler.patches)
    assert requests(world) == []
    world.directory.on_skill("MODIFIED", in_archive(body))
    await settled(lambda: requests(world))
    await comes_back(world)
    assert (await calling)[0] == 200


@pytest.mark.parametrize("archive_after", [0, 60])
async def test_without_an_archive_a_deployment_that_is_gone_is_told_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, archive_after: int
) -> None:
    monkeypatch.setattr(activator, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(activator, "RECHECK_SECONDS", 0.05)
    world.directory.on_skill("ADDED", skill(archiveAfterSeconds=archive_after))
    status, body, _ = await world.call()
    assert (status, body["type"]) == (503, "urn:skill-operator:not-ready")
