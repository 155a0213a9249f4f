"""What of a call is passed on to a pod: an allow-list, so that no credential of the caller's reaches a skill."""

from __future__ import annotations

import re
from collections.abc import Mapping

PASSED_IN = {b"accept": b"Accept", b"traceparent": b"traceparent", b"tracestate": b"tracestate"}
CALLER = b"X-Skill-Caller"
DEADLINE = b"X-Skill-Deadline-Ms"
_VALUE = re.compile(rb"[\x20-\x7e]{1,1024}")
_HEAD = (
    b"POST / HTTP/1.1\r\nHost: skill\r\nUser-Agent: skill-operator-gateway\r\nContent-Type: application/json\r\n"
    b"Accept-Encoding: identity\r\n"
)


def request(
    caller: str, request_id: str, milliseconds: int, length: int | None, passed: Mapping[bytes, bytes] | None = None
) -> bytes:
    """The head of a call of `length` bytes (None: chunked) that must be answered within `milliseconds`."""
    lines = [_HEAD]
    for name, value in (passed or {}).items():
        if name in PASSED_IN and _VALUE.fullmatch(value):
            lines.append(b"%b: %b\r\n" % (PASSED_IN[name], value))
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    lines.append(
        b"%b: %b\r\n%b: %d\r\nX-Request-Id: %b\r\n%b\r\n\r\n"
        % (CALLER, _name(caller), DEADLINE, milliseconds, request_id.encode(), framing)
    )
    return b"".join(lines)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def _name(caller: str) -> bytes:
    """Names of users may be anything; a header may not."""
    return caller.encode("ascii", "backslashreplace").translate(_PRINTABLE)[:253]


_PRINTABLE = bytes(code if 0x20 <= code < 0x7F else ord("?") for code in range(256))
