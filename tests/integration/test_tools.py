"""Skills as agents see them on the real cluster, and what a Skill says of that."""

from __future__ import annotations

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

    headers = {"Authorization": f"Bearer {operator.token}"}
    url = f"http://127.0.0.1:{operator.gateway}/mcp/"
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as connection,
        Client(streamable_http_client(url, http_client=connection), cache=None) as client,
    ):
        listed = {one.name: one for one in (await client.list_tools()).tools}[tool]
        assert listed.description == "Raises a price."
        (price,) = listed.input_schema["required"]
        for name in (tool, f"{namespace}__price.list"):
            result = await client.call_tool(name, {price: 41})
            assert result.structured_content == {price: 42}
