"""Calls under way: a bounded number, fair among namespaces, one at a time for each Skill."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from skill_operator.naming import SkillKey

T = TypeVar("T")
Work = Callable[[], Awaitable[T]]


@dataclass
class _Call(Generic[T]):
    name: str
    work: Work[T]
    task: asyncio.Task[T] | None = None  # None while it waits for its turn


class RequestPool(Generic[T]):
    """A result stays until its Skill is asked about something else, or `keep` says that it was used: whoever takes it
    may fail to store it, and comes again. `done` is told of each."""

    def __init__(self, size: int, done: Callable[[SkillKey], None]) -> None:
        self._free = size
        self._done = done
        self._waiting: dict[str, deque[SkillKey]] = {}
        self._calls: dict[SkillKey, _Call[T]] = {}

    def submit(self, key: SkillKey, name: str, work: Work[T]) -> None:
        """Make the call, unless it was submitted before: a second one would be paid for twice. Ends any other call of
        the key."""
        if self.knows(key, name):
            return
        self.keep(key, "")
        self._calls[key] = _Call(name, work)
        self._waiting.setdefault(key[0], deque()).append(key)
        self._start()

    def knows(self, key: SkillKey, name: str) -> bool:
        """Whether that call waits, runs or has ended."""
        call = self._calls.get(key)
        return call is not None and call.name == name

    def result(self, key: SkillKey) -> asyncio.Task[T] | None:
        """The call of the key, once it has ended."""
        call = self._calls.get(key)
        return call.task if call is not None and call.task is not None and call.task.done() else None

    def keep(self, key: SkillKey, name: str) -> None:
        """Only this call of the key is of use. Any other is cancelled; its slot is free when it has ended."""
        if key not in self._calls or self.knows(key, name):
            return
        call = self._calls.pop(key)
        if call.task is not None:
            call.task.cancel()
        else:
            self._waiting[key[0]].remove(key)

    def _start(self) -> None:
        while self._free and self._waiting:
            namespace = next(iter(self._waiting))
            queue = self._waiting.pop(namespace)
            if not queue:
                continue
            key = queue.popleft()
            if queue:
                self._waiting[namespace] = queue  # to the end of the line
            self._free -= 1
            call = self._calls[key]
            call.task = asyncio.ensure_future(call.work())
            call.task.add_done_callback(lambda ended, key=key: self._ended(key, ended))  # type: ignore[misc]

    def _ended(self, key: SkillKey, task: asyncio.Task[T]) -> None:
        self._free += 1
        self._start()
        if not task.cancelled():
            task.exception()  # marks it as seen, should nobody take it
        call = self._calls.get(key)
        if call is not None and call.task is task:
            self._done(key)
