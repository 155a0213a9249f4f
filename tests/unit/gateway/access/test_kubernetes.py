"""What is remembered of the API server's verdicts, for how long, and what happens without it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from skill_operator.gateway.access import decision_cache, kubernetes
from skill_operator.gateway.access.authorizer import AllowAll, Caller
from skill_operator.gateway.access.kubernetes import KubernetesAuthorizer
from skill_operator.gateway.problems import Problem
from skill_operator.k8s.errors import ClusterError, Forbidden, Unavailable

pytestmark = pytest.mark.timeout(10)
INVOICE, OTHER = ("finance", "invoice"), ("legal", "contract")
ALICE = {"username": "alice", "uid": "1", "groups": ["staff"], "extra": {"example.com/team": ["a", "b"]}}


def jwt(expires: Any) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"e30.{claims}.c2ln"


class World:
    """An API server that knows some tokens and rights, may be away or slow, and counts questions; and the time."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.users: dict[str, dict[str, Any]] = {"good": ALICE}
        self.rights: set[tuple[str, str]] = {INVOICE}
        self.audiences: list[str] = ["skill-gateway"]
        self.fault: ClusterError | None = None
        self.hold: asyncio.Event | None = None
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.gate = KubernetesAuthorizer(self, clock=lambda: self.time, now=lambda: self.time)  # type: ignore[arg-type]

    async def review(self, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((kind, spec))
        if self.hold:
            await self.hold.wait()
        if self.fault:
            raise self.fault
        if kind == "TokenReview":
            user = self.users.get(spec["token"])
            if user is None:
                return {"authenticated": False, "error": "invalid bearer token"}
            return {"authenticated": True, "user": user, "audiences": self.audiences}
        wanted = spec["resourceAttributes"]
        return {"allowed": (wanted["namespace"], wanted["name"]) in self.rights}

    def questions(self, kind: str) -> int:
        return sum(asked == kind for asked, _ in self.asked)

    async def enter(self, who: str = "good", key: tuple[str, str] = INVOICE) -> Caller:
        caller = await self.gate.caller(f"Bearer {who}")
        await self.gate.permit(caller, key)
        return caller

    def known(self, who: str = "good", key: tuple[str, str] = INVOICE) -> Caller | None:
        return self.gate.known(f"Bearer {who}", key)

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def world() -> World:
    return World()


async def refused(coroutine: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        await coroutine
    return raised.value


async def test_who_may_is_let_in_and_remembered(world: World) -> None:
    assert world.known() is None
    caller = await world.enter()
    assert (caller.name, caller.groups) == ("alice", ("staff",))
    (_, token), (_, access) = world.asked
    assert token == {"token": "good", "audiences": ["skill-gateway"]}
    assert access == {
        "user": "alice",
        "uid": "1",
        "groups": ["staff"],
        "extra": {"example.com/team": ["a", "b"]},
        "resourceAttributes": {
            "group": "skill-operator.dev",
            "version": "v1alpha1",
            "resource": "skills",
            "subresource": "call",
            "verb": "create",
            "namespace": "finance",
            "name": "invoice",
        },
    }
    for _ in range(3):
        assert world.known() == caller
        assert await world.enter() == caller
    assert len(world.asked) == 2
    assert world.known(key=OTHER) is None, "one right is not another"
    assert world.known("other") is None


async def test_who_may_not_is_not(world: World) -> None:
    problem = await refused(world.enter(key=OTHER))
    assert (problem.status, problem.slug) == (403, "forbidden")
    assert "alice" in problem.detail
    assert world.known(key=OTHER) is None
    problem = await refused(world.enter("bad"))
    assert (problem.status, problem.slug) == (401, "unauthenticated")
    assert "invalid bearer token" in problem.detail
    assert 'error="invalid_token"' in problem.headers["WWW-Authenticate"]
    asked = len(world.asked)
    await refused(world.enter("bad"))
    await refused(world.enter(key=OTHER))
    assert len(world.asked) == asked, "a no is remembered too"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic Z29vZDpnb29k", "Bearer two words", "Bearer g\nd", "Bearer " + "a" * 20000]
)  # fmt: skip
async def test_what_is_no_token_is_not_asked_about(world: World, header: str) -> None:
    problem = await refused(world.gate.caller(header))
    assert problem.status == 401
    assert problem.headers["WWW-Authenticate"].startswith("Bearer ")
    assert world.gate.known(header, INVOICE) is None
    assert world.asked == []


async def test_a_right_that_was_taken_away_ends(world: World) -> None:
    await world.enter()
    world.rights.clear()
    world.time += kubernetes.MAY_SECONDS
    assert world.known() is None
    assert (await refused(world.enter())).status == 403
    world.rights.add(INVOICE)
    world.time += kubernetes.MAY_NOT_SECONDS
    await world.enter()
    world.users.clear()
    world.time += kubernetes.KNOWN_SECONDS
    assert world.known() is None
    assert (await refused(world.enter())).status == 401


async def test_a_busy_caller_never_waits(world: World) -> None:
    caller = await world.enter()
    for _ in range(30):
        world.time += kubernetes.MAY_SECONDS * 0.7
        assert world.known() == caller
        await world.settle()
    world.rights.clear()
    world.time += kubernetes.MAY_SECONDS * 0.7
    assert world.known() == caller
    await world.settle()
    assert world.known() is None, "and what was asked beside him counts at once"


async def test_a_token_ends_when_it_says(world: World) -> None:
    token = jwt(world.time + 30 - kubernetes.LEEWAY_SECONDS)
    world.users[token] = ALICE
    for _ in range(6):  # well within what is remembered of tokens and rights
        await world.enter(token)
        assert world.known(token)
        await world.settle()
        world.time += 5
    assert world.known(token) is None
    asked = len(world.asked)
    assert "expired" in (await refused(world.enter(token))).detail
    assert len(world.asked) == asked


@pytest.mark.parametrize("claim", ["soon", None, [], 1e400, {"a": 1}])
async def test_an_end_that_is_none_is_left_to_the_api_server(world: World, claim: Any) -> None:
    token = jwt(claim)
    world.users[token] = ALICE
    await world.enter(token)


@pytest.mark.parametrize("token", ["a.b.c", "a.!!!.c", "..", "a." + base64.b64encode(b"[" * 5000).decode() + ".c"])
async def test_a_crooked_token_harms_nobody(world: World, token: str) -> None:
    assert (await refused(world.gate.caller(f"Bearer {token}"))).status == 401


async def test_a_token_for_somebody_else_is_refused(world: World) -> None:
    """An API server that knows no audiences would accept any."""
    for audiences in ([], ["https://kubernetes.default.svc"]):
        world.audiences = audiences
        world.time += kubernetes.REFUSED_SECONDS
        problem = await refused(world.enter())
        assert problem.status == 401
        assert "audience skill-gateway" in problem.detail


async def test_one_question_for_all_who_wait(world: World) -> None:
    world.hold = asyncio.Event()
    callers = [asyncio.create_task(world.enter()) for _ in range(20)]
    await world.settle()
    callers[0].cancel()  # the one whose question it was
    await world.settle()
    world.hold.set()
    assert len({caller.name for caller in await asyncio.gather(*callers[1:])}) == 1
    assert (world.questions("TokenReview"), world.questions("SubjectAccessReview")) == (1, 1)


@pytest.mark.parametrize("fault", [Unavailable("away"), Forbidden("may not create tokenreviews", 403)])
async def test_without_an_api_server_nobody_new_comes_in(world: World, fault: ClusterError) -> None:
    world.fault = fault
    problem = await refused(world.enter())
    assert (problem.status, problem.slug) == (503, "authorization-unavailable")
    assert "Retry-After" in problem.headers
    assert "away" not in problem.detail
    world.fault = None
    await world.enter()


@pytest.mark.parametrize("fault", [Unavailable("away"), Forbidden("may not create tokenreviews", 403)])
async def test_who_was_in_stays_in_while_the_api_server_is_away(world: World, fault: ClusterError) -> None:
    caller = await world.enter()
    await refused(world.enter(key=OTHER))
    world.fault = fault
    came = world.time
    while world.time < came + 120:
        world.time += 1
        assert world.known() == caller or await world.enter() == caller
    assert len(world.asked) < 100, "it is not hammered while it is away"
    assert (await refused(world.enter(key=OTHER))).status == 503
    assert world.known(key=OTHER) is None
    world.time = came + kubernetes.STALE_SECONDS + 1
    assert world.known() is None
    assert (await refused(world.enter())).status == 503
    world.fault = None
    assert await world.enter() == caller


async def test_what_changed_meanwhile_counts_as_soon_as_the_api_server_is_back(world: World) -> None:
    await world.enter()
    world.fault = Unavailable("away")
    world.time += kubernetes.MAY_SECONDS
    await world.enter()
    world.fault = None
    world.rights.clear()
    world.time += decision_cache.AGAIN_SECONDS
    assert (await refused(world.enter())).status == 403


async def test_a_flood_of_tokens_stays_a_trickle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "MOST_WAITING", 40)
    world.hold = asyncio.Event()
    callers = [asyncio.create_task(refused(world.gate.caller(f"Bearer t{number}"))) for number in range(100)]
    await world.settle()
    assert len(world.asked) == kubernetes.AT_ONCE
    world.hold.set()
    found = [problem.status for problem in await asyncio.gather(*callers)]
    assert (found.count(401), found.count(503)) == (40, 60)


