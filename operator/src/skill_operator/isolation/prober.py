"""Run the prober: a pod as isolated as any skill's, which reports what it can reach.

`python3 -m skill_operator.isolation.prober` serves the controller alone: `GET /?target=10.96.0.1:443` returns
`{"reached": []}`. No policy opens its second port: whoever connects to it shows that ingress is not enforced. It
imports no library, so that it stays small.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from urllib.parse import parse_qs, urlsplit

from skill_operator.termination import exit_on_sigterm

REPORT_PORT, BLOCKED_PORT = 8080, 8081
MAX_TARGETS = 8
CONNECT_TIMEOUT_SECONDS = 0.5
REQUEST_TIMEOUT_SECONDS = 5.0


async def can_connect(target: str, timeout_seconds: float = CONNECT_TIMEOUT_SECONDS) -> bool:
    """Return whether `host:port` accepts a connection. Rejected, reset and timed out are the same."""
    host, _, port = target.rpartition(":")
    try:
        async with asyncio.timeout(timeout_seconds):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, ValueError, OverflowError):  # TimeoutError is an OSError
        return False
    writer.close()
    return True


async def find_reachable(targets: list[str]) -> list[str]:
    """Return those of the targets that accept a connection."""
    results = await asyncio.gather(*map(can_connect, targets))
    return [target for target, reachable in zip(targets, results, strict=True) if reachable]


async def _respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        _, path, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        targets = parse_qs(urlsplit(path).query).get("target", [])[:MAX_TARGETS]
        body = json.dumps({"reached": await find_reachable(targets)}).encode()
        headers = b"Content-Type: application/json\r\nConnection: close"
        writer.write(b"HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n%s" % (headers, len(body), body))
        await writer.drain()
    writer.close()


async def serve(report_port: int = REPORT_PORT, blocked_port: int = BLOCKED_PORT) -> None:
    """Serve both ports until cancelled."""
    reports = await asyncio.start_server(_respond, None, report_port, limit=4096)
    blocked = await asyncio.start_server(lambda _, writer: writer.close(), None, blocked_port)
    async with reports, blocked:
        await asyncio.gather(reports.serve_forever(), blocked.serve_forever())


if __name__ == "__main__":
    exit_on_sigterm()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
