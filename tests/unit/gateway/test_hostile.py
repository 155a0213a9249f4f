"""Requests that can be read in two ways, and answers that are more than one: nobody's bytes become another's call."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from skill_operator.gateway.http import protocol
from skill_operator.settings import ConnectionLimitSettings
from tests.unit.gateway.pods.test_activator import settled
from tests.unit.gateway.world import GOOD, Call, World, fine, reply

pytestmark = pytest.mark.timeout(60)
CALL = b"POST /v1/skills/finance/invoice HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = b'{"lines": []}'
CHUNKED = CALL + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = CALL + b"Content-Length: 13\r\n\r\n" + BODY


async def say(world: World, raw: bytes) -> bytes:
    """All that the gateway answers until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    writer.write(raw)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


@pytest.mark.parametrize(
    "raw",
    [
        CALL + b"Content-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
        CALL + b"Transfer-Encoding: chunked\r\nContent-Length: 13\r\n\r\n0\r\n\r\n" + NEXT,
        CALL + b"Content-Length: 13\r\nContent-Length: 0\r\n\r\n" + BODY + NEXT,
        CALL + b"Content-Length: +13\r\n\r\n" + BODY,
        CALL + b"Content-Length: 13, 13\r\n\r\n" + BODY,
        CALL + b"Content-Length: 99999999999999999999\r\n\r\n" + BODY,
        CALL + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + NEXT,
        CALL + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + NEXT,
        CALL + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + NEXT,
        CALL + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + NEXT,
        CALL.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
        CALL + b"X-A: b\r\n c: d\r\n\r\n",
        CALL + b"X-A: b\nContent-Length: 13\r\n\r\n" + BODY,
        CALL + b"X-A: b\x00c\r\nContent-Length: 13\r\n\r\n" + BODY,
        CHUNKED + b"-1\r\n" + BODY,
        CHUNKED + b"d \r\n" + BODY + b"\r\n0\r\n\r\n",
        CHUNKED + b"d\n" + BODY + b"\n0\n\n",
        CHUNKED + b"0xd\r\n" + BODY + b"\r\n0\r\n\r\n",
        CHUNKED + b"fffffffffffffffff\r\n" + BODY,
        CALL + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 13\r\n\r\n" + BODY + NEXT,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=lambda raw: raw.removeprefix(CALL)[:40].decode("latin-1").encode("unicode_escape").decode(),
)
async def test_what_can_be_read_in_two_ways_is_refused_and_ends_the_connection(world: World, raw: bytes) -> None:
    calls = await world.pod(fine)
    world.know()
    answers = await say(world, raw)
    assert statuses(answers) in ([400], [501], []), answers
    assert calls == []
    assert not world.directory.in_flight
    assert (await world.call())[0] == 200, "and it harms nobody else"


async def test_a_head_without_end(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    assert statuses(await say(world, CALL + b"X-A: " + b"a" * 300_000)) in ([431], [])
    assert statuses(await say(world, CALL + b"X-A: b\r\n" * 20_000)) in ([431], [])
    assert calls == []


async def test_a_head_that_never_ends_holds_no_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol.CallerConnection, "_await_request", _soon)
    assert await say(world, CALL) == b""


def _soon(protocol: protocol.CallerConnection) -> None:
    protocol._unset_keepalive_if_required()
    protocol.timeout_keep_alive_task = protocol.loop.call_later(0.1, protocol.timeout_keep_alive_handler)


async def test_calls_that_come_at_once_on_one_connection_are_answered_in_turn(world: World) -> None:
    async def echo(call: Call) -> None:
        await call.say(reply(call.body))

    await world.pod(echo)
    world.know()
    bodies = [json.dumps({"lines": [number]}).encode() for number in range(300)]
    raw = b"".join(CALL + b"Content-Length: %d\r\n\r\n%b" % (len(body), body) for body in bodies[:-1])
    last = CALL + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(bodies[-1]), bodies[-1])
    answers = await say(world, raw + last)
    assert [part.rpartition(b"\r\n")[2] for part in answers.split(b"HTTP/1.1 ")[1:]] == bodies


async def test_a_thousand_bad_calls_at_once(world: World) -> None:
    world.know()
    bad = CALL + b"Content-Length: 1\r\n\r\n7"
    answers = await say(world, bad * 999 + CALL + b"Connection: close\r\nContent-Length: 1\r\n\r\n7")
    assert statuses(answers) == [422] * 1000