async def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.gate._identities, "_most", 50)
    for number in range(200):
        await refused(world.gate.caller(f"Bearer t{number}"))
    assert len(world.gate._identities) == 50


async def test_a_list_shows_what_one_may_call(world: World) -> None:
    caller = await world.gate.caller("Bearer good")
    keys = {("finance", f"s{number}") for number in range(100)} | {OTHER, INVOICE}
    assert await world.gate.visible(caller, keys) == {INVOICE}
    asked = len(world.asked)
    assert await world.gate.visible(caller, keys) == {INVOICE}
    assert len(world.asked) == asked
    world.time += kubernetes.MAY_SECONDS
    world.rights = {("finance", "")}
    assert await world.gate.visible(caller, keys) == keys - {OTHER}
    world.time += kubernetes.MAY_SECONDS
    world.rights, world.asked = {("", "")}, []
    assert await world.gate.visible(caller, keys) == keys
    assert len(world.asked) == 1
    world.time += kubernetes.MAY_SECONDS
    world.fault = Unavailable("away")
    assert await world.gate.visible(caller, keys) == keys
    assert (await refused(world.gate.visible(Caller("bob"), keys))).status == 503


async def test_where_anybody_may_all_is_open() -> None:
    gate = AllowAll()
    caller = await gate.caller("")
    assert gate.known("", INVOICE) == caller
    await gate.permit(caller, INVOICE)
    assert await gate.visible(caller, [INVOICE]) == {INVOICE}
