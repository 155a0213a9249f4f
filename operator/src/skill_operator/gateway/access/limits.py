"""Limits of concurrency and rate, of callers and of Skills. Each replica of the gateway counts for itself.

A limit says how much one caller, Skill or address may have. Fair shares say how much of a pool that all of them use.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.settings import CallLimitSettings, ConnectionLimitSettings, GatewayLimitSettings

BURST_SECONDS = 10.0  # this much of a minute's calls may come at once
MAX_IDLE_ENTRIES = 10_000


class FairShares:
    """FairShares divides a pool by namespace, then by caller, so that no few of them can fill it.

    A namespace may take more while it holds less than twice of what is free: alone it gets two thirds of the pool. A
    caller may take more while it holds less than its namespace may still take: alone it gets half of the pool. The
    more of the pool is in use, the smaller are all shares, and whoever holds nothing gets what is left.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self._namespaces: dict[str, int] = {}
        self._callers: dict[str, int] = {}

    def take(self, namespace: str, caller: str, amount: int = 1) -> bool:
        """Take so much of the pool, if the shares allow it; it must be given back."""
        free = self.total - self.held
        of_namespace, of_caller = self._namespaces.get(namespace, 0), self._callers.get(caller, 0)
        room = 2 * free - of_namespace
        if amount > free or of_caller >= room:
            return False
        self.held += amount
        self._namespaces[namespace] = of_namespace + amount
        self._callers[caller] = of_caller + amount
        return True

    def give_back(self, namespace: str, caller: str, amount: int = 1) -> None:
        """Give back what was taken."""
        self.held -= amount
        for holders, key in ((self._namespaces, namespace), (self._callers, caller)):
            left = holders[key] - amount
            if left:
                holders[key] = left
            else:
                del holders[key]

    def held_by(self, caller: str) -> int:
        """Return how much of the pool this caller holds."""
        return self._callers.get(caller, 0)

    @contextmanager
    def hold(self, namespace: str, caller: str, amount: int = 1) -> Iterator[bool]:
        """Hold so much of the pool while the context is open; it yields whether the shares allow it."""
        taken = self.take(namespace, caller, amount)
        try:
            yield taken
        finally:
            if taken:
                self.give_back(namespace, caller, amount)


class ConnectionLimiter:
    """ConnectionLimiter bounds the open connections, in all and from one address."""

    def __init__(self, limits: ConnectionLimitSettings) -> None:
        self._limits = limits
        self._open = 0
        self._addresses: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """Count a connection, unless there are too many."""
        if self._open >= self._limits.total or self._addresses[address] >= self._limits.per_address:
            return False
        self._open += 1
        self._addresses[address] += 1
        return True

    def give_back(self, address: str) -> None:
        """Count a connection as closed."""
        self._open -= 1
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]


class _LimitState:
    """_LimitState counts the calls of one caller, or of one Skill; past calls fill the rate until `filled_until`."""

    __slots__ = ("filled_until", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self.filled_until = 0.0

    def check(self, limits: CallLimitSettings, whose: str, now: float) -> None:
        """Raise Problem where one more call would exceed the limits."""
        if limits.concurrent and self.in_flight >= limits.concurrent:
            detail = (
                f"the limit is {limits.concurrent} concurrent calls, and as many of {whose} are in flight; call again"
            )
            raise Problem("concurrency-limit", detail, 1)
        if limits.per_minute:
            step = 60 / limits.per_minute
            # One call is always there to be had, however few a minute has.
            wait = max(self.filled_until, now) - now - max(BURST_SECONDS, step) + step
            if wait > 1e-6:
                seconds = math.ceil(wait)
                detail = f"the limit is {limits.per_minute} calls a minute, and {whose} are more; wait {seconds} s"
                raise Problem("rate-limited", detail, seconds)

    def add_call(self, limits: CallLimitSettings, now: float) -> None:
        """Count one more call."""
        self.in_flight += 1
        self.fill(limits, now)

    def fill(self, limits: CallLimitSettings, now: float) -> None:
        """Count one more call for the rate alone."""
        if limits.per_minute:
            self.filled_until = max(self.filled_until, now) + 60 / limits.per_minute


class RateLimiter:
    """RateLimiter bounds how often something happens, by a key such as the address of whoever causes it."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = CallLimitSettings(per_minute=per_minute)
        self._clock = clock
        self._states: dict[str, _LimitState] = {}

    def check(self, key: str, whose: str) -> None:
        """Raise Problem (429) where it happened too often."""
        if (state := self._states.get(key)) is not None:
            state.check(self._limits, whose, self._clock())

    def record(self, key: str) -> None:
        """Count that it happened."""
        now = self._clock()
        (self._states.get(key) or _add_state(self._states, key, now)).fill(self._limits, now)


class _LimitedCall:
    """_LimitedCall holds a call's place in the limits. It is no generator: it is on the way of every call."""

    __slots__ = ("_states",)

    def __init__(self, states: list[tuple[_LimitState, CallLimitSettings]]) -> None:
        self._states = states

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        for state, _ in self._states:
            state.in_flight -= 1


class CallLimiter:
    """CallLimiter applies the limits of the chart, and those that a Skill sets for itself."""

    def __init__(self, limits: GatewayLimitSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._caller = limits.caller
        self._skill = limits.skill
        self._clock = clock
        self._callers: dict[str, _LimitState] = {}
        self._skills: dict[str, _LimitState] = {}

    def admit(self, caller: Caller, entry: SkillEntry) -> AbstractContextManager[None]:
        """Return a context that is open while the call is in flight.

        Raises Problem (429) where a limit is reached; such a call uses nothing up.
        """
        now = self._clock()
        states = []
        if self._caller.per_minute or self._caller.concurrent:
            caller_state = self._callers.get(caller.name) or _add_state(self._callers, caller.name, now)
            caller_state.check(self._caller, "yours", now)
            states.append((caller_state, self._caller))
        limits = self._limits(entry)
        if limits.per_minute or limits.concurrent:
            skill_state = self._skills.get(entry.meta.uid) or _add_state(self._skills, entry.meta.uid, now)
            skill_state.check(limits, "those of this skill", now)
            states.append((skill_state, limits))
        for state, limit in states:
            state.add_call(limit, now)
        return _LimitedCall(states)

    def _limits(self, entry: SkillEntry) -> CallLimitSettings:
        """Return the Skill's own limits, and those of the chart where it sets none."""
        own = entry.skill.spec.call_limits if entry.skill else None
        if own is None or not (own.per_minute or own.concurrent):
            return self._skill
        return CallLimitSettings(
            per_minute=own.per_minute or self._skill.per_minute, concurrent=own.concurrent or self._skill.concurrent
        )


def _add_state(states: dict[str, _LimitState], key: str, now: float) -> _LimitState:
    if len(states) >= MAX_IDLE_ENTRIES:
        for idle in [k for k, state in states.items() if not state.in_flight and state.filled_until <= now]:
            del states[idle]
    return states.setdefault(key, _LimitState())
