"""Send bytes that no HTTP client would send."""

from __future__ import annotations

import asyncio


async def exchange(port: int, request: bytes) -> bytes:
    """Return all that a server on loopback answers until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    response = await reader.read()
    writer.close()
    return response