async def test_what_follows_a_close_is_not_done(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    answers = await say(world, CALL + b"Connection: close\r\nContent-Length: 13\r\n\r\n" + BODY + NEXT)
    assert (statuses(answers), len(calls)) == ([200], 1)


async def test_headers_of_the_caller_become_no_lines_of_ours(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    strange = (
        b"traceparent: 00-\xc3\xa9\r\ntracestate: " + b"x" * 2000 + b"\r\nAccept: a\tb\r\nX-Skill-Caller: root\r\n"
    )
    answers = await say(world, CALL + strange + b"Connection: close\r\nContent-Length: 13\r\n\r\n" + BODY)
    assert statuses(answers) == [200]
    sent = calls[0].head.lower()
    assert "tracestate" not in sent
    assert "\tb" not in sent
    assert sent.count("x-skill-caller: ") == 1
    assert "root" not in sent


async def test_a_trailer_is_no_header(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    trailed = CHUNKED.replace(b"Transfer", b"Connection: close\r\nTransfer") + b"d\r\n" + BODY
    answers = await say(world, trailed + b"\r\n0\r\ntraceparent: 00-trailer\r\n\r\n")
    assert statuses(answers) == [200]
    assert "trailer" not in calls[0].head


async def test_a_caller_is_told_to_go_on(world: World) -> None:
    await world.pod(fine)
    world.know()
    expects = CALL + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 13\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    writer.write(expects)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert statuses(await reader.read()) == [200]
    writer.close()
    large = CALL + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    assert statuses(await say(world, large)) == [413]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "a moment later"])
async def test_a_second_answer_is_nobody_s(world: World, late: bool) -> None:
    """A pod that answers twice must not answer the next caller on the same connection."""
    forged = reply(b'{"total": 666}')

    async def twice(call: Call) -> None:
        if late:
            await call.say(reply(GOOD))
            await asyncio.sleep(0.05)
            await call.say(forged)
        else:
            await call.say(reply(GOOD) + forged)

    calls = await world.pod(twice)
    world.know()
    for _ in range(5):
        assert (await world.call())[1] == {"total": 3}
        await asyncio.sleep(0.1 if late else 0)
    assert len(calls) == 5


@pytest.mark.parametrize(
    "raw",
    [
        reply(GOOD, "200 OK", "Transfer-Encoding: chunked"),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + GOOD,
        b"HTTP/1.1 100 Continue\r\n\r\n" + reply(GOOD),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        reply(GOOD, "200 OK", "Content-Length: 4"),
    ],
    ids=["two framings", "none", "interim", "another protocol", "two lengths"],
)
async def test_an_answer_that_can_be_read_in_two_ways_is_none(world: World, raw: bytes) -> None:
    async def speak(call: Call) -> None:
        await call.say(raw)
        raise OSError

    calls = await world.pod(speak)
    world.know()
    assert (await world.call())[0] == 502
    assert len(calls) == 1
    assert not world.directory.in_flight


def held(world: World) -> int:
    """How many connections count as open."""
    return world.connections._open


async def test_a_head_of_many_lines_is_refused_at_the_hundred_and_first(world: World) -> None:
    await world.pod(fine)
    world.know()
    lines = b"".join(b"x%d:\r\n" % number for number in range(protocol.MAX_HEADER_LINES - 3))
    close = b"Connection: close\r\nContent-Length: 13\r\n"
    assert statuses(await say(world, CALL + close + lines + b"\r\n" + BODY)) == [200]
    for begin in (CALL + close, b"GET / HTTP/1.1\r\n", b"POST /mcp HTTP/1.1\r\n"):
        many = lines + b"one: more\r\n" * 9
        assert statuses(await say(world, begin + many)) == [431], "before the head is complete"


@pytest.mark.parametrize("path", ["/v1/skills/finance/invoice", "/mcp", "/v1/skills", "/nothing"])
@pytest.mark.parametrize("digits", [b"0" * 5000 + b"13", b"0" * 16, b"1" * 19, b"9" * 4301])
async def test_a_length_of_many_digits_is_refused_before_anybody_reads_it(
    world: World, path: str, digits: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %b\r\n\r\n" % (path.encode(), digits)
    assert statuses(await say(world, head + BODY)) == [400]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


FRAMES = {
    "an extension": [b"d;" + b"a" * 4096 * 25 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"],
    "extensions of small chunks": [b"1;" + b"a" * 200 + b"\r\n \r\n"] * 1000,
    "a trailer": [b"d\r\n" + BODY + b"\r\n0\r\nx: ", b"a" * 100_000],
    "many trailers": [b"d\r\n" + BODY + b"\r\n0\r\n", b"a: b\r\n" * 20_000],
}


@pytest.mark.parametrize("path", ["/v1/skills/finance/invoice", "/mcp"])
@pytest.mark.parametrize("parts", FRAMES.values(), ids=FRAMES)
async def test_what_is_around_a_body_is_bounded(world: World, path: str, parts: list[bytes]) -> None:
    world.know()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    writer.write(CHUNKED.replace(b"/v1/skills/finance/invoice", path.encode()))
    await writer.drain()
    await settled(lambda: world.gateway.server_state.tasks or world.invoker.places.held)
    sent = b"".join(parts)
    for start in range(0, len(sent), 4096):
        writer.write(sent[start : start + 4096])
        await asyncio.sleep(0)
    answer = await reader.read()
    assert statuses(answer) == [400], answer[:200]
    writer.close()


async def test_small_chunks_are_no_offence(world: World) -> None:
    calls = await world.pod(fine)
    world.know()
    body = b'{"lines": ["' + b"a" * 20_000 + b'"]}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    writer.write(CHUNKED)
    for start in range(0, len(chunks), 4096):
        writer.write(chunks[start : start + 4096])
        await asyncio.sleep(0)
    assert (await reader.readline()).split()[1] == b"200"
    writer.close()
    assert calls[0].body == body


@pytest.mark.parametrize(
    "path", ["/v1/skills/", "/mcp/", "/openapi.json/", "/v1/skills/finance/invoice/", "//evil.example/", "/x/", "//"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nothing_is_redirected(world: World, method: str, path: str) -> None:
    await world.pod(fine)
    world.know()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 13\r\n\r\n"
    slashed, plain = [await say(world, head.replace(path, p).encode() + BODY) for p in (path, path[:-1] or "/x")]
    assert b"location:" not in slashed.lower()
    assert statuses(slashed) == statuses(plain)
    assert statuses(slashed)[0] in {200, 400, 404, 405, 406}


async def test_connections_are_bounded_in_all_and_by_address(world: World) -> None:
    world.connections._limits = ConnectionLimitSettings(total=5, per_address=3)
    await settled(lambda: held(world) == 0)
    port = int(world.url.rpartition(":")[2])
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    await settled(lambda: held(world) == 3)
    refused = await say(world, b"")
    assert statuses(refused) == [503]
    assert b"gateway.connections" in refused
    others = [await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0)) for _ in range(2)]
    await settled(lambda: held(world) == 5)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.10", 0))
    assert statuses(await reader.read()) == [503]
    for _, each in [*opened, *others, (reader, writer)]:
        each.close()
    await settled(lambda: held(world) == 0)
    assert world.connections._addresses == {}


async def test_a_head_has_ten_seconds_from_its_first_byte(world: World) -> None:
    waits: list[float] = []
    deadlines = world.deadlines

    class Noted(type(deadlines)):  # type: ignore[misc]
        def set(self, listener: object, seconds: float) -> None:
            if isinstance(listener, protocol.CallerConnection):
                waits.append(seconds)
            super().set(listener, seconds)

    deadlines.__class__ = Noted
    await world.pod(fine)
    world.know()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    for part in (
        CALL[:5],
        CALL[5:9],
        CALL[9:],
        b"Content-Length: 13\r\n\r\n" + BODY[:5],
        BODY[5:] + CALL[:7],
        CALL[7:12],
    ):
        writer.write(part)
        await asyncio.sleep(0.02)
    await reader.readuntil(GOOD)
    await settled(lambda: waits[-1] == protocol.HEAD_TIMEOUT_SECONDS and len(waits) >= 3)
    assert waits == [protocol.KEEP_ALIVE_SECONDS, protocol.HEAD_TIMEOUT_SECONDS, protocol.HEAD_TIMEOUT_SECONDS]
    writer.close()


@pytest.mark.parametrize("waiting", [NEXT, b"GET / HTTP/1.1\r\n\r\n"], ids=["calls", "others"])
async def test_requests_that_wait_for_their_turn_are_bounded_in_all(world: World, waiting: bytes) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        began.set()
        await release.wait()
        await call.say(reply(GOOD))

    await world.pod(slow)
    world.know()
    shares = world.gateway.services.pipelined
    shares.total = 100
    port = int(world.url.rpartition(":")[2])
    opened = []
    for count in (20, 20, 200):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(NEXT + waiting * count)
        opened.append((reader, writer))
        await began.wait()
    first, third, second = opened
    assert statuses(await second[0].read()) in ([400], []), "it alone has more than may be"
    second[1].close()
    await settled(lambda: shares.held == 40)
    release.set()
    for reader, writer in (first, third):
        for _ in range(21):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))  # type: ignore[index]
        writer.close()
    assert (shares.held, shares._callers) == (0, {})
