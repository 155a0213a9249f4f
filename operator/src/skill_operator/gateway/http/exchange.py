"""One call of a skill over HTTP, by callbacks from both sides."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Coroutine
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from skill_operator.gateway import input_validation, invocation, problems
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.invocation import AdmittedCall
from skill_operator.gateway.pods import request_head
from skill_operator.gateway.pods.connection import PodConnection, ResponseHead
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey
from skill_operator.observability import logs, metrics
from skill_operator.untrusted.text import printable

if TYPE_CHECKING:
    from skill_operator.gateway.http.protocol import CallerConnection

log = logging.getLogger(__name__)
BODY_SECONDS = 15.0
AT_ONCE = 1 << 16  # a shorter answer is read in full before the caller hears of it, so that it is never half an answer
SHOWN = 200  # characters of a text in the log
CUT = SHOWN + 1  # so that it shows where one was cut
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def request_id(given: bytes, traceparent: bytes = b"") -> str:
    """The caller's, or that of the trace that the call is part of, or one of ours: one id in the logs of all."""
    if given and _REQUEST_ID.fullmatch(given):
        return given.decode()
    trace = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return trace[1].decode() if trace and trace[1].strip(b"0") else f"{random.getrandbits(128):032x}"


def signed(id_: str) -> bytes:
    """On every answer."""
    return b"x-request-id: %b\r\nx-content-type-options: nosniff\r\n" % id_.encode()


