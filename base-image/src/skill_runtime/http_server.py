"""HTTP/1.1 between the gateway and a skill: h11 for the protocol, one coroutine for each connection."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import h11

from skill_runtime import problems

HEAD_SECONDS = 10.0
"""For a request to arrive once its first byte has."""
IDLE_SECONDS = 75.0
"""Longer than any client's pool keeps a connection, so that it is the client who closes."""
_CHUNK = 1 << 16
_MAX_HEAD = 1 << 14


@dataclass(frozen=True)
class Request:
    """A request, read whole."""

    method: str
    path: str
    request_id: str
    ends: float
    """When the caller waits no longer, by the loop's clock."""
    body: bytes


@dataclass(frozen=True)
class Response:
    """An answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def problem(cls, problem: problems.ProblemType, detail: str, *headers: tuple[str, str]) -> Response:
        """An answer that is a problem."""
        return cls(problem.status, problem.body(detail), "application/problem+json", headers)


Handler = Callable[[Request], Awaitable[Response]]
"""Is cancelled when the caller leaves."""


@dataclass
class Server:
    """The listener and its connections."""

    handler: Handler
    max_body: int
    _connections: set[_Connection] = field(default_factory=set)
    _listener: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Begin; the port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: asyncio.StreamReaderProtocol(_Reader(), self._serve), host, port, backlog=512
        )
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def drain(self, grace: float) -> None:
        """Accept nothing more, close what is idle, let what is under way finish."""
        if self._listener:
            self._listener.close()
        for connection in list(self._connections):
            connection.drain()
        tasks = [connection.task for connection in self._connections]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, _Reader)  # noqa: S101 - it was made above
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await connection.run()
        finally:
            self._connections.discard(connection)
            writer.close()


class _Reader(asyncio.StreamReader):
    """Knows that the other side has hung up, also while nobody reads."""

    ended = False
    at_end: Callable[[], object] | None = None

    def feed_eof(self) -> None:
        super().feed_eof()
        self._end()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._end()

    def _end(self) -> None:
        self.ended = True
        if self.at_end is not None:
            self.at_end()


class _Connection:
    def __init__(self, server: Server, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101 - a coroutine runs in a task
        self.task: asyncio.Task[None] = task
        self._server, self._reader, self._writer = server, reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        self._idle = True
        self._draining = False

    def drain(self) -> None:
        """Let the request under way be the last."""
        self._draining = True
        if self._idle:
            self.task.cancel()

    async def run(self) -> None:
        """Serve requests until one of the sides closes."""
        while True:
            try:
                request = await self._receive()
            except h11.RemoteProtocolError as error:
                await self._refuse(problems.INVALID_REQUEST, str(error), error.error_status_hint)
                return
            except _TooLargeError:
                await self._refuse(problems.TOO_LARGE, f"at most {self._server.max_body} bytes")
                return
            if request is None:
                return
            await self._send(await self._answer(request))
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _answer(self, request: Request) -> Response:
        """Cancelled when the caller hangs up. It is the gateway, and that is how it says that nobody waits any more."""
        self._reader.at_end = self.task.cancel
        try:
            return await self._server.handler(request)
        finally:
            self._reader.at_end = None

    async def _receive(self) -> Request | None:
        """The next request, or None if there is none."""
        self._idle = True
        head = await self._event(IDLE_SECONDS)
        if not isinstance(head, h11.Request):
            return None
        self._idle = False
        arrived = asyncio.get_running_loop().time()
        headers = dict(head.headers)
        length = headers.get(b"content-length", b"0")
        if int(length) > self._server.max_body:
            raise _TooLargeError
        if self._http.they_are_waiting_for_100_continue:
            self._writer.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        body = bytearray()
        while isinstance(event := await self._event(HEAD_SECONDS), h11.Data):
            body += event.data
            if len(body) > self._server.max_body:
                raise _TooLargeError
        if not isinstance(event, h11.EndOfMessage) or self._reader.ended:
            return None
        return Request(
            head.method.decode("ascii"),
            head.target.partition(b"?")[0].decode("latin-1"),
            _identifier(headers.get(b"x-request-id", b"")),
            arrived + _seconds(headers.get(b"x-skill-deadline-ms", b"")),
            bytes(body),
        )

    async def _event(self, patience: float) -> h11.Event | None:
        """What comes next from the other side, or None if it takes too long."""
        try:
            async with asyncio.timeout(patience):
                while (event := self._http.next_event()) is h11.NEED_DATA:
                    self._http.receive_data(await self._reader.read(_CHUNK))
        except TimeoutError:
            return None
        return event if not isinstance(event, type) else None

    async def _send(self, response: Response) -> None:
        close = (("connection", "close"),) if self._draining else ()
        headers: Iterable[tuple[str, str]] = (
            ("content-type", response.content_type),
            ("content-length", str(len(response.body))),
            *response.headers,
            *close,
        )
        send = self._http.send
        parts = (
            send(h11.Response(status_code=response.status, headers=list(headers))),
            send(h11.Data(data=response.body)),
            send(h11.EndOfMessage()),
        )
        self._writer.write(b"".join(part or b"" for part in parts))
        await self._writer.drain()

    async def _refuse(self, problem: problems.ProblemType, detail: str, status: int | None = None) -> None:
        """Answer what could not be read to its end; the connection cannot be used again."""
        self._draining = True
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        response = Response.problem(problem, detail)
        await self._send(Response(status or response.status, response.body, response.content_type))
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):  # closing on unread bytes would reset, and lose the answer
            async with asyncio.timeout(1):
                while await self._reader.read(_CHUNK):
                    pass


class _TooLargeError(Exception):
    pass


def _identifier(value: bytes) -> str:
    """A request id fit for a log, or none."""
    text = value[:128].decode("latin-1")
    return text if all(c.isascii() and (c.isalnum() or c in "-_.:/+=") for c in text) else ""


def _seconds(milliseconds: bytes) -> float:
    """How long the caller waits; what is no number says nothing."""
    return int(milliseconds) / 1000 if milliseconds.isdigit() and len(milliseconds) < 12 else math.inf
