"""Calls of skills, whoever brings them: found, admitted, judged, and given a connection to a pod."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple, Self, cast

from skill_operator import runtime_contract
from skill_operator.api.usage_report import EXCEEDED_LIMITS, ExceededLimit
from skill_operator.gateway.access.authorizer import Caller, Limiter, NoLimits
from skill_operator.gateway.input_validation import judge
from skill_operator.gateway.pods import request_head
from skill_operator.gateway.pods.activator import Activator, not_answering, not_ready
from skill_operator.gateway.pods.connection import ConnectionPool, PodConnection, ResponseHead
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey
from skill_operator.observability import logs, metrics
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
POD_PORT = runtime_contract.HTTP_PORT
LARGEST_BODY = runtime_contract.MAX_BODY_BYTES
_FAILED = frozenset({500, 504})
MARGIN_SECONDS = 5.0  # the runtime itself says 504; this is for when it cannot
MOST_CALLS = 512
REACHES = 5
LARGEST_PROBLEM = 1 << 12
_URN = "urn:skill-operator:"


class InvocationResponse(NamedTuple):
    """Of a call that was not streamed."""

    status: int
    headers: dict[str, str]
    body: bytes


class AdmittedCall:
    """A call that was let in; closed when it is over, whatever its end."""

    __slots__ = ("_address", "_calls", "_limit", "cold", "entry", "request")

    def __init__(self, calls: Invoker, entry: SkillEntry, request: str, limit: AbstractContextManager[None]) -> None:
        self.entry = entry
        self.request = request
        self._calls = calls
        self._limit = limit
        self._address = ""
        self.cold: float | None = None  # seconds that it waited for a pod, if it did

    def aim(self, address: str) -> None:
        """At this pod now; at none where it is empty."""
        in_flight = self._calls.directory.in_flight
        former, self._address = self._address, address
        if former:
            left = in_flight[former] - 1
            if left:
                in_flight[former] = left
            else:
                in_flight.pop(former)  # a Counter's `del` is written in Python
        if address:
            in_flight[address] = in_flight.get(address, 0) + 1

    def answered(self, status: int, body: bytes | bytearray) -> None:
        """Where the pod says that the call used more than it may, the Skill's condition will tell."""
        if status not in _FAILED or len(body) > LARGEST_PROBLEM:
            return
        try:
            kind = str(json.loads(body)["type"]).removeprefix(_URN)
        except (ValueError, LookupError, TypeError, RecursionError):
            return
        if kind in EXCEEDED_LIMITS:
            self._calls.activity.failed(self.entry.meta, self.request, cast("ExceededLimit", kind))

    def late(self) -> None:
        """The pod said nothing in time, not even that."""
        self._calls.activity.failed(self.entry.meta, self.request, "timeout")

    def close(self) -> None:
        self.aim("")
        self._calls.dismiss(self)
        self._limit.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Invoker:
    """What both ways in, HTTP and MCP, do with a call."""

    def __init__(
        self, directory: Directory, pool: ConnectionPool, waker: Activator, limits: Limiter | None = None
    ) -> None:
        self.directory = directory
        self.activity = waker.activity
        self._pool = pool
        self._waker = waker
        self._limits = limits or NoLimits()
        self._open = 0

    def find(self, key: SkillKey) -> SkillEntry:
        """Raises Problem where there is none."""
        entry = self.directory.entries.get(key)
        if entry is not None:
            return entry
        if not self.directory.ready:
            raise starting()
        namespace, name = (printable(part, 63) for part in key)
        detail = f"there is no Skill {name} in namespace {namespace}; see GET /v1/skills"
        raise Problem("skill-not-found", detail)

    def admit(self, entry: SkillEntry, caller: Caller, request: str) -> AdmittedCall:
        """Each call may hold a body in memory: rather a prompt no than a killed gateway. Raises Problem."""
        if self._open >= MOST_CALLS:
            raise Problem("overloaded", f"{MOST_CALLS} calls are in flight; call again", 1)
        limit = self._limits.admit(caller, entry)
        limit.__enter__()
        self._open += 1
        self.activity.begin(entry.meta.uid)
        metrics.set_calls_in_flight(self._open)
        return AdmittedCall(self, entry, request, limit)

    def dismiss(self, ticket: AdmittedCall) -> None:
        self._open -= 1
        self.activity.end(ticket.entry.meta.uid)
        metrics.set_calls_in_flight(self._open)

    def judge(self, entry: SkillEntry, body: bytes) -> None:
        """Raises Problem for what does not fit the Skill's input, before a pod is bothered with it."""
        judge(self.directory.contract(entry), body, entry.meta)

    def pooled(self, ticket: AdmittedCall) -> PodConnection | None:
        """A connection that is open already, to the pod that should be asked."""
        for backend in self.directory.backends(ticket.entry.meta):
            connection = self._pool.take(backend.address)
            if connection is not None:
                ticket.aim(backend.address)
            return connection
        return None

    async def reach(self, ticket: AdmittedCall, waking: Callable[[], Awaitable[None]] | None = None) -> PodConnection:
        """A connection to the first pod that can be reached; one is woken if need be. Raises Problem."""
        entry = ticket.entry
        if entry.skill is None:
            raise not_ready(entry, "newer than this gateway: its object cannot be read")
        for backend in self.directory.backends(entry.meta):
            if backend.ready and (connection := await self._connect(ticket, backend.address)) is not None:
                return connection
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(REACHES):
            address = await self._waker.pod(entry, ticket.request, waking)
            waking = None
            if (connection := await self._connect(ticket, address)) is not None:
                ticket.cold = loop.time() - began
                return connection
        raise not_answering()

    async def _connect(self, ticket: AdmittedCall, address: str) -> PodConnection | None:
        ticket.aim(address)
        try:
            return self._pool.take(address) or await self._pool.connect(address)
        except OSError as error:  # it has seen nothing of the call
            log.info("pod %s cannot be reached: %s", address, str(error) or type(error).__name__)
            ticket.aim("")
            return None

    def report(self) -> str:
        """For the controller, which asks before it puts a skill to sleep."""
        self.activity.keep({entry.meta.uid for entry in self.directory.entries.values()})
        return self.activity.report(self._waker.held, self.directory.drains()).model_dump_json()

    async def invoke(
        self,
        entry: SkillEntry,
        body: bytes,
        *,
        caller: Caller,
        request_id: str,
        deadline: float = math.inf,
        waking: Callable[[], Awaitable[None]] | None = None,
    ) -> InvocationResponse:
        """A call from within, of a caller who was let in: at most `deadline` seconds, or what the Skill allows.

        Raises Problem. Cancelling it cancels the call.
        """
        if len(body) > LARGEST_BODY:
            raise too_large()
        with self.admit(entry, caller, request_id) as ticket:
            self.judge(entry, body)
            with logs.context(request=request_id):
                connection = self.pooled(ticket) or await self.reach(ticket, waking)
            seconds = min(deadline, allowed(entry))
            collector = _Collector(ticket)
            head = request_head.request(caller.name, request_id, int(seconds * 1000), len(body))
            connection.send(head + body, collector)
            try:
                async with asyncio.timeout(seconds):
                    return await collector.answer
            except TimeoutError as error:
                ticket.late()
                raise timed_out(entry) from error
            finally:
                if not collector.over:
                    connection.abort()


