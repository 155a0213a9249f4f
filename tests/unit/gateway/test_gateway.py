"""The gateway against real sockets: pods are servers on loopback addresses, which say what the test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from skill_operator.gateway import invocation
from skill_operator.gateway.access.authorizer import AllowAll, Caller
from skill_operator.gateway.http import exchange
from skill_operator.gateway.pods import connection
from skill_operator.gateway.pods.directory import Directory
from tests.unit.gateway.objects import pod, skill
from tests.unit.gateway.world import GOOD, Call, World, fine, reply

pytestmark = pytest.mark.timeout(60)


async def test_a_call_is_relayed_without_the_credentials_of_the_caller(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    secret = {
        "Authorization": "Bearer s3cret",
        "Cookie": "a=s3cret",
        "Proxy-Authorization": "s3cret",
        "X-Api-Key": "s3cret",
    }
    hops = {"Connection": "X-Hop", "X-Hop": "s3cret", "TE": "trailers", "X-Request-Id": "abc-1", "traceparent": "00-1"}
    status, body, answer = await world.call(b'{"lines": [1]}', headers=secret | hops)
    assert (status, body, answer.headers["X-Request-Id"]) == (200, {"total": 3}, "abc-1")
    (call,) = calls
    assert call.body == b'{"lines": [1]}'
    assert "s3cret" not in call.head
    assert "x-request-id: abc-1" in call.head.lower()
    assert "traceparent: 00-1" in call.head.lower()


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "\N{LATIN SMALL LETTER E WITH ACUTE}", 'a"b', "${jndi}"])
async def test_a_strange_request_id_is_replaced(world: World, given: str) -> None:
    calls = await world.pod(fine)
    world.know()
    _, _, answer = await world.call(headers={"X-Request-Id": given})
    assert len(answer.headers["X-Request-Id"]) == 32
    assert f"x-request-id: {answer.headers['X-Request-Id']}" in calls[0].head.lower()


async def test_what_the_skill_says_about_a_call_is_passed_on(world: World) -> None:
    problem = b'{"type": "urn:skill-operator:input-rejected", "status": 422}'

    async def refuse(call: Call) -> None:
        head = b"HTTP/1.1 422 Unprocessable\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n"
        await call.say(head % len(problem) + problem)

    await world.pod(refuse)
    world.know()
    status, body, answer = await world.call()
    assert (status, body["type"]) == (422, "urn:skill-operator:input-rejected")
    assert answer.content_type == "application/problem+json"


async def test_nothing_but_the_answer_itself_comes_from_a_skill(world: World) -> None:
    """Its process runs a stranger's code."""
    planted = (
        "Set-Cookie: a=b",
        "Access-Control-Allow-Origin: *",
        "X-Request-Id: forged",
        "Refresh: 0; url=//evil.test",
    )

    async def plant(call: Call) -> None:
        await call.say(reply(GOOD, "200 OK", *planted))

    await world.pod(plant)
    world.know()
    _, _, answer = await world.call(headers={"X-Request-Id": "mine"})
    ours = {"content-type", "content-length", "date", "x-request-id", "x-content-type-options"}
    assert {name.lower() for name in answer.headers} == ours
    assert answer.headers["X-Request-Id"] == "mine"


