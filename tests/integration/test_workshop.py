"""An agent that lacks a tool asks for it, hears how it is made, and calls it: on the real cluster, with the MCP SDK."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from mcp.shared.exceptions import MCPError

from hack.cluster.access import Cluster
from hack.install import NAMESPACE
from skill_operator import naming
from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.gateway.workshop import tools
from skill_operator.generation.holdout import split_examples
from tests.integration import npm_packages
from tests.integration.installed import Answer, Operator, until
from tests.integration.workshop_agent import (
    TasksExtension,
    agent,
    ask,
    maker,
    opened,
    program,
    reply,
    state,
    task,
    wanted,
)

pytestmark = pytest.mark.cluster
GATEWAY = "app.kubernetes.io/component=gateway"


def names(operator: Operator, namespace: str) -> list[str]:
    return operator.cluster.kubectl("-n", namespace, "get", "skills", "-o", "name").split()


async def test_an_agent_gets_the_tool_that_it_lacks_in_the_same_session(operator: Operator, namespace: str) -> None:
    description = f"Oranges, times seven, {namespace}."
    operator.script({description: [reply("input['n'] + 14"), reply("input['n'] * 7")]})
    words: list[str] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        words.append(message or "")

    with opened(operator, namespace) as token:
        async with agent(operator, token) as client:
            listed = {tool.name for tool in (await client.list_tools()).tools}
            assert listed >= tools.NAMES
            request = wanted(description, 7)
            result = await client.call_tool(tools.CREATE_SKILL, request, progress_callback=on_progress)
            value = result.structured_content
            while value["status"] == "working":  # a node that is busy may take longer than the handle
                result = await client.call_tool(tools.SKILL_STATUS, {"taskId": value["taskId"]})
                value = result.structured_content
                await asyncio.sleep(1)
            assert value["status"] == "completed", value
            assert value["tool"] in {tool.name for tool in (await client.list_tools()).tools} - listed
            assert (await client.call_tool(value["tool"], {"n": 6})).structured_content == {"n": 42}
            found = await client.call_tool("find_skills", {"query": f"oranges {namespace}"})
            assert value["tool"] in [skill["name"] for skill in found.structured_content["skills"]]
    said = " ".join(words)
    for part in ("Generating", "Checking", "Building"):
        assert part in said, words
    stored = operator.skill(namespace, value["name"])
    who = f"system:serviceaccount:{namespace}:agent"
    assert stored["metadata"]["annotations"][naming.CREATED_BY_ANNOTATION] == who
    assert stored["status"]["evidence"]["author"] == "model"
    assert who in operator.cluster.kubectl("-n", namespace, "get", "skill", value["name"])
    _, hidden = split_examples(SkillSpec.model_validate(stored["spec"]).examples)
    assert hidden
    conditions = json.dumps(stored["status"]["conditions"])
    for example in hidden:
        for number in (example.input["n"], example.output["n"]):
            assert not re.search(rf"(?<!\w){number}(?!\w)", said + conditions), "what is held out is not told"


def test_a_client_in_another_language_gets_the_tool_as_well(operator: Operator, namespace: str) -> None:
    """It is MCP's official client for TypeScript, which holds results to the schemas that the tools have."""
    description = f"Lemons, times six, {namespace}."
    operator.script({description: [reply("input['n'] * 6")]})
    asked = {"wanted": wanted(description, 6, name="lemons"), "input": {"n": 7}}
    with opened(operator, namespace) as token:
        agent_of_npm = str(npm_packages.ensure() / "agent.mjs")
        command = ("node", agent_of_npm, f"{operator.url}/mcp", token)
        ended = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, timeout=240, check=False
        )
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    assert seen["task"]["status"] == "completed", seen
    assert seen["found"]["skills"] == []
    assert set(seen["after"]) - set(seen["before"]) == {f"{namespace}__lemons"} == {seen["task"]["tool"]}
    assert seen["answer"] == {"n": 42}
    assert any("Checking" in each for each in seen["words"]), seen["words"]
    assert len(operator.asked(description)) == 1


async def test_source_of_an_agent_costs_no_token_and_says_who_judged(operator: Operator, namespace: str) -> None:
    description = f"Pears, times nine, {namespace}."
    with opened(operator, namespace) as token:
        async with agent(operator, token, f"/mcp/{namespace}") as client:
            request = wanted(description, 9, source=program("input['n'] * 9"), name="pears")
            value = (await client.call_tool(tools.CREATE_SKILL, request)).structured_content
            assert (value["status"], value["tool"]) == ("completed", "pears")
            assert "one agent wrote both the code and the examples" in value["note"]
            (listed,) = [tool for tool in (await client.list_tools()).tools if tool.name == "pears"]
            assert "one agent wrote both" in (listed.description or "")
            assert (await client.call_tool("pears", {"n": 2})).structured_content == {"n": 18}
            offered = (await client.call_tool(tools.CREATE_SKILL, request | {"name": "more-pears"})).structured_content
            assert (offered["status"], [one["name"] for one in offered["skills"]]) == (
                "offered",
                [f"{namespace}__pears"],
            )
        other = maker(operator, namespace, "other")
        async with agent(operator, other, f"/mcp/{namespace}") as client:
            assert "pears" not in {tool.name for tool in (await client.list_tools()).tools}
    status = operator.skill(namespace, "pears")["status"]
    assert status["evidence"]["author"] == "same"
    assert status.get("generation") is None
    assert not operator.asked(description)


