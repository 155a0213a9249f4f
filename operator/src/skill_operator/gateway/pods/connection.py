"""Connections to pods: an HTTP/1.1 client (RFC 9112) by callbacks, with one call at a time on each connection.

The pod runs a stranger's code, so its bytes are read as an enemy's. Whatever is not plainly the response of a skill
ends the connection, and a connection that brought anything unexpected is never used again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol, cast

import httptools

from skill_operator import runtime_contract
from skill_operator.gateway.problems import Problem

log = logging.getLogger(__name__)
MAX_RESPONSE_BYTES = runtime_contract.MAX_BODY_BYTES
MAX_HEADER_BYTES = 1 << 15
CONNECT_TIMEOUT_SECONDS = 2.0
IDLE_SECONDS = 15.0  # the runtime closes after 75 s, so it is always the gateway that closes first
SWEEP_SECONDS = 5.0
# The runtime's statuses. A redirect would send the caller, credentials and all, to where the skill likes.
ALLOWED_STATUSES = frozenset({200, 400, 413, 422, 500, 502, 503, 504})
ALLOWED_CONTENT_TYPES = frozenset({b"application/json", b"application/problem+json"})
_NOT_TAKEN_HEADER = runtime_contract.HEADER_NOT_TAKEN.lower().encode()
_NO_PLACE = runtime_contract.NOT_TAKEN_NO_PLACE.encode()
_NOT_FOR_THIS_POD = frozenset(
    {runtime_contract.NOT_TAKEN_DRAINING.encode(), runtime_contract.NOT_TAKEN_OTHER_SKILL.encode()}
)


class NotTakenError(Problem):
    """The pod did not take the call, of which nothing has run: it is another Skill's, or about to end."""

    def __init__(self) -> None:
        detail = "the pod at the address that the gateway knew does not take its calls any more; call again"
        super().__init__("pod-not-accepting", detail, 1)


class NoPlaceError(Problem):
    """The pod has no place for the call, of which nothing has run: it may be sent again."""

    def __init__(self) -> None:
        super().__init__("overloaded", "its pods have as many calls as they take; call again", 1)


class ResponseHead(NamedTuple):
    """ResponseHead is what is kept of a response's head: no cookie, nothing that a browser would act on."""

    status: int
    content_type: bytes
    length: int | None  # None: chunked
    retry_after: bytes


class ResponseHandler(Protocol):
    """ResponseHandler takes a response: first the head, then data, then the end.

    A problem may come instead of any of them, and is the last.
    """

    def on_head(self, head: ResponseHead) -> None:
        """Take the head."""

    def on_data(self, chunk: bytes) -> None:
        """Take a part of the body."""

    def on_end(self) -> None:
        """Take the end of the response."""

    def on_problem(self, problem: Problem) -> None:
        """Take the problem that ends the response."""

    def on_writable(self, writable: bool) -> None:
        """Resume or pause the request: the pod takes more of its body, or no more for now."""


