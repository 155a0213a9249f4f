"""Who the controller is to a registry that answers nobody unasked: Basic, or a token that is had for it.

The token protocol is Docker's (the registry names a realm, which gives tokens for a scope); public images of large
registries ask for one, too, and give it to anybody.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs

LARGEST_TOKEN = 1 << 16
_CHALLENGE = re.compile(r"\s*(?P<scheme>basic|bearer)\s+(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'(\w+)\s*=\s*"([^"]*)"')


class RegistryAuthError(Exception):
    """The credential cannot be read, or no token is given for it. The message says which, and holds nothing of it."""


class Credential(NamedTuple):
    user: str
    password: str

    def basic(self) -> str:
        """As HTTP basic authentication and Docker's `auth` field write it."""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def header(self) -> str:
        return f"Basic {self.basic()}"


class RegistryAuth:
    """A middleware of aiohttp's client: what is refused with a challenge is asked once more, with an answer to it."""

    def __init__(self, file: str) -> None:
        """`file` is a Docker configuration (`auths`), or empty: then only what anybody is given is had."""
        self._file = file

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        response = await handler(request)
        found = _CHALLENGE.match(response.headers.get(hdrs.WWW_AUTHENTICATE, ""))
        if response.status != 401 or found is None:
            return response
        credential = self._credential(request.url.authority)
        if found["scheme"].lower() == "basic":
            header = credential.header if credential else ""
        else:
            header = await _bearer(request, dict(_PARAMETER.findall(found["rest"])), credential)
        if not header:
            return response
        response.release()
        request.headers[hdrs.AUTHORIZATION] = header
        return await handler(request)

    def _credential(self, host: str) -> Credential | None:
        if not self._file:
            return None
        try:
            auths: dict[str, Any] = json.loads(Path(self._file).read_text(encoding="utf-8"))["auths"]
            for place, entry in auths.items():
                if urlsplit(place if "//" in place else f"//{place}").netloc == host:
                    return _basic(entry)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            why = f"registry.readSecret is no dockerconfigjson: {type(error).__name__}"
            raise RegistryAuthError(why) from None  # the error may quote what it read
        return None


def _basic(entry: dict[str, str]) -> Credential:
    user, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    if not user or ":" in user:
        raise ValueError("it names nobody")
    return Credential(user, password)


async def _bearer(request: ClientRequest, challenge: dict[str, str], credential: Credential | None) -> str:
    realm = challenge.get("realm", "")
    if urlsplit(realm).scheme not in {"https", request.url.scheme}:  # a password never goes from TLS to plain text
        raise RegistryAuthError(f"the registry's realm {realm!r} is no https address")
    wanted = {key: value for key, value in challenge.items() if key in {"service", "scope"}}
    headers = {hdrs.AUTHORIZATION: credential.header} if credential else {}
    async with request.session.get(realm, params=wanted, headers=headers, middlewares=()) as answer:
        if answer.status != 200:
            nobody = "nobody (registry.readSecret is empty, or of another host)"
            who = f"user {credential.user}" if credential else nobody
            raise RegistryAuthError(f"{realm} gives no token to {who}: HTTP {answer.status}")
        try:
            said = json.loads(await answer.content.read(LARGEST_TOKEN))
            token = said.get("token") or said["access_token"]
        except (ValueError, LookupError, AttributeError) as error:
            raise RegistryAuthError(f"{realm} gives no token") from error
    return f"Bearer {token}"