def test_twenty_equal_requests_make_one_skill(operator: Operator, namespace: str) -> None:
    body = wanted(f"Plums, times three, {namespace}.", 3, source=program("input['n'] * 3"))
    with opened(operator, namespace) as token:
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: ask(operator, namespace, token, body), range(20)))
        assert {answer.status for answer in answers} <= {200, 202}
        assert len({answer.body["taskId"] for answer in answers}) == 1
        assert len(names(operator, namespace)) == 1
        assert ask(operator, namespace, token, body).body["taskId"] == answers[0].body["taskId"]


def test_who_may_not_create_writes_nothing(operator: Operator, namespace: str) -> None:
    body = wanted(f"Figs, {namespace}.", 2)
    caller = operator.cluster.caller(namespace)
    with opened(operator, namespace) as token:
        refused = ask(operator, namespace, caller, body)
        assert (refused.status, refused.body["type"]) == (403, "urn:skill-operator:creation-forbidden")
        elsewhere = ask(operator, "default", token, body)
        assert (elsewhere.status, elsewhere.body["type"]) == (403, "urn:skill-operator:creation-forbidden")
    operator.cluster.kubectl("label", "namespace", namespace, f"{naming.WORKSHOP_LABEL}-")
    closed = ask(operator, namespace, token, body)
    assert (closed.status, closed.body["type"]) == (403, "urn:skill-operator:workshop-closed")
    assert names(operator, namespace) == []


def test_a_quota_is_told_in_words(operator: Operator, namespace: str) -> None:
    hard = "--hard=count/skills.skill-operator.dev=1"
    operator.cluster.kubectl("-n", namespace, "create", "quota", "skills", hard)
    quota = ("-n", namespace, "get", "quota", "skills", "-o", "jsonpath={.status.hard}")
    until("the quota is counted", 30, lambda: operator.cluster.kubectl(*quota))
    with opened(operator, namespace) as token:
        first = ask(operator, namespace, token, wanted(f"Limes, {namespace}.", 2, source=program("input['n'] * 2")))
        assert first.status == 202
        second = ask(operator, namespace, token, wanted(f"Dates, {namespace}.", 4, source=program("input['n'] * 4")))
    assert (second.status, second.body["type"]) == (403, "urn:skill-operator:creation-refused")
    assert "exceeded quota" in second.body["detail"]


