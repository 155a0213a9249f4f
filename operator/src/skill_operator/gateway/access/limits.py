"""Limits of concurrency and rate, of one caller and of one Skill. Each replica of the gateway counts for itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.settings import CallLimitSettings, GatewayLimitSettings

BURST_SECONDS = 10.0  # this much of a minute's calls may come at once
MAX_IDLE_ENTRIES = 10_000


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
        if limits.per_minute:
            self.filled_until = max(self.filled_until, now) + 60 / limits.per_minute


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
