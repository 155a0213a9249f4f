"""The beacon, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from skill_operator.isolation import beacon, service_addresses
from skill_operator.settings import Settings, SettingsError
from tests.unit.reconcile.samples import SETTINGS


def named(at: str) -> Settings:
    isolation = SETTINGS.isolation.model_copy(update={"beacon": at})
    proxy = SETTINGS.egress_proxy.model_copy(update={"address": ""})
    return SETTINGS.model_copy(update={"isolation": isolation, "egress_proxy": proxy})


async def test_it_answers_and_hangs_up() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with beacon.serve_beacon(port):
        for _ in range(300):  # more than it could hold open
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_name_becomes_an_address() -> None:
    found = (await service_addresses.resolve_service_addresses(named("localhost:8082"))).isolation.beacon
    assert found in {"127.0.0.1:8082", "[::1]:8082"}
    assert (await service_addresses.resolve_service_addresses(named(""))).isolation.beacon == ""


async def test_a_name_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_addresses, "ATTEMPTS", 2)
    monkeypatch.setattr(service_addresses, "PAUSE_SECONDS", 0.0)

    async def nobody(*_: object, **__: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nobody)
    with pytest.raises(SettingsError, match=r"isolation\.beacon: nowhere\.svc cannot be found"):
        await service_addresses.resolve_service_addresses(named("nowhere.svc:8082"))
