"""The use of skills as this gateway knows it, for the controller. It is kept in memory alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from skill_operator.api.usage_report import (
    CallEvent,
    CallFailure,
    ExceededLimit,
    RestoreRequest,
    SkillUsage,
    UsageReport,
)
from skill_operator.api.v1alpha1 import ObjectMeta


class _CallMoment(NamedTuple):
    """_CallMoment is a moment of one call; `at` is by the tracker's clock."""

    at: float
    meta: ObjectMeta
    request_id: str


class SkillActivity(NamedTuple):
    """SkillActivity is how many calls of a Skill are open here, and how long ago the last one ended, if one did."""

    open_calls: int
    idle_seconds: float | None


class _SkillCounters:
    """_SkillCounters is what the tracker knows of one Skill."""

    __slots__ = ("activation", "failure", "last_call", "open_calls", "restore")

    def __init__(self) -> None:
        self.failure: tuple[_CallMoment, ExceededLimit] | None = None
        self.open_calls = 0
        self.last_call = 0.0
        self.activation: _CallMoment | None = None
        self.restore: tuple[_CallMoment, str] | None = None


class UsageTracker:
    """UsageTracker counts calls as they start and end, and reports how long ago the last one was."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start_time = clock()
        self._skills: dict[str, _SkillCounters] = {}  # by uid

    def start_call(self, uid: str) -> None:
        """Count one more open call of the Skill with this uid."""
        skill = self._skills.get(uid)
        if skill is None:
            skill = self._skills[uid] = _SkillCounters()
        skill.open_calls += 1

    def end_call(self, uid: str) -> None:
        """Count one open call less."""
        skill = self._skills[uid]
        skill.open_calls -= 1
        skill.last_call = self._clock()

    def record_failure(self, meta: ObjectMeta, request_id: str, kind: ExceededLimit) -> None:
        """Record that a call which is still open exceeded a limit."""
        self._skills[meta.uid].failure = (_CallMoment(self._clock(), meta, request_id), kind)

    def record_activation(self, meta: ObjectMeta, request_id: str) -> None:
        """Record that a call which is still open woke its Skill."""
        self._skills[meta.uid].activation = _CallMoment(self._clock(), meta, request_id)

    def request_restore(self, meta: ObjectMeta, request_id: str, archive: str) -> bool:
        """Record that an open call needs its Skill back from this archive; return whether that is new.

        It stays in the reports after the call, for a controller that is away just now.
        """
        skill = self._skills[meta.uid]
        if skill.restore is not None and skill.restore[1] == archive:
            return False
        skill.restore = (_CallMoment(self._clock(), meta, request_id), archive)
        return True

    def activity(self, uid: str) -> SkillActivity | None:
        """Return what this gateway knows of the calls of the Skill with this uid, or None where it had none."""
        skill = self._skills.get(uid)
        if skill is None:
            return None
        return SkillActivity(skill.open_calls, self._clock() - skill.last_call if skill.last_call else None)

    def report(self, waiting: Mapping[str, int], drain_tokens: Mapping[str, str]) -> UsageReport:
        """Return the report for the controller; `waiting` has the number of waiting calls, both are by uid."""
        now = self._clock()
        skills = {
            uid: SkillUsage(
                idle=0 if skill.open_calls else now - skill.last_call,
                open=skill.open_calls,
                waiting=waiting.get(uid, 0),
                failure=None
                if skill.failure is None
                else CallFailure(kind=skill.failure[1], **_event_fields(skill.failure[0], now)),
                activation=None if skill.activation is None else CallEvent(**_event_fields(skill.activation, now)),
                restore=None
                if skill.restore is None
                else RestoreRequest(archive=skill.restore[1], **_event_fields(skill.restore[0], now)),
            )
            for uid, skill in self._skills.items()
        }
        return UsageReport(age=now - self._start_time, skills=skills, draining=dict(drain_tokens))

    def retain(self, uids: set[str]) -> None:
        """Forget the Skills that are deleted: those with another uid and no open call."""
        for uid in [uid for uid, skill in self._skills.items() if uid not in uids and not skill.open_calls]:
            del self._skills[uid]


def _event_fields(moment: _CallMoment, now: float) -> dict[str, Any]:
    at, meta, request_id = moment
    return {"namespace": meta.namespace, "name": meta.name, "request": request_id, "seconds_ago": now - at}
