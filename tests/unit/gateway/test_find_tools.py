"""The tools by which an agent finds others and calls them, and the endpoints that have them, as a client sees both."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ToolsListChanged
from prometheus_client import REGISTRY

from skill_operator import naming
from skill_operator.gateway import find_tools, list_changes, mcp
from skill_operator.untrusted.text import printable
from tests.unit.gateway.access import test_kubernetes
from tests.unit.gateway.http.test_routes import ALICE, Guarded, world
from tests.unit.gateway.objects import deployment, in_archive, skill
from tests.unit.gateway.pods.test_activator import settled, wakes
from tests.unit.gateway.test_mcp import HEADERS, agent, deployed, each_revision, list_all, names, request
from tests.unit.gateway.test_mcp_clients import ODD
from tests.unit.gateway.world import Call, fine, reply

__all__ = ["world"]
pytestmark = pytest.mark.timeout(60)
BOTH = ["call_skill", "find_skills"]


def know(world: Guarded, *keys: str) -> None:
    """Have these Skills, each `namespace/name`, with pods of none of them."""
    for key in keys:
        namespace, name = key.split("/")
        body = deployed(name, namespace, description=f"Does {name}.")
        body["metadata"]["uid"] = key
        world.directory.on_skill("ADDED", body)


async def find(client: Client, query: str, **more: Any) -> list[dict[str, Any]]:
    result = await client.call_tool("find_skills", {"query": query} | more)
    assert not result.is_error, result.content
    found: list[dict[str, Any]] = result.structured_content["skills"]  # type: ignore[index]
    return found


async def error_of(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    """Return what the model reads of a problem."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert result.meta[mcp.PROBLEM_META_KEY]["requestId"]  # type: ignore[index]
    text: str = result.content[0].text  # type: ignore[union-attr]
    return text


@each_revision
async def test_a_thousand_tools_are_two(world: Guarded, mode: str) -> None:
    world.api_server.rights = {("", "")}
    know(world, *(f"finance/task-{number}" for number in range(1000)))
    async with agent(world, mode) as client:
        listed = await client.list_tools()
        assert [tool.name for tool in listed.tools] == BOTH
        assert len(listed.model_dump_json()) / 3 <= 3000
        assert listed.next_cursor is None
        (found, *_) = await find(client, "task 77")
    assert found["name"] == "finance__task-77"


@each_revision
async def test_up_to_the_bound_all_are_listed(world: Guarded, mode: str) -> None:
    world.api_server.rights = {("", "")}
    know(world, *(f"finance/s{number:02}" for number in range(32)))
    async with agent(world, mode) as client:
        assert await names(client) == [f"finance__s{number:02}" for number in range(32)]
        assert (await find(client, "s07"))[0]["name"] == "finance__s07", "it can be called where it is not listed"
        know(world, "legal/one-more")
        assert await names(client) == BOTH
        world.api_server.rights = {("finance", "")}
        world.api_server.time += 20
        assert len(await names(client)) == 32, "what one may not call does not count"


@each_revision
async def test_what_is_found_can_be_called(world: Guarded, mode: str) -> None:
    calls = await world.pod(fine)
    world.know(body=deployed(summary="Adds up the lines of an invoice."))
    know(world, "finance/other")
    world.api_server.rights |= {("finance", "")}
    list_all(world, 0)
    async with agent(world, mode) as client:
        assert await names(client) == BOTH
        (found, *_) = await find(client, "adding invoice lines")
        assert (found["name"], found["summary"]) == ("finance__invoice", "Adds up the lines of an invoice.")
        assert found["input"]["required"] == ["lines"]
        assert found["state"] == "awake"
        for name in (found["name"], "finance/invoice"):
            result = await client.call_tool("call_skill", {"name": name, "input": {"lines": []}})
            assert not result.is_error
            assert result.structured_content == {"total": 3}
        direct = await client.call_tool(found["name"], {"lines": []})
        assert direct.structured_content == {"total": 3}, "a tool can be called whether it is listed or not"
        assert "is not an array" in await error_of(client, "call_skill", {"name": found["name"], "input": {"lines": 1}})
    assert [json.loads(call.body) for call in calls] == [{"lines": []}] * 3