class PodConnection(asyncio.Protocol):
    """PodConnection speaks HTTP/1.1 to one pod."""

    def __init__(self, pool: ConnectionPool, address: str) -> None:
        self._pool = pool
        self.address = address
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._handler: ResponseHandler | None = None
        self._request_complete = False
        self._paused = False
        self._reset()

    def _reset(self) -> None:
        self._headers: dict[bytes, bytes] = {}  # of several the last
        self._head_bytes = 0
        self._remaining_bytes = MAX_RESPONSE_BYTES
        self._in_head = True
        self._response_complete = self._keep_alive = False
        self._unusable = False

    # The caller's side.

    @property
    def usable(self) -> bool:
        """True if the next call may use the connection."""
        return self._transport is not None and not self._transport.is_closing() and not self._unusable

    def send(self, request: bytes, handler: ResponseHandler, more: bool = False) -> None:
        """Write head and body, or their beginning: then `send_more` writes the rest."""
        assert self._transport is not None  # noqa: S101 - it is connected
        self._reset()
        self._handler = handler
        self._request_complete = not more
        self._transport.write(request)

    def send_more(self, chunk: bytes, more: bool) -> None:
        """Write a further part of the body; `more` is False for the last."""
        self._request_complete = not more
        if chunk and self._transport is not None:
            self._transport.write(chunk)

    def set_paused(self, paused: bool) -> None:
        """Pause or resume the response: bytes come no faster than the caller takes them."""
        if self._transport is None or self._transport.is_closing() or paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close the connection at once: nobody wants the response any more."""
        self._handler = None
        self._unusable = True
        if self._transport is not None:
            self._transport.abort()

    # The event loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the pool, and end the call that waits for a response."""
        self._unusable = True
        self._pool.discard(self)
        self._fail(_upstream_closed(exc))

    def pause_writing(self) -> None:
        """Pause the request's body: the pod takes no more for now."""
        if self._handler is not None:
            self._handler.on_writable(False)

    def resume_writing(self) -> None:
        """Resume the request's body."""
        if self._handler is not None:
            self._handler.on_writable(True)

    def data_received(self, data: bytes) -> None:
        """Parse what the pod sends."""
        if self._handler is None:  # no call waits: it would be taken for the response to the next one
            self._unusable = True
        if not self._unusable:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as error:
                self._fail(_upstream_closed(error))
            except httptools.HttpParserUpgrade:
                self._fail(_invalid_response("a change of protocol"))
        if self._in_head and not self._unusable:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEADER_BYTES:
                self._fail(_upstream_closed(None))
        if self._response_complete:
            self._end_response()
        if self._unusable and self._transport is not None:
            self._transport.abort()

    def _end_response(self) -> None:
        handler, self._handler = self._handler, None
        reusable = self._request_complete and not self._unusable and self._keep_alive
        self._response_complete = False
        if self._paused:
            self.set_paused(False)
        if reusable:
            self._pool.put(self)
        else:
            self._unusable = True
        if handler is not None:
            handler.on_end()

    def _fail(self, problem: Problem) -> None:
        self._unusable = True
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.on_problem(problem)

    # The parser's side.

    def on_message_begin(self) -> None:
        """Refuse a second response to one call."""
        if self._response_complete:
            self._unusable = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Raises ValueError, which the parser passes on as its own."""
        if not self._in_head:
            return  # a trailer
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEADER_BYTES:
            raise ValueError(self._head_bytes)
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Validate the head, and pass it on."""
        self._in_head = False
        if self._unusable:
            return
        if self._handler is not None:
            head = self._validate_head()
            if isinstance(head, Problem):
                self._fail(head)
            else:
                self._handler.on_head(head)

    def on_body(self, chunk: bytes) -> None:
        """Pass a part of the body on, up to the limit of a response."""
        if self._handler is None or self._unusable:
            return
        self._remaining_bytes -= len(chunk)
        if self._remaining_bytes < 0:
            log.warning("the response was cut off: more than %d bytes", MAX_RESPONSE_BYTES)
            self._fail(_response_too_large())
        else:
            self._handler.on_data(chunk)

    def on_message_complete(self) -> None:
        """Note the end of the response."""
        if self._handler is not None:
            self._response_complete = True
            self._keep_alive = self._parser.should_keep_alive()  # it is known only now

    def _validate_head(self) -> ResponseHead | Problem:
        status, headers = self._parser.get_status_code(), self._headers
        content_type = headers.get(b"content-type", b"")
        if content_type not in ALLOWED_CONTENT_TYPES:
            content_type = content_type.partition(b";")[0].strip().lower()
        length = headers.get(b"content-length")
        if status in {421, 503} and (refusal := _refusal(status, headers)) is not None:
            return refusal
        if status not in ALLOWED_STATUSES:
            return _invalid_response(f"status {status}")
        if content_type not in ALLOWED_CONTENT_TYPES:
            return _invalid_response("something that is not JSON")
        if headers.get(b"content-encoding"):
            return _invalid_response("a Content-Encoding, which no request asks for")
        if length is None and headers.get(b"transfer-encoding", b"").lower() != b"chunked":
            return _invalid_response("neither Content-Length nor chunked encoding")
        if length is not None and int(length) > MAX_RESPONSE_BYTES:
            return _response_too_large()
        retry_after = b""
        if status == 503:
            value = headers.get(b"retry-after", b"")
            retry_after = value if value.isdigit() and len(value) < 5 else b"1"
        return ResponseHead(status, content_type, None if length is None else int(length), retry_after)


