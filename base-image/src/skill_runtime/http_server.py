"""HTTP/1.1 (RFC 9112) between the gateway and a skill: h11 for the protocol, one coroutine for each connection."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import h11

from skill_runtime import operator_contract as oc
from skill_runtime import problems

REQUEST_TIMEOUT_SECONDS = 10.0
"""The time for each part of a request to arrive once its headers are here."""
IDLE_TIMEOUT_SECONDS = 75.0
"""Longer than any client's pool keeps a connection, so that it is the client who closes."""
_READ_BYTES = 1 << 16
_MAX_HEADERS_BYTES = 1 << 14
_REQUEST_ID = re.compile(oc.REQUEST_ID_PATTERN)
_REQUEST_ID_HEADER = oc.HEADER_REQUEST_ID.lower().encode()
_UID_HEADER = oc.HEADER_SKILL_UID.lower().encode()
_DEADLINE_HEADER = oc.HEADER_DEADLINE_MS.lower().encode()


@dataclass(frozen=True)
class HttpRequest:
    """HttpRequest is a request with its whole body."""

    method: str
    path: str
    request_id: str
    deadline: float
    """When the caller stops waiting, by the event loop's clock."""
    body: bytes


@dataclass(frozen=True)
class HttpResponse:
    """HttpResponse is the response to one request."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_problem(cls, problem: problems.ProblemType, detail: str, *headers: tuple[str, str]) -> HttpResponse:
        """Build a response that carries a problem (RFC 9457)."""
        return cls(problem.status, problem.body(detail), "application/problem+json", headers)

    @classmethod
    def not_taken(cls, reason: str, problem: problems.ProblemType, detail: str) -> HttpResponse:
        """Build the refusal of a call of which nothing was done, so that the gateway may send it again."""
        headers = ((oc.HEADER_NOT_TAKEN.lower(), reason), ("retry-after", "1"))
        return cls.from_problem(problem, detail, *headers)


RequestHandler = Callable[[HttpRequest], Awaitable[HttpResponse]]
"""Is cancelled when the caller disconnects."""


@dataclass
class HttpServer:
    """HttpServer owns the listener and its connections."""

    handler: RequestHandler
    max_body_bytes: int
    uid: str
    """The uid of the Skill whose calls are taken; empty: of any."""
    draining: bool = False
    _connections: set[_HttpConnection] = field(default_factory=set)
    _listener: asyncio.Server | None = None

    async def listen(self, port: int) -> int:
        """Start listening at all addresses of the pod, so that no skill can bind any, and return the port."""
        dual_stack = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual_stack else socket.AF_INET
        listener = socket.create_server(("", port), family=family, dualstack_ipv6=dual_stack)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: asyncio.StreamReaderProtocol(_ConnectionReader(), self._serve), sock=listener, backlog=512
        )
        bound: int = listener.getsockname()[1]
        return bound

    async def drain(self, grace_seconds: float) -> None:
        """Refuse requests from now on, close idle connections, and let calls in flight finish.

        The listener stays open until the process ends: a skill could bind its port otherwise, and answer in its place.
        """
        self.draining = True
        for connection in list(self._connections):
            connection.drain()
        tasks = [connection.task for connection in self._connections]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)

    def refusal(self, headers: Mapping[bytes, bytes]) -> HttpResponse | None:
        """Return why a request is not for this pod, or None if it is. A request without a uid is for any."""
        if self.draining:
            return HttpResponse.not_taken(oc.NOT_TAKEN_DRAINING, problems.DRAINING, "call another pod of the skill")
        if self.uid and headers.get(_UID_HEADER, self.uid.encode()) != self.uid.encode():
            detail = "look up the address of the skill's pods again"
            return HttpResponse.not_taken(oc.NOT_TAKEN_OTHER_SKILL, problems.MISDIRECTED, detail)
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, _ConnectionReader)  # noqa: S101 - it was made above
        connection = _HttpConnection(self, reader, writer)
        self._connections.add(connection)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await connection.run()
        finally:
            self._connections.discard(connection)
            writer.close()


class _ConnectionReader(asyncio.StreamReader):
    """_ConnectionReader reports that the other side has closed, also while nobody reads."""

    closed = False
    on_close: Callable[[], object] | None = None

    def feed_eof(self) -> None:
        super().feed_eof()
        self._close()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._close()

    def _close(self) -> None:
        self.closed = True
        if self.on_close is not None:
            self.on_close()


class _HttpConnection:
    """_HttpConnection serves the requests of one connection, one after the other."""

    def __init__(self, server: HttpServer, reader: _ConnectionReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101 - a coroutine runs in a task
        self.task: asyncio.Task[None] = task
        self._server, self._reader, self._writer = server, reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEADERS_BYTES)
        self._idle = True
        self._draining = False

    def drain(self) -> None:
        """Make the request in flight the last one."""
        self._draining = True
        if self._idle:
            self.task.cancel()

    async def run(self) -> None:
        """Serve requests until one of the sides closes."""
        while True:
            try:
                request = await self._receive()
            except h11.RemoteProtocolError as error:
                response = HttpResponse.from_problem(problems.INVALID_REQUEST, str(error))
                await self._reject(replace(response, status=error.error_status_hint))
                return
            except _RefusedError as error:
                await self._reject(error.response)
                return
            if request is None:
                return
            await self._send(await self._handle(request))
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _handle(self, request: HttpRequest) -> HttpResponse:
        """Handle a request; a disconnect cancels it.

        The caller is the gateway, and closing the connection is how it says that nobody waits any more.
        """
        self._reader.on_close = self.task.cancel
        try:
            return await self._server.handler(request)
        finally:
            self._reader.on_close = None

    async def _receive(self) -> HttpRequest | None:
        """Return the next request, or None if there is none."""
        self._idle = True
        head = await self._next_event(IDLE_TIMEOUT_SECONDS)
        if not isinstance(head, h11.Request):
            return None
        self._idle = False
        arrival = asyncio.get_running_loop().time()
        headers = dict(head.headers)
        length = headers.get(b"content-length", b"0")
        if refusal := self._server.refusal(headers):
            raise _RefusedError(refusal)
        if int(length) > self._server.max_body_bytes:
            raise self._body_too_large()
        if self._http.they_are_waiting_for_100_continue:
            self._writer.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        body = bytearray()
        while isinstance(event := await self._next_event(REQUEST_TIMEOUT_SECONDS), h11.Data):
            body += event.data
            if len(body) > self._server.max_body_bytes:
                raise self._body_too_large()
        if not isinstance(event, h11.EndOfMessage) or self._reader.closed:
            return None
        return HttpRequest(
            head.method.decode("ascii"),
            head.target.partition(b"?")[0].decode("latin-1"),
            parse_request_id(headers.get(_REQUEST_ID_HEADER, b"")),
            arrival + _parse_timeout(headers.get(_DEADLINE_HEADER, b"")),
            bytes(body),
        )

    def _body_too_large(self) -> _RefusedError:
        detail = f"at most {self._server.max_body_bytes} bytes"
        return _RefusedError(HttpResponse.from_problem(problems.TOO_LARGE, detail))

    async def _next_event(self, timeout_seconds: float) -> h11.Event | None:
        """Return what comes next from the other side, or None if it takes too long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while (event := self._http.next_event()) is h11.NEED_DATA:
                    self._http.receive_data(await self._reader.read(_READ_BYTES))
        except TimeoutError:
            return None
        return event if not isinstance(event, type) else None

    async def _send(self, response: HttpResponse) -> None:
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

    async def _reject(self, response: HttpResponse) -> None:
        """Respond to what was not read to its end; the connection cannot be used again."""
        self._draining = True
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        await self._send(response)
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):  # closing on unread bytes would reset, and lose the response
            async with asyncio.timeout(1):
                while await self._reader.read(_READ_BYTES):
                    pass


class _RefusedError(Exception):
    """The request gets its response before its end."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response.status)
        self.response = response


def parse_request_id(value: bytes) -> str:
    """Return the request id of a header, or the empty string where the value breaks the rule of both sides."""
    text = value.decode("latin-1")
    return text if _REQUEST_ID.fullmatch(text) else ""


def _parse_timeout(milliseconds: bytes) -> float:
    """Return how many seconds the caller waits; a value that is no number sets no limit."""
    return int(milliseconds) / 1000 if milliseconds.isdigit() and len(milliseconds) < 12 else math.inf
