"""How PID 1 and a worker talk: four bytes of length, then so many bytes."""

from __future__ import annotations

import socket

HEADER = 4
OUTPUT, ERROR = b"o", b"e"
"""First byte of a reply: JSON of what `run` returned, or of what went wrong."""


def pack(payload: bytes) -> bytes:
    """A frame."""
    return len(payload).to_bytes(HEADER, "big") + payload


def size(header: bytes) -> int:
    """What a header announces."""
    return int.from_bytes(header, "big")


def receive(connection: socket.socket) -> bytes | None:
    """The next frame's payload, or None once the other side has closed."""
    header = _exactly(connection, HEADER)
    return None if header is None else _exactly(connection, size(header))


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 16))
        if not part:
            return None
        parts += part
    return bytes(parts)
