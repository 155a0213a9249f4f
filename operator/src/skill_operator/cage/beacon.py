"""A port that answers everybody, by hanging up. A pod that gets through to it is not shut in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

from skill_operator.settings import Settings, SettingsError

log = logging.getLogger(__name__)
ATTEMPTS, PAUSE = 30, 1.0


@contextlib.asynccontextmanager
async def lit(port: int) -> AsyncIterator[None]:
    """The kernel's handshake is all the answer that is wanted, so nothing is read and nothing is kept."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), None, port)
    async with server:
        yield


async def located(settings: Settings) -> Settings:
    """The same with addresses for the names of beacon and egress proxy, since caged pods have no DNS. Raises
    SettingsError.

    The address of a Service stays for the Service's life, so that it may stand in the pods of every Skill.
    """
    beacon = await _located("isolation.beacon", settings.isolation.beacon)
    proxy = await _located("egressProxy.address", settings.egressProxy.address)
    return settings.model_copy(
        update={
            "isolation": settings.isolation.model_copy(update={"beacon": beacon}),
            "egressProxy": settings.egressProxy.model_copy(update={"address": proxy}),
        }
    )


async def _located(what: str, service: str) -> str:
    host, _, port = service.rpartition(":")
    if not host:
        return service
    loop = asyncio.get_running_loop()
    why: OSError | None = None
    for _ in range(ATTEMPTS):
        try:
            found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            why = error
            log.warning("%s: %s cannot be found yet: %s", what, host, error)
            await asyncio.sleep(PAUSE)
            continue
        address = str(found[0][4][0])
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    raise SettingsError(f"{what}: {host} cannot be found by the cluster's DNS: {why}")
