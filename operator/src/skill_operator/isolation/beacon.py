"""Serve the beacon: a port that accepts every connection and closes it. A pod that reaches it is not isolated."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def serve_beacon(port: int) -> AsyncIterator[None]:
    """Serve the beacon on all addresses while the context is open.

    The kernel's handshake is the whole response that a client needs, so nothing is read and nothing is kept.
    """
    server = await asyncio.start_server(lambda _, writer: writer.close(), None, port)
    async with server:
        yield
