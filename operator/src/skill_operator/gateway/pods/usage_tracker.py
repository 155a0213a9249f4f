"""Which skills are in use, as this gateway knows it. It is told when asked, and written nowhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from skill_operator.api.usage_report import CallEvent, CallFailure, ExceededLimit, SkillUsage, UsageReport
from skill_operator.api.v1alpha1 import ObjectMeta


class _Moment(NamedTuple):
    """Of a call."""

    at: float
    meta: ObjectMeta
    request: str


class _Skill:
    __slots__ = ("failed", "last", "open", "woken")

    def __init__(self) -> None:
        self.failed: tuple[_Moment, ExceededLimit] | None = None
        self.open = 0
        self.last = 0.0
        self.woken: _Moment | None = None


class UsageTracker:
    """Calls begin and end; whoever asks hears how long ago that was."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._skills: dict[str, _Skill] = {}

    def begin(self, uid: str) -> None:
        skill = self._skills.get(uid)
        if skill is None:
            skill = self._skills[uid] = _Skill()
        skill.open += 1

    def end(self, uid: str) -> None:
        skill = self._skills[uid]
        skill.open -= 1
        skill.last = self._clock()

    def failed(self, meta: ObjectMeta, request: str, kind: ExceededLimit) -> None:
        """A call that is still open used more than it may."""
        self._skills[meta.uid].failed = (_Moment(self._clock(), meta, request), kind)

    def woken(self, meta: ObjectMeta, request: str) -> None:
        """For a call that is still open."""
        self._skills[meta.uid].woken = _Moment(self._clock(), meta, request)

    def report(self, held: Mapping[str, int], draining: Mapping[str, str]) -> UsageReport:
        now = self._clock()
        uses = {
            uid: SkillUsage(
                idle=0 if skill.open else now - skill.last,
                open=skill.open,
                waiting=held.get(uid, 0),
                failure=None
                if skill.failed is None
                else CallFailure(kind=skill.failed[1], **_told(skill.failed[0], now)),
                activation=None if skill.woken is None else CallEvent(**_told(skill.woken, now)),
            )
            for uid, skill in self._skills.items()
        }
        return UsageReport(age=now - self._began, skills=uses, draining=dict(draining))

    def keep(self, alive: set[str]) -> None:
        """Forget the Skills that are no more."""
        for uid in [uid for uid, skill in self._skills.items() if uid not in alive and not skill.open]:
            del self._skills[uid]


def _told(moment: _Moment, now: float) -> dict[str, Any]:
    at, meta, request = moment
    return {"namespace": meta.namespace, "name": meta.name, "request": request, "seconds_ago": now - at}