async def test_only_what_may_be_called_is_found(world: Guarded) -> None:
    world.api_server.rights = {("finance", "b")}
    know(world, "finance/a", "finance/b", "legal/b")
    world.directory.on_skill("ADDED", skill("b-never-deployed"))
    async with agent(world, "auto") as client:
        assert [found["name"] for found in await find(client, "a b legal finance", limit=20)] == ["finance__b"]
        empty = await client.call_tool("find_skills", {"query": "zebra"})
    assert empty.structured_content == {"skills": []}
    assert "other words" in empty.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("ready", "replies", "state", "reason"),
    [
        (("True", "Ready", ""), True, "awake", None),
        (("True", "Ready", ""), False, "asleep", None),
        (("False", "CheckFailed", ""), True, "not-ready", "CheckFailed"),
        (None, False, "not-ready", "Pending"),
    ],
)
async def test_the_state_is_told(world: Guarded, ready: Any, replies: bool, state: str, reason: str | None) -> None:
    body = deployed(ready=ready)
    if replies:
        world.know(body=body)
    world.directory.on_skill("ADDED", body)
    async with agent(world, "auto") as client:
        (found,) = await find(client, "invoice")
    assert (found["state"], found.get("reason")) == (state, reason)


@each_revision
async def test_what_is_archived_is_found_and_called_and_not_listed(world: Guarded, mode: str) -> None:
    world.directory.on_skill("ADDED", deployed())
    async with agent(world, mode) as client:
        assert await names(client) == ["finance__invoice"]
        world.directory.on_skill("MODIFIED", in_archive(deployed()))
        assert await names(client) == []
        (found,) = await find(client, "invoice")
        assert (found["state"], found["input"]["required"]) == ("archived", ["lines"])
        calling = asyncio.create_task(client.call_tool("call_skill", {"name": found["name"], "input": {"lines": []}}))
        direct = asyncio.create_task(client.call_tool(found["name"], {"lines": []}))
        await settled(lambda: world.invoker.usage_report().count('"waiting":2'))
        assert '"archive":"2026-01-02T00:00:00+00:00"' in world.invoker.usage_report()
        await world.pod(fine)
        world.know(body=deployed())
        assert {str((await each).structured_content) for each in (calling, direct)} == {"{'total': 3}"}
        assert await names(client) == ["finance__invoice"]


async def test_who_may_not_call_what_is_archived_restores_nothing(world: Guarded) -> None:
    body = in_archive(deployed("contract", "legal"))
    world.directory.on_skill("ADDED", body)
    async with agent(world, "auto") as client:
        assert await find(client, "contract") == []
        assert "no skill" in await error_of(client, "call_skill", {"name": "legal/contract", "input": {"lines": []}})
    assert (await world.call(path="/v1/skills/legal/contract", headers=ALICE))[0] == 403
    assert "restore" not in world.invoker.usage_report()


async def test_going_to_the_archive_and_coming_back_changes_the_list(world: Guarded) -> None:
    world.directory.on_skill("ADDED", deployed())
    async with agent(world, "auto") as client, client.listen(tools_list_changed=True) as changes:
        events = aiter(changes)
        for body in (in_archive(deployed()), deployed()):
            world.directory.on_skill("MODIFIED", body)
            async with asyncio.timeout(20):
                assert isinstance(await anext(events), ToolsListChanged)


