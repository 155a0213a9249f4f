"""Clients of the protocol as they are: what they accept, how they write paths, and which lists they can read."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from yarl import URL

from skill_operator import naming
from skill_operator.gateway import tool_catalog
from skill_operator.gateway.http.mcp_response import ResponseForm, negotiate
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.tool_catalog import ToolCatalog
from tests.unit.gateway.http.test_routes import ALICE, Guarded, world
from tests.unit.gateway.pods.test_activator import settled
from tests.unit.gateway.test_mcp import ENVELOPE, agent, deployed, each_revision, list_all, mcp_server
from tests.unit.gateway.world import Call, fine, reply

__all__ = ["world"]
pytestmark = pytest.mark.timeout(60)
REVISIONS = [*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS]
JSON, EVENTS = "application/json", "text/event-stream"
BOTH = f"{JSON}, {EVENTS}"
ACCEPTED = [
    (None, JSON),
    ("", JSON),
    ("*/*", JSON),
    (JSON, JSON),
    ("application/*", JSON),
    ("Application/JSON; charset=utf-8", JSON),
    (f"{JSON};q=0.2, text/html", JSON),
    (f"{JSON}, {EVENTS};q=0", JSON),
    (f"{JSON};q=1, {EVENTS};q=0.5", JSON),
    (EVENTS, EVENTS),
    ("text/*", EVENTS),
    (f"{EVENTS}, {JSON};q=0", EVENTS),
    (BOTH, EVENTS),
    (f"{EVENTS},{JSON}", EVENTS),
    (f"{BOTH}, */*;q=0.1", EVENTS),
    ("application/*, text/*", EVENTS),
]


async def ask(
    world: Guarded, method: str, revision: str, path: str = "/mcp", **headers: str | None
) -> tuple[int, str, bytes]:
    """Send a request as a small client does; return status, Content-Type and body."""
    params = {"name": "finance__invoice", "arguments": {"lines": []}} if method == "tools/call" else {}
    sent: dict[str, str] = ALICE | {"MCP-Protocol-Version": revision, "Content-Type": JSON}
    if revision in MODERN_PROTOCOL_VERSIONS:
        params |= {"_meta": ENVELOPE}
        sent |= {"Mcp-Method": method} | ({"Mcp-Name": "finance__invoice"} if method == "tools/call" else {})
    sent |= {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    skipped = [name.replace("_", "-") for name in ("Accept", "Content_Type") if headers.get(name, "") is None]
    body = json.dumps({"jsonrpc": "2.0", "id": '"tools":[]', "method": method, "params": params}).encode()
    for name in skipped:
        sent.pop(name, None)
    async with world.client.post(world.url + path, data=body, headers=sent, skip_auto_headers=skipped) as answer:
        return answer.status, answer.headers.get("Content-Type", "").partition(";")[0], await answer.read()


def result(content_type: str, body: bytes) -> dict[str, Any]:
    if content_type == EVENTS:
        body = re.findall(rb"^data: (.*?)\r?$", body, re.MULTILINE)[-1]
    message = json.loads(body)
    assert message["id"] == '"tools":[]'
    return dict(message["result"])


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize(("accept", "form"), ACCEPTED)
async def test_each_client_gets_the_form_that_it_reads(
    world: Guarded, accept: str | None, form: str, revision: str
) -> None:
    await world.pod(fine)
    world.know(body=deployed())
    for method in ("tools/list", "tools/call"):
        status, content_type, body = await ask(world, method, revision, Accept=accept)
        assert status == 200, body
        modern_json = revision in MODERN_PROTOCOL_VERSIONS and accept is not None and JSON in accept.lower()
        assert content_type == form or (modern_json and content_type == JSON) or (accept == "application/*, text/*")
        found = result(content_type, body)
        if method == "tools/list":
            assert [tool["name"] for tool in found["tools"]] == ["finance__invoice"]
        else:
            assert json.loads(found["content"][0]["text"]) == {"total": 3}


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize(
    ("headers", "status", "problem"),
    [
        ({"Accept": "text/html"}, 406, "not-acceptable"),
        ({"Accept": f"{JSON};q=0"}, 406, "not-acceptable"),
        ({"Accept": BOTH, "Content_Type": "text/plain"}, 415, "unsupported-media-type"),
        ({"Accept": BOTH, "Content_Type": "application/json-rpc"}, 415, "unsupported-media-type"),
        ({"Accept": BOTH, "Content_Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        ({"Accept": "text/html", "Authorization": "Bearer bad"}, 401, "unauthenticated"),
    ],
)
async def test_what_cannot_be_answered_is_a_problem(
    world: Guarded, headers: dict[str, str], status: int, problem: str, revision: str
) -> None:
    got, content_type, body = await ask(world, "tools/list", revision, **headers)
    assert (got, content_type) == (status, "application/problem+json")
    assert json.loads(body)["type"] == f"urn:skill-operator:{problem}"


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("content_type", [None, "application/json; charset=utf-8", "APPLICATION/JSON"])
async def test_a_body_is_json_unless_it_says_something_else(
    world: Guarded, content_type: str | None, revision: str
) -> None:
    world.know(body=deployed())
    assert (await ask(world, "tools/list", revision, Accept=BOTH, Content_Type=content_type))[0] == 200


async def test_who_takes_no_event_stream_cannot_listen(world: Guarded) -> None:
    status, content_type, _ = await ask(world, "subscriptions/listen", MODERN_PROTOCOL_VERSIONS[0], Accept=JSON)
    assert (status, content_type) == (406, "application/problem+json")


@given(
    st.text(st.characters(max_codepoint=255)) | st.lists(st.sampled_from([*",;=q01.*/ ", JSON, EVENTS])).map("".join)
)
def test_any_accept_has_one_meaning(accept: str) -> None:
    scope = {"type": "http", "headers": [(b"accept", accept.encode("latin-1")), (b"host", b"x")]}
    try:
        accepted = negotiate(scope)
    except Problem as problem:
        assert problem.status == 406  # noqa: PT017
        return
    assert accepted.form in ResponseForm
    assert dict(accepted.scope["headers"])[b"host"] == b"x"


@pytest.mark.parametrize("accept", [JSON, EVENTS])
@pytest.mark.parametrize("revision", [REVISIONS[-2], REVISIONS[-1]])
async def test_who_leaves_ends_the_call_in_either_form(world: Guarded, accept: str, revision: str) -> None:
    began, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        began.set()
        await call.gone()
        gone.set()

    await world.pod(slow)
    world.know(body=deployed())
    calling = asyncio.create_task(ask(world, "tools/call", revision, Accept=accept))
    async with asyncio.timeout(20):
        await began.wait()
        calling.cancel()
        await gone.wait()
    await settled(lambda: not world.gateway.services.requests.held)


@each_revision
async def test_a_thousand_tools_are_one_page(world: Guarded, mode: str) -> None:
    list_all(world)
    world.api_server.rights = {("", "")}
    properties = {f"field{number}": {"type": "string", "description": "What it is about."} for number in range(8)}
    for number in range(1000):
        schema = {"type": "object", "properties": properties}
        world.directory.on_skill("ADDED", deployed(f"s{number:04}", input=schema, description="What it does. " * 20))
    async with agent(world, mode) as client:
        first = await client.list_tools()
        assert [tool.name for tool in first.tools] == [f"finance__s{number:04}" for number in range(1000)]
        assert first.next_cursor is None
        made, tool_catalog.encode_tool = tool_catalog.encode_tool, None  # type: ignore[assignment]
        try:
            assert len((await client.list_tools()).tools) == 1000, "each is made once"
        finally:
            tool_catalog.encode_tool = made


async def test_a_list_holds_up_nobody(world: Guarded) -> None:
    """However many Skills are new, the calls of others have their turn between any two of them."""
    world.api_server.rights = {("", "")}
    odd = {f"€{number}": {"$ref": "#/$defs/many"} for number in range(60)}
    for number in range(40):
        many = {"properties": {f"p {each}": {"anyOf": [{"const": each}, {"type": "null"}]} for each in range(200)}}
        schema = {"type": "object", "properties": odd, "$defs": {"many": many}}
        world.directory.on_skill("ADDED", deployed(f"s{number}", input=schema, output=schema))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    waiting = asyncio.create_task(others())
    page = await ToolCatalog.page(catalog(world), world.directory.entries, "", REVISIONS[-1])
    waiting.cancel()
    assert len(page.tools) == 40
    assert turns >= 39


def catalog(world: Guarded) -> ToolCatalog:
    found: ToolCatalog = mcp_server(world)._catalog
    return found


@each_revision
async def test_a_tool_goes_by_its_whole_name_too(world: Guarded, mode: str) -> None:
    calls = await world.pod(fine)
    long = "monthly-recurring-revenue-reconciliation-by-customer-segment"
    world.api_server.rights = {("finance", long)}
    world.know(body=deployed(long))
    async with agent(world, mode) as client:
        (tool,) = (await client.list_tools()).tools
        assert len(tool.name) == naming.MAX_TOOL_LENGTH
        for name in (tool.name, f"finance__{long}"):
            assert (await client.call_tool(name, {"lines": []})).structured_content == {"total": 3}
        for name in (f"finance__{long}x", tool.name[:-1], f"legal__{long}"):
            with pytest.raises(MCPError, match="Unknown tool"):
                await client.call_tool(name, {"lines": []})
    assert len(calls) == 2


ODD = {
    "type": "object",
    "properties": {"Unit price": {"type": "number"}, "in": {"$ref": "#/$defs/x"}},
    "required": ["Unit price"],
}
ODD["$defs"] = {"x": {"type": "array", "items": {"type": "object", "properties": {"€": {"type": "string"}}}}}


@each_revision
async def test_odd_names_of_properties_are_translated_both_ways(world: Guarded, mode: str) -> None:
    value = {"Unit price": 3, "in": [{"€": "x", "free": 1}]}

    async def echo(call: Call) -> None:
        await call.say(reply(call.body))

    calls = await world.pod(echo)
    world.know(body=deployed(input=ODD, output=ODD))
    async with agent(world, mode) as client:
        (tool,) = (await client.list_tools()).tools
        price, inside = tool.input_schema["properties"]
        euro = next(iter(tool.input_schema["properties"][inside]["items"]["properties"]))
        assert "Unit price" in tool.input_schema["properties"][price]["description"]
        assert re.fullmatch("Unit_price_[0-9a-f]+", price)
        sent = {price: 3, "in": [{euro: "x", "free": 1}]}
        told = await client.call_tool(tool.name, sent)
        own = await client.call_tool(tool.name, value)
        both = await client.call_tool(tool.name, sent | value)
        wrong = await client.call_tool(tool.name, {price: "much"})
    assert [json.loads(call.body) for call in calls] == [value, value]
    assert told.structured_content == own.structured_content == sent
    assert json.loads(told.content[0].text) == sent  # type: ignore[union-attr]
    assert both.is_error
    assert "same property" in both.content[0].text  # type: ignore[union-attr]
    assert wrong.is_error


@each_revision
async def test_who_may_not_call_learns_nothing_of_odd_tools(world: Guarded, mode: str) -> None:
    world.know(body=deployed(input=ODD))
    world.directory.on_skill("ADDED", deployed("c" * 100, "legal", input=ODD))
    async with agent(world, mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["finance__invoice"]
        for name in (naming.tool("legal", "c" * 100), f"legal__{'c' * 100}", naming.tool("legal", "d" * 100)):
            with pytest.raises(MCPError, match="Unknown tool"):
                await client.call_tool(name, {})


PATHS = [
    "/mcp//",
    "//mcp",
    "/mcp/.",
    "/mcp%2F",
    "/%6dcp%2f",
    "/mcp/x/y",
    "/mcp/X",
    "/v1/skills//invoice",
    "/v1//skills/finance/invoice",
]
PATHS += [
    "/v1/skills/finance/invoice//",
    "/v1/skills/finance%2Finvoice",
    "/v1/skills/finance/invoice%2F",
    "//v1/skills",
    "/",
]
PATHS += ["/v1/skills/finance//invoice", "/v1%2Fskills/finance/invoice", "/v1/skills/finance/invoice/%2F"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_other_paths_are_no_paths(world: Guarded, method: str, path: str) -> None:
    calls = await world.pod(fine)
    world.know(body=deployed())
    url = URL(world.url + path, encoded=True)
    async with world.client.request(method, url, data=b'{"lines": []}', headers=ALICE, allow_redirects=False) as answer:
        assert answer.status == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "Location" not in answer.headers
    assert calls == []


@pytest.mark.parametrize("path", ["/mcp/", "/v1/skills/finance/invoice/", "/v1/skills/", "/openapi.json/"])
async def test_a_slash_at_the_end_changes_nothing(world: Guarded, path: str) -> None:
    await world.pod(fine)
    world.know(body=deployed())
    method = "POST" if path == "/mcp/" else "GET"
    for known, status in (({}, 401), (ALICE, 200)):
        if method == "POST":
            got = (await ask(world, "tools/list", "2025-06-18", path, **known or {"Authorization": "Bearer bad"}))[0]
        else:
            async with world.client.get(world.url + path, headers=known, allow_redirects=False) as answer:
                got = answer.status
        assert got == status
    assert (await world.call(path="/v1/skills/finance/invoice/", headers=ALICE))[0] == 200
    assert (await world.call(path="/v1/skills/finance/invoice/"))[0] == 401
