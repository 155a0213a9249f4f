"""What of a call is passed on to a pod: an allow-list, so that no credential of the caller's reaches a skill."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from skill_operator import runtime_contract

PASSED_IN = ((b"accept", b"Accept"), (b"traceparent", b"traceparent"), (b"tracestate", b"tracestate"))
_VALUE = re.compile(rb"[\x20-\x7e]{1,1024}")
_HEAD = (
    b"POST / HTTP/1.1\r\nHost: skill\r\nUser-Agent: skill-operator-gateway\r\nContent-Type: application/json\r\n"
    b"Accept-Encoding: identity\r\n"
    + f"{runtime_contract.HEADER_CALLER}: %b\r\n{runtime_contract.HEADER_DEADLINE_MS}: %d\r\n".encode()
    + f"{runtime_contract.HEADER_REQUEST_ID}: %b\r\n".encode()
)


def request(
    caller: str, request_id: str, milliseconds: int, length: int | None, passed: Mapping[bytes, bytes] | None = None
) -> bytes:
    """The head of a call of `length` bytes (None: chunked) that must be answered within `milliseconds`."""
    head = _HEAD % (_name(caller), milliseconds, request_id.encode())
    if passed:
        for name, ours in PASSED_IN:
            value = passed.get(name)
            if value is not None and _VALUE.fullmatch(value):
                head += b"%b: %b\r\n" % (ours, value)
    return head + (b"Transfer-Encoding: chunked\r\n\r\n" if length is None else b"Content-Length: %d\r\n\r\n" % length)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


@lru_cache(1024)
def _name(caller: str) -> bytes:
    """Names of users may be anything; a header may not."""
    return caller.encode("ascii", "backslashreplace").translate(_PRINTABLE)[:253]


_PRINTABLE = bytes(code if 0x20 <= code < 0x7F else ord("?") for code in range(256))
