"""Runs in a pod of a hostile tenant: everything at once that has ever cost a gateway too much, with its own token.

    python3 soak_attacker.py URL TOKEN NAMESPACE SECONDS

Every loop ends after so many seconds. The last line counts what was answered to each attack.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

CONNECT_SECONDS = 5.0
PAUSE_SECONDS = 0.1
BOMB = "[" + ",".join(["[]"] * 340_000) + "]"
EVENTS = "application/json, text/event-stream"


class Attacker:
    """Attacker has one way in: the gateway's port."""

    def __init__(self, host: str, token: str, namespace: str, seconds: float) -> None:
        self._host, self._token, self._namespace = host, token, namespace
        self._end = time.monotonic() + seconds
        self.answers: Counter[str] = Counter()

    def head(self, path: str, length: str, token: str, **headers: str) -> bytes:
        """Return the head of a POST."""
        lines = [f"POST {path} HTTP/1.1", f"Host: {self._host}", f"Authorization: Bearer {token}"]
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    async def repeat(self, name: str, attack: Callable[[], Awaitable[str]]) -> None:
        """Attack until the time is over."""
        while time.monotonic() < self._end:
            try:
                async with asyncio.timeout(max(1.0, self._end - time.monotonic())):
                    answer = await attack()
            except (OSError, EOFError, TimeoutError) as error:
                answer = type(error).__name__
            self.answers[f"{name} {answer}"] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def send(self, *parts: bytes, pause: float = 0) -> str:
        """Send these parts on a new connection and return the answer's status."""
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(self._host, 80)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            return (await reader.readuntil(b"\r\n"))[9:12].decode("ascii", "replace")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def bomb(self) -> str:
        """Send a body to MCP that is cheap to send and dear to parse."""
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x__y", "arguments": {"a": "@"}}}
        body = json.dumps(call).replace('"@"', BOMB).encode()
        return await self.send(self.head("/mcp", str(len(body)), self._token, Accept=EVENTS) + body)

    async def slow_body(self) -> str:
        """Send a body byte by byte."""
        head = self.head("/mcp", "100000", self._token, Accept=EVENTS)
        return await self.send(head, *[b"[" for _ in range(60)], pause=1)

    async def many_lines(self) -> str:
        """Begin a head of thousands of lines and never end it."""
        return await self.send(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 5200)

    async def unknown_token(self) -> str:
        """Have a made-up token reviewed."""
        return await self.send(self.head(f"/v1/skills/{self._namespace}/x", "2", f"bad-{time.monotonic_ns()}") + b"{}")

    async def long_number(self) -> str:
        """Give the body's length with thousands of digits."""
        return await self.send(self.head(f"/v1/skills/{self._namespace}/signals", "0" * 5000 + "2", self._token))

    async def place(self) -> str:
        """Hold a place for a call for as long as its Skill allows."""
        body = b'{"what": "slow"}'
        return await self.send(self.head(f"/v1/skills/{self._namespace}/signals", str(len(body)), self._token) + body)


async def main() -> None:
    """Run every attack in as many copies as one pod of half a CPU can."""
    url, token, namespace, seconds = sys.argv[1:]
    attacker = Attacker(str(urlsplit(url).hostname), token, namespace, float(seconds))
    crowd = {
        attacker.bomb: 8,
        attacker.slow_body: 40,
        attacker.many_lines: 100,
        attacker.unknown_token: 40,
        attacker.long_number: 2,
        attacker.place: 60,
    }
    copies = itertools.chain.from_iterable([attack] * number for attack, number in crowd.items())
    await asyncio.gather(*(attacker.repeat(attack.__name__, attack) for attack in copies))
    print(json.dumps(dict(attacker.answers)))


if __name__ == "__main__":
    asyncio.run(main())
