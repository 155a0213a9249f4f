"""`python3 -m skill_operator.isolation.prober`: a pod as caged as any skill, which says what it can reach.

It is asked by the controller alone: `GET /?target=10.96.0.1:443` → `{"reached": []}`. Its second port is one that no
policy opens: whoever gets in there shows that ingress is not enforced. Nothing but the standard library, so that it
stays small.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from urllib.parse import parse_qs, urlsplit

ASK, DOOR = 8080, 8081
MOST_TARGETS = 8
PATIENCE = 0.5
REQUEST_SECONDS = 5.0


async def reaches(target: str, seconds: float = PATIENCE) -> bool:
    """Whether a connection is taken. Rejected, reset and never answered are the same."""
    host, _, port = target.rpartition(":")
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, ValueError, OverflowError):  # TimeoutError is an OSError
        return False
    writer.close()
    return True


async def reached(targets: list[str]) -> list[str]:
    found = await asyncio.gather(*map(reaches, targets))
    return [target for target, open_ in zip(targets, found, strict=True) if open_]


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(REQUEST_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        _, path, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        targets = parse_qs(urlsplit(path).query).get("target", [])[:MOST_TARGETS]
        body = json.dumps({"reached": await reached(targets)}).encode()
        kind = b"Content-Type: application/json\r\nConnection: close"
        writer.write(b"HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(body), body))
        await writer.drain()
    writer.close()


async def serve(ask: int = ASK, door: int = DOOR) -> None:
    answering = await asyncio.start_server(_answer, None, ask, limit=4096)
    ajar = await asyncio.start_server(lambda _, writer: writer.close(), None, door)
    async with answering, ajar:
        await asyncio.gather(answering.serve_forever(), ajar.serve_forever())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
