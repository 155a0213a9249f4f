"""A gateway with what the rotator makes, and callers with what it publishes, through a change of the CA."""

from __future__ import annotations

import base64
import ssl
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import aiohttp
import pytest

from skill_operator.gateway.http.tls import FILE_NAMES
from tests.unit.certificates.samples import MORE_NAMES, NAMES, SERVING, Clock, Stored, rotator
from tests.unit.gateway.http.test_tls import Secure, point
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
