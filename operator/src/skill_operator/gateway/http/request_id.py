"""The id of a request: one id in the logs of the gateway, of the skill and of the controller.

It is the caller's own X-Request-Id, or the trace id of its traceparent (W3C Trace Context), or a new one.
"""

from __future__ import annotations

import random
import re

from skill_operator import runtime_contract

_REQUEST_ID = re.compile(runtime_contract.REQUEST_ID_PATTERN.encode())
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def resolve_request_id(header: bytes, traceparent: bytes = b"") -> str:
    """Return the caller's id where it is valid, else the trace id, else a new id of 32 hex digits."""
    if header and _REQUEST_ID.fullmatch(header):
        return header.decode()
    trace = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return trace[1].decode() if trace and trace[1].strip(b"0") else f"{random.getrandbits(128):032x}"


def response_headers(request_id: str) -> bytes:
    """Return the header lines that every response of the gateway has."""
    return b"x-request-id: %b\r\nx-content-type-options: nosniff\r\n" % request_id.encode()
