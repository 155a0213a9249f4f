"""Addresses of the Services that isolated pods reach, since these pods have no DNS."""

from __future__ import annotations

import asyncio
import logging
import socket

from skill_operator.naming import format_host_port
from skill_operator.settings import Settings, SettingsError

log = logging.getLogger(__name__)
ATTEMPTS, PAUSE = 30, 1.0


async def resolve_service_addresses(settings: Settings) -> Settings:
    """The same with addresses for the names of beacon and egress proxy, since caged pods have no DNS. Raises
    SettingsError.

    The address of a Service stays for the Service's life, so that it may stand in the pods of every Skill.
    """
    beacon = await _located("isolation.beacon", settings.isolation.beacon)
    proxy = await _located("egressProxy.address", settings.egress_proxy.address)
    return settings.model_copy(
        update={
            "isolation": settings.isolation.model_copy(update={"beacon": beacon}),
            "egress_proxy": settings.egress_proxy.model_copy(update={"address": proxy}),
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
        return format_host_port(address, port)
    raise SettingsError(f"{what}: {host} cannot be found by the cluster's DNS: {why}")
