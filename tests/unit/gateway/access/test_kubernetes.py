"""What is remembered of the API server's decisions, for how long, and what happens without it."""

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
from skill_operator.naming import SkillKey

pytestmark = pytest.mark.timeout(10)
INVOICE, OTHER = ("finance", "invoice"), ("legal", "contract")
ALICE = {"username": "alice", "uid": "1", "groups": ["staff"], "extra": {"example.com/team": ["a", "b"]}}


def jwt(expires: Any) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"e30.{claims}.c2ln"


class World:
    """An API server that knows some tokens and rights, may be away or slow, and counts reviews; and the time."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.users: dict[str, dict[str, Any]] = {"good": ALICE}
        self.rights: set[tuple[str, str]] = {INVOICE}
        self.creators: set[tuple[str, str]] = set()  # user and namespace
        self.approvers: set[tuple[str, str]] = set()
        self.audiences: list[str] = ["skill-gateway"]
        self.fault: ClusterError | None = None
        self.hold: asyncio.Event | None = None
        self.reviews: list[tuple[str, dict[str, Any]]] = []
        self.authorizer = KubernetesAuthorizer(self, clock=lambda: self.time, now=lambda: self.time)  # type: ignore[arg-type]

    async def review(self, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        self.reviews.append((kind, spec))
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
        if "subresource" not in wanted:
            assert (wanted["resource"], wanted["verb"]) == ("skills", "create")
            return {"allowed": (spec["user"], wanted["namespace"]) in self.creators}
        if wanted["subresource"] == "approval":
            assert (wanted["resource"], wanted["verb"]) == ("skills", "update")
            return {"allowed": (spec["user"], wanted["namespace"]) in self.approvers}
        assert (wanted["subresource"], wanted["verb"]) == ("call", "create")
        return {"allowed": (wanted["namespace"], wanted["name"]) in self.rights}

    def count(self, kind: str) -> int:
        return sum(review == kind for review, _ in self.reviews)

    async def enter(self, who: str = "good", key: tuple[str, str] = INVOICE) -> Caller:
        caller = await self.authorizer.authenticate(f"Bearer {who}")
        await self.authorizer.authorize(caller, key)
        return caller

    def known(self, who: str = "good", key: tuple[str, str] = INVOICE) -> Caller | None:
        return self.authorizer.cached_caller(f"Bearer {who}", key)

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
    (_, token), (_, access) = world.reviews
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
    assert len(world.reviews) == 2
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
    before = len(world.reviews)
    await refused(world.enter("bad"))
    await refused(world.enter(key=OTHER))
    assert len(world.reviews) == before, "a no is remembered too"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic Z29vZDpnb29k", "Bearer two words", "Bearer g\nd", "Bearer " + "a" * 20000]
)  # fmt: skip
async def test_what_is_no_token_is_not_asked_about(world: World, header: str) -> None:
    problem = await refused(world.authorizer.authenticate(header))
    assert problem.status == 401
    assert problem.headers["WWW-Authenticate"].startswith("Bearer ")
    assert world.authorizer.cached_caller(header, INVOICE) is None
    assert world.reviews == []


async def test_a_right_that_was_taken_away_ends(world: World) -> None:
    await world.enter()
    world.rights.clear()
    world.time += kubernetes.ALLOWED_SECONDS
    assert world.known() is None
    assert (await refused(world.enter())).status == 403
    world.rights.add(INVOICE)
    world.time += kubernetes.DENIED_SECONDS
    await world.enter()
    world.users.clear()
    world.time += kubernetes.VALID_TOKEN_SECONDS
    assert world.known() is None
    assert (await refused(world.enter())).status == 401


async def test_a_busy_caller_never_waits(world: World) -> None:
    caller = await world.enter()
    for _ in range(30):
        world.time += kubernetes.ALLOWED_SECONDS * 0.7
        assert world.known() == caller
        await world.settle()
    world.rights.clear()
    world.time += kubernetes.ALLOWED_SECONDS * 0.7
    assert world.known() == caller
    await world.settle()
    assert world.known() is None, "and what was fetched meanwhile counts at once"


async def test_a_token_ends_when_it_says(world: World) -> None:
    token = jwt(world.time + 30 - kubernetes.CLOCK_SKEW_SECONDS)
    world.users[token] = ALICE
    for _ in range(6):  # well within what is remembered of tokens and rights
        await world.enter(token)
        assert world.known(token)
        await world.settle()
        world.time += 5
    assert world.known(token) is None
    before = len(world.reviews)
    assert "expired" in (await refused(world.enter(token))).detail
    assert len(world.reviews) == before


@pytest.mark.parametrize("claim", ["soon", None, [], 1e400, {"a": 1}])
async def test_an_end_that_is_none_is_left_to_the_api_server(world: World, claim: Any) -> None:
    token = jwt(claim)
    world.users[token] = ALICE
    await world.enter(token)


@pytest.mark.parametrize("token", ["a.b.c", "a.!!!.c", "..", "a." + base64.b64encode(b"[" * 5000).decode() + ".c"])
async def test_a_crooked_token_harms_nobody(world: World, token: str) -> None:
    assert (await refused(world.authorizer.authenticate(f"Bearer {token}"))).status == 401


async def test_a_token_for_somebody_else_is_refused(world: World) -> None:
    """An API server that knows no audiences would accept any."""
    for audiences in ([], ["https://kubernetes.default.svc"]):
        world.audiences = audiences
        world.time += kubernetes.INVALID_TOKEN_SECONDS
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
    assert (world.count("TokenReview"), world.count("SubjectAccessReview")) == (1, 1)


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
    assert len(world.reviews) < 100, "it is not hammered while it is away"
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
    world.time += kubernetes.ALLOWED_SECONDS
    await world.enter()
    world.fault = None
    world.rights.clear()
    world.time += decision_cache.RETRY_SECONDS
    assert (await refused(world.enter())).status == 403


async def test_a_flood_of_tokens_stays_a_trickle(world: World) -> None:
    world.authorizer._reviews.waiting.total = 80  # of which one address has half
    world.hold = asyncio.Event()
    callers = [
        asyncio.create_task(refused(world.authorizer.authenticate(f"Bearer t{number}"))) for number in range(100)
    ]
    await world.settle()
    assert len(world.reviews) == kubernetes.MAX_CONCURRENT_REVIEWS
    world.hold.set()
    found = [problem.status for problem in await asyncio.gather(*callers)]
    assert (found.count(401), found.count(503)) == (40, 60)


async def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.authorizer._identities, "_max_refusals", 50)
    for number in range(200):
        await refused(world.authorizer.authenticate(f"Bearer t{number}", f"10.0.0.{number}"))
    assert len(world.authorizer._identities) == 50


def service_account(namespace: str, name: str, credential: str) -> dict[str, Any]:
    return {
        "username": f"system:serviceaccount:{namespace}:{name}",
        "extra": {kubernetes.CREDENTIAL_ID: [f"JTI={credential}"], "example.com/kept": ["yes"]},
    }


@pytest.mark.parametrize("flood", ["unknown tokens", "tokens of one tenant", "rights of one tenant", "no rights"])
async def test_nobody_pushes_out_who_is_known(world: World, monkeypatch: pytest.MonkeyPatch, flood: str) -> None:
    for cache in (world.authorizer._identities, world.authorizer._rights):
        monkeypatch.setattr(cache, "_max_entries", 100)
        monkeypatch.setattr(cache, "_max_refusals", 100)
    await world.enter()
    greedy = Caller("system:serviceaccount:greedy:app")
    for number in range(300):
        if flood == "unknown tokens":
            await refused(world.authorizer.authenticate(f"Bearer t{number}", f"10.0.0.{number}"))
        elif flood == "tokens of one tenant":
            world.users[f"t{number}"] = service_account("greedy", f"app{number}", f"{number}")
            await world.authorizer.authenticate(f"Bearer t{number}", f"10.0.0.{number}")
        else:
            key = SkillKey("greedy", f"s{number}")
            if flood == "rights of one tenant":
                world.rights.add(key)
                await world.authorizer.authorize(greedy, key)
            else:
                await refused(world.authorizer.authorize(greedy, key))
    assert world.known(), "by the caches alone"
    assert len(world.authorizer._identities) <= 101
    assert len(world.authorizer._rights) <= 101


async def test_tokens_of_one_caller_are_one_caller(world: World) -> None:
    for number in range(50):
        world.users[f"t{number}"] = service_account("team", "app", f"{number}")
        await world.enter(f"t{number}")
    assert (world.count("TokenReview"), world.count("SubjectAccessReview")) == (50, 1)
    (_, access) = next(review for review in world.reviews if review[0] == "SubjectAccessReview")
    assert access["extra"] == {"example.com/kept": ["yes"]}


async def test_an_address_has_few_tokens_refused(world: World) -> None:
    statuses = [
        (await refused(world.authorizer.authenticate(f"Bearer t{number}", "10.0.0.1"))).status for number in range(300)
    ]
    assert (statuses.count(401), statuses.count(429)) == (100, 200)
    assert world.count("TokenReview") == 100
    assert (await refused(world.authorizer.authenticate("Bearer good", "10.0.0.1"))).status == 429
    assert await world.authorizer.authenticate("Bearer good", "10.0.0.2")
    assert await world.authorizer.authenticate("Bearer good", "10.0.0.1"), "who is known is not the address alone"
    world.time += kubernetes.VALID_TOKEN_SECONDS
    for number in range(100):
        await refused(world.authorizer.authenticate(f"Bearer u{number}", "10.0.0.1"))
    assert await world.authorizer.authenticate("Bearer good", "10.0.0.1"), "and stays so beyond a minute"


async def test_a_full_queue_has_room_for_others_and_for_renewals(world: World) -> None:
    await world.enter()
    world.time += kubernetes.VALID_TOKEN_SECONDS
    world.hold = asyncio.Event()
    flood = [
        asyncio.create_task(refused(world.authorizer.authenticate(f"Bearer t{number}", "10.0.0.1")))
        for number in range(1000)
    ]
    await world.settle()
    waiting = world.authorizer._reviews.waiting
    assert waiting.held == waiting.total // 2
    asked = len(world.reviews)
    renewal = asyncio.create_task(world.enter())
    await world.settle()
    assert [review[1].get("token") for review in world.reviews[asked:]] == ["good"], "at once, past the whole queue"
    world.users["new"] = service_account("team", "app", "1")
    newcomer = asyncio.create_task(world.authorizer.authenticate("Bearer new", "10.0.0.2"))
    await world.settle()
    world.hold.set()
    assert (await renewal).name == "alice"
    assert (await newcomer).namespace == "team"
    await asyncio.gather(*flood)
    assert (waiting.held, waiting._namespaces) == (0, {})


async def test_a_list_shows_what_one_may_call(world: World) -> None:
    caller = await world.authorizer.authenticate("Bearer good")
    keys = {("finance", f"s{number}") for number in range(100)} | {OTHER, INVOICE}
    assert await world.authorizer.filter_visible(caller, keys) == {INVOICE}
    before = len(world.reviews)
    assert await world.authorizer.filter_visible(caller, keys) == {INVOICE}
    assert len(world.reviews) == before
    world.time += kubernetes.ALLOWED_SECONDS
    world.rights = {("finance", "")}
    assert await world.authorizer.filter_visible(caller, keys) == keys - {OTHER}
    world.time += kubernetes.ALLOWED_SECONDS
    world.rights, world.reviews = {("", "")}, []
    assert await world.authorizer.filter_visible(caller, keys) == keys
    assert len(world.reviews) == 1
    world.time += kubernetes.ALLOWED_SECONDS
    world.fault = Unavailable("away")
    assert await world.authorizer.filter_visible(caller, keys) == keys
    assert (await refused(world.authorizer.filter_visible(Caller("bob"), keys))).status == 503


async def test_where_anybody_may_all_is_open() -> None:
    authorizer = AllowAll()
    caller = await authorizer.authenticate("")
    assert authorizer.cached_caller("", INVOICE) == caller
    await authorizer.authorize(caller, INVOICE)
    assert await authorizer.filter_visible(caller, [INVOICE]) == {INVOICE}


async def test_who_may_create_skills_is_another_question(world: World) -> None:
    caller = await world.enter()
    with pytest.raises(Problem) as refused:
        await world.authorizer.authorize_creation(caller, "finance")
    assert refused.value.slug == "creation-forbidden"
    world.creators.add(("alice", "finance"))
    world.time += 10
    before = world.count("SubjectAccessReview")
    for _ in range(3):
        await world.authorizer.authorize_creation(caller, "finance")
    assert world.count("SubjectAccessReview") == before + 1
    with pytest.raises(Problem):
        await world.authorizer.authorize_creation(caller, "legal")
    world.time += 20
    world.fault = Unavailable("away")
    with pytest.raises(Problem) as away:
        await world.authorizer.authorize_creation(caller, "finance")
    assert away.value.status == 503, "nothing is written by what was true once"


async def test_where_nobody_is_known_nobody_creates() -> None:
    with pytest.raises(Problem) as refused:
        await AllowAll().authorize_creation(Caller("anonymous"), "finance")
    assert refused.value.slug == "creation-forbidden"


async def test_who_may_approve_is_asked_of_another_resource(world: World) -> None:
    caller = await world.enter()
    world.creators.add(("alice", "finance"))
    assert not await world.authorizer.may_approve(caller, "finance"), "to create is no approval"
    world.approvers.add(("alice", "finance"))
    world.time += 10
    assert await world.authorizer.may_approve(caller, "finance")
    assert not await world.authorizer.may_approve(caller, "legal")
    assert not await AllowAll().may_approve(caller, "finance")
