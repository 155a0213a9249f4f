"""Which pages may call: those of the gateway's own address, and those of a list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skill_operator.gateway.access.origins import AllowedOrigins
from skill_operator.gateway.problems import Problem
from skill_operator.settings import GatewaySettings
from tests.unit.gateway import world as world_module
from tests.unit.gateway.http.test_routes import ALICE, Guarded
from tests.unit.gateway.objects import skill
from tests.unit.gateway.world import SETTINGS, fine

pytestmark = pytest.mark.timeout(60)
LISTED = [
    *("null", "vscode-file://vscode-app", "app://obsidian.md", "tauri://localhost", "http://localhost:6274", "file://"),
    *(
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "https://apps.example",
        "moz-extension://1-2",
        "http://[::1]:80",
    ),
]
labels = st.from_regex("[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=3).map(".".join) | st.sampled_from(["[::1]", "203.0.113.7"])
schemes = st.sampled_from(["http", "https"])
DEFAULT = {"http": 80, "https": 443}


def is_allowed(origins: AllowedOrigins, origin: str, host: str) -> bool:
    try:
        origins.check(origin, host)
    except Problem as problem:
        assert problem.slug == "origin-not-allowed"  # noqa: PT017
        return False
    return True


@given(names, names, schemes, st.integers(1, 65535), st.integers(1, 65535), st.booleans(), st.booleans())
def test_a_page_of_the_same_host_and_port_may_call(
    name: str, other: str, scheme: str, port: int, other_port: int, written: bool, shout: bool
) -> None:
    def spelled(host: str, number: int) -> str:
        return host if number == DEFAULT[scheme] and not written else f"{host}:{number}"

    none_listed = AllowedOrigins()
    page = f"{scheme}://{spelled(name.upper() if shout else name, port)}"
    assert is_allowed(none_listed, page, f"{name}:{port}")
    assert is_allowed(none_listed, f"{scheme}://{name}", f"{name}:{DEFAULT[scheme]}")
    assert is_allowed(none_listed, f"{scheme}://{name}:{DEFAULT[scheme]}", name)
    assert is_allowed(none_listed, page, f"{other}:{other_port}") == ((name, port) == (other, other_port))


@given(
    st.sampled_from(LISTED),
    st.sampled_from(
        ["", "/", "x", ".evil.example", ":1", "@evil.example", "\\@evil", " ", "%00", "?", "#", ", null", "null"]
    ),
    st.booleans(),
)
def test_a_listed_origin_is_compared_exactly(origin: str, more: str, before: bool) -> None:
    origins = AllowedOrigins(None, LISTED)
    assert is_allowed(origins, origin, "skills.example")
    changed = more + origin if before else origin + more
    assert is_allowed(origins, changed, "skills.example") == (changed in LISTED)
    assert origins.response_headers(changed) == ({} if changed not in LISTED else origins.response_headers(origin))
    assert not is_allowed(AllowedOrigins(), origin, "skills.example")


@pytest.mark.parametrize(
    ("listed", "sent"), [("https://a.example:443", "https://a.example"), ("http://a.example", "http://A.example:80")]
)
def test_default_ports_are_equal(listed: str, sent: str) -> None:
    for one, other in ((listed, sent), (sent, listed)):
        assert is_allowed(AllowedOrigins(None, [one]), other, "x")
        assert not is_allowed(AllowedOrigins(None, [one]), other.replace("http", "ws"), "x")


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_no_other_header_is_an_own_page(origin: str, host: str) -> None:
    assert is_allowed(AllowedOrigins(None, LISTED), origin, host) == (not origin or origin in LISTED)


def test_a_list_lets_in_no_other_name() -> None:
    origins = AllowedOrigins(["own.example"], LISTED)
    origins.check("null", "own.example")
    with pytest.raises(Problem) as raised:
        origins.check("null", "evil.example")
    assert raised.value.slug == "host-not-allowed"


@pytest.mark.parametrize(
    "origin", ["*", "https://*.example", "https://a.example/", "a.example", "", "null ", "http://u@a.example"]
)
def test_a_list_has_whole_origins(origin: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(origins=[origin])
    assert GatewaySettings(origins=LISTED).origins == LISTED


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guarded]:
    gateway = SETTINGS.gateway.model_copy(update={"origins": LISTED})
    monkeypatch.setattr(world_module, "SETTINGS", SETTINGS.model_copy(update={"gateway": gateway}))
    async with AsyncExitStack() as stack:
        made = Guarded(stack)
        await made.start()
        yield made


ROUTES = [
    ("POST", "/v1/skills/finance/invoice"),
    ("GET", "/v1/skills/finance/invoice"),
    ("GET", "/v1/skills"),
    ("POST", "/mcp"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_page_of_a_listed_origin_reads_answers_and_refusals(world: Guarded, method: str, path: str) -> None:
    await world.pod(fine)
    world.know(body=skill())
    seen: dict[tuple[str, bool], Any] = {}
    for origin in ("vscode-file://vscode-app", "https://evil.example"):
        for headers in (ALICE, {}):
            sent = {"Origin": origin, **headers}
            async with world.client.request(method, world.url + path, data=b'{"lines": []}', headers=sent) as answer:
                seen[origin, bool(headers)] = answer.status
                shown = answer.headers.get("Access-Control-Allow-Origin")
                assert shown == (origin if origin in LISTED else None)
                assert ("Vary" in answer.headers) == (origin in LISTED)
    if path != "/nothing":
        assert seen["vscode-file://vscode-app", False] == 401, "it needs a token as any caller does"
        assert seen["vscode-file://vscode-app", True] in {200, 400, 415}
        assert seen["https://evil.example", True] == 403


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_browser_may_ask_before_it_sends(world: Guarded, method: str, path: str) -> None:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,mcp-name"}
    answers = []
    for origin in ("http://localhost:6274", "http://localhost:6275"):
        async with world.client.options(world.url + path, headers={"Origin": origin, **asked}) as answer:
            answers.append((answer.status, answer.headers.get("Access-Control-Allow-Headers")))
    assert answers[0] == (204, "authorization,mcp-name")
    assert answers[1][0] in {404, 405}
    assert answers[1][1] is None
