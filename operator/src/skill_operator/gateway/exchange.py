"""One call of a skill over HTTP, by callbacks from both sides."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from skill_operator.api.text import printable
from skill_operator.gateway import calls, judge, problems, relay
from skill_operator.gateway.callers import Caller
from skill_operator.gateway.calls import Ticket
from skill_operator.gateway.directory import Key
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.upstream import Head, Upstream
from skill_operator.observability import metrics

if TYPE_CHECKING:
    from skill_operator.gateway.front import Protocol

log = logging.getLogger(__name__)
BODY_SECONDS = 15.0
AT_ONCE = 1 << 16  # a shorter answer is read in full before the caller hears of it, so that it is never half an answer
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def request_id(given: bytes, traceparent: bytes = b"") -> str:
    """The caller's, or that of the trace that the call is part of, or one of ours: one id in the logs of all."""
    if _REQUEST_ID.fullmatch(given):
        return given.decode()
    trace = _TRACEPARENT.fullmatch(traceparent)
    return trace[1].decode() if trace and trace[1].strip(b"0") else os.urandom(16).hex()


def signed(id_: str) -> bytes:
    """On every answer."""
    return b"x-request-id: %b\r\nx-content-type-options: nosniff\r\n" % id_.encode()


class Exchange:
    """One call: from its head to the last byte of its answer. To uvicorn it is a cycle, to a pod's answer a sink."""

    message_event = asyncio.Event()  # uvicorn sets it; nobody waits

    def __init__(self, protocol: Protocol, key: Key, headers: list[tuple[bytes, bytes]], expects: bool) -> None:
        self._protocol = protocol
        self._key = key
        self._expects = expects
        self._headers = dict(reversed(headers))  # of several the first
        parser = protocol.parser
        self._old = parser.get_http_version() != "1.1"
        self._upgrade = parser.should_upgrade()
        self.keep_alive = not self._old and parser.should_keep_alive() and not self._upgrade
        self.request_id = request_id(*(self._headers.get(name, b"") for name in (b"x-request-id", b"traceparent")))
        self.response_complete = False
        self.disconnected = False
        self.complete = False  # the body is here
        self._body = bytearray()
        self._size = 0
        self._began = time.monotonic()
        self._ticket: Ticket | None = None
        self._caller = Caller("")
        self._connection: Upstream | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._running = False
        self._chunked = False  # the body, on its way to the pod
        self._head: Head | None = None
        self._begun = False  # the answer
        self._answer = bytearray()

    # From the caller.

    def start(self) -> None:
        self._running = True
        self._protocol.running = self
        if self._protocol.transport.is_closing():
            self.abandon()
            return
        self._guarded(self._begin)

    def _begin(self) -> None:
        headers = self._headers
        origin, host = (headers.get(name, b"").decode("latin-1") for name in (b"origin", b"host"))
        self._protocol.config.pages.check(origin, host)
        transfer = headers.get(b"transfer-encoding", b"chunked").strip().lower()
        if self._upgrade or transfer != b"chunked" or (self._old and b"transfer-encoding" in headers):
            self.keep_alive = False  # whatever else is on this connection, nobody knows what it is
            detail = "send the body with Content-Length or chunked, over HTTP/1.1, and ask for no other protocol"
            raise Problem(400, "bad-request", "Not a plain request", detail)
        if b"content-encoding" in headers:
            raise Problem(415, "encoded-body", "The body is encoded", "send it plain, without Content-Encoding")
        if int(headers.get(b"content-length", b"0")) > calls.LARGEST_BODY or self._size > calls.LARGEST_BODY:
            raise calls.too_large()
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        caller = self._protocol.config.gatekeeper.known(authorization, self._key)
        if caller is not None:
            self._admit(caller)
        else:
            self._spawn(self._identify(authorization))

    async def _identify(self, authorization: str) -> None:
        keeper = self._protocol.config.gatekeeper
        caller = await keeper.caller(authorization)
        await keeper.permit(caller, self._key)
        self._task = None
        self._admit(caller)

    def _admit(self, caller: Caller) -> None:
        gate = self._protocol.config.calls
        self._caller = caller
        self._ticket = gate.admit(gate.find(self._key), caller)
        if not self.complete:
            if self._expects:
                self._protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._timer = self._protocol.loop.call_later(BODY_SECONDS, self._late_body)
        self._advance()

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self.response_complete:
            return
        if self._connection is not None:
            if self._size <= calls.LARGEST_BODY:
                self._connection.feed(relay.chunk(chunk) if self._chunked else chunk, more=True)
                return
            self._connection.abort()
        else:
            self._body += chunk
            if len(self._body) > HIGH_WATER_LIMIT:
                self._protocol.flow.pause_reading()
        if self._running and self._size > calls.LARGEST_BODY:
            self._refuse(calls.too_large())
        elif self._running:
            self._guarded(self._advance)

    def feed_end(self) -> None:
        self.complete = True
        if self.response_complete:
            return
        if self._connection is not None:
            self._connection.feed(relay.LAST_CHUNK if self._chunked else b"", more=False)
        elif self._running:
            self._guarded(self._advance)

    def _advance(self) -> None:
        """As soon as enough is here: all of it, or more than is judged anyway."""
        if self._ticket is None or self._task is not None or self._connection is not None:
            return
        if not self.complete and len(self._body) <= judge.LARGEST:
            return
        gate = self._protocol.config.calls
        if self.complete:
            gate.judge(self._ticket.entry, bytes(self._body))
        connection = gate.pooled(self._ticket)
        if connection is not None:
            self._send(connection)
        else:
            self._spawn(self._reach(self._ticket))

    async def _reach(self, ticket: Ticket) -> None:
        self._stop_timer()
        connection = await self._protocol.config.calls.reach(ticket)
        self._task = None
        self._send(connection)

    def _send(self, connection: Upstream) -> None:
        assert self._ticket is not None  # noqa: S101 - it was admitted
        self._stop_timer()
        body, self._body = bytes(self._body), bytearray()
        length: int | None = len(body)
        if not self.complete:
            announced = self._headers.get(b"content-length")
            length = None if announced is None else int(announced)
        self._chunked = length is None
        seconds = calls.allowed(self._ticket.entry)
        head = relay.request(self._caller.name, self.request_id, int(seconds * 1000), length, self._headers)
        self._connection = connection
        self._timer = self._protocol.loop.call_later(seconds, self._late)
        connection.send(head + (relay.chunk(body) if self._chunked else body), self, more=not self.complete)
        if not self.complete:
            self._protocol.flow.resume_reading()

    def _late_body(self) -> None:
        detail = f"it did not arrive within {BODY_SECONDS:.0f} s"
        self._refuse(Problem(408, "slow-body", "The body came too slowly", detail))

    def _late(self) -> None:
        assert self._ticket is not None  # noqa: S101 - it was admitted
        if self._connection is not None:
            self._connection.abort()
        if self.complete:
            self._ticket.late()
            self.fail(calls.timed_out(self._ticket.entry))
        else:
            self.fail(Problem(408, "slow-body", "The body came too slowly", "its end did not arrive in time"))

    def abandon(self) -> None:
        """The caller has left: so does the call."""
        if not self.response_complete:
            self._over(499, "caller-left")

    # From the pod.

    def head(self, head: Head) -> None:
        self._head = head
        if head.length is None and self._old:
            if self._connection is not None:
                self._connection.abort()
            detail = "the answer's length is not known beforehand, which only HTTP/1.1 can carry"
            self.fail(Problem(505, "http-1.1-needed", "HTTP/1.1 is needed", detail))

    def data(self, chunk: bytes) -> None:
        head = self._head
        if head is None or self.response_complete:
            return
        if head.length is not None and head.length <= AT_ONCE:
            self._answer += chunk
        elif not self._begun:
            self._begin_answer(head, chunk)
        else:
            self._protocol.transport.write(relay.chunk(chunk) if head.length is None else chunk)

    def _begin_answer(self, head: Head, chunk: bytes) -> None:
        self._begun = True
        if head.length is None:
            framing = b"transfer-encoding: chunked\r\n"
            chunk = relay.chunk(chunk) if chunk else b""
        else:
            framing = b"content-length: %d\r\n" % head.length
        wait = b"retry-after: %b\r\n" % head.retry_after if head.retry_after else b""
        cold = self._ticket.cold if self._ticket is not None else None
        if cold is not None:
            framing += b"x-skill-cold-start: %d\r\n" % round(cold * 1000)
        headers = signed(self.request_id) + b"content-type: %b\r\n" % head.content_type + framing + wait
        close = not self.keep_alive or not self.complete
        self._protocol.write_head(head.status, headers, close, chunk)

    def end(self) -> None:
        head, self._connection = self._head, None
        if head is None or self.response_complete:
            return
        if not self._begun:
            if self._ticket is not None:
                self._ticket.answered(head.status, self._answer)
            self._begin_answer(head, bytes(self._answer))
        if head.length is None:
            self._protocol.transport.write(relay.LAST_CHUNK)
        self._over(head.status, f"{head.status // 100}xx")

    def fail(self, problem: Problem) -> None:
        self._connection = None
        if self.response_complete:
            return
        if self._begun:  # a shortened answer must not look whole
            log.warning("the answer was cut off: %s", problem.detail, extra={"request": self.request_id})
            self._protocol.transport.abort()
            self._over(self._head.status if self._head else 502, problem.slug)
        else:
            self._refuse(problem)

    def writable(self, yes: bool) -> None:
        if yes:
            self._protocol.flow.resume_reading()
        else:
            self._protocol.flow.pause_reading()

    def pause(self, yes: bool) -> None:
        if self._connection is not None:
            self._connection.pause(yes)

    # Its end.

    def _refuse(self, problem: Problem) -> None:
        metrics.refused(problem.slug)
        self._protocol.write_problem(problem, self.request_id, close=not self.keep_alive or not self.complete)
        self._over(problem.status, problem.slug)

    def _over(self, status: int, outcome: str) -> None:
        self.response_complete = True
        self._stop_timer()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        if self._ticket is not None:
            meta = self._ticket.entry.meta
            metrics.call_ended(meta.namespace, meta.name, outcome, time.monotonic() - self._began)
            self._ticket.close()
            self._ticket = None
        account("POST", f"/v1/skills/{'/'.join(self._key)}", self.request_id, status, outcome, self._began)
        self._protocol.finished(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._protocol.loop.create_task(self._caught(work))

    async def _caught(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
            self._raised(error)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - as above
            self._raised(error)

    def _raised(self, error: Exception) -> None:
        if not isinstance(error, Problem):
            log.error("a request failed", extra={"request": self.request_id}, exc_info=error)
            error = problems.internal(self.request_id)
        self.fail(error)


def account(method: str, path: str, id_: str, status: int, outcome: str, began: float) -> None:
    """Every request has a line in the log and a place in the metrics."""
    seconds = time.monotonic() - began
    metrics.relayed(outcome, seconds)
    where = {"request": id_, "method": method, "path": printable(path, 200), "status": status}
    log.info("call", extra=where | {"outcome": outcome, "seconds": round(seconds, 4)})
