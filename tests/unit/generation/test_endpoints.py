"""The worst dialects through the whole loop: a real endpoint on loopback, the operator's own code, and the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from skill_operator import naming
from skill_operator.settings import GenerationSettings, ModelEndpoint, Settings
from tests.unit.generation.loopback import Answer, Json, Loopback, Respond, completion, error, limit, roles
from tests.unit.generation.world import IMAGES, World, completion_response

BUDGET = 20_000
GOOD = "```python\ndef run(input):\n    return {'said': input['what']}\n```"


def settings(url: str = "http://model/v1", *, deadline_seconds: int = 900, **values: Any) -> Settings:
    model = ModelEndpoint(name="main", base_url=url, model="m-1", **values)
    return Settings(images=IMAGES, models=[model], generation=GenerationSettings(deadline_seconds=deadline_seconds))


def world_of(endpoint: Loopback, **values: Any) -> World:
    world = World(settings(endpoint.url, **values), network=True)
    world.skill()
    return world


def configure(world: World, changed: Settings) -> None:
    """As the chart does it: the settings change, and the controller starts anew."""
    world.settings = changed
    world.operators[0] = world.operator()


async def turn(world: World, wait: timedelta = timedelta(hours=1)) -> None:
    """Reconcile until nothing more happens at this time; then time passes."""
    for _ in range(20):
        version = world.store.version
        await world.reconcile()
        await world.finish_calls()
        if world.store.version == version:
            break
    world.now += wait


def spent(world: World) -> int:
    return int(world.status["generation"]["tokens"])


def ready(world: World) -> str:
    return str(world.condition("Ready").get("message", ""))


def reasoning(needs: int, text: str = GOOD, prompt: int = 800) -> Respond:
    """A model that thinks so many tokens, unseen, before it writes 50."""

    def respond(request: Json) -> Answer:
        wrote = min(limit(request), needs + 50)
        usage = {"prompt_tokens": prompt, "completion_tokens": wrote}
        thought = {"completion_tokens_details": {"reasoning_tokens": min(wrote, needs)}}
        whole = wrote == needs + 50
        return completion(text if whole else None, "stop" if whole else "length", usage | thought)

    return respond


async def test_a_reply_that_reasoning_ate_is_asked_for_with_twice_the_limit() -> None:
    with Loopback(reasoning(6000)) as endpoint:
        world = world_of(endpoint)
        await turn(world, timedelta())
        events = [message for reason, message in world.events.recorded if reason == "ReplyCutOff"]
        assert "4096 of them reasoning" in events[0]
        assert world.check() is not None
        assert [limit(request) for request in endpoint.requests] == [4096, 8192]
        assert endpoint.requests[0]["messages"] == endpoint.requests[1]["messages"], "what is hidden obeys no words"
        assert world.status["generation"]["attempts"] == 1
        assert spent(world) == 2 * 800 + 4096 + 6050
        view = json.loads(world.store.objects["ConfigMap", "team", naming.candidates("echo")]["data"]["ledger.json"])
        assert [attempt["reasoning_tokens"] for attempt in view["attempts"]] == [4096, 6000]
        world.skill(description="Another task.")
        world.now += timedelta(minutes=1)
        await turn(world, timedelta())
        assert limit(endpoint.requests[-1]) == 8192, "the endpoint is known for it"
        assert spent(world) == 800 + 6050


async def test_the_limit_that_reasoning_needs_outlasts_the_operator_within_an_input() -> None:
    with Loopback(reasoning(3000)) as endpoint:
        world = world_of(endpoint, max_reply_tokens=2048)
        await turn(world, timedelta())
        assert [limit(request) for request in endpoint.requests] == [2048, 4096]
        world.verdict(passed=False, gate="mypy", message="no")
        world.operators[0] = world.operator()
        await turn(world, timedelta())
        assert limit(endpoint.requests[2]) == 4096


@pytest.mark.parametrize("needs", [5000, 8000, 9000, 30_000, 10**9])
async def test_reasoning_ends_within_the_budget(needs: int) -> None:
    with Loopback(reasoning(needs)) as endpoint:
        world = world_of(endpoint)
        await turn(world, timedelta())
        assert spent(world) <= BUDGET
        assert len(endpoint.requests) <= 3
        if needs <= 8142:
            assert world.check() is not None
        else:
            assert world.reason == "ReplyCutOff"
            assert "spec.generation.tokenBudget" in ready(world)
            assert world.status["generation"]["attempts"] == 0
        count = len(endpoint.requests)
        world.operators[0] = world.operator()
        await turn(world)
        assert len(endpoint.requests) == count, "what has ended has ended"


async def test_a_larger_budget_lets_reasoning_go_on() -> None:
    with Loopback(reasoning(12_000)) as endpoint:
        world = world_of(endpoint)
        await turn(world)
        assert world.reason == "ReplyCutOff"
        world.skill(generation={"tokenBudget": 60_000})
        await turn(world)
        assert limit(endpoint.requests[-1]) == 16_384
        assert world.check() is not None


@pytest.mark.parametrize(
    "refusal", ["at most {0} completion tokens are allowed", "maximum context length is {1} tokens"]
)
@pytest.mark.parametrize("content", [None, "```python\ndef run(input):\n    return"])
async def test_what_an_endpoint_cannot_write_ends_after_two_replies(refusal: str, content: str | None) -> None:
    """A limit of the endpoint's own, which no setting here raises."""
    words = refusal.format(2048, 4096)

    def respond(request: Json) -> Answer:
        if limit(request) > 3900:
            return error(400, f"max_tokens is too large: {limit(request)}: {words}")
        return completion(content, "length", {"prompt_tokens": 600, "completion_tokens": limit(request)})

    with Loopback(respond) as endpoint:
        world = world_of(endpoint)
        await turn(world)
        assert world.reason == "ReplyCutOff"
        replies = [request for request in endpoint.requests if limit(request) <= 3900]
        assert len(replies) == (1 if content is None else 2)
        assert len(endpoint.requests) == len(replies) + 1, "a refused form is sent once"