async def test_the_evidence_is_told_where_there_is_any(world: Guarded) -> None:
    body = deployed()
    async with agent(world, "auto") as client:
        for evidence in (None, {"visible": 4, "heldOut": 2, "mutants": {"killed": 9, "of": 10}, "author": "pinned"}):
            body["status"] |= {"evidence": evidence} if evidence else {}
            world.directory.on_skill("MODIFIED", body)
            (found,) = await find(client, "invoice")
            assert ("evidence" in found) == (evidence is not None)
    assert found["evidence"]["mutants"] == {"killed": 9, "of": 10}
    assert found["evidence"]["heldOut"] == 2


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("find_skills", {}, ['"query" is missing']),
        ("find_skills", {"query": ""}, ["input.query"]),
        ("find_skills", {"query": 7}, ["input.query", "string"]),
        ("find_skills", {"query": "x" * 1025}, ["input.query"]),
        ("find_skills", {"query": "ä" * 1000}, ["1024 bytes"]),
        ("find_skills", {"query": "x", "limit": 0}, ["input.limit"]),
        ("find_skills", {"query": "x", "limit": 21}, ["input.limit", "20"]),
        ("find_skills", {"query": "x", "limit": "5"}, ["input.limit", "integer"]),
        ("find_skills", {"query": "x", "page": 2}, ["page"]),
        ("find_skills", {"query": {"deep": [[]] * 3000}}, ["larger"]),
        ("call_skill", {}, ['"name" is missing']),
        ("call_skill", {"name": "finance/invoice"}, ['"input" is missing']),
        ("call_skill", {"name": "finance/invoice", "input": [1]}, ["input.input", "object"]),
        ("call_skill", {"name": 7, "input": {}}, ["input.name", "string"]),
        ("call_skill", {"name": "x" * 321, "input": {}}, ["input.name"]),
        ("call_skill", {"name": "finance/invoice", "lines": []}, ["lines"]),
    ],
)
@each_revision
async def test_wrong_arguments_are_named(
    world: Guarded, mode: str, tool: str, arguments: dict[str, Any], words: list[str]
) -> None:
    calls = await world.pod(fine)
    world.know(body=deployed())
    async with agent(world, mode) as client:
        text = await error_of(client, tool, arguments)
    assert all(word in text for word in words), text
    assert len(text) < 1000
    assert calls == []


# What exists, and what does not: the caller may call neither.
NAMES = [
    ("legal/contract", "legal/contrary"),
    ("legal__contract", "legal__contrary"),
    (naming.tool("legal", "a.b"), naming.tool("legal", "c.d")),
    ("legal/a.b", "legal/c.d"),
    ("contract", "contrary"),
    ("", "x"),
    ("/", "a/b/c"),
    ("legal/", "__"),
    ("\n", "\ud7ff"),
]


@each_revision
@pytest.mark.parametrize("path", ["/mcp", "/mcp/search", "/mcp/legal"])
async def test_a_name_that_may_not_be_called_does_not_exist(world: Guarded, path: str, mode: str) -> None:
    calls = await world.pod(fine)
    world.know(body=deployed())
    know(world, "legal/contract", "legal/a.b")
    async with agent(world, mode, ALICE | {"X-Request-Id": "one"}, path) as client:
        for pair in NAMES:
            told, reviews = [], []
            for name in pair:
                world.api_server.authorizer._rights._refusals.clear()
                world.api_server.reviews.clear()
                result = await client.call_tool("call_skill", {"name": name or "?", "input": {}})
                assert result.is_error
                problem = result.meta[mcp.PROBLEM_META_KEY]  # type: ignore[index]
                assert problem["type"] == "urn:skill-operator:skill-not-found"
                told.append(result.model_dump_json().replace(printable(name or "?", 200), "NAME"))
                reviews.append(len(world.api_server.reviews))
            assert told[0].count("NAME") == 2 or len(pair[0]) < 3
            assert told[0] == told[1] or len(pair[0]) < 3
            assert reviews == [1, 1]
    assert calls == []


@each_revision
async def test_search_has_the_two_whatever_there_is(world: Guarded, mode: str) -> None:
    await world.pod(fine)
    world.know(body=deployed())
    for path in ("/mcp/search", "/mcp/search/"):
        async with agent(world, mode, path=path) as client:
            assert await names(client) == BOTH
            assert [found["name"] for found in await find(client, "sum")] == ["finance__invoice"]
            assert (await client.call_tool("finance__invoice", {"lines": []})).structured_content == {"total": 3}


