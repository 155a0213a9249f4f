"""The HTTP/1.1 server for callers. uvicorn's protocol serves the ASGI app; calls of skills are relayed by callbacks.

An ASGI app in front of an HTTP client costs ten times what nginx does for the same call. So `POST /v1/skills/…` never
becomes a task where pod and caller are known: the parser's callbacks feed a connection to the pod, and the other way.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server as UvicornServer
from uvicorn.server import ServerState

from skill_operator.gateway.http.connection import GatewayServices, RunningExchange
from skill_operator.gateway.http.exchange import Exchange
from skill_operator.gateway.http.paths import has_encoded_slash
from skill_operator.gateway.http.request_id import resolve_request_id, response_headers
from skill_operator.gateway.problems import MEDIA_TYPE, Problem
from skill_operator.naming import SkillKey
from skill_operator.observability import logs, metrics

LINGER_SECONDS = 2.0  # for a caller to read why the rest of its body is not wanted
MAX_HEADER_BYTES = 1 << 15
MAX_HEADER_LINES = 100
MAX_LENGTH_DIGITS = 15  # of a Content-Length
MAX_FRAMING_BYTES = 8  # for each byte of a chunked body: a chunk of one byte has five around it
HEAD_TIMEOUT_SECONDS = 10.0  # from the first byte of a head to its last
KEEP_ALIVE_SECONDS = 75
MAX_CACHED_URL_BYTES = 256
_CALL_PATH = re.compile(rb"/v1/skills/([^/]+)/([^/]+)/?")
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


class ServerConfig(Config):
    """ServerConfig is uvicorn's configuration for the gateway: each connection is a CallerConnection."""

    def __init__(self, app: Any, services: GatewayServices, **more: Any) -> None:
        super().__init__(
            app,
            http=cast("Any", partial(CallerConnection, services)),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            **more,
        )
        self.services = services
        self._default_headers: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")

    def encode_default_headers(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the header lines of every response. uvicorn makes a new list of them each second."""
        if headers is not self._default_headers[0]:
            self._default_headers = headers, b"".join(b"%b: %b\r\n" % pair for pair in headers)
        return self._default_headers[1]


class GatewayServer(UvicornServer):
    """GatewayServer is uvicorn's server without its signal handlers: the process decides when to stop."""

    def __init__(self, config: ServerConfig, on_stop: Callable[[], None], finish_seconds: float) -> None:
        """`on_stop` ends the responses that would never end by themselves; calls have `finish_seconds` more."""
        super().__init__(config)
        self.services = config.services
        self._on_stop = on_stop
        self._finish_seconds = finish_seconds

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serve; once `stop` is set, accept no more connections and finish the requests in flight.

        Calls that take too long for that are told so.
        """
        serve_task = asyncio.create_task(self._serve())
        stop_task = asyncio.create_task(stop.wait())
        await asyncio.wait({serve_task, stop_task}, return_when=asyncio.FIRST_COMPLETED)
        stop_task.cancel()
        self._on_stop()
        self.should_exit = True
        last = asyncio.get_running_loop().call_later(self._finish_seconds, self.services.invoker.stop_calls)
        try:
            await serve_task
        finally:
            last.cancel()
            logs.flush()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


class CallerConnection(HttpToolsProtocol):
    """CallerConnection speaks HTTP/1.1 (RFC 9112) to one caller, and runs one exchange at a time."""

    config: ServerConfig

    def __init__(
        self,
        services: GatewayServices,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.services = services
        self.running: RunningExchange | None = None
        self._next: Exchange | None = None
        self._in_head = True
        self._head_bytes = 0
        self._head_timed = False
        self._begun = False  # whether what was received last began a message
        self._received_bytes = 0  # of one message, from the first part of which its head is no part
        self._body_bytes = 0
        self._discarding = False
        self._address: str | None = None  # once it counts as open
        self._pipelined = 0  # requests that wait for their turn

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for the first request."""
        super().connection_made(cast("asyncio.Transport", transport))
        address = self.client[0] if self.client else ""
        if self.services.connections.take(address):
            self._address = address
            self.services.deadlines.set(self, self.timeout_keep_alive)
        else:
            detail = "too many connections are open, in all or from your address; see gateway.connections"
            metrics.record_rejection("overloaded")
            self._reject(Problem("overloaded", detail, 1))
            self.transport.close()

    def _await_request(self) -> None:
        """Set the deadline for the next request, or for the rest of its head: a slow caller holds no connection."""
        self._head_timed = self._in_head
        seconds = HEAD_TIMEOUT_SECONDS if self._in_head else self.timeout_keep_alive
        self.services.deadlines.set(self, seconds)

    def on_timeout(self) -> None:
        """Close the connection: no request came in time."""
        self.timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        self.services.deadlines.clear(self)

    def on_response_complete(self) -> None:
        """Start the next request that has arrived, or wait for it: as uvicorn does, but for the timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._give_back_pipelined(1)
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the call that runs on the connection."""
        running, self.running = self.running, None
        super().connection_lost(exc)
        self.services.deadlines.clear(self)
        if self._address is not None:
            self._give_back_pipelined(self._pipelined)
            self.services.connections.give_back(self._address)
        if running is not None:
            running.on_caller_disconnected()

    def data_received(self, data: bytes) -> None:
        """Parse what the caller sends. A call starts only after all of `data` is parsed."""
        if self._discarding:
            return
        in_head, self._begun = self._in_head, False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        except httptools.HttpParserUpgrade:
            pass  # refused: by the exchange, or by uvicorn, which answers as if no upgrade was requested
        if self._in_head:
            self._wait_for_head(len(data) if in_head else 0)
        elif not self._begun and not in_head and not self._is_framing_bounded(len(data)):
            self._reject(Problem("bad-request", "the body has more bytes of chunk extensions or trailers than it may"))
        exchange, self._next = self._next, None
        if exchange is not None:
            exchange.start()

    def _wait_for_head(self, size: int) -> None:
        """Bound a head that is not complete yet: its time, and its bytes, of which the parser reports whole lines."""
        self._head_bytes += size
        if self._head_bytes > MAX_HEADER_BYTES:
            self.send_400_response("")
        elif not self._head_timed and (self.cycle is None or self.cycle.response_complete):
            self._await_request()

    def _is_framing_bounded(self, size: int) -> bool:
        """Count received bytes after a head; tell whether they are not much more than the body in them."""
        self._received_bytes += size
        return self._received_bytes - self._body_bytes <= MAX_HEADER_BYTES + MAX_FRAMING_BYTES * self._body_bytes

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are for a log
        """Reject what cannot be parsed, with a problem in place of uvicorn's plain text."""
        if self._head_bytes > MAX_HEADER_BYTES or (self._in_head and len(self.headers or ()) >= MAX_HEADER_LINES):
            detail = f"the gateway takes {MAX_HEADER_BYTES} bytes of headers in {MAX_HEADER_LINES} lines"
            self._reject(Problem("headers-too-large", detail))
        else:
            detail = "this is no HTTP/1.1 request that can be read in one way only; nothing of it was passed on"
            self._reject(Problem("bad-request", detail))

    def _reject(self, problem: Problem) -> None:
        """Write the problem and end the connection: nothing more can be read from it."""
        self._next = None
        if self.running is not None:
            self.running.on_problem(problem)
        elif self.cycle is None or self.cycle.response_complete:
            self.write_problem(problem, resolve_request_id(b""), close=True)
        elif not self.pipeline and not isinstance(self.cycle, Exchange) and not self.cycle.response_started:
            self.write_problem(problem, resolve_request_id(b""), close=True)
            self.cycle.disconnected = True  # for the app, which waits for the body
            self.cycle.message_event.set()
        self._linger()

    def _linger(self) -> None:
        """Read and drop more bytes for a while.

        Closing on unread bytes resets the connection, and the response with it may be lost.
        """
        self._discarding = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.services.deadlines.set(self, LINGER_SECONDS)

    # The parser's callbacks.

    def on_message_begin(self) -> None:
        """Prepare for a new request."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._begun = self._in_head = True
        self._head_timed = False
        self._head_bytes = 0
        self._received_bytes = 0
        self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. A trailer counts for nothing. Raises ValueError, which the parser passes on as its own."""
        if not self._in_head:
            return  # a trailer, which is nobody's header
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEADER_BYTES or len(self.headers) >= MAX_HEADER_LINES:
            raise ValueError(self._head_bytes)
        name = name.lower()
        if name == b"content-length" and len(value) > MAX_LENGTH_DIGITS:
            raise ValueError(value[:MAX_LENGTH_DIGITS])
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Make an exchange of a call; leave any other request to uvicorn."""
        self._in_head = False
        self.services.deadlines.clear(self)
        key = _skill_key(self.url) if self.parser.get_method() == b"POST" else None
        if key is None:
            url, headers, expects_continue = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects_continue
            self.headers.extend(headers)
            super().on_headers_complete()
            self._take_pipelined()
            return
        former = self.cycle
        exchange = Exchange(self, key, self.headers, self.expect_100_continue)
        self.cycle = cast("Any", exchange)  # it has all that uvicorn looks at
        if former is None or former.response_complete:
            self._next = exchange
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
            self._take_pipelined()

    def _take_pipelined(self) -> None:
        """Count a request that waits for its turn. Raises ValueError, which ends the connection, where many do."""
        if len(self.pipeline) > self._pipelined and self._address is not None:
            if not self.services.pipelined.take(self._address, self._address):
                raise ValueError(self._pipelined)
            self._pipelined += 1

    def _give_back_pipelined(self, count: int) -> None:
        if count and self._pipelined and self._address is not None:
            self.services.pipelined.give_back(self._address, self._address, count)
            self._pipelined -= count

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on to the request that it belongs to."""
        self._body_bytes += len(body)
        if isinstance(self.cycle, Exchange):
            self.cycle.on_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Pass the end of the body on to the request that it belongs to."""
        if isinstance(self.cycle, Exchange):
            self.cycle.on_body_end()
        else:
            super().on_message_complete()

    # What runs on this connection.

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            self.loop.call_soon(cycle.start)  # not from within its predecessor: there may be a thousand of them
        else:
            super()._start_asgi_task(cycle, app)

    def on_exchange_end(self, exchange: RunningExchange) -> None:
        """Go on with the next request, or close the connection: the response is written."""
        self.running = None
        if self._discarding or self.transport.is_closing():
            return
        if not exchange.request_complete:
            self._linger()
        elif not exchange.keep_alive:
            self.transport.close()
        else:
            self.on_response_complete()

    def pause_writing(self) -> None:
        """Pause the response: the caller reads too slowly."""
        super().pause_writing()
        if self.running is not None:
            self.running.set_paused(True)

    def resume_writing(self) -> None:
        """Resume the response: the caller has caught up."""
        super().resume_writing()
        if self.running is not None:
            self.running.set_paused(False)

    def write_head(self, status: int, headers: bytes, close: bool, body: bytes | bytearray = b"") -> None:
        """Write status line and headers, and the body or its beginning."""
        default_headers = self.config.encode_default_headers(self.server_state.default_headers)
        end = b"connection: close\r\n\r\n" if close else b"\r\n"
        self.transport.write(b"".join((_STATUS_LINES[status], default_headers, headers, end, body)))

    def write_problem(self, problem: Problem, request_id: str, close: bool, headers: bytes = b"") -> None:
        """Write a whole response that is a problem, with more header lines."""
        body = problem.body(request_id)
        extra = headers + "".join(f"{name.lower()}: {value}\r\n" for name, value in problem.headers.items()).encode()
        content = b"content-type: %b\r\ncontent-length: %d\r\n" % (MEDIA_TYPE.encode(), len(body))
        self.write_head(problem.status, response_headers(request_id) + content + extra, close, body)


def _skill_key(url: bytes) -> SkillKey | None:
    """Return the Skill that a POST to this URL calls, or None where it is no call."""
    return _cached_skill_key(url) if len(url) <= MAX_CACHED_URL_BYTES else _parse_skill_key(url)


def _parse_skill_key(url: bytes) -> SkillKey | None:
    path = url.partition(b"?")[0]
    if b"%" in path:
        path = unquote_to_bytes(path) if not has_encoded_slash(path) else b""
    match = _CALL_PATH.fullmatch(path)
    return SkillKey(match[1].decode(errors="replace"), match[2].decode(errors="replace")) if match else None


_cached_skill_key = lru_cache(4096)(_parse_skill_key)
