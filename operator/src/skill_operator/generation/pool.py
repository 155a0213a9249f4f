"""Calls under way: a bounded number, fair among namespaces, none twice for the same Skill."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Key = tuple[str, str]  # namespace, name


class Pool(Generic[T]):
    """Results wait here until they are taken; `done` is told of each."""

    def __init__(self, size: int, done: Callable[[Key], None]) -> None:
        self._free = size
        self._done = done
        self._waiting: dict[str, deque[tuple[Key, Callable[[], Awaitable[T]]]]] = {}
        self._running: dict[Key, asyncio.Task[T]] = {}
        self._results: dict[Key, asyncio.Task[T]] = {}

    def submit(self, key: Key, work: Callable[[], Awaitable[T]]) -> None:
        """Does nothing for a key that is busy: a second call for one Skill would be paid for twice."""
        if self.busy(key):
            return
        self._waiting.setdefault(key[0], deque()).append((key, work))
        self._start()

    def busy(self, key: Key) -> bool:
        """Whether its call waits, runs, or has a result that nobody took."""
        queued = any(k == key for k, _ in self._waiting.get(key[0], ()))
        return queued or key in self._running or key in self._results

    def take(self, key: Key) -> asyncio.Task[T] | None:
        """The finished call, once."""
        return self._results.pop(key, None)

    def cancel(self, key: Key) -> None:
        """The key is free at once. Its slot is, when the call has ended."""
        self._results.pop(key, None)
        if key[0] in self._waiting:
            self._waiting[key[0]] = deque(item for item in self._waiting[key[0]] if item[0] != key)
        if (task := self._running.pop(key, None)) is not None:
            task.cancel()

    def _start(self) -> None:
        while self._free and self._waiting:
            namespace = next(iter(self._waiting))
            queue = self._waiting.pop(namespace)
            if not queue:
                continue
            key, work = queue.popleft()
            if queue:
                self._waiting[namespace] = queue  # to the end of the line
            self._free -= 1
            task = asyncio.ensure_future(work())
            self._running[key] = task
            task.add_done_callback(lambda ended, key=key: self._ended(key, ended))  # type: ignore[misc]

    def _ended(self, key: Key, task: asyncio.Task[T]) -> None:
        self._free += 1
        self._start()
        wanted = self._running.get(key) is task
        if wanted:
            del self._running[key]
        if not task.cancelled():
            task.exception()  # marks it as seen, should nobody take it
            if wanted:
                self._results[key] = task
        if wanted:
            self._done(key)
