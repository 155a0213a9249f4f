"""Connections to pods: HTTP/1.1 as a client, by callbacks, one call at a time on each.

The pod runs a stranger's code: what it says is read as one would read an enemy's. Whatever is not plainly an answer of
a skill's ends the connection, and a connection on which anything unexpected was said is never used again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, cast

import httptools

from skill_operator.gateway.problems import Problem

log = logging.getLogger(__name__)
LARGEST_ANSWER = 1 << 24
LARGEST_HEAD = 1 << 15
CONNECT_SECONDS = 2.0
IDLE_SECONDS = 15.0  # the runtime hangs up after 75 s, so it is always we who do
SWEEP_SECONDS = 5.0
# What the runtime answers. A redirect would send the caller, credentials and all, to where the skill likes.
STATUSES = frozenset({200, 400, 413, 422, 500, 503, 504})
TYPES = frozenset({b"application/json", b"application/problem+json"})


class ResponseHead(NamedTuple):
    """What is kept of an answer's head: no cookie, nothing that a browser would act on."""

    status: int
    content_type: bytes
    length: int | None  # None: chunked
    retry_after: bytes


class ResponseHandler(Protocol):
    """Where an answer goes. First `head`, then `data`, then `end`; or `fail` instead of any of them, as the last."""

    def head(self, head: ResponseHead) -> None: ...

    def data(self, chunk: bytes) -> None: ...

    def end(self) -> None: ...

    def fail(self, problem: Problem) -> None: ...

    def writable(self, yes: bool) -> None:
        """Whether the pod takes more of the body."""


class PodConnection(asyncio.Protocol):
    """One connection to a pod."""

    def __init__(self, pool: ConnectionPool, address: str) -> None:
        self._pool = pool
        self.address = address
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._sink: ResponseHandler | None = None
        self._sent = False  # the whole request
        self._paused = False
        self._reset()

    def _reset(self) -> None:
        self._headers: dict[bytes, bytes] = {}  # of several the last
        self._head_size = 0
        self._left = LARGEST_ANSWER
        self._in_head = True
        self._whole = self._again = False
        self._spoilt = False

    # The caller's side.

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and not self._spoilt

    def send(self, request: bytes, sink: ResponseHandler, more: bool = False) -> None:
        """Head and body, or their beginning: then `feed` brings the rest."""
        assert self._transport is not None  # noqa: S101 - it is connected
        self._reset()
        self._sink = sink
        self._sent = not more
        self._transport.write(request)

    def feed(self, chunk: bytes, more: bool) -> None:
        self._sent = not more
        if chunk and self._transport is not None:
            self._transport.write(chunk)

    def pause(self, yes: bool) -> None:
        """Bytes come no faster than the caller takes them."""
        if self._transport is None or self._transport.is_closing() or yes == self._paused:
            return
        self._paused = yes
        if yes:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        """The caller has left, or what is said here is of no interest any more."""
        self._sink = None
        self._spoilt = True
        if self._transport is not None:
            self._transport.abort()

    # The event loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._spoilt = True
        self._pool.forget(self)
        self._fail(_broke_off(exc))

    def pause_writing(self) -> None:
        if self._sink is not None:
            self._sink.writable(False)

    def resume_writing(self) -> None:
        if self._sink is not None:
            self._sink.writable(True)

    def data_received(self, data: bytes) -> None:
        if self._sink is None:  # nobody asked: it would be taken for the next call's answer
            self._spoilt = True
        if not self._spoilt:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as error:
                self._fail(_broke_off(error))
            except httptools.HttpParserUpgrade:
                self._fail(_strange("a change of protocol"))
        if self._in_head and not self._spoilt:
            self._head_size += len(data)
            if self._head_size > LARGEST_HEAD:
                self._fail(_broke_off(None))
        if self._whole:
            self._conclude()
        if self._spoilt and self._transport is not None:
            self._transport.abort()

    def _conclude(self) -> None:
        sink, self._sink = self._sink, None
        again = self._sent and not self._spoilt and self._again
        self._whole = False
        if self._paused:
            self.pause(False)
        if again:
            self._pool.put(self)
        else:
            self._spoilt = True
        if sink is not None:
            sink.end()

    def _fail(self, problem: Problem) -> None:
        self._spoilt = True
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.fail(problem)

    # The parser's side.

    def on_message_begin(self) -> None:
        if self._whole:  # two answers to one call
            self._spoilt = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer
        self._head_size += len(name) + len(value)
        if self._head_size > LARGEST_HEAD:
            raise ValueError(self._head_size)  # the parser passes it on as an error of its own
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._spoilt:
            return
        if self._sink is not None:
            head = self._judge()
            if isinstance(head, Problem):
                self._fail(head)
            else:
                self._sink.head(head)

    def on_body(self, chunk: bytes) -> None:
        if self._sink is None or self._spoilt:
            return
        self._left -= len(chunk)
        if self._left < 0:
            log.warning("the answer was cut off: more than %d bytes", LARGEST_ANSWER)
            self._fail(_too_large())
        else:
            self._sink.data(chunk)

    def on_message_complete(self) -> None:
        if self._sink is not None:
            self._whole = True
            self._again = self._parser.should_keep_alive()  # it is known only now

    def _judge(self) -> ResponseHead | Problem:
        status, headers = self._parser.get_status_code(), self._headers
        type_ = headers.get(b"content-type", b"")
        if type_ not in TYPES:
            type_ = type_.partition(b";")[0].strip().lower()
        length = headers.get(b"content-length")
        if status not in STATUSES:
            return _strange(f"status {status}")
        if type_ not in TYPES:
            return _strange("something that is not JSON")
        if headers.get(b"content-encoding"):
            return _strange("an encoding that it was not asked for")
        if length is None and headers.get(b"transfer-encoding", b"").lower() != b"chunked":
            return _strange("no length, so that nobody can tell whether it is whole")
        if length is not None and int(length) > LARGEST_ANSWER:
            return _too_large()
        wait = b""
        if status == 503:
            given = headers.get(b"retry-after", b"")
            wait = given if given.isdigit() and len(given) < 5 else b"1"
        return ResponseHead(status, type_, None if length is None else int(length), wait)