def alternating(request: Json) -> Answer | None:
    rest = [role for role in roles(request) if role != "system"]
    if "system" in roles(request) or any(role != ("user", "assistant")[n % 2] for n, role in enumerate(rest)):
        return error(400, "Conversation roles must alternate user/assistant/user/assistant/...")
    return None


async def test_a_repair_reaches_an_endpoint_whose_roles_must_alternate() -> None:
    with Loopback(lambda request: alternating(request) or completion(GOOD)) as endpoint:
        world = world_of(endpoint)
        await turn(world, timedelta())
        world.verdict(passed=False, gate="examples", message="0/1 visible examples pass.")
        await turn(world, timedelta())
        assert [roles(request) for request in endpoint.requests[:3]] == [["system", "user"], ["user"], ["user"]]
        assert "This file was refused" in endpoint.requests[2]["messages"][0]["content"]


async def test_an_outage_under_200_costs_nothing_and_ends_by_itself() -> None:
    fault = Answer({"error": {"message": "Rate limit exceeded: free-models-per-day", "code": 429}})
    with Loopback(fault) as endpoint:
        world = world_of(endpoint)
        for _ in range(12):
            await turn(world)
        assert world.reason == "ModelUnavailable"
        assert spent(world) == 0
        assert "(429): Rate limit exceeded: free-models-per-day" in ready(world)
        assert any("free-models-per-day" in message for _, message in world.events.recorded)
        endpoint.respond = lambda _: completion(GOOD)
        await turn(world)
        assert world.check() is not None


async def test_a_used_up_quota_is_told_and_waits_long() -> None:
    words = "You exceeded your current quota, please check your plan and billing details."
    with Loopback(error(429, words, code="insufficient_quota")) as endpoint:
        world = world_of(endpoint)
        await turn(world, timedelta(minutes=20))
        assert world.reason == "ModelRefused"
        assert "check your plan and billing details" in ready(world)
        assert "too many requests" not in ready(world)
        assert world.condition("Stalled")["status"] == "True"
        await turn(world, timedelta())
        assert len(endpoint.requests) == 1


