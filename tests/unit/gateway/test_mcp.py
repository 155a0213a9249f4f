"""Skills as tools, as the official client of the protocol sees them, in its present revision and in the one before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ToolsListChanged
from prometheus_client import REGISTRY

from skill_operator import naming
from skill_operator.gateway import json_bounds, list_changes, mcp, tool_catalog
from skill_operator.gateway.access.limits import FairShares
from skill_operator.gateway.http import body as http_body
from skill_operator.gateway.mcp import McpServer
from skill_operator.gateway.pods import connection
from skill_operator.settings import McpSettings
from tests.unit.gateway.access import test_kubernetes
from tests.unit.gateway.http.test_routes import ALICE, Guarded, world
from tests.unit.gateway.objects import deployment, pod, skill
from tests.unit.gateway.pods.test_activator import settled, wakes
from tests.unit.gateway.world import Call, fine, reply

__all__ = ["world"]
pytestmark = pytest.mark.timeout(30)
each_revision = pytest.mark.parametrize("mode", ["auto", "legacy"])
IMAGE = "localhost:30500/skills/finance/invoice@sha256:0"


def deployed(name: str = "invoice", namespace: str = "finance", **spec: Any) -> dict[str, Any]:
    body = skill(name, namespace, **spec)
    body["status"]["image"] = IMAGE
    return body


@asynccontextmanager
async def agent(
    world: Guarded, mode: str, headers: dict[str, str] = ALICE, path: str = "/mcp"
) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=20) as http:
        transport = streamable_http_client(f"{world.url}{path}", http_client=http)
        async with Client(transport, mode=mode, cache=None) as client:
            yield client


def mcp_server(world: Guarded) -> McpServer:
    server: McpServer = next(route.endpoint for route in world.gateway.config.app.routes if route.path == "/mcp")
    return server


def list_all(world: Guarded, most: int = 10_000) -> None:
    """Have lists show as many tools, before any is listed."""
    mcp_server(world)._settings = McpSettings(list_at_most=most)


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


@each_revision
async def test_tools_are_listed_while_nothing_runs(world: Guarded, mode: str) -> None:
    world.api_server.rights = {("finance", "")}
    world.directory.on_skill("ADDED", deployed(description="Sum.\nWith discount.", egress=[]))
    world.directory.on_skill("ADDED", deployed("b.c", egress=[{"cidr": "203.0.113.0/24", "ports": [443]}]))
    world.directory.on_skill("ADDED", deployed("list", output={"type": "array"}))
    world.directory.on_skill("ADDED", skill("never-deployed"))
    world.directory.on_skill("ADDED", deployed("contract", "legal"))
    async with agent(world, mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    dotted = next(name for name in tools if name.startswith("finance__b-c_"))
    assert set(tools) == {"finance__invoice", "finance__list", dotted}
    invoice = tools["finance__invoice"]
    assert invoice.description == "Sum.\nWith discount."
    assert invoice.input_schema["required"] == ["lines"]
    assert invoice.output_schema == {"type": "object", "properties": {}}
    assert invoice.annotations
    assert (invoice.annotations.read_only_hint, invoice.annotations.open_world_hint) == (True, False)
    assert tools[dotted].annotations.read_only_hint is False  # type: ignore[union-attr]
    assert tools["finance__list"].output_schema == ({"type": "array", "items": {}} if mode == "auto" else None)


@each_revision
async def test_a_call(world: Guarded, mode: str) -> None:
    calls = await world.pod(fine)
    world.know(body=deployed())
    async with agent(world, mode) as client:
        result = await client.call_tool("finance__invoice", {"lines": []})
    assert not result.is_error
    assert result.structured_content == {"total": 3}
    assert json.loads(result.content[0].text) == {"total": 3}  # type: ignore[union-attr]
    assert (json.loads(calls[0].body), "x-skill-caller: alice" in calls[0].head.lower()) == ({"lines": []}, True)
    assert "good" not in calls[0].head


@pytest.mark.parametrize("name", ["a.b", "a" * 253])
async def test_a_tool_leads_to_its_own_skill_whoever_imitates_its_name(world: Guarded, name: str) -> None:
    await world.pod(fine)
    world.api_server.rights = {("finance", ""), ("finance", name)}
    tool, flat = naming.tool("finance", name), name.replace(".", "-")[:31]
    rivals = [
        tool.removeprefix("finance__").replace("_", "-"),
        *(f"{flat}-{naming.digest(name)[:length]}" for length in (8, 16, 32)),
    ]
    world.know(body=deployed(name))
    for body in map(deployed, rivals):
        body["metadata"]["uid"] = "of-a-rival"
        world.directory.on_skill("ADDED", body)
    async with agent(world, "auto") as client:
        assert len(set(await names(client))) == len({name, *rivals})
        assert (await client.call_tool(tool, {"lines": []})).structured_content == {"total": 3}


async def test_calls_are_counted(world: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    def count(outcome: str) -> float:
        labels = {"namespace": "finance", "skill": "invoice", "outcome": outcome}
        return REGISTRY.get_sample_value("skill_gateway_skill_calls_total", labels) or 0

    caplog.set_level("INFO")
    await world.pod(fine)
    world.know(body=deployed())
    before = count("2xx"), count("invalid-input")
    async with agent(world, "auto", ALICE | {"X-Request-Id": "agent-1"}) as client:
        await client.call_tool("finance__invoice", {"lines": []})
        await client.call_tool("finance__invoice", {"lines": 7})
    assert (count("2xx"), count("invalid-input")) == (before[0] + 1, before[1] + 1)
    told = [record for record in caplog.records if record.getMessage() == "tool"]
    assert [(record.skill, record.request) for record in told] == [("invoice", "agent-1")] * 2  # type: ignore[attr-defined]


async def test_before_all_skills_are_known_nothing_is_unknown(world: Guarded) -> None:
    world.directory.unsynced.add(("Skill", None))
    async with agent(world, "auto") as client:
        result = await client.call_tool("finance__invoice", {"lines": []})
        assert result.meta[mcp.PROBLEM_META_KEY]["type"] == "urn:skill-operator:starting"  # type: ignore[index]
        with pytest.raises(MCPError, match="starting"):
            await client.list_tools()


@each_revision
async def test_an_answer_that_is_no_object(world: Guarded, mode: str) -> None:
    async def listing(call: Call) -> None:
        await call.say(reply(b"[1, 2]"))

    await world.pod(listing)
    world.know(body=deployed(output={"type": "array"}))
    async with agent(world, mode) as client:
        result = await client.call_tool("finance__invoice", {"lines": []})
    assert result.structured_content == ([1, 2] if mode == "auto" else None)
    assert result.content[0].text == "[1, 2]"  # type: ignore[union-attr]


@each_revision
async def test_what_goes_wrong_is_told_to_the_model(world: Guarded, mode: str) -> None:
    problem = {
        "type": "urn:skill-operator:input-rejected",
        "title": "The skill refused the input",
        "detail": "no lines",
    }

    async def refusing(call: Call) -> None:
        body = json.dumps(problem).encode()
        await call.say(
            reply(body, "422 Unprocessable Entity").replace(b"application/json", b"application/problem+json")
        )

    await world.pod(refusing)
    world.know(body=deployed())
    async with agent(world, mode) as client:
        refused = await client.call_tool("finance__invoice", {"lines": []})
        unfit = await client.call_tool("finance__invoice", {"lines": 1})
        world.directory.on_pod("DELETED", pod("p0", "127.0.0.1"))
        asleep = await client.call_tool("finance__invoice", {"lines": []})
    for result, said in ((refused, "no lines"), (unfit, "is not an array"), (asleep, "")):
        assert result.is_error
        assert said in result.content[0].text  # type: ignore[union-attr]
        assert result.meta
        assert result.meta[mcp.PROBLEM_META_KEY]["requestId"]
    assert refused.meta[mcp.PROBLEM_META_KEY]["type"] == "urn:skill-operator:input-rejected"  # type: ignore[index]
    assert asleep.meta[mcp.PROBLEM_META_KEY]["status"] == 503  # type: ignore[index]


@each_revision
async def test_tools_of_others_do_not_exist(world: Guarded, mode: str) -> None:
    calls = await world.pod(fine)
    world.know(body=deployed())
    world.directory.on_skill("ADDED", deployed("contract", "legal"))
    said = set()
    async with agent(world, mode) as client:
        for name in ("legal__contract", "legal__nothing", "nonsense", "", "finance__invoice__", "__", "a__b\n"):
            with pytest.raises(MCPError) as raised:
                await client.call_tool(name, {})
            said.add(raised.value.error.message.partition(":")[0])
    assert said == {"Unknown tool"}
    assert calls == []


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer bad"}])
@each_revision
async def test_without_a_token_there_is_nothing(world: Guarded, mode: str, headers: dict[str, str]) -> None:
    world.know(body=deployed())
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"Accept": "application/json, text/event-stream"}
    async with world.client.post(world.url + "/mcp", json=body, headers={**headers, **accept}) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await answer.json(content_type=None))["type"] == "urn:skill-operator:unauthenticated"
    evil = {**ALICE, **accept, "Origin": "https://evil.example"}
    async with world.client.post(world.url + "/mcp", json=body, headers=evil) as answer:
        assert answer.status == 403
    async with world.client.get(world.url + "/mcp", headers=ALICE) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@each_revision
async def test_pages(world: Guarded, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_catalog, "MAX_PAGE_BYTES", 1000)
    world.api_server.rights = {("", "")}
    for number in range(8):
        world.directory.on_skill("ADDED", deployed(f"s{number}"))
    found: list[str] = []
    async with agent(world, mode) as client:
        page = await client.list_tools()
        while True:
            found += [tool.name for tool in page.tools]
            if page.next_cursor is None:
                break
            if len(found) == 3:  # one that was told, and the next one, go
                world.directory.on_skill("DELETED", deployed("s2"))
                world.directory.on_skill("DELETED", deployed("s3"))
            page = await client.list_tools(cursor=page.next_cursor)
        for bad in ("?", "", "ä", "////"):
            try:
                assert isinstance(await client.list_tools(cursor=bad), object)
            except MCPError as error:
                assert "cursor" in error.error.message  # noqa: PT017
    assert found == [f"finance__s{number}" for number in (0, 1, 2, 4, 5, 6, 7)]


@each_revision
async def test_who_leaves_ends_the_call(world: Guarded, mode: str) -> None:
    began, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        began.set()
        await call.gone()
        gone.set()

    await world.pod(slow)
    world.know(body=deployed())
    async with agent(world, mode) as client:
        calling = asyncio.create_task(client.call_tool("finance__invoice", {"lines": []}))
        await began.wait()
        calling.cancel()
        if mode == "auto":
            async with asyncio.timeout(20):
                await gone.wait()
    async with asyncio.timeout(20):  # before, there was no way to say it but to hang up
        await gone.wait()


async def test_changes_are_told(world: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_changes, "CHANGE_DELAY_SECONDS", 0.05)
    world.api_server.rights = {("", "")}
    async with agent(world, "auto") as client, client.listen(tools_list_changed=True) as events:
        changes: list[Callable[[], None]] = [
            lambda: world.directory.on_skill("ADDED", deployed()),
            lambda: world.directory.on_skill("MODIFIED", deployed(generation=2, description="Other.")),
            lambda: world.directory.on_skill("DELETED", deployed()),
        ]
        for change in changes:
            world.directory.on_skill("MODIFIED", skill("never-deployed"))  # which is no tool
            change()
            async with asyncio.timeout(20):
                assert isinstance(await anext(aiter(events)), ToolsListChanged)


async def test_one_caller_cannot_take_all_streams(world: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp, "MAX_STREAMS_PER_CALLER", 1)
    async with agent(world, "auto") as client:
        async with client.listen(tools_list_changed=True):
            with pytest.raises(MCPError, match="streams open"):
                async with client.listen(tools_list_changed=True):
                    pass
        async with client.listen(tools_list_changed=True):
            pass


ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
HEADERS = {
    **ALICE,
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "finance__invoice",
}


def request(name: Any = "finance__invoice", arguments: Any = None, method: str = "tools/call") -> dict[str, Any]:
    params = {"_meta": ENVELOPE, "name": name, "arguments": {"lines": []} if arguments is None else arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@pytest.mark.parametrize(
    ("body", "changed", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (json.dumps([request()] * 2).encode(), {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b'{"jsonrpc": "2.0", "id": ' + b"9" * 10_000 + b"}", {}, 400),
        (request("legal__contract"), {}, 400),
        (request(), {"Mcp-Name": "finance__other"}, 400),
        (request(), {"Mcp-Method": "tools/list"}, 400),
        (request(7), {}, 400),
        (request(arguments=[1]), {}, 400),
        (request(), {"MCP-Protocol-Version": "1999-01-01"}, 400),
        (request(), {"Accept": "text/html"}, 406),
        (request(), {"Content-Type": "text/plain"}, 415),
        (request(arguments={"lines": ["x" * (1 << 21)]}), {}, 413),
        (request(), {"Authorization": "Bearer good good"}, 401),
        (request(), {"X-Request-Id": "a" * 5000}, 200),
    ],
)
async def test_what_is_no_call_reaches_nobody(world: Guarded, body: Any, changed: dict[str, str], status: int) -> None:
    calls = await world.pod(fine)
    world.know(body=deployed())
    world.directory.on_skill("ADDED", deployed("contract", "legal"))
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with world.client.post(world.url + "/mcp", data=sent, headers=HEADERS | changed) as answer:
        assert answer.status == status, await answer.text()
        assert len(answer.headers["X-Request-Id"]) <= 64
    assert len(calls) == (status == 200)
    async with world.client.post(world.url + "/mcp", json=request(), headers=HEADERS) as answer:
        assert answer.status == 200, "it still works for everybody"


@pytest.mark.parametrize("arguments", [{"lines": [], "deep": json.loads("[" * 400 + "]" * 400)}, {"lines": ["\ud800"]}])
async def test_strange_arguments_are_the_skill_s_to_judge(world: Guarded, arguments: dict[str, Any]) -> None:
    calls = await world.pod(fine)
    world.know(body=deployed())
    async with world.client.post(world.url + "/mcp", json=request(arguments=arguments), headers=HEADERS) as answer:
        assert answer.status in {200, 400}
    assert len(calls) <= 1


async def call_answered_by(world: Guarded, body: bytes) -> Any:
    """Return what an agent gets of a pod that answers its call with this body."""

    async def answer(call: Call) -> None:
        await call.say(reply(body))

    await world.pod(answer)
    world.know(body=deployed(output={}))
    async with agent(world, "auto") as client:
        return await client.call_tool("finance__invoice", {"lines": []})


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 50_000, b'"' + b"x" * 100_000 + b'"', b"NaN"])
async def test_what_a_pod_says_is_never_believed(world: Guarded, body: bytes) -> None:
    result = await call_answered_by(world, body)
    assert result.is_error is not body.startswith(b'"')


async def test_progress_while_it_wakes(world: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp, "PROGRESS_INTERVAL_SECONDS", 0.02)
    world.directory.on_skill("ADDED", deployed())
    world.directory.on_deployment("ADDED", deployment(0))
    wakes(world)
    told: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with agent(world, "auto") as client:
        assert await names(client) == ["finance__invoice"]
        assert world.scaler.patches == [], "listing wakes nobody"
        calling = asyncio.create_task(client.call_tool("finance__invoice", {"lines": []}, progress_callback=hear))
        await settled(lambda: len(told) > 2)
        await world.pod(fine)
        result = await calling
    assert result.structured_content == {"total": 3}
    assert told[:3] == [(0, "waking finance__invoice"), (1, None), (2, None)], "no words twice in a row"
    assert len(world.scaler.patches) == 1


def bomb(marks: int) -> bytes:
    """A call with so many values that are nearly nothing in the text, and sixty bytes each in memory."""
    text = json.dumps(request(arguments={"lines": "@"}))
    return text.replace('"@"', "[" + ",".join(["[]"] * (marks // 3)) + "]").encode()


BOMBS = {
    "lists": (bomb(900_000), 413),
    "numbers": (json.dumps(request(arguments={"lines": [1] * 300_000})).encode(), 413),
    "names": (json.dumps(request(arguments={str(number): 0 for number in range(80_000)})).encode(), 413),
    "no call": (b"[" + b"{}," * 300_000 + b"{}]", 413),
    "no end": (b"[" + b"[]," * 300_000, 413),
    "levels": (b'{"a":' * 90_000, 400),
    "a string without end": (b'{"a": "' + b"[" * 1_000_000, 400),
    "backslashes": (b'{"a": "' + b"\\" * 1_000_000, 400),
    "digits": (b"1" * 1_000_000, 400),
    "UTF-16": (('["\u2200' + "[]," * 100_000).encode("utf-16-le"), 400),
    "UTF-32": (("[" + "[]," * 80_000).encode("utf-32"), 400),
    "a length that is too large": (b" " * (json_bounds.MAX_REQUEST_BYTES + 1), 413),
}


@pytest.mark.parametrize("revision", ["2026-07-28", "2025-06-18"])
@pytest.mark.parametrize(("body", "status"), BOMBS.values(), ids=BOMBS)
async def test_what_is_too_much_is_refused_before_it_is_parsed(
    world: Guarded, body: bytes, status: int, revision: str
) -> None:
    world.know(body=deployed())
    sent = HEADERS | {"MCP-Protocol-Version": revision}
    async with world.client.post(world.url + "/mcp", data=body, headers=sent) as answer:
        assert answer.status == status
        refused = answer.headers["Content-Type"].startswith("application/problem+json")
    marks, _ = json_bounds.measure(body)
    assert marks <= json_bounds.MAX_MARKS + 1
    assert refused or marks < 10, "what the SDK is left to parse has next to no values"
    assert all(pool.held == 0 for pool in pools(world))


def pools(world: Guarded) -> list[FairShares]:
    server = mcp_server(world)
    return [world.gateway.services.requests, server._reading, server._streams, server._bodies, world.invoker.places]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=30,
    )
)
def test_marks_and_levels_are_counted_as_they_are(value: Any) -> None:
    def marks(value: Any) -> tuple[int, int]:
        if not isinstance(value, dict | list):
            return 0, 0
        inner = [marks(child) for child in (value.values() if isinstance(value, dict) else value)]
        return 2 + max(0, len(inner) - 1) + sum(each for each, _ in inner), 1 + max(
            (deep for _, deep in inner), default=0
        )

    for ascii_only in (True, False):
        assert json_bounds.measure(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")) == marks(
            value
        )


@pytest.mark.parametrize("more", [-1, 0, 1, 100_000])
def test_as_many_strings_as_there_may_be_hide_their_marks(more: int) -> None:
    pairs = json_bounds.MAX_MARKS - 1 + more  # one mark behind each, and one more at the end
    text = json.dumps({f"[{number},": "{,]" for number in range(pairs)}).encode()
    assert json_bounds.measure(text) == (min(pairs, json_bounds.MAX_MARKS) + 1, 1)


async def test_a_body_has_fifteen_seconds_over_mcp_too(world: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_body, "BODY_TIMEOUT_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    writer.write(f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: 1000\r\n\r\n{{".encode())
    answer = (await reader.read()).lower()
    assert b" 408 " in answer.splitlines()[0]
    assert b"connection: close" in answer
    writer.close()
    assert all(pool.held == 0 for pool in pools(world))


async def test_bodies_of_one_namespace_leave_room_for_others(world: Guarded) -> None:
    """Callers without any right send the heads of large bodies, and wait."""
    world.know(body=deployed())
    await world.pod(fine)
    requests, bodies, *_ = pools(world)
    for number in range(20):
        world.api_server.users[f"t{number}"] = test_kubernetes.service_account(
            "greedy", f"app{number % 4}", f"{number}"
        )
    port = int(world.url.rpartition(":")[2])
    opened = []
    for number in range(20):
        head = "".join(f"{n}: {v}\r\n" for n, v in (HEADERS | {"Authorization": f"Bearer t{number}"}).items())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: 1000000\r\n\r\n{{".encode())
        opened.append((reader, writer))
    heads = [asyncio.create_task(reader.readline()) for reader, _ in opened]
    await settled(lambda: requests.held + sum(task.done() for task in heads) == 20)
    assert bodies.held <= 7 << 20
    assert {await task for task in heads if task.done()} == {b"HTTP/1.1 503 Service Unavailable\r\n"}
    async with world.client.post(world.url + "/mcp", json=request(), headers=HEADERS) as answer:
        assert answer.status == 200
    for _, writer in opened:
        writer.close()
    await settled(lambda: requests.held == bodies.held == 0)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "' + b"x" * connection.MAX_RESPONSE_BYTES + b'"}',
        b"[" + b"[]," * 340_000 + b"[]]",
        b"[" * 200 + b"]" * 200,
        b'{"a": "' + b"x" * (12 << 20) + b'"}',
    ],
    ids=["text", "lists", "levels", "much"],
)
async def test_an_agent_gets_no_answer_that_holds_up_others(world: Guarded, body: bytes) -> None:
    result = await call_answered_by(world, body)
    assert result.is_error
    told = result.content[0].text  # type: ignore[union-attr]
    assert ("ask for less" if len(body) > connection.MAX_RESPONSE_BYTES else "over HTTP") in told
    assert len(result.model_dump_json()) < 2000
    assert world.invoker.places.held == 0


async def test_streams_are_bounded_in_all(world: Guarded) -> None:
    streams = pools(world)[2]
    streams.total = 2
    async with agent(world, "auto") as client, client.listen(tools_list_changed=True):
        with pytest.raises(MCPError, match="streams open"):
            async with client.listen(tools_list_changed=True):
                pass
    await settled(lambda: streams.held == 0)


def nested(levels: int, value: Any = 1) -> Any:
    for _ in range(levels):
        value = {"items": value}
    return value


OBJECT = {"type": "object"}
ODD_SKILLS: dict[str, dict[str, Any]] = {
    "deep schema": {"input": OBJECT | {"properties": {"a": nested(300, {"type": "string"})}}},
    "deeper schema": {"input": OBJECT | {"properties": {"a": nested(5000)}}},
    "deep output": {"output": nested(300)},
    "wide schema": {"input": OBJECT | {"enum": [[]] * 400_000}},
    "long texts": {"input": OBJECT | {"description": "x" * 1_000_000}},
    "long names": {"input": OBJECT | {"properties": {"x" * 1_000_000: {}}}},
    "no JSON": {"input": OBJECT | {"const": float("nan")}},
    "deep examples": {"examples": [{"name": "a", "input": nested(5000), "output": 1}]},
    "wide examples": {"examples": [{"name": "a", "input": [[]] * 400_000, "output": 1}]},
}


@pytest.mark.parametrize("odd", ODD_SKILLS.values(), ids=ODD_SKILLS)
async def test_one_skill_hides_no_other(world: Guarded, odd: dict[str, Any]) -> None:
    world.api_server.rights = {("", "")}
    body = deployed("a-first", **odd)
    body["metadata"]["uid"] = "odd"
    world.directory.on_skill("ADDED", body)
    world.directory.on_skill("ADDED", deployed())
    async with agent(world, "auto") as client:
        listed = await client.list_tools()
    assert "finance__invoice" in [tool.name for tool in listed.tools]
    assert len(listed.model_dump_json()) < 100_000
    status, document, _ = await world.get("/openapi.json", **ALICE)
    assert status == 200
    assert "/v1/skills/finance/invoice" in document["paths"]
    assert len(json.dumps(document)) < 100_000
    assert (await world.get("/v1/skills", **ALICE))[0] == 200


async def test_a_page_describes_no_more_than_may_be(world: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_catalog, "MAX_PAGE_BYTES", 2000)
    world.api_server.rights = {("", "")}
    for number in range(7):
        large = {"type": "object", "enum": [{} for _ in range(100 * number)]}
        world.directory.on_skill("ADDED", deployed(f"s{number}", input=large))
    found, cursor = [], None
    async with agent(world, "auto") as client:
        while True:
            page = await client.list_tools(cursor=cursor)
            found += [tool.name for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert found == [f"finance__s{number}" for number in range(7)]


MIDDLE = {"input": OBJECT | {"properties": {"salary": {"type": "integer", "x-mcp-header": "Salary"}}}}


def tool_call(name: str, arguments: Any, **headers: str) -> tuple[str, str, Any, dict[str, str]]:
    tool = f"legal__{name}"
    return "POST", "/mcp", request(tool, arguments), HEADERS | {"Mcp-Name": tool} | headers


def found_call(name: str, path: str = "/mcp", arguments: Any = None) -> tuple[str, str, Any, dict[str, str]]:
    sent = {"name": name, "input": arguments or {"salary": 5}}
    return "POST", path, request("call_skill", sent), HEADERS | {"Mcp-Name": "call_skill"}


def list_call(path: str) -> tuple[str, str, Any, dict[str, str]]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": ENVELOPE}}
    sent = {key: value for key, value in HEADERS.items() if key != "Mcp-Name"}
    return "POST", path, body, sent | {"Mcp-Method": "tools/list"}


ROUTES: dict[str, Callable[[str], tuple[str, str, Any, dict[str, str]]]] = {
    "call": lambda name: ("POST", f"/v1/skills/legal/{name}", {"salary": 5}, {}),
    "call with a slash": lambda name: ("POST", f"/v1/skills/legal/{name}/", {"salary": 5}, {}),
    "call that does not fit": lambda name: ("POST", f"/v1/skills/legal/{name}", {"salary": "x"}, {}),
    "description": lambda name: ("GET", f"/v1/skills/legal/{name}", None, {}),
    "head": lambda name: ("HEAD", f"/v1/skills/legal/{name}", None, {}),
    "other method": lambda name: ("DELETE", f"/v1/skills/legal/{name}", None, {}),
    "options": lambda name: ("OPTIONS", f"/v1/skills/legal/{name}", None, {}),
    "path below": lambda name: ("GET", f"/v1/skills/legal/{name}/x", None, {}),
    "list of a namespace": lambda name: (
        "GET",
        f"/v1/skills?namespace={'legal' if name == 'payroll' else 'other'}",
        None,
        {},
    ),
    "OpenAPI": lambda _: ("GET", "/openapi.json", None, {}),
    "tool": lambda name: tool_call(name, {}),
    "tool with arguments": lambda name: tool_call(name, {"salary": 5}),
    "tool with a header": lambda name: tool_call(name, {}, **{"Mcp-Param-Salary": "5"}),
    "tool with both": lambda name: tool_call(name, {"salary": 5}, **{"Mcp-Param-Salary": "6"}),
    "tool at its namespace": lambda name: (
        "POST",
        "/mcp/legal",
        request(name, {"salary": 5}),
        HEADERS | {"Mcp-Name": name},
    ),
    "found tool": lambda name: found_call(f"legal/{name}"),
    "found tool by its name": lambda name: found_call(f"legal__{name}", "/mcp/search"),
    "found tool of its namespace": lambda name: found_call(name, "/mcp/legal"),
    "found tool that does not fit": lambda name: found_call(f"legal/{name}", arguments={"salary": "x"}),
    "search": lambda name: (
        "POST",
        "/mcp",
        request("find_skills", {"query": name}),
        HEADERS | {"Mcp-Name": "find_skills"},
    ),
    "search over HTTP": lambda name: ("GET", f"/v1/skills?q={name}", None, {}),
    "tools of a namespace": lambda name: list_call(f"/mcp/{'legal' if name == 'payroll' else 'other'}"),
    "tool of before": lambda name: tool_call(name, {"salary": "x"}, **{"MCP-Protocol-Version": "2025-06-18"}),
}


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
async def test_who_may_not_call_learns_nothing(
    world: Guarded, route: Callable[[str], tuple[str, str, Any, dict[str, str]]]
) -> None:
    """One without rights gets the same of what exists and of what does not, for as many requests to the API server."""
    world.know(body=deployed("payroll", "legal", **MIDDLE))
    world.api_server.rights = set()
    await world.api_server.authorizer.authenticate(ALICE["Authorization"])
    seen = []
    for name in ("payroll", "unheard"):
        world.api_server.authorizer._rights._refusals.clear()
        world.api_server.reviews.clear()
        method, path, body, headers = route(name)
        sent = ALICE | {"X-Request-Id": "one"} | headers
        async with world.client.request(method, world.url + path, json=body, headers=sent) as answer:
            text = (await answer.read()).decode().replace(name, "NAME")
            shown = {key: value for key, value in answer.headers.items() if key not in {"Date", "Content-Length"}}
        seen.append((answer.status, shown, text, len(world.api_server.reviews)))
    assert seen[0] == seen[1]


async def test_headers_are_compared_for_who_may_call(world: Guarded) -> None:
    world.know(body=deployed("payroll", "legal", **MIDDLE))
    world.api_server.rights = {("legal", "payroll")}
    for header, status in (({}, 400), ({"Mcp-Param-Salary": "6"}, 400), ({"Mcp-Param-Salary": "5"}, 200)):
        method, path, body, headers = tool_call("payroll", {"salary": 5}, **header)
        async with world.client.request(method, world.url + path, json=body, headers=headers) as answer:
            assert answer.status == status
            assert ("Mcp-Param-Salary header" in await answer.text()) == (status == 400)
