"""Cache one value of the cluster for a short time, so that many reconciles cost one list."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class TimedCache(Generic[T]):
    """TimedCache loads a value when it is needed, and keeps it for `seconds`.

    A load that raises keeps nothing, so that the next call loads again.
    """

    def __init__(
        self, load: Callable[[], Awaitable[T]], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load
        self._seconds = seconds
        self._clock = clock
        self._value: T | None = None
        self._expires = float("-inf")

    async def get(self) -> T:
        """Return the value; raise what loading it raises."""
        if self._clock() >= self._expires:
            self._value = await self._load()
            self._expires = self._clock() + self._seconds
        return cast("T", self._value)
