"""Errors of the gateway, as application/problem+json (RFC 9457). Each `type` is stable."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web


class Problem(Exception):
    """What went wrong and what to do about it."""

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {}) | ({} if retry_after is None else {"Retry-After": str(retry_after)})

    def response(self, request_id: str) -> web.Response:
        body = {
            "type": f"urn:skill-operator:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "requestId": request_id,
        }
        return web.Response(
            status=self.status, text=json.dumps(body), content_type="application/problem+json", headers=self.headers
        )