class _Collector:
    """A sink that keeps all of it."""

    def __init__(self, ticket: AdmittedCall) -> None:
        self._ticket = ticket
        self.answer: asyncio.Future[InvocationResponse] = asyncio.get_running_loop().create_future()
        self.over = False
        self._head: ResponseHead | None = None
        self._body = bytearray()

    def head(self, head: ResponseHead) -> None:
        self._head = head

    def data(self, chunk: bytes) -> None:
        self._body += chunk

    def end(self) -> None:
        self.over = True
        if self._head is not None and not self.answer.done():
            self._ticket.answered(self._head.status, self._body)
            headers = {"Content-Type": self._head.content_type.decode()}
            if self._head.retry_after:
                headers["Retry-After"] = self._head.retry_after.decode()
            if self._ticket.cold is not None:
                headers["X-Skill-Cold-Start"] = f"{self._ticket.cold * 1000:.0f}"
            self.answer.set_result(InvocationResponse(self._head.status, headers, bytes(self._body)))

    def fail(self, problem: Problem) -> None:
        self.over = True
        if not self.answer.done():
            self.answer.set_exception(problem)

    def writable(self, yes: bool) -> None:
        pass


def allowed(entry: SkillEntry) -> float:
    """Seconds from the moment that a pod has the call."""
    return (entry.skill.spec.call_timeout_seconds if entry.skill else 0) + MARGIN_SECONDS


def starting() -> Problem:
    return Problem("starting", "it does not know all skills yet; call again", 1)


def too_large() -> Problem:
    return Problem("too-large", f"a call's body is {LARGEST_BODY} bytes at most")


def timed_out(entry: SkillEntry) -> Problem:
    limit = entry.skill.spec.call_timeout_seconds if entry.skill else 0
    detail = f"no answer within {limit} s (spec.callTimeoutSeconds); ask for less, or raise the limit"
    return Problem("timeout", detail)