class ConnectionPool:
    """ConnectionPool keeps idle connections by address. `port` is another one in tests, whose pods are on loopback."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: dict[str, list[PodConnection]] = defaultdict(list)
        self._sweep_timer: asyncio.TimerHandle | None = None

    @contextmanager
    def open(self) -> Iterator[ConnectionPool]:
        """Close connections that idle too long, until the context ends; then close all."""
        self._sweep()
        try:
            yield self
        finally:
            if self._sweep_timer is not None:
                self._sweep_timer.cancel()
            for idle in list(self._idle.values()):
                for connection in list(idle):
                    connection.abort()
            self._idle.clear()

    def take(self, address: str) -> PodConnection | None:
        """Return the idle connection that was used last, or None."""
        idle = self._idle.get(address)
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    async def connect(self, address: str, timeout_seconds: float = CONNECT_TIMEOUT_SECONDS) -> PodConnection:
        """Return a new connection. Raises OSError (TimeoutError is one): then the pod has got nothing of the call."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_seconds):
            _, connection = await loop.create_connection(
                lambda: PodConnection(self, address), address.strip("[]"), self._port
            )
        return connection

    def put(self, connection: PodConnection) -> None:
        """Keep an idle connection for later calls."""
        connection.idle_since = time.monotonic()
        self._idle[connection.address].append(connection)

    def discard(self, connection: PodConnection) -> None:
        """Remove a connection that is closed."""
        idle = self._idle.get(connection.address)
        if idle and connection in idle:
            idle.remove(connection)
        if idle is not None and not idle:
            del self._idle[connection.address]

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = time.monotonic() - IDLE_SECONDS
        for idle in list(self._idle.values()):
            for connection in [c for c in idle if c.idle_since < oldest]:
                idle.remove(connection)
                connection.abort()
        self._idle = defaultdict(list, {address: idle for address, idle in self._idle.items() if idle})
        self._sweep_timer = loop.call_later(SWEEP_SECONDS, self._sweep)


def _refusal(status: int, headers: Mapping[bytes, bytes]) -> Problem | None:
    """Return what a response of 421 or 503 means where nothing of the call has run; None where it is an answer.

    Pods of an earlier release tell it by the status, and by the end of the connection.
    """
    reason = headers.get(_NOT_TAKEN_HEADER)
    if reason == _NO_PLACE and status == 503:
        return NoPlaceError()
    if status == 421 or reason in _NOT_FOR_THIS_POD or headers.get(b"connection", b"").lower() == b"close":
        return NotTakenError()
    return None


def _upstream_closed(error: Exception | None) -> Problem:
    reason = type(error).__name__ if error is not None else "end of stream"
    detail = f"its pod closed the connection ({reason}); whether the call took effect is not known"
    return Problem("upstream-closed", detail)


def _invalid_response(what: str) -> Problem:
    detail = f"its pod sent {what}, which no skill does; the owner of the skill should look at its pod's log"
    return Problem("invalid-upstream-response", detail)


def _response_too_large() -> Problem:
    detail = f"the response is larger than {MAX_RESPONSE_BYTES} bytes; ask for less"
    return Problem("response-too-large", detail)
