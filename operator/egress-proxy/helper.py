"""Pass Squid's requests for a decision to the gateway, and the decision back: the helper in the egress proxy.

    helper.py GATEWAY:PORT

A line of Squid is `channel source method host port sni hello -`, each percent-encoded, `-` where there is none; `hello`
is `seen` once the first bytes inside a tunnel were those of TLS; Squid itself adds the last one. The response is one
line, in one write: Squid reads half a line as a whole one. Nothing but the standard library, since the proxy's image
has no other part of the operator.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import quote, unquote, urlencode

PATH = "/v1/egress"
TIMEOUT_SECONDS = 5.0
FIELDS = 8


class SquidRequest(NamedTuple):
    """SquidRequest is a line of Squid, decoded."""

    channel: str
    source: str
    method: str
    host: str
    port: str
    sni: str
    hello: str


class ProxyDecision(NamedTuple):
    """ProxyDecision says whether Squid opens the connection, and what its log says about it."""

    allowed: bool
    verdict: str
    reason: str
    skill: str = ""


Ask = Callable[[str, str, str], Awaitable[ProxyDecision]]


async def decide(request: SquidRequest, ask: Ask) -> ProxyDecision:
    """Return the decision for a request.

    A tunnel is opened in two steps: to read the first bytes in it, and then to its host, if TLS names the very host
    that the tunnel was requested for. A tunnel that ends in between was refused.
    """
    decision = await ask(request.source, request.host, request.port)
    if not decision.allowed or request.method != "CONNECT":
        return decision
    if request.hello != "seen":
        return decision._replace(verdict="refused", reason="no-tls-in-the-tunnel")
    if request.sni == "-":
        return ProxyDecision(False, "refused", "tls-without-a-name", decision.skill)
    if request.sni.lower() != request.host:
        return ProxyDecision(False, "refused", "tls-asks-for-another-host", decision.skill)
    return decision


def make_client(gateway: str) -> Ask:
    """Return a client of the gateway. It opens a connection for each request, which costs a millisecond."""
    host, _, port = gateway.rpartition(":")

    async def ask(source: str, name: str, number: str) -> ProxyDecision:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    query = urlencode({"source": source, "host": name, "port": number})
                    writer.write(f"GET {PATH}?{query} HTTP/1.0\r\nHost: gateway\r\n\r\n".encode())
                    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                finally:
                    writer.close()
            if head.split(b" ", 2)[1] != b"200":
                return ProxyDecision(False, "refused", "gateway-rejects-the-request")
            document = json.loads(body)
            allowed = document["allowed"] is True
            return ProxyDecision(
                allowed, "allowed" if allowed else "refused", str(document["reason"]), str(document["skill"])
            )
        except (OSError, ValueError, LookupError, TypeError, RecursionError):  # TimeoutError is an OSError
            return ProxyDecision(False, "refused", "gateway-does-not-answer")

    return ask


def parse(line: str) -> SquidRequest | None:
    """Return the request of a line, or None for a malformed line."""
    parts = line.split()
    return SquidRequest(parts[0], *map(unquote, parts[1 : FIELDS - 1])) if len(parts) == FIELDS else None


def format_response(channel: str, decision: ProxyDecision) -> bytes:
    """Return the line for Squid. Underscores end the names of notes that are not Squid's own."""
    reason, skill = quote(decision.reason, safe=""), quote(decision.skill, safe="") or "-"
    notes = f"verdict_={decision.verdict} reason_={reason} skill_={skill}"
    return f"{channel} {'OK' if decision.allowed else 'ERR'} {notes}\n".encode()


async def respond(line: str, ask: Ask, write: Callable[[bytes], object]) -> None:
    """Decide about one line of Squid, and write the response."""
    request = parse(line)
    if request is None:
        decision = ProxyDecision(False, "refused", "malformed-request")
    else:
        decision = await decide(request, ask)
    write(format_response(line.split(" ", 1)[0].strip() or "0", decision))


async def serve(gateway: str) -> None:
    """Respond to Squid's lines until it closes the pipe."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    ask = make_client(gateway)
    async with asyncio.TaskGroup() as tasks:
        while line := await lines.readline():
            tasks.create_task(respond(line.decode("utf-8", "replace"), ask, lambda text: os.write(1, text)))


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