class Exchange:
    """One call: from its head to the last byte of its answer. To uvicorn it is a cycle, to a pod's answer a sink."""

    message_event = asyncio.Event()  # uvicorn sets it; nobody waits

    # Most calls leave most of these as they are.
    response_complete = False
    disconnected = False
    complete = False  # the body is here
    _size = 0
    _ticket: AdmittedCall | None = None
    _caller = Caller("")
    _connection: PodConnection | None = None
    _task: asyncio.Task[None] | None = None
    _running = False
    _chunked = False  # the body, on its way to the pod
    _head: ResponseHead | None = None
    _begun = False  # the answer

    def __init__(
        self, protocol: CallerConnection, key: SkillKey, headers: list[tuple[bytes, bytes]], expects: bool
    ) -> None:
        self._protocol = protocol
        self._front = protocol.config
        self._key = key
        self._expects = expects
        self._headers = given = dict(reversed(headers))  # of several the first
        parser = protocol.parser
        self._old = parser.get_http_version() != "1.1"
        self._upgrade = parser.should_upgrade()
        self.keep_alive = not self._old and parser.should_keep_alive() and not self._upgrade
        self.request_id = request_id(given.get(b"x-request-id", b""), given.get(b"traceparent", b""))
        self._body = bytearray()
        self._answer = bytearray()
        self._began = time.monotonic()

    # From the caller.

    def start(self) -> None:
        self._running = True
        self._protocol.running = self
        if self._protocol.transport.is_closing():
            self.abandon()
            return
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
            self._raised(error)

    def _begin(self) -> None:
        headers, front = self._headers, self._front
        front.pages.check(headers.get(b"origin", b"").decode("latin-1"), headers.get(b"host", b"").decode("latin-1"))
        transfer = headers.get(b"transfer-encoding")
        if self._upgrade or (transfer is not None and (self._old or transfer.strip().lower() != b"chunked")):
            self.keep_alive = False  # whatever else is on this connection, nobody knows what it is
            detail = "send the body with Content-Length or chunked, over HTTP/1.1, and ask for no other protocol"
            raise Problem("bad-request", detail)
        if b"content-encoding" in headers:
            raise Problem("unsupported-encoding", "send it plain, without Content-Encoding")
        if int(headers.get(b"content-length", b"0")) > invocation.LARGEST_BODY or self._size > invocation.LARGEST_BODY:
            raise invocation.too_large()
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        caller = front.gatekeeper.known(authorization, self._key)
        if caller is not None:
            self._admit(caller)
        else:
            self._spawn(self._identify(authorization))

    async def _identify(self, authorization: str) -> None:
        keeper = self._front.gatekeeper
        self._caller = await keeper.caller(authorization)
        await keeper.permit(self._caller, self._key)
        self._task = None
        self._admit(self._caller)

    def _admit(self, caller: Caller) -> None:
        gate = self._front.calls
        self._caller = caller
        self._ticket = gate.admit(gate.find(self._key), caller, self.request_id)
        if not self.complete:
            if self._expects:
                self._protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._front.deadlines.set(self, BODY_SECONDS)
        self._advance()

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self.response_complete:
            return
        if self._connection is not None:
            if self._size <= invocation.LARGEST_BODY:
                self._connection.feed(request_head.chunk(chunk) if self._chunked else chunk, more=True)
                return
            self._connection.abort()
        else:
            self._body += chunk
            if len(self._body) > HIGH_WATER_LIMIT:
                self._protocol.flow.pause_reading()
        if self._running and self._size > invocation.LARGEST_BODY:
            self._refuse(invocation.too_large())
        elif self._running:
            self._go_on()

    def feed_end(self) -> None:
        self.complete = True
        if self.response_complete:
            return
        if self._connection is not None:
            self._connection.feed(request_head.LAST_CHUNK if self._chunked else b"", more=False)
        elif self._running:
            self._go_on()

    def _go_on(self) -> None:
        try:
            self._advance()
        except Exception as error:  # noqa: BLE001 - as above
            self._raised(error)

    def _advance(self) -> None:
        """As soon as enough is here: all of it, or more than is judged anyway."""
        if self._ticket is None or self._task is not None or self._connection is not None:
            return
        if not self.complete and len(self._body) <= input_validation.LARGEST:
            return
        gate = self._front.calls
        if self.complete:
            gate.judge(self._ticket.entry, bytes(self._body))
        connection = gate.pooled(self._ticket)
        if connection is not None:
            self._send(connection)
        else:
            self._spawn(self._reach(self._ticket))

    async def _reach(self, ticket: AdmittedCall) -> None:
        self._front.deadlines.clear(self)
        with logs.context(request=self.request_id):  # of the call that wakes it
            connection = await self._front.calls.reach(ticket)
        self._task = None
        self._send(connection)

    def _send(self, connection: PodConnection) -> None:
        assert self._ticket is not None  # noqa: S101 - it was admitted
        body, self._body = bytes(self._body), bytearray()
        length: int | None = len(body)
        if not self.complete:
            announced = self._headers.get(b"content-length")
            length = None if announced is None else int(announced)
        self._chunked = length is None
        seconds = invocation.allowed(self._ticket.entry)
        head = request_head.request(self._caller.name, self.request_id, int(seconds * 1000), length, self._headers)
        self._connection = connection
        self._front.deadlines.set(self, seconds)
        connection.send(head + (request_head.chunk(body) if self._chunked else body), self, more=not self.complete)
        if not self.complete:
            self._protocol.flow.resume_reading()

    def late(self) -> None:
        """Its deadline is over: of the body alone, until the pod has the call."""
        if self._connection is None:
            detail = f"it did not arrive within {BODY_SECONDS:.0f} s"
            self._refuse(Problem("request-timeout", detail))
            return
        self._connection.abort()
        if self.complete and self._ticket is not None:
            self._ticket.late()
            self.fail(invocation.timed_out(self._ticket.entry))
        else:
            self.fail(Problem("request-timeout", "its end did not arrive in time"))

    def abandon(self) -> None:
        """The caller has left: so does the call."""
        if not self.response_complete:
            self._over(499, "client-disconnected")

    # From the pod.

    def head(self, head: ResponseHead) -> None:
        self._head = head
        if head.length is None and self._old:
            if self._connection is not None:
                self._connection.abort()
            detail = "the answer's length is not known beforehand, which only HTTP/1.1 can carry"
            self.fail(Problem("http-version-not-supported", detail))

    def data(self, chunk: bytes) -> None:
        head = self._head
        if head is None or self.response_complete:
            return
        if head.length is not None and head.length <= AT_ONCE:
            self._answer += chunk
        elif not self._begun:
            self._begin_answer(head, chunk)
        else:
            self._protocol.transport.write(request_head.chunk(chunk) if head.length is None else chunk)

    def _begin_answer(self, head: ResponseHead, chunk: bytes | bytearray) -> None:
        self._begun = True
        if head.length is None:
            framing = b"transfer-encoding: chunked\r\n"
            chunk = request_head.chunk(bytes(chunk)) if chunk else b""
        else:
            framing = b"content-length: %d\r\n" % head.length
        if head.retry_after:
            framing += b"retry-after: %b\r\n" % head.retry_after
        if self._ticket is not None and self._ticket.cold is not None:
            framing += b"x-skill-cold-start: %d\r\n" % round(self._ticket.cold * 1000)
        headers = b"%bcontent-type: %b\r\n%b" % (signed(self.request_id), head.content_type, framing)
        self._protocol.write_head(head.status, headers, not self.keep_alive or not self.complete, chunk)

    def end(self) -> None:
        head, self._connection = self._head, None
        if head is None or self.response_complete:
            return
        if not self._begun:
            if self._ticket is not None:
                self._ticket.answered(head.status, self._answer)
            self._begin_answer(head, self._answer)
        if head.length is None:
            self._protocol.transport.write(request_head.LAST_CHUNK)
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
        metrics.record_rejection(problem.slug)
        self._protocol.write_problem(problem, self.request_id, close=not self.keep_alive or not self.complete)
        self._over(problem.status, problem.slug)

    def _over(self, status: int, outcome: str) -> None:
        self.response_complete = True
        self._front.deadlines.clear(self)
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        seconds = time.monotonic() - self._began
        if self._ticket is not None:
            metrics.record_skill_call(*self._key, outcome, seconds)
            self._ticket.close()
            self._ticket = None
        path = "/v1/skills/" + "/".join(self._key)
        account("POST", path, self.request_id, self._caller.name, status, outcome, seconds)
        self._protocol.finished(self)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._protocol.loop.create_task(self._caught(work))

    async def _caught(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
            self._raised(error)

    def _raised(self, error: Exception) -> None:
        if not isinstance(error, Problem):
            log.error("a request failed", extra={"request": self.request_id}, exc_info=error)
            error = problems.internal_error(self.request_id)
        self.fail(error)


def account(method: str, path: str, id_: str, caller: str, status: int, outcome: str, seconds: float) -> None:
    """Every request has a line in the log and a place in the metrics."""
    metrics.record_request(outcome, seconds)
    if log.isEnabledFor(logging.INFO):
        logs.later(_line, method, path, id_, caller, status, outcome, seconds)


def _line(method: str, path: str, id_: str, caller: str, status: int, outcome: str, seconds: float) -> str:
    return (
        f'"logger": "{__name__}", "message": "call", "request": {logs.quoted(id_)}, '
        f'"method": {_told(method[:CUT])}, "path": {_told(path[:CUT])}, "caller": {_told(caller[:CUT])}, '
        f'"status": {status}, "outcome": {_told(outcome)}, "seconds": {seconds:.4f}'
    )


@lru_cache(4096)
def _told(text: str) -> str:
    """Foreign text for the log. There are few such texts and many calls."""
    return logs.quoted(printable(text, SHOWN))
