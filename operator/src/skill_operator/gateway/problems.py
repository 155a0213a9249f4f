"""Errors of the gateway, as application/problem+json (RFC 9457). Each `type` is stable."""

from __future__ import annotations

import json
from collections.abc import Mapping

TYPE = "application/problem+json"


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

    @property
    def type(self) -> str:
        return f"urn:skill-operator:{self.slug}"

    def body(self, request_id: str) -> bytes:
        told = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "requestId": request_id,
        }
        return json.dumps(told).encode()


def internal(request_id: str) -> Problem:
    """Whatever it was, the caller gets an answer; the trace is in our log."""
    detail = f"this is a fault of the gateway; its log has more under {request_id}"
    return Problem(500, "internal", "The gateway failed", detail)
