"""Skills as agents see them on the real cluster, and what a Skill says of that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from skill_operator import naming
from tests.integration.installed import Operator, until
from tests.integration.test_skill import apply, skill

pytestmark = pytest.mark.cluster
PRICE = {"type": "object", "properties": {"Unit price": {"type": "integer"}}, "required": ["Unit price"]}
SOURCE = """
def run(input: dict) -> dict:
    return {"Unit price": input["Unit price"] + 1}
"""


async def test_an_odd_skill_is_a_tool_that_every_client_takes(operator: Operator, namespace: str) -> None:
    examples = [{"name": "one", "input": {"Unit price": 1}, "output": {"Unit price": 2}}]
    spec = {"input": PRICE, "output": PRICE, "examples": examples, "source": {"inline": SOURCE}}
    apply(operator, namespace, skill("price.list", summary="Raises a price.", callTimeoutSeconds=10, **spec))
    operator.ready(namespace, "price.list")

    def told() -> list[tuple[str, int]]:
        events = operator.cluster.get("-n", namespace, "events", "--field-selector=reason=ToolAdapted")["items"]
        return [(event["message"], event["count"]) for event in events]

    first = until("the Skill says what agents see", 30, told)
    operator.cluster.kubectl("-n", namespace, "label", "skill", "price.list", "team=prices")
    operator.cluster.kubectl("-n", namespace, "delete", "pods", "--all", "--wait=false")
    operator.ready(namespace, "price.list")
    assert told() == first, "it is told once"
    ((message, _),) = first
    tool = naming.tool(namespace, "price.list")
    assert tool in message
    assert '"Unit price" as Unit_price_' in message

    async with agent(operator, f"/mcp/{namespace}/") as client:
        listed = {one.name: one for one in (await client.list_tools()).tools}[naming.bare_tool(namespace, "price.list")]
        assert listed.description == "Raises a price."
        (price,) = listed.input_schema["required"]
        for name in (listed.name, "price.list", f"{namespace}__price.list"):
            result = await client.call_tool(name, {price: 41})
            assert result.structured_content == {price: 42}


async def test_an_agent_finds_a_sleeping_skill_and_calls_it(operator: Operator, namespace: str) -> None:
    spec = {"input": PRICE, "output": PRICE, "source": {"inline": SOURCE}, "callTimeoutSeconds": 10}
    examples = [{"name": "one", "input": {"Unit price": 1}, "output": {"Unit price": 2}}]
    apply(operator, namespace, skill("markup", summary="Raises a price by one.", examples=examples, **spec))
    operator.ready(namespace, "markup")
    operator.cluster.kubectl("-n", namespace, "scale", "deployment/skill-markup", "--replicas=0")
    operator.reason(namespace, "markup", "Active", "Asleep", 30)
    pods = ("pod", "-l", "skill-operator.dev/skill=markup")
    operator.cluster.kubectl("-n", namespace, "wait", "--for=delete", *pods, "--timeout=60s")
    async with agent(operator, "/mcp/search") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["call_skill", "find_skills"]
        query = {"query": f"raising prices {namespace}", "limit": 20}
        found = (await client.call_tool("find_skills", query)).structured_content["skills"]
        (hit,) = [one for one in found if one["name"] == f"{namespace}__markup"]
        assert hit["state"] == "asleep"
        (price,) = hit["input"]["required"]
        result = await client.call_tool("call_skill", {"name": hit["name"], "input": {price: 41}})
        assert result.structured_content == {price: 42}
        unknown = await client.call_tool("call_skill", {"name": f"{namespace}/nothing", "input": {}})
        assert unknown.is_error


@asynccontextmanager
async def agent(operator: Operator, path: str) -> AsyncIterator[Client]:
    """Connect as an agent that may call every Skill."""
    headers = {"Authorization": f"Bearer {operator.token}"}
    url = f"http://127.0.0.1:{operator.gateway}{path}"
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as connection,
        Client(streamable_http_client(url, http_client=connection), cache=None) as client,
    ):
        yield client