class ConnectionPool:
    """Idle connections, by address. `port` is for tests, whose pods are on loopback."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: dict[str, list[PodConnection]] = defaultdict(list)
        self._sweeping: asyncio.TimerHandle | None = None

    @contextmanager
    def open(self) -> Iterator[ConnectionPool]:
        """Until it ends, what idles too long is closed."""
        self._sweep()
        try:
            yield self
        finally:
            if self._sweeping is not None:
                self._sweeping.cancel()
            for idle in list(self._idle.values()):
                for connection in list(idle):
                    connection.abort()
            self._idle.clear()

    def take(self, address: str) -> PodConnection | None:
        """An idle connection; the one that was used last."""
        idle = self._idle.get(address)
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    async def connect(self, address: str, seconds: float = CONNECT_SECONDS) -> PodConnection:
        """Raises OSError (TimeoutError is one): then the pod has seen nothing."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            _, made = await loop.create_connection(
                lambda: PodConnection(self, address), address.strip("[]"), self._port
            )
        return made

    def put(self, connection: PodConnection) -> None:
        connection.idle_since = time.monotonic()
        self._idle[connection.address].append(connection)

    def forget(self, connection: PodConnection) -> None:
        idle = self._idle.get(connection.address)
        if idle and connection in idle:
            idle.remove(connection)
        if idle is not None and not idle:
            del self._idle[connection.address]

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        late = time.monotonic() - IDLE_SECONDS
        for idle in list(self._idle.values()):
            for connection in [c for c in idle if c.idle_since < late]:
                idle.remove(connection)
                connection.abort()
        self._idle = defaultdict(list, {address: idle for address, idle in self._idle.items() if idle})
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)


def _broke_off(error: Exception | None) -> Problem:
    why = type(error).__name__ if error is not None else "it hung up"
    detail = f"its pod broke off the call ({why}); whether it took effect is not known"
    return Problem("upstream-closed", detail)


def _strange(what: str) -> Problem:
    detail = f"its pod answered with {what}, which no skill does; whoever owns the skill should look at its pod's log"
    return Problem("invalid-upstream-response", detail)


def _too_large() -> Problem:
    detail = f"it is more than {LARGEST_ANSWER} bytes; ask for less"
    return Problem("response-too-large", detail)
