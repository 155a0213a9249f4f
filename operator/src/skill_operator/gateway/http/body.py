"""The whole body of a request that is no call over HTTP, read in bounded time and memory."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from skill_operator.gateway.http.exchange import BODY_TIMEOUT_SECONDS
from skill_operator.gateway.problems import Problem


async def read_body(receive: Receive, max_bytes: int, what: str) -> bytes | None:
    """Return the whole body, or None where the caller has left. `what` names it. Raises Problem (408, 413)."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            while (message := await receive())["type"] == "http.request":
                body += message.get("body", b"")
                if len(body) > max_bytes:
                    raise body_too_large(max_bytes, what)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        detail = f"the body did not arrive within {BODY_TIMEOUT_SECONDS:.0f} s"
        raise Problem("request-timeout", detail, headers={"Connection": "close"}) from error
    return None


def body_too_large(max_bytes: int, what: str) -> Problem:
    """Return the problem for a body over its limit."""
    return Problem("too-large", f"{what} is {max_bytes} bytes at most")
