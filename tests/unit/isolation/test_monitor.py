"""Prober and watch, over real sockets; the network plugin that fails is played by what listens and what does not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from skill_operator.isolation import monitor, prober
from skill_operator.isolation.monitor import PROVEN, IsolationMonitor
from skill_operator.settings import Settings
from tests.unit.raw_http import exchange
from tests.unit.reconcile.samples import SETTINGS


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@asynccontextmanager
async def served(ask: int, door: int) -> AsyncIterator[None]:
    serving = asyncio.create_task(prober.serve(ask, door))
    for _ in range(500):
        if await prober.can_connect(f"127.0.0.1:{ask}"):
            break
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def settings(ask: int, beacon: str) -> Settings:
    changed = {"prober": f"127.0.0.1:{ask}" if ask else "", "beacon": beacon}
    return SETTINGS.model_copy(update={"isolation": SETTINGS.isolation.model_copy(update=changed)})


class Callback:
    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1


def watch(ask: int, api: int, beacon: str = "") -> IsolationMonitor:
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api)}
    return IsolationMonitor(settings(ask, beacon), Callback(), environment)


@pytest.fixture(autouse=True)
def door(monkeypatch: pytest.MonkeyPatch) -> int:
    """Where the watch knocks; the prober of these tests listens on it only when it is told to."""
    number = port()
    monkeypatch.setattr(monitor, "BLOCKED_PORT", number)
    return number


async def test_isolation_both_ways_is_proven() -> None:
    ask = port()
    async with served(ask, port()):
        looking = watch(ask, port())
        assert looking.verdict.reason == "NotProvenYet"
        await looking.update()
        assert looking.verdict == PROVEN


async def test_a_prober_that_gets_out_is_believed_at_once() -> None:
    ask = port()
    async with served(ask, port()), listening() as api:
        looking = watch(ask, api)
        looking.verdict = PROVEN
        await looking.update()
        assert (looking.verdict.status, looking.verdict.reason) == ("False", "EgressNotBlocked")
        assert f"127.0.0.1:{api}" in looking.verdict.message


async def test_a_blocked_port_that_accepts_is_believed_at_once(door: int) -> None:
    ask = port()
    async with served(ask, door):
        looking = watch(ask, port())
        await looking.update()
        assert (looking.verdict.status, looking.verdict.reason) == ("False", "IngressNotBlocked")


async def test_a_beacon_that_is_out_proves_nothing() -> None:
    ask = port()
    async with served(ask, port()):
        looking = watch(ask, port(), f"127.0.0.1:{port()}")
        for _ in range(monitor.MAX_SILENT_ROUNDS):
            await looking.update()
        assert (looking.verdict.status, looking.verdict.reason) == ("Unknown", "BeaconSilent")


async def test_silence_counts_when_it_lasts_and_is_forgiven() -> None:
    ask = port()
    looking = watch(ask, port())
    looking.verdict = PROVEN
    for _ in range(monitor.MAX_SILENT_ROUNDS - 1):
        await looking.update()
        assert looking.verdict == PROVEN
    await looking.update()
    assert (looking.verdict.status, looking.verdict.reason) == ("Unknown", "ProberSilent")
    async with served(ask, port()):
        await looking.update()
    assert looking.verdict == PROVEN
    assert looking._on_change.times == 2  # type: ignore[attr-defined]


async def test_a_callback_that_failed_is_called_again() -> None:
    from skill_operator.k8s.errors import Unavailable

    failures = [Unavailable("later"), Unavailable("later")]

    async def changed() -> None:
        if failures:
            raise failures.pop()

    ask = port()
    async with served(ask, port()):
        looking = IsolationMonitor(
            settings(ask, ""), changed, {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port())}
        )
        for _ in range(3):
            await looking.update()
    assert not failures
    assert looking.verdict == PROVEN


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n[]", b"HTTP/1.1 200 OK\r\n\r\n{}",
     b"HTTP/1.1 500 No\r\n\r\n{\"reached\": null}", b"\xff" * 100, b"HTTP/1.1 200 OK\r\n\r\n[[[" + b"[" * 60000],
)  # fmt: skip
async def test_an_answer_that_is_none_is_silence(answer: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        looking = watch(server.sockets[0].getsockname()[1], port())
        assert (await looking.probe()).reason == "ProberSilent"


async def test_without_a_prober_nothing_is_watched() -> None:
    looking = watch(0, port())
    assert looking.verdict == PROVEN
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(looking.run(), 0.05)


async def test_the_prober_survives_what_it_is_asked() -> None:
    ask = port()
    async with served(ask, port()), listening() as open_port:
        for request in (b"\r\n\r\n", b"GET /\r\n\r\n", b"\xff\xfe\r\n\r\n", b"G" * 9000, b"GET / HTTP/1.1 x\r\n\r\n"):
            await exchange(ask, request)
        targets = "&".join(
            f"target={t}" for t in ("x", "127.0.0.1:x", "127.0.0.1:99999999", "[::1]:1", f"127.0.0.1:{open_port}")
        )
        answer = await exchange(ask, f"GET /?{targets} HTTP/1.1\r\n\r\n".encode())
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"reached": [f"127.0.0.1:{open_port}"]}
