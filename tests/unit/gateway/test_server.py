"""The process: what it says of itself while it starts, works and ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest
from starlette.responses import JSONResponse

from skill_operator.gateway import server
from skill_operator.gateway.http.routes import Routes
from skill_operator.observability import logs
from skill_operator.settings import GatewaySettings, ImageSettings, Settings
from tests.free_ports import free_ports
from tests.unit.gateway.objects import skill
from tests.unit.gateway.pods.test_directory import Watches

OPEN = GatewaySettings(auth="none")
pytestmark = pytest.mark.timeout(60)


def open_settings() -> Settings:
    """Return the settings of a gateway that asks nobody who calls, on ports of its own."""
    images = ImageSettings(runtime="r", checker="c", builder="b", operator="o")
    listen, health, usage = free_ports(3)
    return Settings(images=images, listen_port=listen, health_port=health, usage_port=usage, gateway=OPEN)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as made:
        yield made


async def status(client: aiohttp.ClientSession, url: str) -> int:
    try:
        async with client.get(url) as answer:
            return answer.status
    except aiohttp.ClientConnectionError:  # refused, or closed between two requests
        return 0


async def until(client: aiohttp.ClientSession, url: str, wanted: int) -> None:
    async with asyncio.timeout(20):
        while await status(client, url) != wanted:  # noqa: ASYNC110 - a port has no event
            await asyncio.sleep(0.02)


async def test_from_start_to_end(
    client: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0.3)
    monkeypatch.setattr(logs, "DELAY_SECONDS", 60.0)
    caplog.set_level("INFO")
    watches = Watches()
    settings = open_settings()
    own, calls = f"http://127.0.0.1:{settings.health_port}", f"http://127.0.0.1:{settings.listen_port}/v1/skills"
    serving = asyncio.create_task(server.serve(settings, watches))  # type: ignore[arg-type]

    await until(client, f"{own}/healthz", 200)
    assert await status(client, f"{own}/readyz") == 503, "nothing is listed yet"
    assert await status(client, calls) == 503
    watches.tell("Skill", None, "ADDED", skill())
    watches.tell("Skill", None, "SYNCED", {})
    watches.tell("Pod", None, "SYNCED", {})
    watches.tell("Deployment", None, "SYNCED", {})
    await until(client, f"{own}/readyz", 200)
    assert await status(client, calls) == 200
    async with client.get(f"{own}/metrics") as answer:
        text = await answer.text()
    assert 'skill_gateway_request_duration_seconds_count{outcome="2xx"}' in text

    os.kill(os.getpid(), signal.SIGTERM)
    await until(client, f"{own}/readyz", 503)
    assert await status(client, calls) == 200, "who still comes is still served"
    assert await status(client, f"{own}/healthz") == 200
    assert '"message": "call"' not in capsys.readouterr().err, "it is not the end that is tried here"
    async with asyncio.timeout(20):
        await serving
    assert await status(client, calls) == 0
    told = [json.loads(line)["status"] for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert told == [503, 200, 200]


async def test_a_call_in_flight_is_finished(client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0.0)
    began, release = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> JSONResponse:
        began.set()
        await release.wait()
        return JSONResponse({"skills": []})

    monkeypatch.setattr(Routes, "list_skills", slow)
    settings = open_settings()
    calls = f"http://127.0.0.1:{settings.listen_port}/v1/skills"
    serving = asyncio.create_task(server.serve(settings, Watches()))  # type: ignore[arg-type]
    await until(client, f"http://127.0.0.1:{settings.health_port}/healthz", 200)
    calling = asyncio.create_task(status(client, calls))
    await began.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        while await status(client, calls.replace("v1", "none")):  # noqa: ASYNC110 - a port has no event
            await asyncio.sleep(0.02)
    assert not calling.done()
    release.set()
    assert await calling == 200
    await serving
