"""The framing between PID 1 and a worker: four bytes of length, then so many bytes of payload."""

from __future__ import annotations

import socket

HEADER_BYTES = 4
OUTPUT, ERROR = b"o", b"e"
"""First byte of a reply: JSON of what `run` returned, or of what went wrong."""


def pack(payload: bytes) -> bytes:
    """Return the payload as a frame."""
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def payload_length(header: bytes) -> int:
    """Return the bytes of payload that a header announces."""
    return int.from_bytes(header, "big")


def receive(connection: socket.socket) -> bytes | None:
    """Return the next frame's payload, or None once the other side has closed."""
    header = _receive_exactly(connection, HEADER_BYTES)
    return None if header is None else _receive_exactly(connection, payload_length(header))


def _receive_exactly(connection: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 16))
        if not part:
            return None
        parts += part
    return bytes(parts)
