"""The Skills of one namespace share a bounded part of the gateway's time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from skill_operator.gateway.pods.entry_budget import MAX_NAMESPACE_UNITS

UNITS_PER_SECOND: Final = 8_192
"""Both schemas of one Skill, as large as may be: to look at them takes 2 % of a second."""
BURST_UNITS: Final = MAX_NAMESPACE_UNITS
"""All that is kept of a namespace may be new at once, as after the gateway's start."""
MAX_IDLE_NAMESPACES: Final = 4_096


class WorkAllowance:
    """WorkAllowance counts, by namespace, the units of work that its Skills caused: BURST_UNITS, and so many a second.

    What is new is paid for once it is done, so that who asks whether it may be done needs to measure nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paid_at: dict[str, float] = {}  # by namespace: when all of its work is paid for

    def has_left(self, namespace: str) -> bool:
        """Return whether a namespace may cause more work now."""
        return self._paid_at.get(namespace, 0.0) - self._clock() < BURST_UNITS / UNITS_PER_SECOND

    def pay(self, namespace: str, units: int) -> None:
        """Count work that was done."""
        now = self._clock()
        self._paid_at[namespace] = max(self._paid_at.get(namespace, 0.0), now) + units / UNITS_PER_SECOND
        if len(self._paid_at) > MAX_IDLE_NAMESPACES:
            self._paid_at = {name: moment for name, moment in self._paid_at.items() if moment > now}
