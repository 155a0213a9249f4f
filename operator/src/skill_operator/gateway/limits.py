"""How many calls at once, and how many a minute: of one caller, and of one Skill. Counted in this replica alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from skill_operator.gateway.callers import Caller
from skill_operator.gateway.directory import Entry
from skill_operator.gateway.problems import Problem
from skill_operator.settings import CallLimits, GatewayLimits

BURST_SECONDS = 10.0  # so much of a minute's calls may come at once
MOST_IDLE = 10_000


class _Use:
    """What one caller, or all callers of one Skill, use. `paid` is the moment until which past calls fill the rate."""

    __slots__ = ("in_flight", "paid")

    def __init__(self) -> None:
        self.in_flight = 0
        self.paid = 0.0


class _Claim(NamedTuple):
    use: _Use
    limits: CallLimits
    whose: str  # for people


class Limits:
    """The limits of the chart, and those that a Skill sets for itself."""

    def __init__(self, limits: GatewayLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._callers: dict[str, _Use] = {}
        self._skills: dict[str, _Use] = {}

    @contextmanager
    def admit(self, caller: Caller, entry: Entry) -> Iterator[None]:
        """Open while the call is in flight. Raises Problem (429). A call that is refused uses nothing up."""
        now = self._clock()
        claims = [
            _Claim(self._use(self._callers, caller.name, now), self._limits.caller, "yours"),
            _Claim(self._use(self._skills, entry.meta.uid, now), self._of(entry), "those of this skill"),
        ]
        for claim in claims:
            _check(claim, now)
        for claim in claims:
            claim.use.in_flight += 1
            if claim.limits.perMinute:
                claim.use.paid = max(claim.use.paid, now) + 60 / claim.limits.perMinute
        try:
            yield
        finally:
            for claim in claims:
                claim.use.in_flight -= 1

    def _of(self, entry: Entry) -> CallLimits:
        """What the Skill says, and where it says nothing the chart."""
        default = self._limits.skill
        if entry.skill is None:
            return default
        own = entry.skill.spec.call_limits
        return CallLimits(
            perMinute=own.per_minute or default.perMinute, concurrent=own.concurrent or default.concurrent
        )

    def _use(self, uses: dict[str, _Use], key: str, now: float) -> _Use:
        found = uses.get(key)
        if found is None:
            if len(uses) >= MOST_IDLE:
                for idle in [k for k, use in uses.items() if not use.in_flight and use.paid <= now]:
                    del uses[idle]
            found = uses[key] = _Use()
        return found


def _check(claim: _Claim, now: float) -> None:
    use, limits, whose = claim
    if limits.concurrent and use.in_flight >= limits.concurrent:
        detail = f"{limits.concurrent} calls at once are allowed, and as many of {whose} are in flight; call again"
        raise Problem(429, "too-many-at-once", "Too many calls at once", detail, 1)
    if limits.perMinute:
        step = 60 / limits.perMinute
        # One call is always there to be had, however few a minute has.
        wait = max(use.paid, now) - now - max(BURST_SECONDS, step) + step
        if wait > 1e-6:
            detail = f"{limits.perMinute} calls a minute are allowed, and {whose} are more; wait {math.ceil(wait)} s"
            raise Problem(429, "too-many-a-minute", "Too many calls a minute", detail, math.ceil(wait))
