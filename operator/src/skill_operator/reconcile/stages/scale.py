"""scale: to zero after the idle time, in two steps. The other way is the gateways', who alone know that somebody calls.

First a mark on the Deployment: gateways that see it send no more calls there, but hold them. When all have said that
they see it and that nothing is in flight, the mark and the last replica go in one write. Whoever calls meanwhile is
told of in the next report, and the mark is taken back.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from skill_operator import naming
from skill_operator.api.conditions import ACTIVE, get_condition
from skill_operator.k8s.interface import Object
from skill_operator.k8s.pod_status import parse_time
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Patch, Progress, Result
from skill_operator.reconcile.usage_collector import UsageSnapshot

DRAIN_SECONDS = 5.0  # a third of what gateways bear
AGAIN_SECONDS = 0.1
_MARK = "/metadata/annotations/" + naming.DRAIN_ANNOTATION.replace("/", "~1")


def may_sleep(seen: Observed, now: datetime) -> bool:
    """Whether it is worth asking what is in use."""
    return _replicas(seen) == 1 and bool(mark_of(seen) or 0 < seen.skill.spec.idle_timeout_seconds <= _awake(seen, now))


def mark_of(seen: Observed) -> str:
    notes: dict[str, str] = (seen.deployment or {}).get("metadata", {}).get("annotations", {})
    return notes.get(naming.DRAIN_ANNOTATION, "")


def scale(seen: Observed, work: Progress, now: datetime, picture: UsageSnapshot | None) -> Result:
    """`picture` is of a moment after the mark was seen; None where nobody needed to be asked."""
    replicas, mark = _replicas(seen), mark_of(seen)
    limit = float(seen.skill.spec.idle_timeout_seconds)
    if replicas == 0:
        return Result((), done=True)
    if replicas > 1:
        text = f"spec.replicas of its Deployment is {replicas}, which was set by hand: it sleeps only when that is 1"
        return Result((ConditionUpdate(ACTIVE, "True", "ScaledByHand", text),), done=True, patch=_unmark(seen, mark))
    if not limit:
        return Result((), done=True, patch=_unmark(seen, mark))
    if picture is None:
        return Result((), done=True, after=max(AGAIN_SECONDS, limit - _awake(seen, now)))
    uid = seen.skill.metadata.uid
    idle = min(picture.idle(uid), _awake(seen, now))
    if idle < limit or picture.held(uid):
        return Result((), done=True, after=max(AGAIN_SECONDS, limit - idle), patch=_unmark(seen, mark))
    unsure = seen.skill.spec.call_timeout_seconds - (picture.at - picture.certain_since)
    if unsure > 0:  # a gateway that was lost may have left a call open, which lasts so long at most
        return Result((), done=True, after=max(AGAIN_SECONDS, unsure), patch=_unmark(seen, mark))
    if not mark:
        return Result((), done=True, after=AGAIN_SECONDS, patch=_mark(seen, now))
    if (now - parse_time(mark)).total_seconds() > DRAIN_SECONDS:
        return Result((), done=True, after=DRAIN_SECONDS, patch=_unmark(seen, mark))
    if not picture.quiet(uid, mark):
        return Result((), done=True, after=AGAIN_SECONDS)
    work.status["last_active_time"] = (now - timedelta(seconds=idle)).replace(microsecond=0)
    return Result((), done=True, patch=_sleep(seen, mark))


def _replicas(seen: Observed) -> int:
    return int(seen.deployment["spec"].get("replicas", 1)) if seen.deployment else 0


def _awake(seen: Observed, now: datetime) -> float:
    """Seconds since it was found awake."""
    active = get_condition(seen.skill.status.conditions, ACTIVE)
    return (now - active.last_transition_time).total_seconds() if active and active.status == "True" else 0.0


def _patch(seen: Observed, *operations: Object) -> tuple[Patch, ...]:
    meta = seen.skill.metadata
    return (Patch("Deployment", meta.namespace, naming.child(meta.name), operations),)


def _mark(seen: Observed, now: datetime) -> tuple[Patch, ...]:
    text = now.isoformat(timespec="milliseconds")
    alone = {"op": "test", "path": "/spec/replicas", "value": 1}
    return _patch(seen, alone, {"op": "add", "path": _MARK, "value": text})


def _unmark(seen: Observed, mark: str) -> tuple[Patch, ...]:
    if not mark:
        return ()
    return _patch(seen, {"op": "test", "path": _MARK, "value": mark}, {"op": "remove", "path": _MARK})


def _sleep(seen: Observed, mark: str) -> tuple[Patch, ...]:
    return _patch(
        seen,
        {"op": "test", "path": _MARK, "value": mark},
        {"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 0},
        {"op": "remove", "path": _MARK},
    )
