"""Speak to the API server with the token of a caller: the caller's own rights decide, and the audit log names it.

Nothing of this process's identity goes along: no certificate of a client, no token, no cookie. Whoever sends no token
is refused here, since the API server would take the request as an anonymous one.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from skill_operator.k8s.client import PATHS, TOKEN, api_server_address, raise_for
from skill_operator.k8s.decoding import parse_object
from skill_operator.k8s.errors import ClusterError, Forbidden, Invalid, NotFound, Unavailable
from skill_operator.k8s.interface import Items, Object

TIMEOUT_SECONDS: Final = 5.0
MAX_RESPONSE_BYTES: Final = 4 << 20
"""A longer response is not read: etcd stores 1.5 MiB, and only odd text is more than twice as long in JSON."""
MAX_LISTED: Final = 50
REVIEWS: Final = {
    "SelfSubjectReview": "apis/authentication.k8s.io/v1/selfsubjectreviews",
    "SelfSubjectAccessReview": "apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
}
_NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class CallerApiServer:
    """CallerApiServer is a `CallerCluster` over HTTP."""

    def __init__(self, host: str, tls: ssl.SSLContext | bool, agent: str, audience: str = "") -> None:
        """`tls` trusts the API server's CA, and has no certificate of this process."""
        self.audience = audience
        self._host = host.rstrip("/")
        self._agent = agent
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=32),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def get(self, token: str, kind: str, namespace: str, name: str) -> Object | None:
        """Return the object, or None if there is none of this name."""
        try:
            return await self._call(token, "GET", _path(kind, namespace, name))
        except NotFound:
            return None

    async def list(self, token: str, kind: str, namespace: str, labels: dict[str, str]) -> Items:
        """Return the first objects with these labels."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        query = {"labelSelector": selector, "limit": str(MAX_LISTED)}
        items = (await self._call(token, "GET", _path(kind, namespace), query)).get("items")
        return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []

    async def patch(self, token: str, kind: str, namespace: str, name: str, changes: Object) -> None:
        """Apply a JSON Merge Patch (RFC 7396)."""
        query = {"fieldManager": self._agent, "fieldValidation": "Strict"}
        path = _path(kind, namespace, name)
        await self._call(token, "PATCH", path, query, changes, "application/merge-patch+json")

    async def review(self, token: str, kind: str, spec: Object) -> Object:
        """Return the status of a review of the caller itself. Nothing is stored."""
        path = REVIEWS[kind]
        body = {"apiVersion": path.removeprefix("apis/").rpartition("/")[0], "kind": kind, "spec": spec}
        status = (await self._call(token, "POST", path, {}, body)).get("status")
        if not isinstance(status, dict):
            raise Unavailable(f"the API server returned the {kind} without a status")
        return status

    async def _call(
        self, token: str, method: str, path: str, query: dict[str, str] | None = None, body: Any = None,
        content_type: str = "application/json",
    ) -> Object:  # fmt: skip
        if not _TOKEN.fullmatch(token):
            raise Forbidden("there is no token to send", 401)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": self._agent}
        data = None if body is None else json.dumps(body)
        if data is not None:
            headers["Content-Type"] = content_type
        raw = bytearray()
        try:
            async with self._session.request(
                method, f"{self._host}/{path}", params=query or {}, headers=headers, data=data, allow_redirects=False
            ) as response:
                await raise_for(response)
                async for chunk in response.content.iter_any():
                    raw += chunk
                    if len(raw) > MAX_RESPONSE_BYTES:
                        raise Unavailable("the object is too large to be shown")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"the API server does not answer: {str(error) or type(error).__name__}") from error
        try:
            value, whole = await parse_object(bytes(raw))
        except (ValueError, RecursionError) as error:
            raise Unavailable("the response of the API server is no JSON") from error
        if not isinstance(value, dict) or not whole:
            raise Unavailable("the object is too large to be shown")
        return value


@asynccontextmanager
async def connect_for_callers(agent: str) -> AsyncIterator[CallerApiServer]:
    """Connect to the API server of this process, without this process's identity."""
    host, tls = await api_server_address()
    api = CallerApiServer(host, tls, agent, own_audience())
    try:
        yield api
    finally:
        await api.close()


def own_audience(token: Path = TOKEN) -> str:
    """Return the audience of this pod's own token, which is the API server's; empty outside a pod."""
    try:
        payload = token.read_text().split(".")[1]
        audiences = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["aud"]
        return str(audiences if isinstance(audiences, str) else audiences[0])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def is_token_refused(error: ClusterError) -> bool:
    """Return whether the API server does not know the token, as one for another audience; 403 is another matter."""
    return error.status == 401


def _path(kind: str, namespace: str, name: str | None = None) -> str:
    """Return the path of a namespaced resource. Raises Invalid for a name that is none."""
    prefix, plural = PATHS[kind]
    for part in (namespace, *([] if name is None else [name])):
        if not _NAME.fullmatch(part):
            raise Invalid(f"this is no valid name of a {kind} or of its namespace")
    return f"{prefix}/namespaces/{namespace}/{plural}" + ("" if name is None else f"/{name}")