SILENT: dict[str, Callable[[], Exception]] = {
    "read timeout": lambda: httpx2.ReadTimeout("slow"),
    "write timeout": lambda: httpx2.WriteTimeout("slow"),
    "cut": lambda: httpx2.RemoteProtocolError("peer closed the connection"),
    "reset": lambda: httpx2.ReadError("reset"),
}
UNSENT: dict[str, Callable[[], Exception]] = {
    "connect timeout": lambda: httpx2.ConnectTimeout("slow"),
    "no place": lambda: httpx2.PoolTimeout("slow"),
    "refused": lambda: httpx2.ConnectError("refused"),
    "proxy": lambda: httpx2.ProxyError("407 Proxy Authentication Required"),
}


def raising(fault: Callable[[], Exception]) -> Callable[[Json], httpx2.Response]:
    def answer(_: Json) -> httpx2.Response:
        raise fault()

    return answer


@pytest.mark.parametrize("kind", SILENT)
async def test_a_few_timeouts_do_not_empty_the_budget_and_many_do(kind: str) -> None:
    world = World(settings())
    world.skill()
    costs = [0]
    for _ in range(8):
        await world.receive(raising(SILENT[kind]))
        costs.append(spent(world))
        world.now += timedelta(hours=1)
    prices = [after - before for before, after in pairwise(costs)]
    prompt = prices[0] - 4096
    assert prices == [prompt + max(256, 4096 >> number) for number in range(8)]
    assert BUDGET - costs[-1] > 2 * (prompt + 256), "code still has room"
    await world.receive(completion_response(GOOD, (600, 50)))
    assert world.check() is not None
    world.verdict(passed=False, gate="mypy", message="no")
    await world.reconcile()
    for _ in range(40):
        await world.receive(raising(SILENT[kind]))
        world.now += timedelta(hours=1)
    assert world.reason in {"BudgetExhausted", "DeadlineExceeded"}
    assert spent(world) <= BUDGET


@pytest.mark.parametrize("kind", UNSENT)
async def test_what_was_never_sent_costs_nothing(kind: str) -> None:
    world = World(settings())
    world.skill()
    for _ in range(12):
        await world.receive(raising(UNSENT[kind]))
        world.now += timedelta(hours=1)
    assert spent(world) == 0


async def test_a_refusal_is_told_as_one_and_its_words_reach_no_prompt() -> None:
    with Loopback(completion(None, refusal="I cannot help with weapons.\x1b[31m")) as endpoint:
        world = world_of(endpoint)
        for _ in range(3):
            await turn(world)
        assert world.reason == "TaskRefused"
        assert "I cannot help with weapons" in ready(world)
        assert ready(world).isprintable()
        assert {reason for reason, _ in world.events.recorded} == {"Generating", "TaskRefused"}
        assert len(endpoint.requests) == 2
        assert "weapons" not in json.dumps(endpoint.requests)


async def test_a_chat_without_code_is_quoted() -> None:
    with Loopback(completion("What a nice task this is!")) as endpoint:
        world = world_of(endpoint)
        for _ in range(3):
            await turn(world)
        assert world.reason == "NoCode"
        assert "What a nice task this is!" in ready(world)
        assert "nice task" not in json.dumps(endpoint.requests)


CUT = completion_response("```python\ndef run(input):\n    return", (100, 400), "length")


async def end_by(world: World, reason: str) -> None:
    """Let generation end for that reason."""
    if reason == "ReplyCutOff":
        for _ in range(2):
            await world.receive(CUT)
    elif reason == "BudgetExhausted":
        world.skill(generation={"tokenBudget": 2000})
        await world.receive(completion_response("```python\ndef run(input):\n    return 0\n```", (600, 1000)))
        world.verdict(passed=False, gate="ruff", message="E9")
    elif reason == "AttemptsExhausted":
        world.skill(generation={"maxAttempts": 2})
        for number in range(2):
            await world.receive(completion_response(f"```python\ndef run(input):\n    return {number}\n```", (100, 50)))
            world.verdict(passed=False, gate="mypy", message="xyz"[number])
            await world.reconcile()
    else:
        await world.receive(completion_response("```python\ndef run(input):\n    return 0\n```", (100, 50)))
        world.now += timedelta(seconds=901)
        world.verdict(passed=False, gate="mypy", message="no")
    await world.reconcile(2)
    assert world.reason == reason


