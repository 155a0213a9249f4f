"""What callers learn of the skills, and of their own mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from prometheus_client import REGISTRY

from skill_operator.observability import logs
from tests.unit.gateway.access import test_kubernetes
from tests.unit.gateway.objects import in_archive, skill
from tests.unit.gateway.world import World, fine

pytestmark = pytest.mark.timeout(60)
ALICE = {"Authorization": "Bearer good"}


class Guarded(World):
    """A gateway that asks an API server, which knows Alice."""

    def __init__(self, stack: AsyncExitStack) -> None:
        super().__init__(stack)
        self.api_server = test_kubernetes.World()
        self.authorizer = self.api_server.authorizer

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
    for _ in range(2):  # from the API server, and from the cache
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
    world.directory.on_skill("ADDED", skill("contract", "legal"))
    answers = set()
    for name in ("contract", "nothing"):
        for status, problem, _ in (
            await world.call(path=f"/v1/skills/legal/{name}", headers=ALICE),
            await world.get(f"/v1/skills/legal/{name}", **ALICE),
        ):
            answers.add((status, problem["type"], problem["detail"].replace(name, "NAME")))
    assert len(answers) == 1
    assert answers.pop()[0] == 403
    world.api_server.rights.add(("finance", "nothing"))
    assert (await world.get("/v1/skills/finance/nothing", **ALICE))[0] == 404


async def test_lists_show_what_one_may_call(world: Guarded) -> None:
    world.know()
    world.directory.on_skill("ADDED", skill("contract", "legal"))
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


async def test_what_is_archived_is_found_and_not_listed(world: Guarded) -> None:
    world.directory.on_skill("ADDED", in_archive(skill()))
    for path in ("/v1/skills", "/v1/skills?namespace=finance", "/openapi.json"):
        _, _, answer = await world.get(path, **ALICE)
        assert "invoice" not in await answer.text(), path
    _, found, _ = await world.get("/v1/skills?q=invoice", **ALICE)
    (one,) = found["skills"]
    told = {key: one[key] for key in ("name", "ready", "awake", "state", "reason")}
    assert told == {"name": "invoice", "ready": True, "awake": False, "state": "archived", "reason": "Archived"}
    _, described, _ = await world.get("/v1/skills/finance/invoice", **ALICE)
    assert described["state"] == "archived"
    world.directory.on_skill("MODIFIED", skill())
    _, listed, _ = await world.get("/v1/skills", **ALICE)
    assert [(each["name"], each["state"]) for each in listed["skills"]] == [("invoice", "asleep")]


def called(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What the log has of calls since it was looked at last."""
    logs.flush()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    return [line for line in lines if line["message"] == "call"]


async def test_one_id_through_all(
    world: Guarded, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
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
        _, _, answer = await world.call(headers={**ALICE, **sent})
        given = answer.headers["X-Request-Id"]
        assert given == wanted or (wanted is None and re.fullmatch("[0-9a-f]{32}", given) and given != trace)
        assert f"x-request-id: {given}" in calls[-1].head.lower()
        (line,) = called(capsys)
        assert (line["request"], line["caller"], line["status"]) == (given, "alice", 200)
    _, _, answer = await world.get("/v1/skills", **ALICE, traceparent=parent)
    assert answer.headers["X-Request-Id"] == trace


@pytest.mark.parametrize(
    "name",
    [
        'a"b\\c',
        "two\nlines",
        "\x1b[31mred\x7f",
        "\u202egnp.exe",
        "half a pair \ud800",
        "\N{GRINNING FACE}",
        "x" * 5000,
        "Bearer abcdefgh12345678abcdefgh",
        "http://robot:hunter22-long@registry.example/",
        '", "status": 999, "x": "',
    ],
    ids=lambda name: ascii(name)[:20],
)
async def test_the_log_tells_who_called_whatever_his_name_is(
    world: Guarded, name: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.pod(fine)
    world.know()
    world.api_server.users["good"] = test_kubernetes.ALICE | {"username": name}
    caplog.set_level("INFO")
    (status, _, _), (refused, _, _) = [await world.call(data, headers=ALICE) for data in (b'{"lines": []}', b"[")]
    logs.flush()
    printed = capsys.readouterr().err
    assert printed.isascii()
    assert printed.count("\n") == 2
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["status"] for line in lines] == [status, refused] == [200, 400]
    for line in lines:
        assert line["caller"].isprintable()
        assert len(line["caller"]) <= 200
        assert line["path"] == "/v1/skills/finance/invoice"
    assert not {part for part in ("abcdefgh1234", "hunter22") if part in printed}


async def test_an_id_that_looks_like_a_credential_is_not_told(
    world: Guarded, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.pod(fine)
    world.know()
    caplog.set_level("INFO")
    await world.call(headers=ALICE | {"X-Request-Id": "sk-abcdefghijklmnop1234"})
    (line,) = called(capsys)
    assert line["request"] == "[removed]"


async def test_calls_are_counted(world: Guarded) -> None:
    def count(outcome: str) -> float:
        labels = {"namespace": "finance", "skill": "invoice", "outcome": outcome}
        return REGISTRY.get_sample_value("skill_gateway_skill_calls_total", labels) or 0

    def refused(type_: str) -> float:
        return REGISTRY.get_sample_value("skill_gateway_rejections_total", {"type": type_}) or 0

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
    assert (status, problem["type"]) == (403, "urn:skill-operator:origin-not-allowed")