@each_revision
async def test_a_namespace_has_its_own_tools_by_bare_names(world: Guarded, mode: str) -> None:
    calls = await world.pod(fine)
    world.know(body=deployed())
    world.api_server.rights |= {("finance", ""), ("legal", "")}
    know(world, "legal/contract", "finance/b.c", "finance/" + "x" * 60)
    async with agent(world, mode, path="/mcp/finance") as client:
        bare = await names(client)
        assert "invoice" in bare
        assert len(bare) == 3
        assert all(len(name) <= naming.MAX_TOOL_LENGTH and "." not in name for name in bare)
        for name in ("invoice", "finance__invoice"):
            assert (await client.call_tool(name, {"lines": []})).structured_content == {"total": 3}
        for name in ("invoice", "finance/invoice", "finance__invoice"):
            result = await client.call_tool("call_skill", {"name": name, "input": {"lines": []}})
            assert result.structured_content == {"total": 3}
        for name in ("contract", "legal__contract", "legal/contract", naming.tool("legal", "contract"), ""):
            with pytest.raises(MCPError, match="Unknown tool"):
                await client.call_tool(name, {})
            if name:
                assert "no skill" in await error_of(client, "call_skill", {"name": name, "input": {}})
        assert {found["name"] for found in await find(client, "invoice contract b c xxxxx", limit=20)} <= set(bare)
        list_all(world, 2)
        assert await names(client) == BOTH
        assert [found["name"] for found in await find(client, "invoice")] == ["invoice"]
    async with agent(world, mode, path="/mcp/legal") as client:
        assert await names(client) == ["contract"]
    async with agent(world, mode, path="/mcp/nowhere") as client:
        assert await names(client) == []
        assert await find(client, "invoice") == []
    assert len(calls) == 5


@each_revision
async def test_each_skill_of_a_namespace_is_called_by_each_of_its_names(world: Guarded, mode: str) -> None:
    """However long a name is, and whatever dots it has: as it is listed, and as it is."""
    await world.pod(fine)
    for name in ("a.b", "x" * 60, "v1.2.3-" + "y" * 100):
        body = deployed(name)
        world.api_server.rights = {("finance", name)}
        world.directory.on_skill("ADDED", body)
        world.know(body=body)
        async with agent(world, mode, path="/mcp/finance") as client:
            world.api_server.time += 20
            (listed,) = await names(client)
            assert listed == naming.bare_tool("finance", name)
            for called in (listed, name, f"finance__{name}"):
                assert (await client.call_tool(called, {"lines": []})).structured_content == {"total": 3}
        async with agent(world, mode) as client:
            for called in (f"finance/{name}", naming.tool("finance", name), f"finance__{name}"):
                result = await client.call_tool("call_skill", {"name": called, "input": {"lines": []}})
                assert result.structured_content == {"total": 3}
        world.directory.on_skill("DELETED", body)


async def test_a_call_by_name_wakes_what_sleeps(world: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp, "PROGRESS_INTERVAL_SECONDS", 0.02)
    world.directory.on_skill("ADDED", deployed())
    world.directory.on_deployment("ADDED", deployment(0))
    wakes(world)
    told: list[str | None] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async with agent(world, "auto", path="/mcp/search") as client:
        assert (await find(client, "invoice"))[0]["state"] == "asleep"
        assert world.scaler.patches == [], "a search wakes nobody"
        sent = {"name": "finance/invoice", "input": {"lines": []}}
        calling = asyncio.create_task(client.call_tool("call_skill", sent, progress_callback=hear))
        await settled(lambda: len(told) > 2)
        await world.pod(fine)
        assert (await calling).structured_content == {"total": 3}
    assert told == ["waking finance/invoice", *[None] * (len(told) - 1)]
    assert len(world.scaler.patches) == 1


@each_revision
async def test_odd_names_of_properties_are_translated(world: Guarded, mode: str) -> None:
    async def echo(call: Call) -> None:
        await call.say(reply(call.body))

    calls = await world.pod(echo)
    world.know(body=deployed(input=ODD, output=ODD))
    async with agent(world, mode) as client:
        (found,) = await find(client, "unit price")
        price, _ = found["input"]["properties"]
        sent = {"name": found["name"], "input": {price: 3, "in": []}}
        result = await client.call_tool("call_skill", sent)
    assert result.structured_content == {price: 3, "in": []}
    assert [json.loads(call.body) for call in calls] == [{"Unit price": 3, "in": []}]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/finance"])