def test_a_flood_of_requests_leaves_others_alone(operator: Operator, namespace: str, cluster: Cluster) -> None:
    """One agent asks for 200 Skills. The namespace's quota bounds them; a neighbour calls, and gets a Skill, meanwhile."""
    hard = "--hard=count/skills.skill-operator.dev=6"
    cluster.kubectl("-n", namespace, "create", "quota", "skills", hard)
    quota = ("-n", namespace, "get", "quota", "skills", "-o", "jsonpath={.status.hard}")
    until("the quota is counted", 30, lambda: cluster.kubectl(*quota))
    with cluster.namespace("neighbour") as quiet, opened(operator, quiet) as theirs:
        first = ask(
            operator, quiet, theirs, wanted("Peas, times two.", 2, source=program("input['n'] * 2"), name="peas")
        )
        assert first.status == 202
        operator.ready(quiet, "peas")
        with called(operator, quiet) as alone:
            until("some calls", 60, lambda: len(alone) > 40)
        with opened(operator, namespace) as token, ThreadPoolExecutor(20) as pool, called(operator, quiet) as beside:

            def flood(number: int) -> Answer:
                body = wanted(f"Flood {number}, times three.", 3, source=program("input['n'] * 3"), force=True)
                return ask(operator, namespace, token, body)

            asked = [pool.submit(flood, number) for number in range(200)]
            more = wanted("Beans, times five.", 5, source=program("input['n'] * 5"), name="beans", force=True)
            assert ask(operator, quiet, theirs, more).status == 202
            operator.ready(quiet, "beans")
            flooded = [each.result() for each in asked]
    told = Counter((each.status, each.body.get("type", "")) for each in flooded)
    assert told.pop((202, "")) == 6
    assert set(told) <= {(403, "urn:skill-operator:creation-refused"), (429, "urn:skill-operator:rate-limited")}
    assert len(names(operator, namespace)) == 6
    for calls in (alone, beside):
        assert len(calls) > 20
        assert {(call.answer.status, json.dumps(call.answer.body)) for call in calls} == {(200, '{"n": 14}')}
    for name, calls in (("alone", alone), ("beside the flood", beside)):
        half, most = (1000 * sorted(call.seconds for call in calls)[len(calls) * part // 100] for part in (50, 95))
        print(f"{len(calls)} calls {name}: p50 {half:.0f} ms, p95 {most:.0f} ms")


class Call(NamedTuple):
    answer: Answer
    seconds: float


@contextmanager
def called(operator: Operator, space: str) -> Iterator[list[Call]]:
    """Call the Skill `peas` again and again meanwhile, and yield the list of these calls."""
    calls: list[Call] = []
    ended = threading.Event()

    def call() -> None:
        while not ended.wait(0.1):
            began = time.monotonic()
            calls.append(Call(operator.call(space, "peas", {"n": 7}), time.monotonic() - began))

    caller = threading.Thread(target=call)
    caller.start()
    try:
        yield calls
    finally:
        ended.set()
        caller.join()


async def test_tasks_are_cancelled_and_questions_answered(operator: Operator, namespace: str) -> None:
    cancelled, asked = f"Kiwis, times five, {namespace}.", f"Melons, times eleven, {namespace}."
    clearer = f"Melons, multiplied by eleven, {namespace}."
    wrong = reply("input['n'] + 1")
    operator.script(
        {cancelled: [reply("input['n'] * 5", delay=15)], asked: [wrong], clearer: [reply("input['n'] * 11")]}
    )
    with opened(operator, namespace) as token:
        async with agent(operator, token, extensions=[TasksExtension()]) as client:

            async def begin(request: dict[str, Any]) -> str:
                result = await client.session.call_tool(tools.CREATE_SKILL, request, allow_claimed=True)
                return str(result.model_dump(by_alias=True)["taskId"])

            first, second = await begin(wanted(cancelled, 5)), await begin(wanted(asked, 11))
            assert (await task(client, "tasks/get", first))["status"] == "working"
            await task(client, "tasks/cancel", first)
            assert (await task(client, "tasks/get", first))["status"] == "cancelled"
            waiting: dict[str, Any] = {"status": "working"}
            async with asyncio.timeout(120):
                while waiting["status"] == "working":
                    waiting = await task(client, "tasks/get", second)
                    await asyncio.sleep(0.5)
            assert waiting["status"] == "input_required", waiting
            answer = {"taskId": second, "description": clearer}
            answered = await client.call_tool(tools.ANSWER_SKILL, answer)
            assert not answered.is_error, answered
            async with asyncio.timeout(150):
                while (done := await task(client, "tasks/get", second))["status"] != "completed":  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.5)
            tool = done["result"]["structuredContent"]["tool"]
            assert (await client.call_tool(tool, {"n": 3})).structured_content == {"n": 33}
    assert len(operator.asked(cancelled)) <= 1


def test_where_a_person_reviews_the_task_waits_for_one(operator: Operator, namespace: str) -> None:
    body = wanted(f"Nuts, {namespace}.", 2, source=program("input['n'] * 2"), name="nuts")
    with opened(operator, namespace, review="Manual") as token:
        assert ask(operator, namespace, token, body).status == 202

        def waits() -> Any:
            told = state(operator, namespace, token, "nuts")
            return told if told["status"] == "input_required" else None

        told = until("a person is waited for", 90, waits)
    assert (told["reason"], told["question"]["for"]) == ("AwaitingApproval", "person")
    assert operator.skill(namespace, "nuts")["spec"]["review"] == "Manual"


@pytest.mark.serial("kills the gateway")
async def test_a_gateway_that_is_killed_loses_no_task(operator: Operator, namespace: str) -> None:
    description = f"Grapes, times six, {namespace}."
    operator.script({description: [reply("input['n'] * 6", delay=5)]})
    with opened(operator, namespace) as token:
        answer = ask(operator, namespace, token, wanted(description, 6))
        assert answer.status == 202
        name, id_ = answer.body["name"], answer.body["taskId"]
        operator.cluster.kubectl(
            "-n", NAMESPACE, "delete", "pod", "-l", GATEWAY, "--force", "--grace-period=0", check=False
        )
        operator.ready(namespace, name)
        operator.await_gateway()  # the one to the killed pod breaks with its first use
        async with agent(operator, token, extensions=[TasksExtension()]) as client:
            while (done := await task(client, "tasks/get", id_))["status"] == "working":  # noqa: ASYNC110 - of another process
                await asyncio.sleep(1)
            assert done["status"] == "completed"
            with pytest.raises(MCPError):
                await task(client, "tasks/get", id_.replace(".1", ".9"))
        again = ask(operator, namespace, token, wanted(description, 6))
        assert (again.status, again.body["taskId"]) == (200, id_)
    assert len(names(operator, namespace)) == 1
    assert len(operator.asked(description)) == 1
