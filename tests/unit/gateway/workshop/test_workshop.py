"""What is written for an agent that asks for a Skill, for whom, and how it is told how that stands."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from skill_operator import naming
from skill_operator.gateway.access.authorizer import AllowAll, Caller
from skill_operator.gateway.pods.directory import Directory
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.skill_search import SkillSearch
from skill_operator.gateway.workshop import workshop as workshop_module
from skill_operator.gateway.workshop.task import TaskId
from skill_operator.gateway.workshop.workshop import Workshop
from skill_operator.k8s.errors import Unavailable
from skill_operator.settings import WorkshopSettings
from tests.unit.gateway.objects import skill
from tests.unit.gateway.workshop.workshop_world import (
    ALICE,
    ALICE_HEADERS,
    BOB_HEADERS,
    CELSIUS,
    QUOTA,
    OpenWorkshop,
)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def world() -> AsyncIterator[OpenWorkshop]:
    async with AsyncExitStack() as stack:
        made = OpenWorkshop(stack)
        await made.start()
        yield made


def key_of(told: dict[str, Any]) -> tuple[str, str]:
    return told["namespace"], told["name"]


async def test_a_request_becomes_a_skill_and_nothing_else(world: OpenWorkshop) -> None:
    status, told, response = await world.ask()
    assert status == 202
    assert (told["status"], told["reason"]) == ("working", "Pending")
    ((key, stored),) = world.store.skills.items()
    assert key == key_of(told)
    assert told["name"].startswith("converts-a-temperature-")
    assert told["taskId"] == f"{stored['metadata']['uid']}.1"
    assert response.headers["Location"] == f"/v1/skills/finance/{told['name']}/status"
    assert set(stored["metadata"]["annotations"]) == {naming.CREATED_BY_ANNOTATION, naming.REQUEST_ANNOTATION}
    assert stored["metadata"]["annotations"][naming.CREATED_BY_ANNOTATION] == ALICE
    assert set(stored["spec"]) == {*CELSIUS, "generation", "review", "archiveAfterSeconds"}
    assert stored["spec"]["review"] == "Automatic"
    assert stored["spec"]["archiveAfterSeconds"] == 2_592_000
    assert [one["name"] for one in stored["spec"]["examples"]] == ["example-1", "example-2", "example-3"]


async def test_twenty_equal_requests_at_once_make_one_skill(world: OpenWorkshop) -> None:
    answers = await asyncio.gather(*(world.ask() for _ in range(20)))
    assert len(world.store.skills) == world.store.writes == 1
    assert {told["taskId"] for _, told, _ in answers} == {"00000000-0000-0000-0000-000000000001.1"}
    assert {status for status, _, _ in answers} <= {200, 202}
    assert (await world.ask())[0] == 200


async def test_two_replicas_that_know_nothing_of_each_other_make_one_skill(world: OpenWorkshop) -> None:
    _, first, _ = await world.ask()
    world.directory.entries.clear()  # as a replica whose watch is late
    status, second, _ = await world.ask()
    assert (status, second["taskId"]) == (200, first["taskId"])
    assert world.store.writes == 1


async def test_what_was_written_although_the_answer_is_lost_is_found(world: OpenWorkshop) -> None:
    world.store.fault_after_write = Unavailable("the connection broke")
    status, told, _ = await world.ask()
    assert (status, told["taskId"]) == (200, "00000000-0000-0000-0000-000000000001.1")
    world.store.fault = Unavailable("away")
    status, problem, response = await world.ask(CELSIUS | {"description": "Another."})
    assert (status, problem["type"]) == (503, "urn:skill-operator:api-server-unavailable")
    assert response.headers["Retry-After"]


async def test_a_taken_name_is_no_task_of_others(world: OpenWorkshop) -> None:
    named = CELSIUS | {"name": "warm"}
    _, told, _ = await world.ask(named)
    assert told["name"] == "warm"
    for body, headers in ((named | {"description": "Else."}, ALICE_HEADERS), (named, BOB_HEADERS)):
        status, problem, _ = await world.ask(body, headers=headers)
        assert (status, problem["type"]) == (409, "urn:skill-operator:skill-exists")
    assert world.store.writes == 1


async def test_who_may_not_create_writes_and_learns_nothing(world: OpenWorkshop) -> None:
    world.api_server.creators = set()
    answers = []
    for namespace in ("legal", "nowhere"):
        status, problem, _ = await world.ask(b"rubbish", namespace)
        answers.append((status, problem["type"], problem["detail"].replace(namespace, "NAMESPACE")))
    assert len(set(answers)) == 1
    assert answers[0][:2] == (403, "urn:skill-operator:creation-forbidden")
    assert (await world.ask(headers={}))[0] == 401
    assert world.store.skills == {}


async def test_a_namespace_without_the_label_is_closed(world: OpenWorkshop) -> None:
    status, problem, _ = await world.ask(namespace="legal")
    assert (status, problem["type"]) == (403, "urn:skill-operator:workshop-closed")
    for value in ("", "true", "Enabled"):
        world.store.namespaces["legal"] = {naming.WORKSHOP_LABEL: value}
        assert (await world.ask(namespace="legal"))[0] == 403
    assert world.store.skills == {}


@pytest.mark.parametrize(
    ("label", "review"),
    [
        ("Manual", "Manual"),
        ("Automatic", "Automatic"),
        ("WhenInDoubt", "WhenInDoubt"),
        ("manual", "Manual"),
        ("whenindoubt", "Manual"),
    ],
)
async def test_the_namespace_says_who_reviews(world: OpenWorkshop, label: str, review: str) -> None:
    world.store.namespaces["finance"][naming.WORKSHOP_REVIEW_LABEL] = label
    _, told, _ = await world.ask()
    assert world.store.skills[key_of(told)]["spec"]["review"] == review


@pytest.mark.parametrize("own", ["Automatic", "WhenInDoubt", "Manual"])
@pytest.mark.parametrize("of_all", ["WhenInDoubt", "Manual"])
async def test_a_namespace_where_all_is_reviewed_has_this_reviewed_too(
    world: OpenWorkshop, own: str, of_all: str
) -> None:
    world.store.namespaces["finance"] |= {naming.REVIEW_LABEL: of_all, naming.WORKSHOP_REVIEW_LABEL: own}
    _, told, _ = await world.ask()
    strictest = "Manual" if "Manual" in (own, of_all) else "WhenInDoubt"
    assert world.store.skills[key_of(told)]["spec"]["review"] == strictest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"egress": [{"cidr": "203.0.113.0/24", "ports": [443]}]}, "no field egress"),
        ({"secrets": []}, "no field secrets"),
        ({"resources": {}}, "no field resources"),
        ({"summary": ""}, "summary must say"),
        ({"summary": 7}, "summary must say"),
        ({"name": "Not a name"}, "name must be"),
        ({"name": "a" * 64}, "name must be"),
        ({"namespace": "legal"}, "namespace must be finance"),
        ({"force": "yes"}, "force must be"),
        ({"input": {"type": "string"}}, "must be object"),
        ({"input": []}, "request.input"),
        ({"input": {"type": "object", "$ref": "https://example.com"}}, "spec.input"),
        ({"examples": "none"}, "must be a list"),
        ({"examples": [7]}, "must be a list"),
        ({"examples": [{"input": {}, "output": {}, "weight": 1}]}, "no field weight"),
        ({"examples": [{"input": {"celsius": "a"}, "output": {"fahrenheit": 1}}]}, "celsius"),
        ({"examples": [{"input": {"celsius": 1}, "output": {"fahrenheit": n}} for n in (1, 2)]}, "contradicts"),
        ({"description": "x" * 16_385}, "request.description"),
        ({"source": {"inline": "x"}}, "request.source"),
        ({"source": "x" * 65_537}, "request.source"),
    ],
)
async def test_what_is_no_valid_request_is_told_in_words(
    world: OpenWorkshop, change: dict[str, Any], words: str
) -> None:
    status, problem, _ = await world.ask(CELSIUS | change)
    assert (status, problem["type"]) == (422, "urn:skill-operator:invalid-skill")
    assert words in problem["detail"]
    assert world.store.skills == {}


@pytest.mark.parametrize("field", ["summary", "description", "input", "output", "examples"])
async def test_a_field_is_missing(world: OpenWorkshop, field: str) -> None:
    status, problem, _ = await world.ask({key: value for key, value in CELSIUS.items() if key != field})
    assert (status, field in problem["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b"7", 422),
        (b'{"summary": NaN}', 400),
        (json.dumps(CELSIUS).encode("utf-16"), 400),
        (b'{"summary": "\\ud800"}', 422),
        (b'{"a":' * 40 + b"1" + b"}" * 40, 422),
        (b'{"a":' * 400 + b"1" + b"}" * 400, 413),
        (b'{"a":[' + b"1," * 20_000 + b"1]}", 413),
        (b'{"a":"' + b"x" * (1 << 18) + b'"}', 413),
    ],
)
async def test_a_body_is_bounded(world: OpenWorkshop, body: bytes, status: int) -> None:
    got, problem, _ = await world.ask(body)
    assert (got, problem["status"]) == (status, status)
    assert world.store.skills == {}


async def test_a_quota_is_told_in_the_api_server_s_words(world: OpenWorkshop) -> None:
    world.store.fault = QUOTA
    status, problem, _ = await world.ask()
    assert (status, problem["type"]) == (403, "urn:skill-operator:creation-refused")
    assert "limited: count/skills.skill-operator.dev=5" in problem["detail"]
    assert "Have unused Skills deleted" in problem["detail"]


async def test_source_of_the_agent_s_own_is_pinned(world: OpenWorkshop) -> None:
    source = "def run(input):\n    return {'fahrenheit': input['celsius'] * 9 / 5 + 32}\n"
    _, told, _ = await world.ask(CELSIUS | {"source": source})
    assert world.store.skills[key_of(told)]["spec"]["source"] == {"inline": source}
    world.store.ready(key_of(told), evidence={"author": "same"})
    _, state, _ = await world.get(f"/v1/skills/finance/{told['name']}/status", **ALICE_HEADERS)
    assert state["status"] == "completed"
    assert "one agent wrote both the code and the examples" in state["note"]


async def test_a_skill_that_fits_is_offered_instead(world: OpenWorkshop) -> None:
    spec = {key: CELSIUS[key] for key in ("summary", "description", "input", "output")}
    world.know(body=skill("warmth", **spec))
    status, told, _ = await world.ask(
        CELSIUS | {"summary": "Convert temperatures: Celsius to Fahrenheit", "description": "Degrees."}
    )
    assert (status, told["status"]) == (200, "offered")
    assert [one["name"] for one in told["skills"]] == ["finance__warmth"]
    assert told["skills"][0]["input"]["required"] == ["celsius"]
    assert world.store.skills == {}
    assert (await world.ask(CELSIUS | {"force": True}))[0] == 202


@pytest.mark.parametrize(
    "other",
    [
        {"summary": "Parses dates of invoices."},
        {"input": {"type": "object", "properties": {"celsius": {"type": "string"}}, "required": ["celsius"]}},
        {
            "input": {
                "type": "object",
                "properties": {"celsius": {"type": "number"}, "key": {"type": "string"}},
                "required": ["celsius", "key"],
            }
        },
        {"output": {"type": "object", "properties": {"kelvin": {"type": "number"}}}},
        {
            "input": {
                "type": "object",
                "properties": {"celsius": {"type": "number", "minimum": 0}},
                "required": ["celsius"],
            }
        },
    ],
)
async def test_what_does_not_fit_is_not_offered(world: OpenWorkshop, other: dict[str, Any]) -> None:
    spec = {key: CELSIUS[key] for key in ("summary", "description", "input", "output")}
    world.know(body=skill("warmth", **(spec | other)))
    assert (await world.ask())[0] == 202


async def test_what_is_not_visible_or_not_ready_is_not_offered(world: OpenWorkshop) -> None:
    spec = {key: CELSIUS[key] for key in ("summary", "description", "input", "output")}
    world.directory.on_skill("ADDED", skill("warmth", "legal", **spec))
    world.directory.on_skill("ADDED", skill("cold", ready=("False", "Generating", ""), **spec))
    mine = skill("of-bob", **spec)
    mine["metadata"]["annotations"] = {naming.CREATED_BY_ANNOTATION: "bob"}
    world.directory.on_skill("ADDED", mine)
    assert (await world.ask())[0] == 202


async def test_only_its_maker_is_shown_what_was_asked_for(world: OpenWorkshop) -> None:
    _, told, _ = await world.ask()
    key = key_of(told)
    world.store.ready(key)

    async def listed(headers: dict[str, str]) -> list[str]:
        found = [(await world.get(path, **headers))[1]["skills"] for path in ("/v1/skills", "/v1/skills?q=celsius")]
        assert found[0] == found[1]
        _, document, _ = await world.get("/openapi.json", **headers)
        assert (f"/v1/skills/finance/{key[1]}" in document["paths"]) == bool(found[0])
        return [one["name"] for one in found[0]]

    assert await listed(ALICE_HEADERS) == [key[1]]
    assert await listed(BOB_HEADERS) == []
    world.store.annotate(key, promoted_by="reviewer")
    assert await listed(BOB_HEADERS) == [key[1]]


async def test_its_state_is_told_to_its_maker_and_to_who_may_call_it(world: OpenWorkshop) -> None:
    _, told, _ = await world.ask()
    path = f"/v1/skills/finance/{told['name']}/status"
    world.api_server.rights = set()
    world.api_server.time += 20
    assert (await world.get(path, **ALICE_HEADERS))[0] == 200
    answers = [await world.get(f"/v1/skills/finance/{name}/status", **BOB_HEADERS) for name in (told["name"], "none")]
    assert {(status, problem["type"]) for status, problem, _ in answers} == {(403, "urn:skill-operator:forbidden")}
    assert (await world.get(path))[0] == 401


async def test_a_flood_of_one_caller_leaves_others_alone(world: OpenWorkshop) -> None:
    made = OpenWorkshop(AsyncExitStack(), per_minute=30)
    async with AsyncExitStack() as stack:
        made._stack = stack
        await made.start()
        flood = asyncio.gather(*(made.ask(CELSIUS | {"description": f"Variant {n}."}) for n in range(200)))
        await asyncio.sleep(0)
        start_time = time.monotonic()
        status, _, _ = await made.ask(headers=BOB_HEADERS)
        seconds = time.monotonic() - start_time
        answers = await flood
    assert status == 202
    assert seconds < 2
    codes = [code for code, _, _ in answers]
    assert codes.count(202) == 5
    assert codes.count(429) == 195
    assert all(response.headers["Retry-After"] for code, _, response in answers if code == 429)


async def test_without_the_workshop_the_paths_are_not_there() -> None:
    async with AsyncExitStack() as stack:
        made = OpenWorkshop(stack)
        gateway = made.settings.gateway.model_copy(update={"workshop": type(made.settings.gateway.workshop)()})
        made.settings = made.settings.model_copy(update={"gateway": gateway})
        await made.start()
        assert (await made.ask())[0] == 404
        made.know()
        assert (await made.get("/v1/skills/finance/invoice/status", **ALICE_HEADERS))[0] == 404
        assert made.store.skills == {}


async def test_a_call_of_a_skill_is_no_request_for_one(world: OpenWorkshop) -> None:
    world.api_server.rights.add(("finance", "nothing"))
    status, problem, _ = await world.call(path="/v1/skills/finance/nothing", headers=ALICE_HEADERS)
    assert (status, problem["type"]) == (404, "urn:skill-operator:skill-not-found")
    status, problem, response = await world.get("/v1/skills/finance", **ALICE_HEADERS)
    assert (status, response.headers["Allow"]) == (405, "POST")


class TestTasksOfOthers:
    OWN, OTHERS, MISSING = (f"{digit * 8}-2222-3333-4444-555555555555" for digit in "abc")

    @pytest.fixture
    def waits(self, monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Timeout]:
        """Each wait for a task that is not known; it has expired, or not."""
        made: list[asyncio.Timeout] = []
        timeout = asyncio.timeout

        def recorded(seconds: float) -> asyncio.Timeout:
            made.append(timeout(seconds))
            return made[-1]

        monkeypatch.setattr(workshop_module, "UNKNOWN_SECONDS", 0.02)
        monkeypatch.setattr(workshop_module.asyncio, "timeout", recorded)
        return made

    @staticmethod
    def stored(uid: str, maker: str) -> dict[str, Any]:
        body = skill(f"of-{uid[:8]}")
        body["metadata"] |= {"uid": uid, "annotations": {naming.CREATED_BY_ANNOTATION: maker}}
        return body

    @pytest.fixture
    def directory(self) -> Directory:
        made = Directory()
        made.on_skill("ADDED", self.stored(self.OTHERS, "bob"))
        return made

    @pytest.fixture
    def workshop(self, directory: Directory) -> Workshop:
        return Workshop(None, directory, AllowAll(), SkillSearch(directory), WorkshopSettings())  # type: ignore[arg-type]

    @pytest.mark.parametrize("uid", [OTHERS, MISSING])
    async def test_one_that_exists_takes_as_long_as_one_that_does_not(
        self, workshop: Workshop, waits: list[asyncio.Timeout], uid: str
    ) -> None:
        with pytest.raises(Problem) as raised:
            await workshop.find(Caller("alice"), TaskId(uid, 1))
        assert raised.value.slug == "task-not-found"
        assert [wait.expired() for wait in waits] == [True]

    async def test_an_own_one_is_waited_for_until_the_watch_tells_of_it(
        self, workshop: Workshop, directory: Directory, waits: list[asyncio.Timeout], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workshop_module, "UNKNOWN_SECONDS", 30)
        found = asyncio.create_task(workshop.find(Caller("alice"), TaskId(self.OWN, 1)))
        await asyncio.sleep(0)
        directory.on_skill("ADDED", self.stored(self.OWN, "alice"))
        assert (await found).skill.metadata.uid == self.OWN
        assert [wait.expired() for wait in waits] == [False]
