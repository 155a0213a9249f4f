"""How many calls at once, and how many a minute: of one caller, and of one Skill. Counted in this replica alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.settings import CallLimitSettings, GatewayLimitSettings

BURST_SECONDS = 10.0  # so much of a minute's calls may come at once
MOST_IDLE = 10_000


class _Use:
    """What one caller, or all callers of one Skill, use. `paid` is the moment until which past calls fill the rate."""

    __slots__ = ("in_flight", "paid")

    def __init__(self) -> None:
        self.in_flight = 0
        self.paid = 0.0

    def check(self, limits: CallLimitSettings, whose: str, now: float) -> None:
        """Raises Problem."""
        if limits.concurrent and self.in_flight >= limits.concurrent:
            detail = f"{limits.concurrent} calls at once are allowed, and as many of {whose} are in flight; call again"
            raise Problem("concurrency-limit", detail, 1)
        if limits.per_minute:
            step = 60 / limits.per_minute
            # One call is always there to be had, however few a minute has.
            wait = max(self.paid, now) - now - max(BURST_SECONDS, step) + step
            if wait > 1e-6:
                seconds = math.ceil(wait)
                detail = f"{limits.per_minute} calls a minute are allowed, and {whose} are more; wait {seconds} s"
                raise Problem("rate-limited", detail, seconds)

    def take(self, limits: CallLimitSettings, now: float) -> None:
        self.in_flight += 1
        if limits.per_minute:
            self.paid = max(self.paid, now) + 60 / limits.per_minute


class _Admission:
    """A call that was let in. Not a generator: this is on the way of every call."""

    __slots__ = ("_uses",)

    def __init__(self, uses: list[tuple[_Use, CallLimitSettings]]) -> None:
        self._uses = uses

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        for use, _ in self._uses:
            use.in_flight -= 1


class CallLimiter:
    """The limits of the chart, and those that a Skill sets for itself."""

    def __init__(self, limits: GatewayLimitSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._caller = limits.caller
        self._skill = limits.skill
        self._clock = clock
        self._callers: dict[str, _Use] = {}
        self._skills: dict[str, _Use] = {}

    def admit(self, caller: Caller, entry: SkillEntry) -> AbstractContextManager[None]:
        """To be left when the call is over. Raises Problem (429). A call that is refused uses nothing up."""
        now = self._clock()
        uses = []
        if self._caller.per_minute or self._caller.concurrent:
            theirs = self._callers.get(caller.name) or _new(self._callers, caller.name, now)
            theirs.check(self._caller, "yours", now)
            uses.append((theirs, self._caller))
        limits = self._limits(entry)
        if limits.per_minute or limits.concurrent:
            its = self._skills.get(entry.meta.uid) or _new(self._skills, entry.meta.uid, now)
            its.check(limits, "those of this skill", now)
            uses.append((its, limits))
        for use, limit in uses:
            use.take(limit, now)
        return _Admission(uses)

    def _limits(self, entry: SkillEntry) -> CallLimitSettings:
        """What the Skill says, and where it says nothing the chart."""
        own = entry.skill.spec.call_limits if entry.skill else None
        if own is None or not (own.per_minute or own.concurrent):
            return self._skill
        return CallLimitSettings(
            per_minute=own.per_minute or self._skill.per_minute, concurrent=own.concurrent or self._skill.concurrent
        )


def _new(uses: dict[str, _Use], key: str, now: float) -> _Use:
    if len(uses) >= MOST_IDLE:
        for idle in [k for k, use in uses.items() if not use.in_flight and use.paid <= now]:
            del uses[idle]
    return uses.setdefault(key, _Use())
