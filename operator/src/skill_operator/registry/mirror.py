"""Run the registry mirror of one node: it passes on what the node's container runtime reads of the embedded registry.

`python3 -m skill_operator.registry.mirror HOST:PORT CONFIG` listens on a port that the chart publishes on 127.0.0.1 of
the node alone, and adds the credential of a Docker configuration. So neither pods nor other machines read images of
skills. It passes on GET and HEAD of paths of the OCI distribution spec, and of what a client sends the headers alone.
It uses nothing but the standard library, so that it stays small.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from skill_operator.registry.docker_config import parse_auths, parse_entry

PORT = 5002
MAX_HEAD_BYTES = 1 << 14
CHUNK_BYTES = 1 << 16
HEAD_TIMEOUT_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 5.0
IDLE_TIMEOUT_SECONDS = 60.0
MAX_CONNECTIONS = 256
TLS_HANDSHAKE = b"\x16"
"""The first byte of a TLS connection: the type of its first record (RFC 8446, section 5.1)."""
_METHODS = (b"GET", b"HEAD")
_DROPPED = (
    b"authorization",
    b"host",
    b"connection",
    b"keep-alive",
    b"content-length",
    b"transfer-encoding",
    b"expect",
    b"upgrade",
)


def rewrite(head: bytes, upstream: str, authorization: str) -> bytes | None:
    """Return the head of the request to the registry, or None for what is no read. The registry closes afterwards."""
    first, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    method, path, version = first.split(b" ") if first.count(b" ") == 2 else (b"", b"", b"")
    if method not in _METHODS or not path.startswith(b"/v2/") or version != b"HTTP/1.1":
        return None
    kept = [field for field in fields if field.partition(b":")[0].strip().lower() not in _DROPPED]
    added = f"Host: {upstream}\r\nAuthorization: {authorization}\r\nConnection: close\r\n\r\n"
    return b"\r\n".join([first, *kept, added.encode("ascii")])


def read_authorization(config: Path) -> str:
    """Return the header for the one registry of a Docker configuration. Raises ValueError if it has none."""
    (entry,) = parse_auths(config.read_bytes()).values()
    return parse_entry(entry).header


class RegistryMirror:
    """RegistryMirror passes requests on, each over a connection of its own."""

    def __init__(self, upstream: str, config: Path) -> None:
        """Pass on to `host:port` with the credential that `config` has at that time."""
        self._upstream = upstream
        self._config = config
        self._address = ""  # under which the registry answered last: pulls must not wait for the cluster's DNS
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, which ends with the response."""
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with self._slots:
                await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_SECONDS):
                first = await reader.readexactly(1)
                if first == TLS_HANDSHAKE:
                    # A container runtime tries HTTPS first, and HTTP as soon as the answer is no TLS. Without an answer
                    # it would wait for 10 s, in each pull of an image several times.
                    return await _refuse(writer, b"400 Bad Request")
                head = first + await reader.readuntil(b"\r\n\r\n")
                request = rewrite(head, self._upstream, read_authorization(self._config))
        except asyncio.LimitOverrunError:
            request = None
        if request is None:
            return await _refuse(writer, b"405 Method Not Allowed")
        try:
            source, upstream = await self._connect()
        except OSError:
            return await _refuse(writer, b"502 Bad Gateway")
        with contextlib.closing(upstream):
            upstream.write(request)
            while True:
                async with asyncio.timeout(IDLE_TIMEOUT_SECONDS):
                    if not (chunk := await source.read(CHUNK_BYTES)):
                        return None
                    writer.write(chunk)
                    await writer.drain()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the registry. Raises OSError, of which TimeoutError is one."""
        host, _, port = self._upstream.rpartition(":")
        for address in filter(None, (self._address, host)):
            with contextlib.suppress(OSError):
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    streams = await asyncio.open_connection(address, int(port), limit=CHUNK_BYTES)
                self._address = streams[1].get_extra_info("peername")[0]
                return streams
        raise OSError(f"no way to {self._upstream}")


async def _refuse(writer: asyncio.StreamWriter, status: bytes) -> None:
    """Answer with a status and no body. The connection ends with it."""
    writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def serve(upstream: str, config: Path, host: str | None = None, port: int = PORT) -> asyncio.Server:
    """Return a server that listens."""
    return await asyncio.start_server(RegistryMirror(upstream, config), host, port, limit=MAX_HEAD_BYTES)


async def _run(upstream: str, config: Path) -> None:
    """Serve until SIGTERM; then finish what is being read, and take no new connections."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with await serve(upstream, config):
        await stop.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(sys.argv[1], Path(sys.argv[2])))