def raise_limit(world: World, reason: str) -> None:
    if reason == "ReplyCutOff":
        configure(world, settings(max_reply_tokens=8192))
    elif reason == "DeadlineExceeded":
        configure(world, settings(deadline_seconds=1800))
    else:
        limits = {"BudgetExhausted": {"tokenBudget": 60_000}, "AttemptsExhausted": {"maxAttempts": 3}}
        world.skill(generation=limits[reason])


REASONS = ["ReplyCutOff", "BudgetExhausted", "AttemptsExhausted", "DeadlineExceeded"]


@pytest.mark.parametrize("later", [timedelta(), timedelta(hours=5)])
@pytest.mark.parametrize("reason", REASONS)
async def test_a_raised_limit_of_any_kind_reopens_what_it_ended(reason: str, later: timedelta) -> None:
    world = World(settings())
    world.skill()
    await end_by(world, reason)
    count = len(world.wire.requests)
    world.now += later
    world.operators[0] = world.operator()
    await world.reconcile(3)
    assert (world.reason, len(world.wire.requests)) == (reason, count), "nothing was raised"
    for other in set(REASONS) - {reason, "AttemptsExhausted", "BudgetExhausted"}:
        raise_limit(world, other)
        await world.reconcile(2)
        assert world.reason == reason, "another limit"
    configure(world, settings())
    raise_limit(world, reason)
    await world.receive(completion_response(GOOD, (100, 50)))
    assert len(world.wire.requests) == count + 1
    assert world.check() is not None


async def test_what_was_reopened_ends_again_by_the_new_limit() -> None:
    world = World(settings())
    world.skill()
    await end_by(world, "ReplyCutOff")
    raise_limit(world, "ReplyCutOff")
    for _ in range(4):
        await world.receive(CUT)
    assert world.reason == "ReplyCutOff"
    assert [request["max_tokens"] for request in world.wire.requests] == [4096, 4096, 8192, 8192]


CHANGES: dict[str, dict[str, Any]] = {
    "URL": {"url": "http://model.example/v1"},
    "key": {"api_key_file": "key"},
    "header": {"auth_header": "api-key"},
    "CA": {"ca_file": "ca"},
    "proxy": {"proxy": "http://proxy.example:3128"},
    "timeout": {"timeout_seconds": 600},
    "limit": {"max_reply_tokens": 8192},
}


@pytest.mark.parametrize("kind", ["ModelRefused", "ModelUnavailable"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_endpoint_reopens_what_it_refused_at_once(kind: str, change: str, tmp_path: Any) -> None:
    world = World(settings())
    world.skill()
    status = 401 if kind == "ModelRefused" else 503
    for _ in range(1 if kind == "ModelRefused" else 6):
        world.now += timedelta(hours=1)
        await world.receive(lambda _: httpx2.Response(status, json={"error": {"message": "no"}}))
    assert (world.reason, world.condition("Stalled")["status"]) == (kind, "True")
    await world.reconcile(2)
    count = len(world.wire.requests)
    world.operators[0] = world.operator()
    await world.reconcile(2)
    assert len(world.wire.requests) == count, "a restart changes nothing"
    values = dict(CHANGES[change])
    for name in values.keys() & {"api_key_file", "ca_file"}:
        (tmp_path / name).write_text("")
        values[name] = str(tmp_path / name)
    configure(world, settings(**values))
    await world.reconcile()
    assert world.condition("Generated")["reason"] == "Generating"
    assert not world.condition("Stalled")
    await world.operators[0].die()


async def test_a_key_that_is_written_anew_reopens_what_it_was_refused_for(tmp_path: Any) -> None:
    key = tmp_path / "token"
    key.write_text("wrong-key-0123456789")
    world = World(settings(api_key_file=str(key)))
    world.skill()
    await world.receive(lambda _: httpx2.Response(401, json={"error": {"message": "no"}}))
    assert world.reason == "ModelRefused"
    key.write_text("right-key-0123456789")
    await world.receive(completion_response(GOOD, (100, 50)))
    assert world.check() is not None
