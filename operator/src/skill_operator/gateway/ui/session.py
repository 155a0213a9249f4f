"""Tell who uses the page: by a token, which a header or a cookie carries, and where a request that changes comes from.

The cookie (RFC 6265) holds the token itself, so that every replica knows every session and none is stored. Only paths
below /ui get it, no script reads it, and no other site's page can have it sent.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from skill_operator.gateway.access.origins import is_same_origin
from skill_operator.gateway.http.paths import PAGE_PREFIX
from skill_operator.gateway.problems import Problem

PREFIX: Final = PAGE_PREFIX
SIGN_IN: Final = f"{PREFIX}/sign-in"
COOKIE: Final = "skill-operator-session"
MAX_TOKEN_CHARACTERS: Final = 3800
"""Browsers keep cookies of 4,096 bytes, with name and attributes."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_BEARER: Final = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")
_OWN_PATH: Final = re.compile(r"/ui(/[A-Za-z0-9._~/-]*)?(\?[A-Za-z0-9._~/=&%+-]*)?")
MAX_PATH_CHARACTERS: Final = 600


class PageSession(NamedTuple):
    """PageSession is the token that a request came with; `from_cookie` says that the browser sent it on its own."""

    token: str
    from_cookie: bool

    @property
    def authorization(self) -> str:
        """The header that other programs would send with this token."""
        return f"Bearer {self.token}" if self.token else ""


def read_session(request: Request) -> PageSession:
    """Return the session of a request. A header is meant for this request, so it comes before the cookie."""
    header = request.headers.get("authorization", "")
    if header:
        match = _BEARER.fullmatch(header)
        return PageSession(match[1] if match else "", from_cookie=False)
    cookie = request.cookies.get(COOKIE, "")
    return PageSession(cookie if is_token(cookie) else "", from_cookie=True)


def is_token(text: str) -> bool:
    """Return whether a text may be a bearer token (RFC 6750) that a cookie can hold."""
    return len(text) <= MAX_TOKEN_CHARACTERS and _TOKEN.fullmatch(text) is not None


def check_same_site(request: Request) -> None:
    """Raise Problem (403) unless one of the gateway's own pages sent the request (CSRF).

    Browsers say so themselves in Sec-Fetch-Site (Fetch Metadata), or in Origin where the connection is plain. A request
    that says neither is no browser's, and programs have /v1.
    """
    site, origin = request.headers.get("sec-fetch-site", ""), request.headers.get("origin", "")
    from_here = site == "same-origin" if site else bool(origin)
    if not from_here or (origin and not is_same_origin(origin, request.headers.get("host", ""))):
        raise Problem(
            "origin-not-allowed", "the page takes this from its own forms alone; open the page and send it there"
        )


def check_reader(request: Request) -> None:
    """Raise Problem (403) where a script of another site's page asks: the list of origins is for /v1 and /mcp."""
    origin = request.headers.get("origin", "")
    if origin and not is_same_origin(origin, request.headers.get("host", "")):
        raise Problem("origin-not-allowed", "the page is shown to people, not to pages of other origins")


def is_link_from_elsewhere(request: Request) -> bool:
    """Return whether another site's link led here: then the browser keeps the cookie back, though there may be one."""
    return request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site"


def own_path(path: str) -> str:
    """Return a path of the page to go on to, or its front where the text is none: never another site's."""
    return path if len(path) <= MAX_PATH_CHARACTERS and _OWN_PATH.fullmatch(path) else PREFIX


def is_encrypted(request: Request) -> bool:
    """Return whether the browser speaks TLS, here or with a proxy before the gateway, which may say so."""
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "").lower() == "https"


def set_cookie(response: Response, request: Request, token: str) -> None:
    """Have the browser keep the token until it is closed."""
    response.headers.append("Set-Cookie", _cookie(token, request, ""))


def clear_cookie(response: Response, request: Request) -> None:
    """Have the browser forget the token."""
    response.headers.append("Set-Cookie", _cookie("", request, "; Max-Age=0"))


def _cookie(value: str, request: Request, more: str) -> str:
    secure = "; Secure" if is_encrypted(request) else ""
    return f"{COOKIE}={value}; Path={PREFIX}; HttpOnly; SameSite=Strict{secure}{more}"
