"""Which web pages may call: those of the gateway's own address alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from skill_operator.gateway.problems import Problem
from skill_operator.settings import Settings

LONGEST_HOST = 300  # of DNS 253, and a port


class AllowedOrigins:
    """`names` are the hosts that the gateway may be called as, besides addresses and localhost; None: any.

    Where no token is needed, a page of another site must not become one of ours by giving its name our address (DNS
    rebinding). A token is not sent by a browser on its own, so where one is needed any name will do.
    """

    def __init__(self, names: Iterable[str] | None = None) -> None:
        self._names = None if names is None else frozenset(names)
        self._ours = lru_cache(256)(self._own)

    def check(self, origin: str, host: str) -> None:
        """Raises Problem. Programs send no Origin."""
        if origin and _part(origin, "netloc") != host:
            detail = "calls from pages of other origins are not taken; call from a program"
            raise Problem("origin-not-allowed", detail)
        if self._names is not None and not (len(host) <= LONGEST_HOST and self._ours(host)):
            detail = "the gateway does not go by this name; add it to gateway.hosts, or have callers send a token"
            raise Problem("host-not-allowed", detail)

    def _own(self, host: str) -> bool:
        name = _part(f"//{host}", "hostname")
        if name == "localhost" or name in (self._names or ()):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _part(url: str, part: str) -> str:
    try:
        return getattr(urlsplit(url), part) or ""
    except ValueError:
        return ""


def pages(settings: Settings) -> AllowedOrigins:
    if settings.gateway.auth != "none":
        return AllowedOrigins()
    return AllowedOrigins({*settings.gateway.hosts, _part(settings.gateway_url, "hostname")})
