"""Calls of skills, over HTTP and over MCP: each is looked up, admitted, validated and given a connection to a pod."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self, cast

from skill_operator import runtime_contract
from skill_operator.api.usage_report import EXCEEDED_LIMITS, ExceededLimit
from skill_operator.gateway.access.authorizer import Caller, Limiter, NoLimits
from skill_operator.gateway.access.limits import FairShares
from skill_operator.gateway.input_validation import validate_input
from skill_operator.gateway.pods import request_head
from skill_operator.gateway.pods.activator import Activator, pod_not_accepting, skill_not_ready
from skill_operator.gateway.pods.connection import (
    ConnectionPool,
    NoPlaceError,
    NotTakenError,
    PodConnection,
    ResponseHead,
)
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.gateway.pods.place_queue import PlaceQueue
from skill_operator.gateway.problems import TYPE_PREFIX, Problem
from skill_operator.naming import SkillKey
from skill_operator.observability import logs, metrics
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
POD_PORT = runtime_contract.HTTP_PORT
MAX_BODY_BYTES = runtime_contract.MAX_BODY_BYTES
MARGIN_SECONDS = 5.0  # the runtime itself reports a timeout; this is for when it cannot
MAX_CALLS = 512
MAX_HELD_BYTES = 1 << 26  # of the large bodies that are kept, for a pod that has no place yet or for another one
MAX_CONNECT_ATTEMPTS = 5
MAX_PROBLEM_BYTES = 1 << 12
_LIMIT_STATUSES = frozenset({500, 504})  # of the problems that say that a call exceeded a limit


class InvocationResponse(NamedTuple):
    """InvocationResponse is the whole response to a call that was not streamed."""

    status: int
    headers: dict[str, str]
    body: bytes


class AdmittedCall:
    """AdmittedCall is a call in flight; it must be closed, whatever its end. It holds its place in all limits."""

    __slots__ = (
        "_address",
        "_invoker",
        "_limit",
        "caller",
        "cold_start_seconds",
        "entry",
        "on_stop",
        "refusals",
        "request_id",
        "wait_deadline",
    )

    def __init__(
        self,
        invoker: Invoker,
        entry: SkillEntry,
        caller: Caller,
        request_id: str,
        limit: AbstractContextManager[None],
    ) -> None:
        self.entry = entry
        self.caller = caller
        self.request_id = request_id
        self._invoker = invoker
        self._limit = limit
        self._address = ""
        self.refusals = 0  # of pods that are not for it
        self.wait_deadline: float | None = None  # by the loop's clock; None: it has not waited for a pod, or a place
        self.cold_start_seconds: float | None = None  # how long it waited for a pod, if it did
        self.on_stop: Callable[[], None] | None = None  # ends it: the gateway ends

    @property
    def has_pod(self) -> bool:
        """True once a pod has the call, or is about to."""
        return bool(self._address)

    def assign_pod(self, address: str) -> None:
        """Count the call as in flight at this pod, and no longer at the former one; empty: at none."""
        in_flight = self._invoker.directory.in_flight
        former, self._address = self._address, address
        if former:
            left = in_flight[former] - 1
            if left:
                in_flight[former] = left
            else:
                in_flight.pop(former)  # a Counter's `del` is written in Python
        if address:
            in_flight[address] = in_flight.get(address, 0) + 1

    def record_response(self, status: int, body: bytes | bytearray) -> None:
        """Record a failure where the pod says that the call exceeded a limit: the Skill's condition will show it."""
        if status not in _LIMIT_STATUSES or len(body) > MAX_PROBLEM_BYTES:
            return
        try:
            kind = str(json.loads(body)["type"]).removeprefix(TYPE_PREFIX)
        except (ValueError, LookupError, TypeError, RecursionError):
            return
        if kind in EXCEEDED_LIMITS:
            self._invoker.usage.record_failure(self.entry.meta, self.request_id, cast("ExceededLimit", kind))

    def on_timeout(self) -> None:
        """Record that the pod did not respond in time, not even with a problem."""
        self._invoker.usage.record_failure(self.entry.meta, self.request_id, "timeout")

    def close(self) -> None:
        """End the call and free its place in all limits."""
        address = self._address
        self.assign_pod("")
        self._invoker.release(self, address)
        self._limit.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Invoker:
    """Invoker does what HTTP and MCP have in common for a call."""

    def __init__(
        self, directory: Directory, pool: ConnectionPool, activator: Activator, limits: Limiter | None = None
    ) -> None:
        self.directory = directory
        self.usage = activator.usage
        self._pool = pool
        self._queue = PlaceQueue(directory, activator)
        self._limits = limits or NoLimits()
        self._calls = set[AdmittedCall]()
        self._stopping = False
        self.places = FairShares(MAX_CALLS)
        self.bodies = FairShares(MAX_HELD_BYTES)

    def lookup(self, key: SkillKey) -> SkillEntry:
        """Return the Skill. Raises Problem where there is none."""
        entry = self.directory.entries.get(key)
        if entry is not None:
            return entry
        if not self.directory.ready:
            raise gateway_starting()
        namespace, name = (printable(part, 63) for part in key)
        detail = f"there is no Skill {name} in namespace {namespace}; see GET /v1/skills"
        raise Problem("skill-not-found", detail)

    def admit(self, entry: SkillEntry, caller: Caller, request_id: str) -> AdmittedCall:
        """Return a call that is within all limits. Raises Problem.

        Each call may hold a body in memory: a prompt rejection is better than a gateway that is killed.
        """
        if self._stopping:
            raise gateway_stopping(sent=False)
        if not self.places.take(caller.namespace, caller.name):
            detail = f"{self.places.held} calls are in flight, and yours hold their share of the places; call again"
            raise Problem("overloaded", detail, 1)
        try:
            limit = self._limits.admit(caller, entry)
        except Problem:
            self.places.give_back(caller.namespace, caller.name)
            raise
        limit.__enter__()
        self.usage.start_call(entry.meta.uid)
        metrics.set_calls_in_flight(self.places.held)
        call = AdmittedCall(self, entry, caller, request_id, limit)
        self._calls.add(call)
        return call

    def release(self, call: AdmittedCall, address: str) -> None:
        """Count a call as ended, and give its place at this pod to the next one."""
        self._calls.discard(call)
        self._queue.on_call_end(call.entry.meta.uid, address)
        self.places.give_back(call.caller.namespace, call.caller.name)
        self.usage.end_call(call.entry.meta.uid)
        metrics.set_calls_in_flight(self.places.held)

    def stop_calls(self) -> None:
        """End every call with a problem, before the gateway ends: a connection that is cut says nothing to a caller.

        Those that are authorized only now are told when they would be admitted.
        """
        self._stopping = True
        for call in tuple(self._calls):
            if call.on_stop is not None:
                call.on_stop()

    def validate(self, entry: SkillEntry, body: bytes) -> None:
        """Validate the body before a pod gets it. Raises Problem where it does not fit the Skill's input."""
        validate_input(self.directory.input_schema(entry), body, entry.meta)

    def take_idle_connection(self, call: AdmittedCall) -> PodConnection | None:
        """Return an idle connection to the best pod of the Skill, where that has a place for the call, or None."""
        meta = call.entry.meta
        for backend in self.directory.backends(meta):
            if not self._queue.has_place(meta.uid, backend.address):
                return None
            connection = self._pool.take(backend.address)
            if connection is not None:
                call.assign_pod(backend.address)
            return connection
        return None

    async def connect(self, call: AdmittedCall, on_wait: Callable[[], Awaitable[None]] | None = None) -> PodConnection:
        """Return a connection to a pod that has a place for the call; a sleeping Skill is woken. Raises Problem.

        `on_wait` is awaited once where the call has to wait.
        """
        entry = call.entry
        if entry.skill is None:
            raise skill_not_ready(entry, "its object cannot be read: it is newer than this gateway")
        failed_addresses = set[str]()
        for backend in self.directory.backends(entry.meta):
            if backend.ready and self._queue.has_place(entry.meta.uid, backend.address):
                call.assign_pod(backend.address)
                if (connection := await self._try_connect(call, backend.address)) is not None:
                    return connection
                failed_addresses.add(backend.address)
        loop = asyncio.get_running_loop()
        start_time = loop.time()
        for _ in range(MAX_CONNECT_ATTEMPTS):
            address, cold = await self._queue.wait(call, on_wait, failed_addresses)
            on_wait = None
            if (connection := await self._try_connect(call, address)) is not None:
                if cold:
                    call.cold_start_seconds = loop.time() - start_time
                return connection
            failed_addresses = {address}
        raise pod_not_accepting()

    async def _try_connect(self, call: AdmittedCall, address: str) -> PodConnection | None:
        """Return a connection to the pod at which the call has a place; None, and no place, where it accepts none."""
        try:
            return self._pool.take(address) or await self._pool.connect(address)
        except OSError as error:  # the pod has got nothing of the call
            log.info("pod %s cannot be reached: %s", address, str(error) or type(error).__name__)
            call.assign_pod("")
            return None

    def on_not_taken(self, call: AdmittedCall, address: str, refusal: NotTakenError | NoPlaceError) -> bool:
        """Learn from the refusal of a pod that did nothing of the call, and return whether the call may be sent again.

        It may until its time for waiting is over where a place is what was wanting. A pod that is not for this call is
        forgotten, and a few others may be tried.
        """
        call.assign_pod("")
        if isinstance(refusal, NoPlaceError):
            self._queue.on_refusal(address)
            return self._queue.may_wait(call)
        log.warning("the pod at %s does not take the calls of the skill", address)
        self.directory.forget_backend(call.entry.meta, address)
        call.refusals += 1
        return call.refusals < MAX_CONNECT_ATTEMPTS

    def usage_report(self) -> str:
        """Return the UsageReport as JSON. The controller asks for it before it scales a Skill to zero."""
        self.usage.retain({entry.meta.uid for entry in self.directory.entries.values()})
        return self.usage.report(self._queue.waiting, self.directory.drain_tokens()).model_dump_json()

    async def invoke(
        self,
        entry: SkillEntry,
        body: bytes,
        *,
        caller: Caller,
        request_id: str,
        timeout_seconds: float = math.inf,
        on_wait: Callable[[], Awaitable[None]] | None = None,
    ) -> InvocationResponse:
        """Call the skill for an authorized caller, and return its whole response. Raises Problem.

        It takes at most `timeout_seconds`, or what the Skill allows. Cancelling it cancels the call.
        """
        if len(body) > MAX_BODY_BYTES:
            raise request_too_large()
        with self.admit(entry, caller, request_id) as call:
            self.validate(entry, body)
            with logs.context(request=request_id):
                try:
                    async with asyncio.timeout(None) as running:
                        call.on_stop = partial(running.reschedule, 0)
                        return await self._send(call, body, timeout_seconds, on_wait)
                except TimeoutError as error:
                    if not running.expired():
                        raise
                    raise gateway_stopping(sent=call.has_pod) from error

    async def _send(
        self,
        call: AdmittedCall,
        body: bytes,
        timeout_seconds: float,
        on_wait: Callable[[], Awaitable[None]] | None,
    ) -> InvocationResponse:
        """Send the call to pods until one takes it, and return the response. Raises Problem."""
        while True:
            connection = self.take_idle_connection(call) or await self.connect(call, on_wait)
            try:
                return await self._exchange(call, connection, body, timeout_seconds)
            except (NotTakenError, NoPlaceError) as refusal:
                if not self.on_not_taken(call, connection.address, refusal):
                    raise

    async def _exchange(
        self,
        call: AdmittedCall,
        connection: PodConnection,
        body: bytes,
        timeout_seconds: float,
    ) -> InvocationResponse:
        """Send the call to one pod and return the response. Raises Problem."""
        entry, caller = call.entry, call.caller
        seconds = min(timeout_seconds, call_timeout_seconds(entry))
        collector = _ResponseCollector(call)
        head = request_head.encode_head(entry.encoded_uid, caller.name, call.request_id, int(seconds * 1000), len(body))
        connection.send(head + body, collector)
        try:
            async with asyncio.timeout(seconds):
                return await collector.response
        except TimeoutError as error:
            call.on_timeout()
            raise call_timeout(entry) from error
        finally:
            if not collector.ended:
                connection.abort()


