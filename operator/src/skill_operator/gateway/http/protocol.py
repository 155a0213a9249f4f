"""The way in. uvicorn's own protocol serves the ASGI app; a call of a skill is taken off it and relayed by callbacks.

An ASGI app in front of an HTTP client costs ten times what nginx does for the same call. So `POST /v1/skills/…` never
becomes a task where pod and caller are known: the parser's callbacks feed a connection to the pod, and the other way.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server as UvicornServer
from uvicorn.server import ServerState

from skill_operator.gateway.access.authorizer import Authorizer
from skill_operator.gateway.access.origins import AllowedOrigins
from skill_operator.gateway.http.deadlines import Deadlines
from skill_operator.gateway.http.exchange import Exchange, request_id, signed
from skill_operator.gateway.invocation import Invoker
from skill_operator.gateway.problems import MEDIA_TYPE, Problem
from skill_operator.naming import SkillKey
from skill_operator.observability import logs

LINGER_SECONDS = 2.0  # for a caller to read why the rest of its body is not wanted
LARGEST_HEAD = 1 << 15
KEEP_ALIVE_SECONDS = 75
LONGEST_KNOWN = 256
_CALL = re.compile(rb"/v1/skills/([^/]+)/([^/]+)")
_STATUS = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


class ServerConfig(Config):
    """uvicorn's settings, and what its protocol needs to relay calls."""

    def __init__(
        self,
        app: Any,
        gate: Invoker,
        keeper: Authorizer,
        pages: AllowedOrigins,
        closing: Callable[[], None],
        **more: Any,
    ) -> None:
        super().__init__(
            app,
            http=CallerConnection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            **more,
        )
        self.calls = gate
        self.gatekeeper = keeper
        self.pages = pages
        self.closing = closing  # of what would never end by itself
        self.deadlines = Deadlines()
        self._common: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")

    def common(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The headers of every answer, of which uvicorn makes a new list each second."""
        if headers is not self._common[0]:
            self._common = headers, b"".join(b"%b: %b\r\n" % pair for pair in headers)
        return self._common[1]


class Server(UvicornServer):
    """uvicorn's server without its signal handlers: when to end is up to the process."""

    config: ServerConfig

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serves; once `stop` is set, takes no more connections and answers what is in flight."""
        serving = asyncio.create_task(self._serve())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self.config.closing()
        self.should_exit = True
        try:
            await serving
        finally:
            logs.flush()

    @property
    def port(self) -> int:
        found: int = self.servers[0].sockets[0].getsockname()[1]
        return found


class CallerConnection(HttpToolsProtocol):
    """One connection of a caller."""

    config: ServerConfig

    def __init__(
        self,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.running: Exchange | None = None
        self._due: Exchange | None = None
        self._in_head = True
        self._head_size = 0
        self._discarding = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._wait()

    def _wait(self) -> None:
        """For the next request, the whole of its head: who is slow holds no connection."""
        self.config.deadlines.set(self, self.timeout_keep_alive)

    def late(self) -> None:
        self.timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        self.config.deadlines.clear(self)

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        running, self.running = self.running, None
        super().connection_lost(exc)
        self.config.deadlines.clear(self)
        if running is not None:
            running.abandon()

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        in_head = self._in_head
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        except httptools.HttpParserUpgrade:
            pass  # refused: by the exchange, or by uvicorn, which answers as if nobody had asked
        if in_head and self._in_head:  # of a header that has no end, the parser tells nothing
            self._head_size += len(data)
            if self._head_size > LARGEST_HEAD:
                self.send_400_response("")
                return
        due, self._due = self._due, None
        if due is not None:
            due.start()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are for a log
        if self._head_size > LARGEST_HEAD:
            self._refuse(Problem("headers-too-large", f"{LARGEST_HEAD} bytes are taken"))
        else:
            detail = "this is no HTTP/1.1 request that can be read in one way only; nothing of it was passed on"
            self._refuse(Problem("bad-request", detail))

    def _refuse(self, problem: Problem) -> None:
        """What cannot be read any further ends the connection."""
        self._due = None
        if self.running is not None:
            self.running.fail(problem)
        elif self.cycle is None or self.cycle.response_complete:
            self.write_problem(problem, request_id(b""), close=True)
        self._linger()

    def _linger(self) -> None:
        """Closing on unread bytes resets the connection, and the answer with it may be lost: read them for a while."""
        self._discarding = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.config.deadlines.set(self, LINGER_SECONDS)

    # The parser's callbacks.

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._head_size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which is nobody's header
        self._head_size += len(name) + len(value)
        if self._head_size > LARGEST_HEAD:
            raise ValueError(self._head_size)  # the parser passes it on as an error of its own
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.config.deadlines.clear(self)
        key = _called(self.url) if self.parser.get_method() == b"POST" else None
        if key is None:
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects
            self.headers.extend(headers)
            super().on_headers_complete()
            return
        former = self.cycle
        exchange = Exchange(self, key, self.headers, self.expect_100_continue)
        self.cycle = cast("Any", exchange)  # it has all that uvicorn looks at
        if former is None or former.response_complete:
            self._due = exchange
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, Exchange):
            self.cycle.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if isinstance(self.cycle, Exchange):
            self.cycle.feed_end()
        else:
            super().on_message_complete()

    # What runs on this connection.

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            self.loop.call_soon(cycle.start)  # not from within its predecessor: there may be a thousand of them
        else:
            super()._start_asgi_task(cycle, app)

    def finished(self, exchange: Exchange) -> None:
        """Its answer is written."""
        self.running = None
        if self._discarding or self.transport.is_closing():
            return
        if not exchange.complete:
            self._linger()
        elif not exchange.keep_alive:
            self.transport.close()
        else:
            self.on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.running is not None:
            self.running.pause(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.running is not None:
            self.running.pause(False)

    def write_head(self, status: int, headers: bytes, close: bool, body: bytes | bytearray = b"") -> None:
        common = self.config.common(self.server_state.default_headers)
        end = b"connection: close\r\n\r\n" if close else b"\r\n"
        self.transport.write(b"".join((_STATUS[status], common, headers, end, body)))

    def write_problem(self, problem: Problem, id_: str, close: bool) -> None:
        body = problem.body(id_)
        extra = "".join(f"{name.lower()}: {value}\r\n" for name, value in problem.headers.items()).encode()
        headers = signed(id_) + b"content-type: %b\r\ncontent-length: %d\r\n" % (MEDIA_TYPE.encode(), len(body))
        self.write_head(problem.status, headers + extra, close, body)


def _called(url: bytes) -> SkillKey | None:
    """The Skill whose call this is a request for."""
    return _known_call(url) if len(url) <= LONGEST_KNOWN else _call(url)


def _call(url: bytes) -> SkillKey | None:
    path = url.partition(b"?")[0]
    if b"%" in path:
        path = unquote_to_bytes(path)
    found = _CALL.fullmatch(path)
    return SkillKey(found[1].decode(errors="replace"), found[2].decode(errors="replace")) if found else None


_known_call = lru_cache(4096)(_call)
