"""Resolve the Services that isolated pods reach to addresses, since these pods have no DNS."""

from __future__ import annotations

import asyncio
import logging
import socket

from skill_operator.naming import format_host_port
from skill_operator.settings import Settings, SettingsError

log = logging.getLogger(__name__)
ATTEMPTS, PAUSE_SECONDS = 30, 1.0


async def resolve_service_addresses(settings: Settings) -> Settings:
    """Return the settings with addresses in place of the names of beacon and egress proxy. Raises SettingsError.

    The address of a Service stays for the Service's life, so that it may stand in the pods of every Skill.
    """
    beacon = await _resolve_service("isolation.beacon", settings.isolation.beacon)
    proxy = await _resolve_service("egressProxy.address", settings.egress_proxy.address)
    return settings.model_copy(
        update={
            "isolation": settings.isolation.model_copy(update={"beacon": beacon}),
            "egress_proxy": settings.egress_proxy.model_copy(update={"address": proxy}),
        }
    )


async def _resolve_service(setting: str, service: str) -> str:
    host, _, port = service.rpartition(":")
    if not host:
        return service
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for _ in range(ATTEMPTS):
        try:
            found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            failure = error
            log.warning("%s: %s cannot be found yet: %s", setting, host, error)
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        return format_host_port(str(found[0][4][0]), port)
    raise SettingsError(f"{setting}: {host} cannot be found by the cluster's DNS: {failure}")
