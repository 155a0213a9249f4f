"""One call of a skill over HTTP (RFC 9110), by callbacks from the caller's side and from the pod's."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from skill_operator.gateway import input_validation, invocation, problems
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.http import access_log
from skill_operator.gateway.http.connection import ExchangeConnection
from skill_operator.gateway.http.request_id import resolve_request_id, response_headers
from skill_operator.gateway.invocation import AdmittedCall
from skill_operator.gateway.pods import request_head
from skill_operator.gateway.pods.connection import NoPlaceError, NotTakenError, PodConnection, ResponseHead
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey
from skill_operator.observability import logs, metrics

log = logging.getLogger(__name__)
BODY_TIMEOUT_SECONDS = 15.0
MAX_BUFFERED_RESPONSE_BYTES = 1 << 16
"""A shorter response is read in full before the caller gets any of it, so that it is never half a response."""
SMALL_BODY_BYTES = input_validation.MAX_VALIDATED_BYTES
"""A longer body is kept, for a pod that has no place yet or for another one, only within the memory for such bodies."""


class Exchange:
    """Exchange is one call: from its head to the last byte of its response.

    For uvicorn it is a request cycle, for a pod's connection a ResponseHandler.
    """

    message_event = asyncio.Event()  # uvicorn sets it; nobody waits

    # Most calls leave most of these as they are.
    response_complete = False
    disconnected = False
    request_complete = False
    _received_bytes = 0
    _held_bytes = 0  # of the memory for bodies
    _call: AdmittedCall | None = None
    _caller = Caller("")
    _pod: PodConnection | None = None
    _task: asyncio.Task[None] | None = None
    _started = False
    _request_chunked = False  # the body, on its way to the pod
    _resendable = False  # the body is kept
    _head: ResponseHead | None = None
    _response_started = False

    def __init__(
        self, connection: ExchangeConnection, key: SkillKey, headers: list[tuple[bytes, bytes]], expects_continue: bool
    ) -> None:
        self._connection = connection
        self._services = connection.services
        self._key = key
        self._expects_continue = expects_continue
        self._headers = by_name = dict(reversed(headers))  # of several the first
        parser = connection.parser
        self._http_1_0 = parser.get_http_version() != "1.1"
        self._upgrade = parser.should_upgrade()
        self.keep_alive = not self._http_1_0 and parser.should_keep_alive() and not self._upgrade
        self.request_id = resolve_request_id(by_name.get(b"x-request-id", b""), by_name.get(b"traceparent", b""))
        self._request_body = bytearray()
        self._response_body = bytearray()
        self._start_time = time.monotonic()

    # From the caller.

    def start(self) -> None:
        """Begin the call: it is its turn on the connection."""
        self._started = True
        self._connection.running = self
        if self._connection.transport.is_closing():
            self.on_caller_disconnected()
            return
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a response
            self._on_error(error)

    def _begin(self) -> None:
        headers, services = self._headers, self._services
        origin, host = headers.get(b"origin", b"").decode("latin-1"), headers.get(b"host", b"").decode("latin-1")
        services.origins.check(origin, host)
        transfer = headers.get(b"transfer-encoding")
        if self._upgrade or (transfer is not None and (self._http_1_0 or transfer.strip().lower() != b"chunked")):
            self.keep_alive = False  # whatever else is on this connection, nobody knows what it is
            detail = "send the body with Content-Length or chunked, over HTTP/1.1, and ask for no other protocol"
            raise Problem("bad-request", detail)
        if b"content-encoding" in headers:
            raise Problem("unsupported-encoding", "send the body plain, without Content-Encoding")
        limit = invocation.MAX_BODY_BYTES
        if int(headers.get(b"content-length", b"0")) > limit or self._received_bytes > limit:
            raise invocation.request_too_large()
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        caller = services.authorizer.cached_caller(authorization, self._key)
        if caller is not None:
            self._admit(caller)
        else:
            self._spawn(self._authorize(authorization))

    async def _authorize(self, authorization: str) -> None:
        authorizer = self._services.authorizer
        client = self._connection.client
        try:
            self._caller = await authorizer.authenticate(authorization, client[0] if client else "")
        except Problem as problem:
            raise self._services.resource.with_challenge(problem) from problem
        await authorizer.authorize(self._caller, self._key)
        self._task = None
        self._admit(self._caller)

    def _admit(self, caller: Caller) -> None:
        invoker = self._services.invoker
        self._caller = caller
        self._call = invoker.admit(invoker.lookup(self._key), caller, self.request_id)
        self._call.on_stop = self.on_gateway_stop
        if not self.request_complete:
            if self._expects_continue:
                self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._services.deadlines.set(self, BODY_TIMEOUT_SECONDS)
        self._advance()

    def on_body(self, chunk: bytes) -> None:
        """Take a part of the request's body: keep it, or send it to the pod that has the call."""
        self._received_bytes += len(chunk)
        if self.response_complete:
            return
        if self._pod is not None:
            if self._received_bytes <= invocation.MAX_BODY_BYTES:
                if self._resendable:
                    self._request_body += chunk
                self._pod.send_more(request_head.encode_chunk(chunk) if self._request_chunked else chunk, more=True)
                return
            self._pod.abort()
        else:
            self._request_body += chunk
            if len(self._request_body) > HIGH_WATER_LIMIT:
                self._connection.flow.pause_reading()
        if self._started and self._received_bytes > invocation.MAX_BODY_BYTES:
            self._reject(invocation.request_too_large())
        elif self._started:
            self._try_advance()

    def on_body_end(self) -> None:
        """Take the end of the request."""
        self.request_complete = True
        if self.response_complete:
            return
        if self._pod is not None:
            self._pod.send_more(request_head.LAST_CHUNK if self._request_chunked else b"", more=False)
        elif self._started:
            self._try_advance()

    def _try_advance(self) -> None:
        try:
            self._advance()
        except Exception as error:  # noqa: BLE001 - as above
            self._on_error(error)

    def _advance(self) -> None:
        """Send the call to a pod once enough of its body is here: all of it, or more than is validated anyway."""
        if self._call is None or self._task is not None or self._pod is not None:
            return
        if not self.request_complete and len(self._request_body) <= input_validation.MAX_VALIDATED_BYTES:
            return
        if self.request_complete:
            self._services.invoker.validate(self._call.entry, bytes(self._request_body))
        else:
            input_validation.check_encoding(bytes(self._request_body[:4]))
        self._send_or_connect(self._call)

    def _send_or_connect(self, call: AdmittedCall) -> None:
        pod = self._services.invoker.take_idle_connection(call)
        if pod is not None:
            self._send(pod)
        else:
            if not self.request_complete:
                self._connection.flow.pause_reading()
            self._spawn(self._connect(call))

    async def _connect(self, call: AdmittedCall) -> None:
        self._services.deadlines.clear(self)
        with logs.context(request=self.request_id):  # of the call that wakes the skill
            pod = await self._services.invoker.connect(call, self._on_wait)
        self._task = None
        self._send(pod)

    async def _on_wait(self) -> None:
        """Hold memory for the body of a call that must wait. Raises Problem where there is none."""
        size = len(self._request_body)
        if size > SMALL_BODY_BYTES and not self._held_bytes and not self._hold_memory(size):
            detail = "large bodies of calls that wait fill the memory for them, or your share of it; call again"
            raise Problem("overloaded", detail, 1)

    def _send(self, pod: PodConnection) -> None:
        assert self._call is not None  # noqa: S101 - it was admitted
        body = bytes(self._request_body)
        length: int | None = len(body)
        if not self.request_complete:
            announced = self._headers.get(b"content-length")
            length = None if announced is None else int(announced)
        self._resendable = length is not None and (length <= SMALL_BODY_BYTES or self._hold_memory(length))
        if not self._resendable:
            self._request_body = bytearray()
        self._request_chunked = length is None
        seconds = invocation.call_timeout_seconds(self._call.entry)
        head = request_head.encode_head(
            self._call.entry.encoded_uid,
            self._caller.name,
            self.request_id,
            int(seconds * 1000),
            length,
            self._headers,
        )
        self._pod = pod
        self._services.deadlines.set(self, seconds)
        first = request_head.encode_chunk(body) if self._request_chunked else body
        pod.send(head + first, self, more=not self.request_complete)
        if not self.request_complete:
            self._connection.flow.resume_reading()

    def _hold_memory(self, size: int) -> bool:
        """Hold so many bytes of the memory for bodies instead of what is held; return whether the shares allow it."""
        bodies, caller = self._services.invoker.bodies, self._caller
        if self._held_bytes:
            bodies.give_back(caller.namespace, caller.name, self._held_bytes)
        self._held_bytes = size if size and bodies.take(caller.namespace, caller.name, size) else 0
        return self._held_bytes == size

    def on_timeout(self) -> None:
        """End the call: its deadline is over. Until a pod has the call, the deadline is that of the body alone."""
        if self._pod is None:
            detail = f"the body did not arrive within {BODY_TIMEOUT_SECONDS:.0f} s"
            self._reject(Problem("request-timeout", detail))
            return
        self._pod.abort()
        if self.request_complete and self._call is not None:
            self._call.on_timeout()
            self.on_problem(invocation.call_timeout(self._call.entry))
        else:
            self.on_problem(Problem("request-timeout", "the end of the body did not arrive in time"))

    def on_gateway_stop(self) -> None:
        """End the call: the gateway ends before the pod has answered."""
        pod = self._pod
        if pod is not None:
            pod.abort()
        self.on_problem(invocation.gateway_stopping(sent=pod is not None))

    def on_caller_disconnected(self) -> None:
        """End the call: the caller has closed the connection."""
        if not self.response_complete:
            self._finish(access_log.CLIENT_CLOSED_REQUEST, access_log.CLIENT_DISCONNECTED)

    # From the pod.

    def on_head(self, head: ResponseHead) -> None:
        """Take the head of the pod's response."""
        self._head = head
        if head.length is None and self._http_1_0:
            if self._pod is not None:
                self._pod.abort()
            detail = "the response's length is not known beforehand, which only HTTP/1.1 can carry"
            self.on_problem(Problem("http-version-not-supported", detail))

    def on_data(self, chunk: bytes) -> None:
        """Take a part of the response's body: keep it, or write it to the caller."""
        head = self._head
        if head is None or self.response_complete:
            return
        if head.length is not None and head.length <= MAX_BUFFERED_RESPONSE_BYTES:
            self._response_body += chunk
        elif not self._response_started:
            self._write_head(head, chunk)
        else:
            self._connection.transport.write(request_head.encode_chunk(chunk) if head.length is None else chunk)

    def _write_head(self, head: ResponseHead, chunk: bytes | bytearray) -> None:
        self._response_started = True
        if head.length is None:
            framing = b"transfer-encoding: chunked\r\n"
            chunk = request_head.encode_chunk(bytes(chunk)) if chunk else b""
        else:
            framing = b"content-length: %d\r\n" % head.length
        if head.retry_after:
            framing += b"retry-after: %b\r\n" % head.retry_after
        if self._call is not None and self._call.cold_start_seconds is not None:
            framing += b"x-skill-cold-start: %d\r\n" % round(self._call.cold_start_seconds * 1000)
        own = response_headers(self.request_id) + self._cors_headers()
        headers = b"%bcontent-type: %b\r\n%b" % (own, head.content_type, framing)
        close = not self.keep_alive or not self.request_complete
        self._connection.write_head(head.status, headers, close, chunk)

    def on_end(self) -> None:
        """Take the end of the pod's response."""
        head, self._pod = self._head, None
        if head is None or self.response_complete:
            return
        if not self._response_started:
            if self._call is not None:
                self._call.record_response(head.status, self._response_body)
            self._write_head(head, self._response_body)
        if head.length is None:
            self._connection.transport.write(request_head.LAST_CHUNK)
        self._finish(head.status, f"{head.status // 100}xx")

    def on_problem(self, problem: Problem) -> None:
        """End the call with a problem; where a part of the response is written already, close the connection."""
        pod, self._pod = self._pod, None
        if self.response_complete:
            return
        if isinstance(problem, NotTakenError | NoPlaceError) and self._call is not None and pod is not None:
            if self._services.invoker.on_not_taken(self._call, pod.address, problem) and self._resendable:
                self._send_or_connect(self._call)
            else:
                self._reject(problem)
        elif self._response_started:  # a shortened response must not look whole
            log.warning("the response was cut off: %s", problem.detail, extra={"request": self.request_id})
            self._connection.transport.abort()
            self._finish(self._head.status if self._head else 502, problem.slug)
        else:
            self._reject(problem)

    def on_writable(self, writable: bool) -> None:
        """Resume or pause the request: the pod takes more of its body, or no more for now."""
        if writable:
            self._connection.flow.resume_reading()
        else:
            self._connection.flow.pause_reading()

    def set_paused(self, paused: bool) -> None:
        """Pause or resume the response: the caller reads too slowly, or has caught up."""
        if self._pod is not None:
            self._pod.set_paused(paused)

    def _cors_headers(self) -> bytes:
        """Return the header lines by which a browser lets a page of a listed origin read the response."""
        origin = self._headers.get(b"origin")
        if origin is None:
            return b""
        headers = self._services.origins.response_headers(origin.decode("latin-1"))
        return "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items()).encode("latin-1")

    # Its end.

    def _reject(self, problem: Problem) -> None:
        metrics.record_rejection(problem.slug)
        close = not self.keep_alive or not self.request_complete
        self._connection.write_problem(problem, self.request_id, close, self._cors_headers())
        self._finish(problem.status, problem.slug)

    def _finish(self, status: int, outcome: str) -> None:
        self.response_complete = True
        self._services.deadlines.clear(self)
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        pod, self._pod = self._pod, None
        if pod is not None:
            pod.abort()
        seconds = time.monotonic() - self._start_time
        if self._held_bytes:
            self._hold_memory(0)
        if self._call is not None:
            metrics.record_skill_call(*self._key, outcome, seconds)
            self._call.close()
            self._call = None
        path = "/v1/skills/" + "/".join(self._key)
        access_log.record_request("POST", path, self.request_id, self._caller.name, status, outcome, seconds)
        self._connection.on_exchange_end(self)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._connection.loop.create_task(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a response
            self._on_error(error)

    def _on_error(self, error: Exception) -> None:
        if not isinstance(error, Problem):
            log.error("a request failed", extra={"request": self.request_id}, exc_info=error)
            error = problems.internal_error(self.request_id)
        self.on_problem(error)