async def test_what_is_found_is_bounded(world: Guarded, path: str) -> None:
    world.api_server.rights = {("", "")}
    properties = {f"field-{number}": {"type": "string", "description": "What it is about."} for number in range(300)}
    large = {"type": "object", "properties": properties}
    for number in range(20):
        world.directory.on_skill("ADDED", deployed(f"s{number}", summary="Sums. " * 150, input=large))
    async with agent(world, "auto", path=path) as client:
        found = await find(client, "sums", limit=20)
        assert len(found) == 20
        assert "input" in found[0]
        assert "input" not in found[-1]
        assert len(json.dumps(found)) < 2 * find_tools.MAX_FOUND_BYTES
        (again,) = await find(client, found[-1]["name"], limit=1)
    assert (again["name"], "input" in again) == (found[-1]["name"], True)


async def test_before_all_skills_are_known_nothing_is_found(world: Guarded) -> None:
    world.directory.unsynced.add(("Skill", None))
    async with agent(world, "auto", path="/mcp/search") as client:
        assert await names(client) == BOTH
        assert "know all skills" in await error_of(client, "find_skills", {"query": "sum"})


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer bad"}])
@pytest.mark.parametrize("path", ["/mcp/search", "/mcp/finance", "/mcp/nowhere"])
async def test_without_a_token_there_is_nothing(world: Guarded, path: str, headers: dict[str, str]) -> None:
    sent = {key: value for key, value in HEADERS.items() if key != "Authorization"} | headers
    body = request("find_skills", {"query": "sum"})
    async with world.client.post(world.url + path, json=body, headers=sent) as answer:
        assert answer.status == 401


async def test_a_refusal_is_counted_once(world: Guarded) -> None:
    def counted() -> float:
        slugs = ("forbidden", "skill-not-found", "invalid-input")
        values = [REGISTRY.get_sample_value("skill_gateway_rejections_total", {"type": slug}) for slug in slugs]
        return sum(value or 0 for value in values)

    async with agent(world, "auto") as client:
        for arguments in ({"name": "legal/contract", "input": {}}, {"name": "legal/contract"}):
            before = counted()
            await error_of(client, "call_skill", arguments)
            assert counted() == before + 1


