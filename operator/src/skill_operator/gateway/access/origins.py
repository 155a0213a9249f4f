"""The check of Origin and Host: web pages may call from the gateway's own address alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from skill_operator.gateway.problems import Problem
from skill_operator.settings import Settings

MAX_HOST_LENGTH = 300  # of DNS 253, and a port


class AllowedOrigins:
    """AllowedOrigins accepts requests of programs, and of web pages that the gateway's own address serves.

    `names` are the hosts that the gateway may be called as, besides addresses and localhost; None: any. Where no token
    is needed, a page of another site must not become one of the gateway's by giving its name the gateway's address
    (DNS rebinding). A browser does not send a token on its own, so where one is needed any name will do.
    """

    def __init__(self, names: Iterable[str] | None = None) -> None:
        self._names = None if names is None else frozenset(names)
        self._is_own_cached = lru_cache(256)(self._is_own)

    def check(self, origin: str, host: str) -> None:
        """Raise Problem unless the request may come from there. Programs send no Origin."""
        if origin and _part(origin, "netloc") != host:
            detail = "the gateway takes no calls from pages of other origins; call from a program"
            raise Problem("origin-not-allowed", detail)
        if self._names is not None and not (len(host) <= MAX_HOST_LENGTH and self._is_own_cached(host)):
            detail = "the gateway does not go by this name; add it to gateway.hosts, or have callers send a token"
            raise Problem("host-not-allowed", detail)

    def _is_own(self, host: str) -> bool:
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


def allowed_origins(settings: Settings) -> AllowedOrigins:
    """Return the check that the settings ask for."""
    if settings.gateway.auth != "none":
        return AllowedOrigins()
    return AllowedOrigins({*settings.gateway.hosts, _part(settings.gateway_url, "hostname")})
