"""What callers are told of the skills, and of their own mistakes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from prometheus_client import REGISTRY

from tests.unit.gateway import test_auth
from tests.unit.gateway.objects import skill
from tests.unit.gateway.world import World, fine

pytestmark = pytest.mark.timeout(60)
ALICE = {"Authorization": "Bearer good"}
DOCUMENTED = Path(__file__).parents[3] / "docs" / "gateway-api.md"


class Guarded(World):
    """A gateway that asks an API server, which knows Alice."""

    def __init__(self, stack: AsyncExitStack) -> None:
        super().__init__(stack)
        self.api_server = test_auth.World()
        self.gatekeeper = self.api_server.gate

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, Any], Any]:
        async with self.client.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None), answer


@pytest.fixture
async def world() -> AsyncIterator[Guarded]:
    async with AsyncExitStack() as stack:
        made = Guarded(stack)
        await made.start()
        yield made


async def test_only_who_may_call_calls(world: Guarded) -> None:
    calls = await world.pod(fine)
    world.know()
    status, problem, answer = await world.call()
    assert (status, problem["type"]) == (401, "urn:skill-operator:unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    status, problem, _ = await world.call(headers={"Authorization": "Bearer bad"})
    assert status == 401
    assert calls == []
    for _ in range(2):  # asked, and known
        status, _, _ = await world.call(headers=ALICE)
        assert status == 200
    assert len(calls) == 2
    assert "x-skill-caller: alice" in calls[0].head.lower()
    assert "good" not in calls[0].head
    world.api_server.rights.clear()
    world.api_server.time += 10
    status, problem, _ = await world.call(headers=ALICE)
    assert (status, problem["type"]) == (403, "urn:skill-operator:forbidden")


async def test_whether_a_skill_exists_is_told_to_those_who_may_call_it(world: Guarded) -> None:
    world.know()
    world.directory.see_skill("ADDED", skill("contract", "legal"))
    seen = set()
    for name in ("contract", "nothing"):
        for status, problem, _ in (
            await world.call(path=f"/v1/skills/legal/{name}", headers=ALICE),
            await world.get(f"/v1/skills/legal/{name}", **ALICE),
        ):
            seen.add((status, problem["type"], problem["detail"].replace(name, "NAME")))
    assert len(seen) == 1
    assert seen.pop()[0] == 403
    world.api_server.rights.add(("finance", "nothing"))
    assert (await world.get("/v1/skills/finance/nothing", **ALICE))[0] == 404


async def test_lists_show_what_one_may_call(world: Guarded) -> None:
    world.know()
    world.directory.see_skill("ADDED", skill("contract", "legal"))
    for path in ("/v1/skills", "/openapi.json", "/v1/skills/finance/invoice"):
        assert (await world.get(path))[0] == 401
    _, listed, _ = await world.get("/v1/skills", **ALICE)
    assert [(s["namespace"], s["name"], s["tool"]) for s in listed["skills"]] == [
        ("finance", "invoice", "finance__invoice")
    ]
    _, described, _ = await world.get("/v1/skills/finance/invoice", **ALICE)
    assert described["examples"] == [{"name": "plain", "input": {"lines": []}, "output": {"total": 0}}]
    assert described["input"]["required"] == ["lines"]
    _, document, answer = await world.get("/openapi.json", **ALICE)
    validate(document, cls=OpenAPIV31SpecValidator)
    assert "/v1/skills/finance/invoice" in document["paths"]
    assert "legal" not in await answer.text()


async def test_one_id_through_all(world: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    calls = await world.pod(fine)
    world.know()
    caplog.set_level("INFO")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    parent = f"00-{trace}-00f067aa0ba902b7-01"
    for sent, wanted in (
        ({"traceparent": parent}, trace),
        ({"traceparent": parent, "X-Request-Id": "mine"}, "mine"),
        ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, None),
        ({"traceparent": f"ff-{trace}-00f067aa0ba902b7-01"}, None),
        ({"traceparent": "rubbish", "X-Request-Id": "a\tb"}, None),
    ):
        caplog.clear()
        _, _, answer = await world.call(headers={**ALICE, **sent})
        given = answer.headers["X-Request-Id"]
        assert given == wanted or (wanted is None and re.fullmatch("[0-9a-f]{32}", given) and given != trace)
        assert f"x-request-id: {given}" in calls[-1].head.lower()
        assert given in {getattr(record, "request", None) for record in caplog.records}
    _, _, answer = await world.get("/v1/skills", **ALICE, traceparent=parent)
    assert answer.headers["X-Request-Id"] == trace


async def test_calls_are_counted(world: Guarded) -> None:
    def count(outcome: str) -> float:
        labels = {"namespace": "finance", "skill": "invoice", "outcome": outcome}
        return REGISTRY.get_sample_value("skill_gateway_skill_calls_total", labels) or 0

    def refused(type_: str) -> float:
        return REGISTRY.get_sample_value("skill_gateway_refused_total", {"type": type_}) or 0

    await world.pod(fine)
    world.know()
    before = count("2xx"), count("invalid-input"), refused("unauthenticated"), refused("invalid-input")
    await world.call(headers=ALICE)
    await world.call(b"{}", headers=ALICE)
    await world.call()
    await world.get("/v1/skills")
    after = count("2xx"), count("invalid-input"), refused("unauthenticated"), refused("invalid-input")
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 2, 1]


async def test_a_page_of_another_site_is_refused(world: Guarded) -> None:
    status, problem, _ = await world.get("/v1/skills", Origin="https://evil.example", **ALICE)
    assert (status, problem["type"]) == (403, "urn:skill-operator:foreign-origin")


def test_every_problem_is_documented() -> None:
    """And every documented one exists, here or in the runtime."""
    sources = Path(__file__).parents[3]
    found = set()
    for path in (sources / "operator/src/skill_operator/gateway").glob("*.py"):
        found |= set(re.findall(r'Problem\(\s*(?:[\w.]+),\s*"([a-z0-9.-]+)"', path.read_text()))
    runtime = (sources / "base-image/src/skill_runtime/problems.py").read_text()
    inside = set(re.findall(r'Problem\("([a-z-]+)"', runtime)) - {"invalid-request", "not-found", "method-not-allowed"}
    documented = set(re.findall(r"^\| `([a-z0-9.-]+)` \|", DOCUMENTED.read_text(), re.MULTILINE))
    assert found >= {"unauthenticated", "forbidden", "too-many-at-once"}
    assert found | inside == documented
