"""Squid's helper in the egress proxy: passes on what Squid asks to the gateway, and the answer back.

    helper.py GATEWAY:PORT

A line of Squid is `channel source method host port sni hello -`, each percent-encoded, `-` where there is none; `hello`
is `seen` once the first bytes inside a tunnel were those of TLS; the last one is Squid's own habit. The answer is one
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
PATIENCE = 5.0
FIELDS = 8


class Asked(NamedTuple):
    """A line of Squid, decoded."""

    channel: str
    source: str
    method: str
    host: str
    port: str
    sni: str
    hello: str


class Verdict(NamedTuple):
    """What is to be done, and what the log says of it."""

    opens: bool
    verdict: str
    reason: str
    skill: str = ""


Ask = Callable[[str, str, str], Awaitable[Verdict]]


async def judge(asked: Asked, ask: Ask) -> Verdict:
    """A tunnel is opened in two steps: to see the first bytes in it, and then, if they ask for the very host that the
    tunnel was asked for, to its host. What ends in between was refused."""
    answer = await ask(asked.source, asked.host, asked.port)
    if not answer.opens or asked.method != "CONNECT":
        return answer
    if asked.hello != "seen":
        return answer._replace(verdict="refused", reason="no-tls-in-the-tunnel")
    if asked.sni == "-":
        return Verdict(False, "refused", "tls-without-a-name", answer.skill)
    if asked.sni.lower() != asked.host:
        return Verdict(False, "refused", "tls-asks-for-another-host", answer.skill)
    return answer


def asker(gateway: str) -> Ask:
    """Asks over a connection of its own: what is there to be lost is a millisecond."""
    host, _, port = gateway.rpartition(":")

    async def ask(source: str, name: str, number: str) -> Verdict:
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    query = urlencode({"source": source, "host": name, "port": number})
                    writer.write(f"GET {PATH}?{query} HTTP/1.0\r\nHost: gateway\r\n\r\n".encode())
                    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                finally:
                    writer.close()
            if head.split(b" ", 2)[1] != b"200":
                return Verdict(False, "refused", "gateway-refuses-to-judge")
            told = json.loads(body)
            allowed = told["allowed"] is True
            return Verdict(allowed, "allowed" if allowed else "refused", str(told["reason"]), str(told["skill"]))
        except (OSError, ValueError, LookupError, TypeError, RecursionError):  # TimeoutError is an OSError
            return Verdict(False, "refused", "gateway-does-not-answer")

    return ask


def read(line: str) -> Asked | None:
    parts = line.split()
    return Asked(parts[0], *map(unquote, parts[1 : FIELDS - 1])) if len(parts) == FIELDS else None


def written(channel: str, said: Verdict) -> bytes:
    """Underscores end the names of notes that are not Squid's own."""
    notes = f"verdict_={said.verdict} reason_={quote(said.reason, safe='')} skill_={quote(said.skill, safe='') or '-'}"
    return f"{channel} {'OK' if said.opens else 'ERR'} {notes}\n".encode()


async def answer(line: str, ask: Ask, write: Callable[[bytes], object]) -> None:
    asked = read(line)
    if asked is None:
        said = Verdict(False, "refused", "malformed-question")
    else:
        said = await judge(asked, ask)
    write(written(line.split(" ", 1)[0].strip() or "0", said))


async def serve(gateway: str) -> None:
    """Until Squid closes the pipe."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    ask = asker(gateway)
    async with asyncio.TaskGroup() as tasks:
        while line := await lines.readline():
            tasks.create_task(answer(line.decode("utf-8", "replace"), ask, lambda text: os.write(1, text)))


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
