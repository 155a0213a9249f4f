"""A gateway with what the rotator makes, and callers with what it publishes, through a change of the CA."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import ssl
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import aiohttp
import pytest

from skill_operator.gateway import server
from skill_operator.gateway.http.tls import FILE_NAMES, Certificate, CertificateError
from skill_operator.settings import GatewaySettings, ImageSettings, SelfSignedSettings, Settings
from tests.free_ports import free_ports
from tests.unit.certificates.samples import MORE_NAMES, NAMES, SERVING, Clock, Stored, rotator
from tests.unit.gateway.http.test_tls import Secure, point
from tests.unit.gateway.pods.test_directory import Watches
from tests.unit.gateway.world import fine

pytestmark = pytest.mark.timeout(20)


def mount(cluster: Stored, folder: Path) -> None:
    """As kubelet does it."""
    fresh = folder / f"..{len(cluster.writes)}"
    fresh.mkdir()
    for name in FILE_NAMES:
        (fresh / name).write_bytes(base64.b64decode(cluster.data(SERVING)[name]))
    point(folder, fresh)


@cache
def trusting(bundle: bytes) -> ssl.SSLContext:
    """One for each bundle: a session keeps connections by it."""
    return ssl.create_default_context(cadata=bundle.decode())


async def answers(world: Secure, bundle: bytes, name: str, session: aiohttp.ClientSession | None = None) -> bool:
    """Whether a caller who trusts this bundle gets an answer at this name; without a session, on a new connection."""
    async with AsyncExitStack() as stack:
        session = session or await stack.enter_async_context(aiohttp.ClientSession())
        url = f"{world.url}/v1/skills/finance/invoice"
        try:
            async with session.post(url, data=b'{"lines": []}', ssl=trusting(bundle), server_hostname=name) as answer:
                return answer.status == 200
        except aiohttp.ClientConnectorCertificateError:
            return False


async def test_callers_and_gateway_go_from_one_ca_to_the_next(tmp_path: Path) -> None:
    cluster, clock = Stored(), Clock()
    clock.now = datetime.now(UTC)
    await rotator(cluster, clock).rotate()
    mount(cluster, tmp_path)
    first = cluster.bundle
    async with AsyncExitStack() as stack:
        world = Secure(stack, tmp_path)
        await world.start()
        await world.pod(fine)
        world.know()
        for name in NAMES:
            assert await answers(world, first, name)
        assert not await answers(world, first, "localhost")
        assert not await answers(world, first, "skills.example")

        await rotator(cluster, clock, MORE_NAMES).rotate()
        both = cluster.bundle
        for bundle in (first, both):
            assert await answers(world, bundle, NAMES[0]), "the gateway still shows the former certificate"

        clock.now += timedelta(minutes=5)
        await rotator(cluster, clock, MORE_NAMES).rotate()
        mount(cluster, tmp_path)
        async with aiohttp.ClientSession() as kept:
            assert await answers(world, first, NAMES[0], kept)
            world.certificate.reload()
            for name in MORE_NAMES:
                assert await answers(world, both, name)
            assert not await answers(world, first, NAMES[0]), "it is the new CA's"
            assert await answers(world, first, NAMES[0], kept), "the connection from before goes on"

        clock.now += timedelta(days=1)
        await rotator(cluster, clock, MORE_NAMES).rotate()
        assert await answers(world, cluster.bundle, "skills.example")
        assert first not in cluster.bundle


@pytest.mark.parametrize("spoilt", [None, b"", b"rubbish"], ids=["missing", "empty", "rubbish"])
async def test_a_gateway_waits_for_its_certificate_and_serves_nothing_in_plain_text(
    spoilt: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "CERTIFICATE_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0.0)
    if spoilt is not None:
        for name in FILE_NAMES:
            (tmp_path / name).write_bytes(spoilt)
    cluster, clock = Stored(), Clock()
    clock.now = datetime.now(UTC)
    await rotator(cluster, clock).rotate()
    own = SelfSignedSettings(enabled=True)
    gateway = GatewaySettings(auth="none", hosts=list(NAMES), tls_folder=str(tmp_path), self_signed=own)
    images = ImageSettings(runtime="r", checker="c", builder="b", operator="o")
    ports = dict(zip(("listen_port", "health_port", "usage_port"), free_ports(3), strict=True))
    settings = Settings(images=images, gateway=gateway, **ports)
    waited, looked = 0, asyncio.Event()
    load = server.Certificate

    def look(folder: Path) -> Certificate:
        nonlocal waited
        waited += 1
        if waited == 3:
            looked.set()
        return load(folder)

    monkeypatch.setattr(server, "Certificate", look)
    serving = asyncio.create_task(server.serve(settings, Watches()))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await looked.wait()
    for port in ports.values():
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
    assert len([r for r in caplog.records if "waits for its certificate" in r.getMessage()]) == 1
    for name in FILE_NAMES:
        (tmp_path / name).write_bytes(base64.b64decode(cluster.data(SERVING)[name]))
    url = f"https://127.0.0.1:{settings.listen_port}/v1/skills"
    async with aiohttp.ClientSession() as session, asyncio.timeout(10):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                async with session.get(url, ssl=trusting(cluster.bundle), server_hostname=NAMES[2]) as answer:
                    assert answer.status in {200, 503}
                    break
    os.kill(os.getpid(), signal.SIGTERM)
    await serving


async def test_who_stops_does_not_wait(tmp_path: Path) -> None:
    gateway = GatewaySettings(tls_folder=str(tmp_path), self_signed=SelfSignedSettings(enabled=True))
    settings = Settings(images=ImageSettings(runtime="r", checker="c", builder="b", operator="o"), gateway=gateway)
    stop = asyncio.Event()
    waiting = asyncio.create_task(server._load_certificate(settings, stop))
    stop.set()
    async with asyncio.timeout(10):
        assert await waiting is None


async def test_a_certificate_of_others_is_not_waited_for(tmp_path: Path) -> None:
    settings = Settings(
        images=ImageSettings(runtime="r", checker="c", builder="b", operator="o"),
        gateway=GatewaySettings(tls_folder=str(tmp_path)),
    )
    with pytest.raises(CertificateError, match="cannot be read"):
        await server._load_certificate(settings, asyncio.Event())
