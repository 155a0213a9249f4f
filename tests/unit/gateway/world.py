"""A gateway on real sockets: pods are servers on loopback addresses, which say what the test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from skill_operator.gateway import server
from skill_operator.gateway.access.authorizer import AllowAll, Authorizer
from skill_operator.gateway.http.tls import Certificate
from skill_operator.gateway.invocation import Invoker
from skill_operator.gateway.pods.activator import Activator
from skill_operator.gateway.pods.connection import ConnectionPool
from skill_operator.gateway.pods.directory import Directory
from skill_operator.k8s.interface import CallerCluster
from skill_operator.settings import GatewaySettings, ImageSettings, Settings, WakeSettings
from tests.unit.gateway.objects import pod, skill

Say = Callable[["Call"], Awaitable[None]]
SETTINGS = Settings(
    images=ImageSettings(runtime="r", checker="c", builder="b", operator="o"),
    listen_port=0,
    gateway=GatewaySettings(auth="none"),
)
GOOD = b'{"total": 3}'


def reply(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


class Scaler:
    """The part of a cluster that wakes: what each patch does is up to the test."""

    def __init__(self) -> None:
        self.patches: list[tuple[str, str]] = []
        self.then: Callable[[], Awaitable[None]] | None = None

    async def patch(
        self, kind: str, namespace: str, name: str, operations: list[dict[str, Any]], subresource: str = ""
    ) -> None:
        assert (kind, subresource) == ("Deployment", "scale")
        assert operations[0] == {"op": "test", "path": "/spec", "value": {}}, "only what sleeps is woken"
        self.patches.append((namespace, name))
        if self.then is not None:
            await self.then()


class Call:
    """What a pod got, and its way to answer."""

    def __init__(self, head: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.body = body
        self._reader = reader
        self._writer = writer

    async def say(self, raw: bytes) -> None:
        self._writer.write(raw)
        await self._writer.drain()

    async def gone(self) -> None:
        """Returns when the gateway has hung up."""
        while await self._reader.read(1024):
            pass


async def read_body(head: str, reader: asyncio.StreamReader) -> bytes:
    if "transfer-encoding: chunked" not in head:
        sizes = [line.split(":")[1] for line in head.split("\r\n") if line.startswith("content-length:")]
        return await reader.readexactly(int(sizes[0]))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return body


async def fine(call: Call) -> None:
    await call.say(reply(GOOD))


class World:
    """A gateway, and as many pods as the test wants."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.directory = Directory()
        self.directory.unsynced.clear()
        self.scaler = Scaler()
        self.wake = WakeSettings()
        self.authorizer: Authorizer = AllowAll()
        self.certificate: Certificate | None = None
        self.callers: CallerCluster | None = None
        self.settings = SETTINGS
        self.cluster: Any = None
        self.port = 0
        self.url = ""
        self.client = aiohttp.ClientSession(auto_decompress=False)

    async def start(self) -> None:
        holder = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)  # a port for all pods
        self.port = holder.sockets[0].getsockname()[1]
        holder.close()
        await holder.wait_closed()
        pool = self._stack.enter_context(ConnectionPool(self.port).open())
        activator = Activator(self.scaler, self.directory, pool, self.wake)  # type: ignore[arg-type]
        self.invoker = Invoker(self.directory, pool, activator)
        gateway = self.gateway = server.make_server(
            self.invoker, self.authorizer, self.settings, self.certificate, self.callers, self.cluster
        )
        self.connections = gateway.services.connections
        self.deadlines = gateway.services.deadlines
        end = self.end = asyncio.Event()
        serving = asyncio.create_task(gateway.run_until(end))
        self._stack.push_async_callback(lambda: serving)
        self._stack.callback(end.set)
        async with asyncio.timeout(20):
            while not gateway.started:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.001)
        self.url = f"http{'s' if self.certificate else ''}://127.0.0.1:{gateway.port}"
        await self._stack.enter_async_context(self.client)

    async def pod(self, say: Say, address: str = "127.0.0.1") -> list[Call]:
        """Start one; the calls that it gets."""
        calls: list[Call] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    call = Call(head, await read_body(head.lower(), reader), reader, writer)
                    calls.append(call)
                    await say(call)
            except (asyncio.IncompleteReadError, OSError):
                pass
            finally:
                writer.close()

        started = await asyncio.start_server(serve, address, self.port)
        self._stack.callback(started.close)
        return calls

    def know(self, *addresses: str, body: dict[str, Any] | None = None, ready: bool = True) -> None:
        self.directory.on_skill("ADDED", body or skill())
        for number, address in enumerate(addresses or ["127.0.0.1"]):
            self.directory.on_pod("ADDED", pod(f"p{number}", address, ready=ready))

    async def call(
        self, data: Any = b'{"lines": []}', path: str = "/v1/skills/finance/invoice", **more: Any
    ) -> tuple[int, dict[str, Any], aiohttp.ClientResponse]:
        async with self.client.post(self.url + path, data=data, **more) as answer:
            return answer.status, json.loads(await answer.read()), answer
