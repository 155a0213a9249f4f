"""Where callers sign in: the metadata that anybody may read, and the challenge that names it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from mcp.shared.auth import ProtectedResourceMetadata
from pydantic import ValidationError

from skill_operator.gateway.access.protected_resource import ProtectedResource
from skill_operator.gateway.problems import Problem
from skill_operator.settings import Settings
from tests.unit.gateway import world as world_module
from tests.unit.gateway.http.test_routes import ALICE, Guarded
from tests.unit.gateway.objects import skill
from tests.unit.gateway.world import SETTINGS, fine

pytestmark = pytest.mark.timeout(60)
WELL_KNOWN = "/.well-known/oauth-protected-resource"
URL = "https://skills.example:8443"
ISSUERS = ["https://id.example/realms/a", "https://other.example"]
LISTED_PAGE = "http://localhost:6274"
Start = Callable[..., Coroutine[Any, Any, Guarded]]


def settings(
    issuers: list[str] = ISSUERS, scopes: list[str] | None = None, url: str = URL, auth: str = "kubernetes"
) -> Settings:
    oauth = {"authorizationServers": issuers, "scopes": scopes or []}
    gateway = {"auth": auth, "oauth": oauth, "origins": [LISTED_PAGE]}
    document = SETTINGS.model_dump(mode="json", by_alias=True)
    return Settings.model_validate(document | {"gatewayURL": url, "gateway": document["gateway"] | gateway})


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """A gateway with such settings, which asks for a token."""
    async with AsyncExitStack() as stack:

        async def started(**changed: Any) -> Guarded:
            monkeypatch.setattr(world_module, "SETTINGS", settings(**changed))
            made = Guarded(stack)
            await made.start()
            return made

        yield started


def parameters(challenge: str) -> dict[str, str]:
    """The parameters of a challenge of the scheme Bearer (RFC 9110, 11.6.1)."""
    scheme, _, rest = challenge.partition(" ")
    assert scheme == "Bearer"
    assert re.fullmatch(r'[a-z_]+="[^"\\]*"(, [a-z_]+="[^"\\]*")*', rest)
    return dict(re.findall(r'([a-z_]+)="([^"]*)"', rest))


async def test_anybody_reads_where_to_sign_in(start: Start) -> None:
    world = await start(scopes=["openid", "skills:call"])
    for end, resource in (("", ""), ("/mcp", "/mcp"), ("/mcp/", "/mcp"), ("/mcp/search", "/mcp/search")):
        status, document, answer = await world.get(WELL_KNOWN + end, Host="evil.example")
        assert (status, answer.headers["Content-Type"]) == (200, "application/json")
        assert document == {
            "resource": URL + resource,
            "authorization_servers": ISSUERS,
            "bearer_methods_supported": ["header"],
            "resource_name": "Skills",
            "scopes_supported": ["openid", "skills:call"],
        }
        ProtectedResourceMetadata.model_validate(document)
    assert world.api_server.reviews == []


async def test_a_namespace_answers_alike_whether_it_exists(start: Start) -> None:
    world = await start()
    world.know()
    found = [await world.get(f"{WELL_KNOWN}/mcp/{name}") for name in ("finance", "nothing", "mcp")]
    assert [status for status, _, _ in found] == [200] * 3
    assert [document["resource"] for _, document, _ in found] == [
        f"{URL}/mcp/{name}" for name in ("finance", "nothing", "mcp")
    ]
    rest = [{name: value for name, value in document.items() if name != "resource"} for _, document, _ in found]
    assert rest[0] == rest[1] == rest[2]
    assert "scopes_supported" not in rest[0]
    challenges = [
        (await world.client.post(f"{world.url}/mcp/{name}")).headers["WWW-Authenticate"].replace(name, "NAME")
        for name in ("finance", "nothing")
    ]
    assert challenges[0] == challenges[1]


@pytest.mark.parametrize("end", ["/v1/skills", "/mcp/a/b", "/mcp/A", "/mcp/x%2fy", "/mcp/%22", "/mcp//", "x", "/MCP"])
async def test_other_paths_have_no_metadata(start: Start, end: str) -> None:
    world = await start()
    status, problem, _ = await world.get(WELL_KNOWN + end)
    assert (status, problem["type"]) == (404, "urn:skill-operator:not-found")


async def test_the_metadata_is_read_only(start: Start) -> None:
    world = await start()
    async with world.client.post(world.url + WELL_KNOWN, json={}) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    async with world.client.head(world.url + WELL_KNOWN) as answer:
        assert answer.status == 200


async def test_who_has_no_good_token_hears_where_to_get_one(start: Start) -> None:
    world = await start(scopes=["openid", "skills:call"])
    world.know()
    for path, resource in (
        ("/mcp", "/mcp"),
        ("/mcp/", "/mcp"),
        ("/mcp/search", "/mcp/search"),
        ("/mcp/any", "/mcp/any"),
    ):
        for headers in ({}, {"Authorization": "Bearer bad"}, {"Authorization": "Basic YTpi"}):
            async with world.client.post(world.url + path, headers=headers | {"Host": "evil.example"}) as answer:
                assert answer.status == 401
                said = parameters(answer.headers["WWW-Authenticate"])
            assert said["resource_metadata"] == URL + WELL_KNOWN + resource
            assert said["scope"] == "openid skills:call"
            assert said["realm"] == "skill-gateway"
            assert said.get("error") == ("invalid_token" if headers else None)
    for path in ("/v1/skills", "/openapi.json", "/v1/skills/finance/invoice"):
        _, _, answer = await world.get(path)
        assert parameters(answer.headers["WWW-Authenticate"])["resource_metadata"] == URL + WELL_KNOWN
    status, _, answer = await world.call()
    assert status == 401
    assert parameters(answer.headers["WWW-Authenticate"])["resource_metadata"] == URL + WELL_KNOWN


async def test_other_problems_have_no_challenge(start: Start) -> None:
    world = await start()
    await world.pod(fine)
    world.know()
    assert (await world.call(headers=ALICE))[0] == 200
    world.directory.on_skill("ADDED", skill("contract", "legal"))
    status, _, answer = await world.call(path="/v1/skills/legal/contract", headers=ALICE)
    assert status == 403
    assert "WWW-Authenticate" not in answer.headers


async def test_without_authorization_servers_all_is_as_it_was(start: Start) -> None:
    world = await start(issuers=[], scopes=["openid"])
    for end in ("", "/mcp", "/mcp/finance", "/mcp/search"):
        status, problem, _ = await world.get(WELL_KNOWN + end)
        assert (status, problem["type"]) == (404, "urn:skill-operator:not-found")
    async with world.client.post(f"{world.url}/mcp") as answer:
        assert parameters(answer.headers["WWW-Authenticate"]) == {"realm": "skill-gateway"}


async def test_pages_of_listed_origins_read_it(start: Start) -> None:
    world = await start()
    _, _, answer = await world.get(WELL_KNOWN, Origin=LISTED_PAGE)
    assert answer.headers["Access-Control-Allow-Origin"] == LISTED_PAGE
    asked = {"Origin": LISTED_PAGE, "Access-Control-Request-Method": "GET"}
    asked |= {"Access-Control-Request-Headers": "mcp-protocol-version"}
    async with world.client.options(f"{world.url}{WELL_KNOWN}/mcp", headers=asked) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Headers"] == "mcp-protocol-version"
    async with world.client.post(f"{world.url}/mcp", headers={"Origin": LISTED_PAGE}) as answer:
        assert "WWW-Authenticate" in answer.headers["Access-Control-Expose-Headers"]
    status, problem, answer = await world.get(WELL_KNOWN, Origin="https://evil.example")
    assert (status, problem["type"]) == (403, "urn:skill-operator:origin-not-allowed")
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("url", ["https://h.example/tools/skills", "https://h.example/tools/skills/"])
async def test_a_gateway_below_a_path_is_found_by_the_rfc_s_path(start: Start, url: str) -> None:
    """The RFC inserts the well-known path between host and path. The proxy in front may take its path away or not."""
    world = await start(url=url)
    prefix = url.rstrip("/").removeprefix("https://h.example")
    async with world.client.post(f"{world.url}/mcp/any") as answer:
        said = parameters(answer.headers["WWW-Authenticate"])["resource_metadata"]
    assert said == f"https://h.example{WELL_KNOWN}{prefix}/mcp/any"
    for path in (said.removeprefix("https://h.example"), f"{WELL_KNOWN}/mcp/any"):
        status, document, _ = await world.get(path)
        assert (status, document["resource"]) == (200, f"{url.rstrip('/')}/mcp/any")
    assert (await world.get(WELL_KNOWN + prefix))[1]["resource"] == url.rstrip("/")


async def test_a_gateway_below_a_path_like_an_endpoint_s_goes_by_the_rfc(start: Start) -> None:
    world = await start(url="https://h.example/mcp")
    _, document, _ = await world.get(f"{WELL_KNOWN}/mcp/mcp/any")
    assert document["resource"] == "https://h.example/mcp/mcp/any"
    assert (await world.get(f"{WELL_KNOWN}/mcp"))[1]["resource"] == "https://h.example/mcp"


def test_a_problem_that_asks_for_no_token_stays_as_it_is() -> None:
    problem = ProtectedResource(settings()).with_challenge(Problem("overloaded", "later", 1), "/mcp")
    assert problem.headers == {"Retry-After": "1"}


@pytest.mark.parametrize("path", ['/mcp/"', "/mcp/a\r\nX: y", "/mcp/a/b", "/v1/skills/a/b", "/"])
def test_a_challenge_repeats_no_other_path(path: str) -> None:
    problem = Problem("unauthenticated", "", headers={"WWW-Authenticate": 'Bearer realm="r"'})
    ProtectedResource(settings()).with_challenge(problem, path)
    assert problem.headers["WWW-Authenticate"] == f'Bearer realm="r", resource_metadata="{URL}{WELL_KNOWN}"'


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"issuers": ["http://id.example"]}, "is no issuer"),
        ({"issuers": ["https://id.example/?a=b"]}, "is no issuer"),
        ({"issuers": ["https://id.example/#a"]}, "is no issuer"),
        ({"issuers": ["https:///realm"]}, "is no issuer"),
        ({"issuers": ["https://user@id.example"]}, "is no issuer"),
        ({"issuers": ['https://id.example/"']}, "is no issuer"),
        ({"issuers": ["https://id.example\n"]}, "is no issuer"),
        ({"issuers": ["id.example"]}, "is no issuer"),
        ({"issuers": [f"https://{n}.example" for n in range(9)]}, "at most 8"),
        ({"scopes": ["two words"]}, "pattern"),
        ({"scopes": ['quo"te']}, "pattern"),
        ({"scopes": ["back\\slash"]}, "pattern"),
        ({"scopes": [""]}, "pattern"),
        ({"auth": "none"}, "asks nobody for a token"),
        ({"url": 'https://skills.example/"'}, "needs a gateway.url"),
        ({"url": "https://skills.example/?q"}, "needs a gateway.url"),
        ({"url": "skills.example"}, "needs a gateway.url"),
    ],
)
def test_bad_settings_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**changed)


def test_another_auth_or_url_is_fine_where_nobody_signs_in() -> None:
    settings(issuers=[], auth="none", url="http://gateway.example/?q")
