"""Cross-origin requests (CORS, in the Fetch standard): browsers ask for them on behalf of pages of listed origins."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skill_operator.gateway.access.origins import AllowedOrigins
from skill_operator.gateway.http.paths import is_page_path


class CorsMiddleware:
    """CorsMiddleware lets pages of listed origins send requests and read responses.

    It says the same of every path but those of the page for people, and lets nobody in: a page needs a token as any
    program does.
    """

    def __init__(self, app: ASGIApp, origins: AllowedOrigins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origin = headers.get("origin", "")
        if not self._origins.is_listed(origin) or is_page_path(scope["path"]):
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            wanted = headers.get("access-control-request-headers", "")
            response = Response(status_code=204, headers=self._origins.preflight_headers(origin, wanted))
            await response(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._origins.response_headers(origin))
            await send(message)

        await self._app(scope, receive, send_with_headers)
