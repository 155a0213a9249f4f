"""Calls that wait for a pod of their Skill, or for a place in one: in order, fair by namespace, and bounded.

A pod takes so many calls at once, and no more. Those beyond wait here, and are handed over as places become free.
Other gateways call the same pods, so a pod may refuse a call for want of a place, of which nothing has run then. Such
a pod has as many places for this gateway as it holds calls of it; with calls that it takes, and with time, it is tried
with more (additive increase, as TCP's congestion avoidance).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple, Protocol

from skill_operator import runtime_contract
from skill_operator.api.v1alpha1 import ObjectMeta
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.pods.activator import Activator
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.observability import metrics

CALL_PLACES = runtime_contract.MAX_RUNNING_CALLS + runtime_contract.MAX_QUEUED_CALLS
RETRY_SECONDS = 0.05  # until a pod that refused a call is tried with one more; doubled with each refusal in a row
MAX_RETRY_SECONDS = 1.0
FORGET_SECONDS = 60.0  # after its last refusal nothing is known of a pod any more
RECHECK_SECONDS = 0.5


class WaitingCall(Protocol):
    """WaitingCall is what the queue needs of a call."""

    entry: SkillEntry
    caller: Caller
    request_id: str
    wait_deadline: float | None

    def assign_pod(self, address: str) -> None:
        """Count the call as in flight at this pod."""


class Assignment(NamedTuple):
    """Assignment is a place that a call has got: at which pod, and whether the call waited until that pod was up."""

    address: str
    cold: bool


class _Waiter:
    """_Waiter is one call in a queue."""

    __slots__ = ("call", "future", "since")

    def __init__(self, call: WaitingCall, since: float) -> None:
        self.call = call
        self.since = since
        self.future: asyncio.Future[Assignment] = asyncio.get_running_loop().create_future()


class _SkillQueue:
    """_SkillQueue holds the calls of one Skill that wait. Namespaces take turns, and each is served in order."""

    def __init__(self, meta: ObjectMeta, request_id: str) -> None:
        self.meta = meta
        self.request_id = request_id
        self.task: asyncio.Task[None] | None = None
        self.accepting: set[str] = set()  # addresses that took a connection, though their pods may not be Ready yet
        self.failed: set[str] = set()  # addresses that took none, though their pods may be Ready
        self.pod_up_at = -math.inf
        self.size = 0
        self._namespaces: dict[str, deque[_Waiter]] = {}  # the next one first; none is empty

    def add(self, waiter: _Waiter, first: bool) -> None:
        """Add a call, at the front of its namespace where it has waited before."""
        waiters = self._namespaces.setdefault(waiter.call.caller.namespace, deque())
        if first:
            waiters.append(waiter)
        else:
            waiters.appendleft(waiter)
        self.size += 1

    def pop(self) -> _Waiter:
        """Remove and return the next call, of the namespace whose turn it is."""
        namespace, waiters = next(iter(self._namespaces.items()))
        del self._namespaces[namespace]
        waiter = waiters.popleft()
        if waiters:
            self._namespaces[namespace] = waiters  # behind all others
        self.size -= 1
        return waiter

    def pop_youngest_for(self, namespace: str) -> _Waiter | None:
        """Remove the youngest call of the namespace with the most, where that has two more than this one; else None."""
        largest = max(self._namespaces, key=lambda name: len(self._namespaces[name]), default=namespace)
        if len(self._namespaces.get(largest, ())) < len(self._namespaces.get(namespace, ())) + 2:
            return None
        self.size -= 1
        return self._namespaces[largest].pop()

    def discard(self, waiter: _Waiter) -> None:
        """Remove a call, if it still waits."""
        namespace = waiter.call.caller.namespace
        waiters = self._namespaces.get(namespace)
        if waiters is None or waiter not in waiters:
            return
        waiters.remove(waiter)
        self.size -= 1
        if not waiters:
            del self._namespaces[namespace]


class _PodLimit:
    """_PodLimit is the number of calls of this gateway that a pod takes, of a pod that has refused one."""

    __slots__ = ("calls", "pause_seconds", "retry_at")

    def __init__(self) -> None:
        self.calls = 0.0
        self.pause_seconds = 0.0
        self.retry_at = 0.0


class PlaceQueue:
    """PlaceQueue knows which pods have a place for a call, and holds the calls for which none has."""

    def __init__(self, directory: Directory, activator: Activator) -> None:
        self._directory = directory
        self._in_flight = directory.in_flight
        self._activator = activator
        self._settings = activator.settings
        self._queues: dict[str, _SkillQueue] = {}  # by uid of the Skill; none is empty
        self._limits: dict[str, _PodLimit] = {}  # by address
        self.waiting: Counter[str] = Counter()  # calls that wait, by uid of the Skill

    def has_place(self, uid: str, address: str) -> bool:
        """Tell whether a call may go to this pod now: it has a place, and no other call of the Skill waits for one."""
        if not self._queues and not self._limits:  # most calls come by here
            return self._in_flight.get(address, 0) < CALL_PLACES
        return uid not in self._queues and self._is_free(address)

    def _is_free(self, address: str) -> bool:
        limit = self._limits.get(address)
        calls = self._in_flight.get(address, 0)
        return calls < CALL_PLACES if limit is None else calls + 1 <= limit.calls

    def on_call_end(self, uid: str, address: str) -> None:
        """Hand over the place of a call that has ended."""
        if not self._queues and not self._limits:
            return
        limit = self._limits.get(address)
        if limit is not None:
            limit.calls += 1 / max(1.0, limit.calls)
            limit.pause_seconds = 0.0
            if limit.calls >= CALL_PLACES:
                del self._limits[address]
        queue = self._queues.get(uid)
        if queue is not None:
            self._hand_over(queue)

    def on_refusal(self, address: str) -> None:
        """Learn that a pod has no place for one more call than it holds of this gateway."""
        now = asyncio.get_running_loop().time()
        self._limits = {pod: limit for pod, limit in self._limits.items() if now - limit.retry_at < FORGET_SECONDS}
        limit = self._limits.setdefault(address, _PodLimit())
        limit.calls = self._in_flight.get(address, 0)
        limit.pause_seconds = min(MAX_RETRY_SECONDS, 2 * limit.pause_seconds or RETRY_SECONDS)
        limit.retry_at = now + limit.pause_seconds

    def may_wait(self, call: WaitingCall) -> bool:
        """Tell whether there is time left for a call to wait; that begins when this is first asked."""
        now = asyncio.get_running_loop().time()
        if call.wait_deadline is None:
            call.wait_deadline = now + self._settings.seconds
        return now < call.wait_deadline

    async def wait(
        self,
        call: WaitingCall,
        on_wait: Callable[[], Awaitable[None]] | None = None,
        failed_addresses: Collection[str] = (),
    ) -> Assignment:
        """Return a place for the call, which is counted there already; a sleeping Skill is woken. Raises Problem.

        `on_wait` is awaited once, before anything that takes time. `failed_addresses` took no connection: their
        pods are not called before they accept one.
        """
        meta = call.entry.meta
        first = call.wait_deadline is None
        queue = self._queues.get(meta.uid)
        if queue is None:
            queue = self._queues[meta.uid] = _SkillQueue(meta, call.request_id)
        elif first and queue.size >= self._settings.queue:
            self._make_room(queue, call.caller.namespace)
        queue.accepting.difference_update(failed_addresses)
        queue.failed.update(failed_addresses)
        self.may_wait(call)
        waiter = _Waiter(call, asyncio.get_running_loop().time())
        queue.add(waiter, first)
        self._count(meta.uid, 1)
        try:
            if on_wait is not None:
                await on_wait()
            if queue.task is None:
                queue.task = asyncio.create_task(self._serve(queue))
            async with asyncio.timeout_at(call.wait_deadline):
                return await waiter.future
        except TimeoutError as error:
            raise self._timeout_problem(queue) from error
        finally:
            self._count(meta.uid, -1)
            queue.discard(waiter)
            self._drop_if_empty(queue)

    def _make_room(self, queue: _SkillQueue, namespace: str) -> None:
        """Turn away a call of the namespace that has most of them here. Raises Problem where that is this one."""
        detail = f"{queue.size} calls wait for it, as many as may (gateway.wake.queue of the chart); call again"
        awake = self._callable_addresses(queue)
        problem = Problem("overloaded", detail, 1) if awake else Problem("wake-queue-full", detail, 1)
        displaced = queue.pop_youngest_for(namespace)
        if displaced is None:
            raise problem
        if not displaced.future.done():
            displaced.future.set_exception(problem)

    def _count(self, uid: str, change: int) -> None:
        self.waiting[uid] += change
        if not self.waiting[uid]:
            del self.waiting[uid]
        metrics.set_calls_waiting(self.waiting.total())

    def _drop_if_empty(self, queue: _SkillQueue) -> None:
        if queue.size or self._queues.get(queue.meta.uid) is not queue:
            return
        del self._queues[queue.meta.uid]
        if queue.task is not None and queue.task is not asyncio.current_task():
            queue.task.cancel()

    async def _serve(self, queue: _SkillQueue) -> None:
        """Hand places to the calls of one Skill until none waits, and wake the Skill where it has no pod to call."""
        try:
            while queue.size:
                changed = self._directory.next_change(queue.meta)
                addresses = self._hand_over(queue)
                if queue.size and not addresses:
                    address = await self._activator.activate(queue.meta, queue.request_id)
                    queue.accepting.add(address)
                    queue.failed.discard(address)
                    queue.pod_up_at = asyncio.get_running_loop().time()
                elif queue.size:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(self._next_retry(addresses)):
                            await changed.wait()
                    self._raise_limits(addresses)
        except Exception as error:  # noqa: BLE001 - whatever it is, each of the calls gets it
            while queue.size:
                waiter = queue.pop()
                if not waiter.future.done():
                    waiter.future.set_exception(error)
            self._drop_if_empty(queue)

    def _hand_over(self, queue: _SkillQueue) -> list[str]:
        """Give free places to calls that wait, and return the addresses of all pods that can be called."""
        addresses = self._callable_addresses(queue)
        while queue.size and (free := [address for address in addresses if self._is_free(address)]):
            waiter = queue.pop()
            if not waiter.future.done():
                address = min(free, key=lambda free_address: self._in_flight.get(free_address, 0))
                waiter.call.assign_pod(address)
                waiter.future.set_result(Assignment(address, waiter.since <= queue.pod_up_at))
        self._drop_if_empty(queue)
        return addresses

    def _callable_addresses(self, queue: _SkillQueue) -> list[str]:
        return [
            backend.address
            for backend in self._directory.backends(queue.meta)
            if backend.address in queue.accepting or (backend.ready and backend.address not in queue.failed)
        ]

    def _next_retry(self, addresses: list[str]) -> float:
        """Return when one of these pods may be tried with one more call, by the loop's clock, or a bit later."""
        now = asyncio.get_running_loop().time()
        retries = (self._limits[address].retry_at for address in addresses if address in self._limits)
        return min(now + RECHECK_SECONDS, max(now + RETRY_SECONDS / 2, min(retries, default=math.inf)))

    def _raise_limits(self, addresses: list[str]) -> None:
        """Let each of these pods be tried with one more call than it holds, where its pause is over."""
        now = asyncio.get_running_loop().time()
        for address in addresses:
            limit = self._limits.get(address)
            if limit is not None and limit.retry_at <= now:
                limit.calls = max(limit.calls, self._in_flight.get(address, 0) + 1)
                limit.retry_at = now + max(RETRY_SECONDS, limit.pause_seconds)

    def _timeout_problem(self, queue: _SkillQueue) -> Problem:
        seconds = self._settings.seconds
        if self._callable_addresses(queue):
            return Problem("overloaded", f"no pod of it had a place for the call within {seconds:g} s; call again", 1)
        return self._activator.timeout_problem(queue.meta)
