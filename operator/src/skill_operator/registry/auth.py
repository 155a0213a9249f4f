"""Authenticate the controller to registries that ask for it, by Basic (RFC 7617) or by a bearer token.

The token protocol is that of the CNCF distribution: the registry names a realm, which gives tokens for a scope. Large
registries ask for a token for public images, too, and give it to anybody.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs

from skill_operator.registry.docker_config import RegistryCredential, find_credential

MAX_TOKEN_BYTES = 1 << 16
_CHALLENGE = re.compile(r"\s*(?P<scheme>basic|bearer)\s+(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'(\w+)\s*=\s*"([^"]*)"')


class RegistryAuthError(Exception):
    """RegistryAuthError says that the credential cannot be read, or that the realm gives no token for it.

    The message says which, and holds nothing of the credential.
    """


class RegistryAuth:
    """RegistryAuth is a middleware of aiohttp's client: it repeats a request that is challenged, with a credential."""

    def __init__(self, file: str) -> None:
        """Use the Docker configuration in `file`; an empty name means anonymous access."""
        self._file = file

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send the request, and once more with an answer to the registry's challenge."""
        response = await handler(request)
        challenge = _CHALLENGE.match(response.headers.get(hdrs.WWW_AUTHENTICATE, ""))
        if response.status != 401 or challenge is None:
            return response
        credential = self._find_credential(request.url.authority)
        if challenge["scheme"].lower() == "basic":
            header = credential.header if credential else ""
        else:
            header = await _fetch_token(request, dict(_PARAMETER.findall(challenge["rest"])), credential)
        if not header:
            return response
        response.release()
        request.headers[hdrs.AUTHORIZATION] = header
        return await handler(request)

    def _find_credential(self, host: str) -> RegistryCredential | None:
        if not self._file:
            return None
        try:
            return find_credential(Path(self._file).read_bytes(), host)
        except OSError as error:
            raise RegistryAuthError(f"registry.readSecret cannot be read: {type(error).__name__}") from None
        except ValueError as error:
            raise RegistryAuthError(f"registry.readSecret is {error}") from None  # its cause may quote what was read


async def _fetch_token(request: ClientRequest, challenge: dict[str, str], credential: RegistryCredential | None) -> str:
    realm = challenge.get("realm", "")
    if urlsplit(realm).scheme not in {"https", request.url.scheme}:  # a password never goes from TLS to plain text
        raise RegistryAuthError(f"the registry's realm {realm!r} is no https address")
    query = {key: value for key, value in challenge.items() if key in {"service", "scope"}}
    headers = {hdrs.AUTHORIZATION: credential.header} if credential else {}
    async with request.session.get(realm, params=query, headers=headers, middlewares=()) as response:
        if response.status != 200:
            anonymous = "nobody (registry.readSecret is empty, or of another host)"
            user = f"user {credential.user}" if credential else anonymous
            raise RegistryAuthError(f"{realm} gives no token to {user}: HTTP {response.status}")
        try:
            document = json.loads(await response.content.read(MAX_TOKEN_BYTES))
            token = document.get("token") or document["access_token"]
        except (ValueError, LookupError, AttributeError) as error:
            raise RegistryAuthError(f"{realm} gives no token") from error
    return f"Bearer {token}"