class TestChanges:
    @pytest.fixture(autouse=True)
    def published(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Publish at once; return the namespace of each endpoint that was told of a change."""
        monkeypatch.setattr(list_changes, "CHANGE_DELAY_SECONDS", 0.01)
        told: list[str] = []
        before = list_changes.ListChanges._publish

        async def publish(changes: Any, stream: Any, changed: Any) -> None:
            sent, publish_event = len(told), stream.bus.publish

            async def record(event: Any) -> None:
                told.append(f"{stream.caller.name} {stream.endpoint.namespace}{'search' * stream.endpoint.search_only}")
                await publish_event(event)

            stream.bus.publish = record
            await before(changes, stream, changed)
            stream.bus.publish = publish_event
            assert len(told) <= sent + len(changes._streams)

        monkeypatch.setattr(list_changes.ListChanges, "_publish", publish)
        return told

    @staticmethod
    async def heard(events: Any) -> None:
        async with asyncio.timeout(20):
            assert isinstance(await anext(aiter(events)), ToolsListChanged)

    async def test_who_has_the_search_alone_hears_only_of_its_end(self, world: Guarded, published: list[str]) -> None:
        world.api_server.rights = {("", "")}
        list_all(world, 2)
        know(world, "finance/a", "finance/b", "legal/c")
        async with (
            agent(world, "auto") as many,
            agent(world, "auto", path="/mcp/legal") as few,
            many.listen(tools_list_changed=True) as of_many,
            few.listen(tools_list_changed=True) as of_few,
        ):
            for generation in range(2, 7):
                body = deployed("c", "legal", generation=generation)
                world.directory.on_skill("MODIFIED", body)
                await self.heard(of_few)
            assert published == ["alice legal"] * 5
            world.directory.on_skill(
                "DELETED", deployed("b") | {"metadata": deployed("b")["metadata"] | {"uid": "finance/b"}}
            )
            await self.heard(of_many)
            assert published == ["alice legal"] * 5 + ["alice "]

    async def test_nobody_hears_of_what_is_not_its_own(self, world: Guarded, published: list[str]) -> None:
        world.api_server.rights = {("finance", ""), ("legal", "c")}
        async with (
            agent(world, "auto") as all_of_them,
            agent(world, "auto", path="/mcp/finance") as finance,
            agent(world, "auto", path="/mcp/search") as search,
            all_of_them.listen(tools_list_changed=True) as of_all,
            finance.listen(tools_list_changed=True) as of_finance,
            search.listen(tools_list_changed=True),
        ):
            know(world, "legal/secret")
            know(world, "legal/c")
            await self.heard(of_all)
            know(world, "finance/a")
            await self.heard(of_finance)
            await self.heard(of_all)
        assert sorted(published) == ["alice ", "alice ", "alice finance"]


class TestOverHttp:
    async def search(self, world: Guarded, query: str, **headers: str) -> tuple[int, list[str]]:
        status, body, _ = await world.get(f"/v1/skills?{query}", **ALICE, **headers)
        return status, [skill["name"] for skill in body.get("skills", [])]

    async def test_the_best_come_first(self, world: Guarded) -> None:
        world.api_server.rights = {("finance", ""), ("sales", "")}
        know(world, "finance/invoice-total", "finance/invoice", "sales/other", "legal/invoice")
        world.directory.on_skill("ADDED", skill("new-invoice", "sales", summary="Never deployed, an invoice."))
        assert (await self.search(world, "q=invoices"))[1][0] == "invoice"
        assert set((await self.search(world, "q=invoices"))[1]) == {"invoice-total", "invoice", "new-invoice"}
        assert await self.search(world, "q=invoices&limit=1") == (200, ["invoice"])
        assert await self.search(world, "q=invoices&namespace=sales") == (200, ["new-invoice"])
        assert await self.search(world, "q=zebra") == (200, [])
        assert len((await self.search(world, "q="))[1]) == 4, "no words are no search"

    @pytest.mark.parametrize(
        "query",
        ["q=x&limit=0", "q=x&limit=21", "q=x&limit=", "q=x&limit=%C2%B2", "q=x&limit=1e1", "limit=5", "q=x&limit=-1"],
    )
    async def test_a_limit_that_is_none(self, world: Guarded, query: str) -> None:
        assert (await self.search(world, query))[0] == 400

    async def test_a_query_that_is_too_long(self, world: Guarded) -> None:
        assert (await self.search(world, "q=" + "x" * 1024))[0] == 200
        for query in ("x" * 1025, "%C3%A9" * 513):
            assert (await self.search(world, f"q={query}"))[0] == 400

    async def test_it_needs_a_token(self, world: Guarded) -> None:
        assert (await world.get("/v1/skills?q=x"))[0] == 401


async def test_many_callers_search_at_once(world: Guarded) -> None:
    """Each gets what it may call, whoever searches beside it."""
    know(world, *(f"team-{number}/s{each}" for number in range(4) for each in range(10)))
    for number in range(4):
        account = test_kubernetes.service_account(f"team-{number}", "app", f"{number}")
        world.api_server.users[f"t{number}"] = account
    world.api_server.rights = {(f"team-{number}", "") for number in range(4)}

    async def of(number: int) -> set[str]:
        headers = {"Authorization": f"Bearer t{number}"}
        async with agent(world, "auto", headers, f"/mcp/team-{number}") as client:
            return {found["name"] for found in await find(client, f"team {number}", limit=20)}

    assert await asyncio.gather(*(of(number) for number in range(4))) == [{f"s{each}" for each in range(10)}] * 4
