"""The head of a request to a pod. An allow-list of headers keeps the caller's credentials from the skill."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from skill_operator import runtime_contract

FORWARDED_HEADERS = tuple(
    (name.lower().encode(), name.encode())
    for name in ("Accept", runtime_contract.HEADER_TRACEPARENT, runtime_contract.HEADER_TRACESTATE)
)
LAST_CHUNK = b"0\r\n\r\n"
_VALUE = re.compile(rb"[\x20-\x7e]{1,1024}")
_HEAD = (
    f"{runtime_contract.CALL_METHOD} {runtime_contract.CALL_PATH} HTTP/1.1\r\nHost: skill\r\n"
    "User-Agent: skill-operator-gateway\r\nContent-Type: application/json\r\nAccept-Encoding: identity\r\n"
    f"{runtime_contract.HEADER_SKILL_UID}: %b\r\n"
    f"{runtime_contract.HEADER_CALLER}: %b\r\n{runtime_contract.HEADER_DEADLINE_MS}: %d\r\n"
    f"{runtime_contract.HEADER_REQUEST_ID}: %b\r\n"
).encode()
_PRINTABLE = bytes(code if 0x20 <= code < 0x7F else ord("?") for code in range(256))


def encode_head(
    uid: bytes,
    caller: str,
    request_id: str,
    timeout_milliseconds: int,
    length: int | None,
    headers: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """Return the head of a call whose body has `length` bytes (None: chunked).

    `uid` is of the Skill: the pod of another refuses the call. `headers` are the caller's.
    """
    head = _HEAD % (uid, _caller_value(caller), timeout_milliseconds, request_id.encode())
    if headers:
        for lower_name, name in FORWARDED_HEADERS:
            value = headers.get(lower_name)
            if value is not None and _VALUE.fullmatch(value):
                head += b"%b: %b\r\n" % (name, value)
    return head + (b"Transfer-Encoding: chunked\r\n\r\n" if length is None else b"Content-Length: %d\r\n\r\n" % length)


def encode_chunk(data: bytes) -> bytes:
    """Return the data as one chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache(1024)
def _caller_value(caller: str) -> bytes:
    """Return a user's name as a header's value: the name may hold anything, a header may not."""
    return caller.encode("ascii", "backslashreplace").translate(_PRINTABLE)[:253]
