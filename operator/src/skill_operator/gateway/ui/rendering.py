"""Turn templates into responses: escaped, in threads beside the calls of others, with headers that trust nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from skill_operator.gateway.ui.session import PREFIX

MAX_CONCURRENT_RENDERS: Final = 2
MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    # `no-referrer` would make browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_PACKAGE: Final = "skill_operator.gateway.ui"


class PageRenderer:
    """PageRenderer has the templates and the files that they need, all in memory."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader(_PACKAGE, "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_RENDERS)
        folder = files(_PACKAGE) / "static"
        self._files = {file.name: file.read_bytes() for file in folder.iterdir() if _media_type(file.name)}
        digest = hashlib.sha256(b"".join(self._files[name] for name in sorted(self._files))).hexdigest()[:16]
        self._prefix = f"{PREFIX}/static/{digest}"
        self._environment.globals |= {"static": self._prefix, "root": PREFIX}

    async def render(self, name: str, make_view: Callable[[], dict[str, Any]], status: int = 200) -> Response:
        """Return a page; a thread calls `make_view`, and renders what that returns, a few at a time."""
        async with self._slots:
            body = await asyncio.to_thread(
                lambda: self._environment.get_template(name).render(make_view()).encode("utf-8", "replace")
            )
        return Response(body, status, HEADERS, "text/html; charset=utf-8")

    async def static_file(self, request: Request) -> Response:
        """Return a file by its path, which changes with the files: browsers need not ask again."""
        name = request.path_params["name"]
        body = self._files.get(name) if request.url.path == f"{self._prefix}/{name}" else None
        if body is None:
            return Response("there is no such file", 404, HEADERS, "text/plain; charset=utf-8")
        headers = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(body, 200, headers, _media_type(name))


def _media_type(name: str) -> str:
    return next((media_type for suffix, media_type in MEDIA_TYPES.items() if name.endswith(suffix)), "")
