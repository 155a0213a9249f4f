"""The request pool runs a bounded number of calls: fair among namespaces, and one at a time for each Skill."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from skill_operator.naming import SkillKey

T = TypeVar("T")
CallFunc = Callable[[], Awaitable[T]]


@dataclass
class _PooledCall(Generic[T]):
    call_id: str
    function: CallFunc[T]
    task: asyncio.Task[T] | None = None  # None while the call waits for a slot


class RequestPool(Generic[T]):
    """RequestPool runs calls in the background and keeps their results.

    A result stays until the call is cancelled or another call of its Skill is submitted: a reconcile that takes it may
    fail to store it, and takes it again. `on_finished` is called once for each finished call.
    """

    def __init__(self, size: int, on_finished: Callable[[SkillKey], None]) -> None:
        self._free_slots = size
        self._on_finished = on_finished
        self._waiting: dict[str, deque[SkillKey]] = {}
        self._calls: dict[SkillKey, _PooledCall[T]] = {}

    def submit(self, key: SkillKey, call_id: str, function: CallFunc[T]) -> None:
        """Run the call, unless it was submitted before: a second one would be paid for twice.

        Cancels any other call of the key.
        """
        if self.contains(key, call_id):
            return
        self.cancel(key)
        self._calls[key] = _PooledCall(call_id, function)
        self._waiting.setdefault(key[0], deque()).append(key)
        self._start_waiting()

    def contains(self, key: SkillKey, call_id: str) -> bool:
        """Return whether that call waits, runs or has finished."""
        call = self._calls.get(key)
        return call is not None and call.call_id == call_id

    def finished_task(self, key: SkillKey) -> asyncio.Task[T] | None:
        """Return the task of the key's call once it has finished, else None."""
        call = self._calls.get(key)
        return call.task if call is not None and call.task is not None and call.task.done() else None

    def cancel(self, key: SkillKey, *, unless: str = "") -> str:
        """Cancel the key's call, unless it has the id `unless`, and return its id; empty where none had yet to end.

        A running call frees its slot when it has ended.
        """
        if key not in self._calls or self.contains(key, unless):
            return ""
        call = self._calls.pop(key)
        if call.task is None:
            self._waiting[key[0]].remove(key)
            return call.call_id
        return call.call_id if call.task.cancel() else ""

    def _start_waiting(self) -> None:
        """Start waiting calls in the free slots, one namespace after another."""
        while self._free_slots and self._waiting:
            namespace = next(iter(self._waiting))
            queue = self._waiting.pop(namespace)
            if not queue:
                continue
            key = queue.popleft()
            if queue:
                self._waiting[namespace] = queue  # behind all other namespaces
            self._free_slots -= 1
            call = self._calls[key]
            call.task = asyncio.ensure_future(call.function())
            call.task.add_done_callback(lambda task, key=key: self._on_task_done(key, task))  # type: ignore[misc]

    def _on_task_done(self, key: SkillKey, task: asyncio.Task[T]) -> None:
        self._free_slots += 1
        self._start_waiting()
        if not task.cancelled():
            task.exception()  # asyncio logs no error for a task whose exception was retrieved
        call = self._calls.get(key)
        if call is not None and call.task is task:
            self._on_finished(key)
