"""The check of Origin and Host: web pages may call from the gateway's own address, and from origins of a list."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from skill_operator import runtime_contract
from skill_operator.gateway.problems import Problem
from skill_operator.settings import Settings

MAX_HOST_LENGTH = 300  # of DNS 253, and a port
_DEFAULT_PORTS = {"http": 80, "https": 443}
_WEB_ORIGIN = re.compile(r"(https?)://(.*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", re.IGNORECASE)
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]{1,64}(?:[ \t]*,[ \t]*[A-Za-z0-9_-]{1,64}){0,63}")
_EXPOSED = f"{runtime_contract.HEADER_REQUEST_ID}, X-Skill-Cold-Start, Retry-After, WWW-Authenticate"
_PREFLIGHT_SECONDS = 600


class AllowedOrigins:
    """AllowedOrigins accepts requests of programs, of web pages that the gateway's own address serves, and of a list.

    `names` are the hosts that the gateway may be called as, besides addresses and localhost; None: any. Where no token
    is needed, a page of another site must not become one of the gateway's by giving its name the gateway's address
    (DNS rebinding), whatever the list says. A browser does not send a token on its own, so where one is needed any name
    will do. `origins` are what such as desktop programs, editors and extensions send, which have no address.
    """

    def __init__(self, names: Iterable[str] | None = None, origins: Iterable[str] = ()) -> None:
        self._names = None if names is None else frozenset(names)
        self._listed = frozenset(map(_normal_origin, origins))
        self._is_own_cached = lru_cache(256)(self._is_own)

    def check(self, origin: str, host: str) -> None:
        """Raise Problem unless the request may come from there. Programs send no Origin."""
        if origin and not self.is_listed(origin) and not is_same_origin(origin, host):
            detail = "the gateway takes no calls from pages of other origins; add yours to gateway.origins"
            raise Problem("origin-not-allowed", detail)
        if self._names is not None and not (len(host) <= MAX_HOST_LENGTH and self._is_own_cached(host)):
            detail = "the gateway does not go by this name; add it to gateway.hosts, or have callers send a token"
            raise Problem("host-not-allowed", detail)

    def is_listed(self, origin: str) -> bool:
        """Return whether an origin is one of the list, which is compared exactly but for default ports."""
        return bool(self._listed) and len(origin) <= MAX_HOST_LENGTH and _normal_origin(origin) in self._listed

    def response_headers(self, origin: str) -> dict[str, str]:
        """Return the headers by which a browser lets a page of this origin read a response (CORS); mostly none."""
        if not origin or not self.is_listed(origin):
            return {}
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED, "Vary": "Origin"}

    def preflight_headers(self, origin: str, wanted_headers: str) -> dict[str, str]:
        """Return the headers by which a browser lets a page of a listed origin send a request with these headers."""
        named = {"Access-Control-Allow-Headers": wanted_headers} if _HEADER_NAMES.fullmatch(wanted_headers) else {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "GET, POST",
            **named,
            "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
            "Vary": "Origin",
        }

    def _is_own(self, host: str) -> bool:
        name = _part(f"//{host}", "hostname")
        if name == "localhost" or name in (self._names or ()):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether a page of this origin came from this host; a port that is not written is that of the scheme."""
    match = _WEB_ORIGIN.fullmatch(origin)
    if match is None or len(origin) > MAX_HOST_LENGTH or len(host) > MAX_HOST_LENGTH:
        return False
    scheme, authority = match.groups()
    own = _normal_authority(host, scheme)
    return bool(own) and own == _normal_authority(authority, scheme)


def _normal_origin(origin: str) -> str:
    """Return an origin of the web with its port; any other one, such as `null`, is what it is."""
    match = _WEB_ORIGIN.fullmatch(origin)
    if match is None:
        return origin
    scheme, authority = match.groups()
    return f"{scheme.lower()}://{_normal_authority(authority, scheme) or authority}"


def _normal_authority(authority: str, scheme: str) -> str:
    match = _AUTHORITY.fullmatch(authority)
    return f"{match[1].lower()}:{int(match[2] or _DEFAULT_PORTS[scheme.lower()])}" if match else ""


def _part(url: str, part: str) -> str:
    try:
        return getattr(urlsplit(url), part) or ""
    except ValueError:
        return ""


def allowed_origins(settings: Settings) -> AllowedOrigins:
    """Return the check that the settings ask for."""
    gateway = settings.gateway
    if gateway.auth != "none":
        return AllowedOrigins(None, gateway.origins)
    return AllowedOrigins({*gateway.hosts, _part(settings.gateway_url, "hostname")}, gateway.origins)
