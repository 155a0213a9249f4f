"""Authenticate the controller to registries that ask for it, by Basic (RFC 7617) or by a bearer token.

The token protocol is that of the CNCF distribution: the registry names a realm, which gives tokens for a scope. Large
registries ask for a token for public images, too, and give it to anybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession, hdrs

from skill_operator.registry.docker_config import RegistryCredential, find_credential
from skill_operator.registry.hosts import GlobalResolver, is_same_site, is_trusted, split_url
from skill_operator.untrusted.text import printable

MAX_TOKEN_RESPONSE_BYTES = 1 << 16
MAX_TOKEN_CHARACTERS = 1 << 14
MAX_REALM_CHARACTERS = 2048
TIMEOUT = aiohttp.ClientTimeout(total=10)
_CHALLENGE = re.compile(r"\s*+(?P<scheme>basic|bearer)\s++(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'\b(\w++)\s*+=\s*+"([^"]*+)"')  # linear: no word is begun twice
_TOKEN = re.compile(r"[\w.~+/=-]++", re.ASCII)  # RFC 6750


class RegistryAuthError(Exception):
    """RegistryAuthError says that the credential cannot be read, or that the realm gives no token for it.

    The message says which, and holds nothing of the credential.
    """


class RegistryAuth:
    """RegistryAuth is a middleware of aiohttp's client: it repeats a request that is challenged, with a credential."""

    def __init__(self, file: str, hosts: Sequence[str] = (), *, setting: str = "registry.readSecret") -> None:
        """Use the Docker configuration in `file`; an empty name means anonymous access.

        `hosts` may give tokens for the registry, beside its own site. Errors name the `setting` to look at.
        """
        self._file = file
        self._hosts = hosts
        self._setting = setting

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
            parameters = dict(_PARAMETER.findall(challenge["rest"]))
            header = await _fetch_token(request, parameters, credential, self._hosts, self._setting)
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
            raise RegistryAuthError(f"{self._setting} cannot be read: {type(error).__name__}") from None
        except ValueError as error:
            raise RegistryAuthError(f"{self._setting} is {error}") from None  # its cause may quote what was read


async def _fetch_token(
    request: ClientRequest,
    challenge: dict[str, str],
    credential: RegistryCredential | None,
    hosts: Sequence[str],
    setting: str,
) -> str:
    """Return the Authorization header with a token of the realm. No redirect is followed: it could be anywhere."""
    realm = challenge.get("realm", "")
    shown = printable(realm, 200)
    query = {key: value for key, value in challenge.items() if key in {"service", "scope"}}
    headers = {hdrs.AUTHORIZATION: credential.header} if credential else {}
    async with (
        _realm_session(request, realm, hosts) as session,
        session.get(realm, params=query, headers=headers, middlewares=(), allow_redirects=False) as response,
    ):
        if response.status != 200:
            anonymous = f"nobody ({setting} is empty, or of another host)"
            user = f"user {credential.user}" if credential else anonymous
            raise RegistryAuthError(f"{shown} gives no token to {user}: HTTP {response.status}")
        try:
            document = json.loads(await _read(response))
            token = document.get("token") or document["access_token"]
        except (ValueError, LookupError, AttributeError, RecursionError) as error:
            raise RegistryAuthError(f"{shown} gives no token") from error
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARACTERS or _TOKEN.fullmatch(token) is None:
        raise RegistryAuthError(f"{shown} gives no token")
    return f"Bearer {token}"


async def _read(response: ClientResponse) -> bytes:
    """Return the body. Raises ValueError for one that is too long."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_TOKEN_RESPONSE_BYTES:
            raise ValueError("the body is too long")
    return bytes(body)


@asynccontextmanager
async def _realm_session(request: ClientRequest, realm: str, hosts: Sequence[str]) -> AsyncIterator[ClientSession]:
    """Yield the session for a realm that may get the credential: of the registry's own site, or of `hosts`.

    A realm on another host than the registry's is called only where its addresses are of the internet.
    """
    parts = split_url(realm[:MAX_REALM_CHARACTERS])
    if parts is None or parts.scheme not in {"https", request.url.scheme}:  # no password goes from TLS to plain text
        raise RegistryAuthError(f"the registry's realm {printable(realm, 200)!r} is no https address")
    host, registry_host = parts.hostname or "", request.url.host or ""
    if is_trusted(host, registry_host, hosts):
        yield request.session
    elif parts.scheme == "https" and is_same_site(host, registry_host):
        connector = aiohttp.TCPConnector(resolver=GlobalResolver())
        async with ClientSession(connector=connector, timeout=TIMEOUT, trust_env=False) as session:
            yield session
    else:
        raise RegistryAuthError(
            f"the registry names a realm of another site, {printable(host, 200)}: if it is right, add it to "
            "registry.trustedHosts"
        )