@pytest.mark.parametrize(
    ("raw", "slug"),
    [
        (b"", "upstream-closed"),
        (b"HTTP/1.1 200 OK\r\nContent-", "upstream-closed"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "upstream-closed"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n", "upstream-closed"),
        (reply(b"{", length=100), "upstream-closed"),
        (reply(b"", "302 Found", "Location: http://127.0.0.1:1/"), "invalid-upstream-response"),
        (reply(b"", "204 No Content"), "invalid-upstream-response"),
        (reply(b"", "401 Unauthorized", 'WWW-Authenticate: Basic realm="give me"'), "invalid-upstream-response"),
        (reply(GOOD).replace(b"application/json", b"text/html"), "invalid-upstream-response"),
        (reply(GOOD, "200 OK", "Content-Encoding: gzip"), "invalid-upstream-response"),
        (reply(b"", length=connection.MAX_RESPONSE_BYTES + 1), "response-too-large"),
    ],
    ids=lambda value: str(value[:24]),
)
async def test_a_broken_pod_is_a_bad_gateway_and_is_asked_once(world: World, raw: bytes, slug: str) -> None:
    async def speak(call: Call) -> None:
        await call.say(raw)
        raise OSError

    calls = await world.pod(speak)
    world.know("127.0.0.1", "127.0.0.1")
    status, body, _ = await world.call()
    assert (status, body["type"]) == (502, f"urn:skill-operator:{slug}")
    assert body["detail"]
    assert len(calls) == 1, "it may have taken effect"
    assert not world.directory.in_flight


@pytest.mark.parametrize("framing", ["Content-Length: 300000", "Transfer-Encoding: chunked"])
async def test_half_an_answer_never_looks_whole(world: World, framing: str) -> None:
    async def begin(call: Call) -> None:
        await call.say(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{framing}\r\n\r\n".encode())
        await call.say((b"3\r\n" if "chunked" in framing else b"") + b"[1,\r\n")
        raise OSError

    await world.pod(begin)
    world.know()
    with pytest.raises(aiohttp.ClientError):
        await world.call()
    assert not world.directory.in_flight


async def test_an_endless_answer_is_cut(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_RESPONSE_BYTES", 200_000)

    async def flood(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await call.say(b"2710\r\n" + b"1" * 10_000 + b"\r\n")

    await world.pod(flood)
    world.know()
    with pytest.raises(aiohttp.ClientError):
        async with asyncio.timeout(20):
            await world.call()


async def test_an_answer_is_passed_on_while_it_is_made(world: World) -> None:
    seen = asyncio.Event()

    async def trickle(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        await call.say(b"3\r\n[1,\r\n")
        await seen.wait()
        await call.say(b"2\r\n2]\r\n0\r\n\r\n")

    await world.pod(trickle)
    world.know()
    async with world.client.post(f"{world.url}/v1/skills/finance/invoice", data=b'{"lines": []}') as answer:
        assert answer.headers["X-Request-Id"]
        assert await answer.content.read(3) == b"[1,"
        seen.set()
        assert await answer.read() == b"2]"


async def test_a_pod_that_takes_too_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "MARGIN_SECONDS", -0.8)
    let_go = asyncio.Event()

    async def hang(call: Call) -> None:
        await call.gone()
        let_go.set()

    await world.pod(hang)
    world.know(body=skill(callTimeoutSeconds=1))
    status, body, _ = await world.call()
    assert (status, body["type"]) == (504, "urn:skill-operator:timeout")
    assert "1 s" in body["detail"]
    await let_go.wait()


async def test_a_pod_that_stops_half_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "MARGIN_SECONDS", -0.8)

    async def stop(call: Call) -> None:
        await call.say(reply(b"1" * 70_000, length=100_000))
        await call.gone()

    await world.pod(stop)
    world.know(body=skill(callTimeoutSeconds=1))
    with pytest.raises(aiohttp.ClientError):
        await world.call()


async def test_a_caller_who_leaves_frees_the_pod(world: World) -> None:
    came, freed = asyncio.Event(), asyncio.Event()

    async def work(call: Call) -> None:
        came.set()
        await call.gone()
        freed.set()

    await world.pod(work)
    world.know()
    calling = asyncio.create_task(world.call())
    await came.wait()
    assert world.directory.in_flight.total() == 1
    calling.cancel()
    async with asyncio.timeout(20):
        await freed.wait()
    assert not world.directory.in_flight


async def test_who_cannot_be_reached_is_passed_over(world: World) -> None:
    calls = await world.pod(fine, "127.0.0.3")
    world.know("127.0.0.1", "127.0.0.2", "127.0.0.3")
    for _ in range(8):
        status, _, _ = await world.call()
        assert status == 200
    assert len(calls) == 8


async def test_when_nobody_can_be_reached(world: World) -> None:
    world.know("127.0.0.1", "127.0.0.2", ready=False)
    status, body, answer = await world.call()
    assert (status, body["type"], answer.headers["Retry-After"]) == (503, "urn:skill-operator:pod-not-accepting", "1")


async def test_the_least_busy_pod_is_asked(world: World) -> None:
    release = asyncio.Event()

    async def slow(call: Call) -> None:
        await release.wait()
        await call.say(reply(GOOD))

    both = [await world.pod(slow, f"127.0.0.{number}") for number in (1, 2)]
    world.know("127.0.0.1", "127.0.0.2")
    waiting = [asyncio.create_task(world.call()) for _ in range(6)]
    async with asyncio.timeout(20):
        while sum(map(len, both)) < 6:  # noqa: ASYNC110 - both ends are in this loop
            await asyncio.sleep(0.005)
    assert [len(calls) for calls in both] == [3, 3]
    release.set()
    assert {status for status, _, _ in await asyncio.gather(*waiting)} == {200}
    assert not world.directory.in_flight


async def test_connections_are_used_again(world: World) -> None:
    async def number(call: Call) -> None:
        await call.say(reply(str(id(call._writer)).encode()))

    await world.pod(number)
    world.know()
    assert len({body for _, body, _ in [await world.call() for _ in range(5)]}) == 1


async def test_a_pod_that_is_ready_is_preferred(world: World) -> None:
    ready, early = await world.pod(fine, "127.0.0.1"), await world.pod(fine, "127.0.0.2")
    world.know("127.0.0.1")
    world.directory.on_pod("ADDED", pod("early", "127.0.0.2", ready=False))
    for _ in range(5):
        await world.call()
    assert (len(ready), len(early)) == (5, 0)
    world.directory.on_pod("DELETED", pod("p0", "127.0.0.1"))
    await world.call()
    assert len(early) == 1


async def test_a_pod_of_another_namespace_is_not_called(world: World) -> None:
    """Whoever may make pods anywhere could else take the calls of any Skill."""
    calls = await world.pod(fine)
    world.directory.on_skill("ADDED", skill())
    world.directory.on_pod("ADDED", pod("thief", "127.0.0.1", namespace="evil"))
    status, body, _ = await world.call()
    assert (status, body["type"], calls) == (503, "urn:skill-operator:not-ready", [])


async def test_unknown_skills_and_paths(world: World) -> None:
    status, body, _ = await world.call(path="/v1/skills/finance/none")
    assert (status, body["type"]) == (404, "urn:skill-operator:skill-not-found")
    status, body, _ = await world.call(path="/v1/skills/a%1b%5b31m/n%E2%80%AEx")
    assert (status, "\\u202e" in body["detail"], "\u202e" in body["detail"]) == (404, True, False)
    for path in ("/", "/v1", "/v1/skills/a/b/c", "/healthz"):
        status, body, _ = await world.call(path=path)
        assert (status, body["type"]) == (404, "urn:skill-operator:not-found")


async def test_before_the_lists_are_complete_nothing_is_called_unknown(world: World) -> None:
    world.directory.unsynced.add(("Skill", None))
    status, body, answer = await world.call()
    assert (status, body["type"], answer.headers["Retry-After"]) == (503, "urn:skill-operator:starting", "1")
    async with world.client.get(f"{world.url}/v1/skills") as listing:
        assert listing.status == 503


async def test_methods(world: World) -> None:
    world.know()
    async with world.client.delete(f"{world.url}/v1/skills/finance/invoice") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD, POST"
        assert (await answer.json(content_type=None))["type"] == "urn:skill-operator:method-not-allowed"


async def test_why_a_skill_takes_no_calls(world: World) -> None:
    world.directory.on_skill("ADDED", skill(ready=("False", "AttemptsExhausted", "3 candidates failed\x1b[2J")))
    status, body, answer = await world.call()
    assert (status, body["type"], answer.headers["Retry-After"]) == (503, "urn:skill-operator:not-ready", "5")
    assert body["detail"].startswith("AttemptsExhausted: 3 candidates failed\\x1b[2J — ")
    world.directory.on_skill("MODIFIED", skill(generation=2, suspend=True))
    status, body, _ = await world.call()
    assert (status, body["type"]) == (503, "urn:skill-operator:suspended")
    world.directory.on_skill("DELETED", skill())
    status, body, _ = await world.call()
    assert status == 404


async def test_too_large(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    status, body, _ = await world.call(b'"' + b"x" * invocation.MAX_BODY_BYTES + b'"')
    assert (status, body["type"]) == (413, "urn:skill-operator:too-large")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    try:
        status, body, _ = await world.call(endless())
        assert (status, body["type"]) == (413, "urn:skill-operator:too-large")
    except aiohttp.ClientError:
        pass  # the gateway hung up on the flood
    assert calls == []
    assert not world.directory.in_flight


async def test_a_body_is_passed_on_as_it_comes(world: World) -> None:
    """A large one is never held in the gateway; without a length it stays without one."""
    calls = await world.pod(fine)
    world.know()
    parts = [b'{"lines": ["', *[b"x" * 50_000] * 8, b'"]}']

    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            yield part
            await asyncio.sleep(0)

    assert (await world.call(body()))[0] == 200
    assert (await world.call(b"".join(parts)))[0] == 200
    assert [call.body for call in calls] == [b"".join(parts)] * 2
    assert "transfer-encoding: chunked" in calls[0].head.lower()
    assert "content-length" in calls[1].head.lower()


async def test_the_largest_body_that_is_taken(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    text = b'{"lines": ["' + b"x" * (invocation.MAX_BODY_BYTES - 15) + b'"]}'
    assert len(text) == invocation.MAX_BODY_BYTES
    assert (await world.call(text))[0] == 200
    assert calls[0].body == text


async def test_a_body_that_never_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "BODY_TIMEOUT_SECONDS", 0.1)
    world.know()
    address = world.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(address[0], int(address[1]))
    writer.write(b"POST /v1/skills/finance/invoice HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n[")
    assert b"408" in await reader.readline()
    writer.close()


async def test_too_many_at_once(world: World) -> None:
    world.invoker.places.total = 1
    came, release = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        came.set()
        await release.wait()
        await call.say(reply(GOOD))

    await world.pod(slow)
    world.know()
    first = asyncio.create_task(world.call())
    await came.wait()
    status, body, answer = await world.call()
    assert (status, body["type"], answer.headers["Retry-After"]) == (503, "urn:skill-operator:overloaded", "1")
    release.set()
    assert (await first)[0] == 200
    assert (await world.call())[0] == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b"[" * 20_000, b"1" * 5000, b"{'a': 1}", b"[1] x", b"\x00"]
)
async def test_what_is_no_json_reaches_no_pod(world: World, body: bytes) -> None:
    calls = await world.pod(fine)
    world.know()
    status, told, _ = await world.call(body)
    assert (status, told["type"], calls) == (400, "urn:skill-operator:invalid-json", [])


async def test_an_input_that_does_not_fit_reaches_no_pod(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    status, body, _ = await world.call(b'{"lines": 7}')
    assert (status, body["type"], calls) == (422, "urn:skill-operator:invalid-input", [])
    assert "input.lines: 7 is not an array" in body["detail"]
    assert "GET /v1/skills/finance/invoice" in body["detail"]


async def test_only_the_skill_judges_by_a_schema_that_may_not_be_its_own(world: World) -> None:
    """After an edit the pods still run the former revision."""
    calls = await world.pod(fine)
    world.know(body=skill(generation=2))
    assert (await world.call(b'{"lines": 7}'))[0] == 200
    assert len(calls) == 1


@pytest.mark.parametrize(
    "text",
    [
        b'{"lines": 7, "pad": "%s"}' % (b"x" * 40_000),
        b'{"lines": [%s]}' % b",".join([b"1"] * 12_000),
    ],
    ids=["large", "much"],
)
async def test_what_is_dear_to_judge_is_left_to_the_skill(world: World, text: bytes) -> None:
    calls = await world.pod(fine)
    world.know()
    assert (await world.call(text))[0] == 200
    assert calls[0].body == text


async def test_a_page_elsewhere_cannot_call(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    for origin in ("https://evil.test", "null", world.url.replace("127", "128")):
        status, body, _ = await world.call(headers={"Origin": origin})
        assert (status, body["type"]) == (403, "urn:skill-operator:origin-not-allowed")
    assert calls == []
    assert (await world.call(headers={"Origin": world.url}))[0] == 200


async def test_encoded_bodies_are_refused(world: World) -> None:
    world.know()
    for encoding in ("deflate", "gzip", "br"):
        status, body, _ = await world.call(b"x", headers={"Content-Encoding": encoding})
        assert (status, body["type"]) == (415, "urn:skill-operator:unsupported-encoding")


async def test_what_there_is_to_call(world: World) -> None:
    world.know()
    world.directory.on_skill("ADDED", skill(name="broken", namespace="lab", description=7, ready=None))
    async with world.client.get(f"{world.url}/v1/skills") as answer:
        listed = (await answer.json())["skills"]
    assert [(s["namespace"], s["name"], s["ready"], s["awake"]) for s in listed] == [
        ("finance", "invoice", True, True),
        ("lab", "broken", False, False),
    ]
    async with world.client.get(f"{world.url}/v1/skills?namespace=lab") as answer:
        assert [s["name"] for s in (await answer.json())["skills"]] == ["broken"]
    async with world.client.get(f"{world.url}/v1/skills/finance/invoice") as answer:
        told = await answer.json()
    assert told["description"] == "Sum an invoice."
    assert told["input"]["required"] == ["lines"]
    assert told["examples"] == [{"name": "plain", "input": {"lines": []}, "output": {"total": 0}}]
    status, body, _ = await world.call(path="/v1/skills/lab/broken")
    assert (status, body["type"]) == (503, "urn:skill-operator:not-ready")


async def test_a_fault_of_ours_is_answered_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.know()
    monkeypatch.setattr(Directory, "backends", lambda *_: 1 / 0)
    status, body, answer = await world.call(headers={"X-Request-Id": "abc"})
    assert (status, body["type"], answer.headers["X-Request-Id"]) == (500, "urn:skill-operator:internal-error", "abc")
    assert "division" not in json.dumps(body)


async def test_no_one_namespace_holds_all_places(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of its callers hold calls without end; somebody else calls all the same."""

    class ByName(AllowAll):
        def cached_caller(self, authorization: str, key: Any) -> Caller | None:
            return Caller(authorization.rpartition(" ")[2])

    world.invoker.places.total = 16
    monkeypatch.setattr(world.authorizer, "cached_caller", ByName().cached_caller)
    release = asyncio.Event()

    async def slow(call: Call) -> None:
        if b"slow" in call.body:
            await release.wait()
        await call.say(reply(GOOD))

    await world.pod(slow)
    world.know()

    async def call(who: str, body: bytes = b'{"lines": []}') -> int:
        return (await world.call(body, headers={"Authorization": f"Bearer {who}"}))[0]

    greedy = [f"system:serviceaccount:greedy:{number % 2}" for number in range(32)]
    slow_calls = [asyncio.create_task(call(who, b'{"lines": ["slow"]}')) for who in greedy]
    async with asyncio.timeout(20):
        while sum(task.done() for task in slow_calls) + world.invoker.places.held < 32:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    assert world.invoker.places.held == 10
    assert await call("system:serviceaccount:other:app") == 200
    assert await call("alice") == 200
    assert await call(greedy[0]) == 503
    release.set()
    assert sorted(await asyncio.gather(*slow_calls)) == [200] * 10 + [503] * 22
    assert world.invoker.places.held == 0