class _ResponseCollector:
    """_ResponseCollector is a ResponseHandler that keeps the whole response."""

    def __init__(self, call: AdmittedCall) -> None:
        self._call = call
        self.response: asyncio.Future[InvocationResponse] = asyncio.get_running_loop().create_future()
        self.ended = False
        self._head: ResponseHead | None = None
        self._body = bytearray()

    def on_head(self, head: ResponseHead) -> None:
        self._head = head

    def on_data(self, chunk: bytes) -> None:
        self._body += chunk

    def on_end(self) -> None:
        self.ended = True
        if self._head is not None and not self.response.done():
            self._call.record_response(self._head.status, self._body)
            headers = {"Content-Type": self._head.content_type.decode()}
            if self._head.retry_after:
                headers["Retry-After"] = self._head.retry_after.decode()
            if self._call.cold_start_seconds is not None:
                headers["X-Skill-Cold-Start"] = f"{self._call.cold_start_seconds * 1000:.0f}"
            self.response.set_result(InvocationResponse(self._head.status, headers, bytes(self._body)))

    def on_problem(self, problem: Problem) -> None:
        self.ended = True
        if not self.response.done():
            self.response.set_exception(problem)

    def on_writable(self, writable: bool) -> None:
        pass


def call_timeout_seconds(entry: SkillEntry) -> float:
    """Return how long a pod may take, from the moment that it has the call."""
    return (entry.skill.spec.call_timeout_seconds if entry.skill else 0) + MARGIN_SECONDS


def gateway_starting() -> Problem:
    """Return the problem for a gateway that has not listed all Skills yet."""
    return Problem("starting", "the gateway does not know all skills yet; call again", 1)


def gateway_stopping(*, sent: bool) -> Problem:
    """Return the problem for a call that this gateway cannot finish before it ends. `sent` says that a pod has it."""
    if sent:
        return Problem(
            "stopping", "this gateway ends before the skill has answered, which may have done what was asked"
        )
    return Problem("stopping", "this gateway ends before the skill has a pod for the call; call again", 1)


def request_too_large() -> Problem:
    """Return the problem for a body over the limit."""
    return Problem("too-large", f"a call's body is {MAX_BODY_BYTES} bytes at most")


def call_timeout(entry: SkillEntry) -> Problem:
    """Return the problem for a call that the pod did not answer in time."""
    limit = entry.skill.spec.call_timeout_seconds if entry.skill else 0
    detail = f"no answer within {limit} s (spec.callTimeoutSeconds); ask for less, or raise the limit"
    return Problem("timeout", detail)
