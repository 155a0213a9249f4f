"""The scale stage scales an idle Skill to zero, in two steps. Only the gateways scale up: they alone know of a call.

First the Deployment gets a drain token as an annotation: gateways that see it send no more calls there, but hold them.
When all have reported that they see it and that nothing is in flight, the token and the last replica go in one write.
A call that comes meanwhile is in the next report, and the token is removed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from skill_operator import naming
from skill_operator.api.conditions import ACTIVE, get_condition
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s.interface import Object
from skill_operator.k8s.pod_status import parse_time
from skill_operator.reconcile.archive import checkpoint_seconds, is_checkpoint_due, last_use, recorded_use
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Patch, Progress, Result

DRAIN_SECONDS = 5.0  # a third of what gateways bear
POLL_SECONDS = 0.1
_TOKEN_PATH = "/metadata/annotations/" + naming.DRAIN_ANNOTATION.replace("/", "~1")


def may_scale_to_zero(observed: Observed, now: datetime) -> bool:
    """Tell whether it is worth asking the gateways what is in use."""
    timeout = observed.skill.spec.idle_timeout_seconds
    is_due = 0 < timeout <= _active_seconds(observed, now) or is_checkpoint_due(observed.skill, now)
    return _replicas(observed) == 1 and bool(drain_token(observed) or is_due)


def drain_token(observed: Observed) -> str:
    """Return the token of the drain under way: the time of its start; empty where there is none."""
    annotations: dict[str, str] = (observed.deployment or {}).get("metadata", {}).get("annotations", {})
    return annotations.get(naming.DRAIN_ANNOTATION, "")


def scale(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Take the next step towards zero, or back. `observed.usage` must be younger than the drain token."""
    now, usage, spec = context.now, observed.usage, observed.skill.spec
    replicas, token = _replicas(observed), drain_token(observed)
    if replicas == 0:
        return Result.done()
    if replicas > 1:
        message = (
            f"somebody, or an autoscaler, set spec.replicas of its Deployment to {replicas}; "
            "the Skill sleeps only while that is 1"
        )
        by_hand = ConditionUpdate(ACTIVE, "True", "ScaledByHand", message)
        return Result.done(by_hand, patch=_cancel_drain(observed, token))
    if not spec.idle_timeout_seconds and not spec.archive_after_seconds:
        return Result.done(patch=_cancel_drain(observed, token))
    uid, known_idle = observed.skill.metadata.uid, _active_seconds(observed, now)
    idle = known_idle if usage is None else min(usage.idle(uid), known_idle)
    used_at = last_use(observed.skill, usage, now)
    left = _seconds_left(observed.skill, idle, (now - used_at).total_seconds())
    if usage is None or left > 0 or usage.waiting(uid):
        _record_use(observed.skill, progress, used_at, now)
        after = min(left, checkpoint_seconds(observed.skill)) if spec.archive_after_seconds else left
        return Result.done(after=max(POLL_SECONDS, after), patch=_cancel_drain(observed, token if usage else ""))
    # A gateway that was lost may have left a call open, which lasts no longer than the call timeout.
    unknown = spec.call_timeout_seconds - (usage.at - usage.certain_since)
    if unknown > 0:
        return Result.done(after=max(POLL_SECONDS, unknown), patch=_cancel_drain(observed, token))
    if not token:
        return Result.done(after=POLL_SECONDS, patch=_start_drain(observed, now))
    if _has_expired(token, now):
        return Result.done(after=DRAIN_SECONDS, patch=_cancel_drain(observed, token))
    if not usage.drained(uid, token):
        return Result.done(after=POLL_SECONDS)
    # What is not known counts as use, unless it is the archive that is due: no restart may put that off.
    is_idle = 0 < spec.idle_timeout_seconds <= idle
    last_active_time = now - timedelta(seconds=idle) if is_idle else used_at
    progress.status["last_active_time"] = last_active_time.replace(microsecond=0)
    progress.scaled_to_zero = True
    return Result.done(patch=_scale_to_zero(observed, token))


def _seconds_left(skill: Skill, idle: float, unused: float) -> float:
    """Return the seconds until a Skill may sleep that was certainly idle for `idle` seconds.

    It sleeps by its idle time, or because it is about to be archived: then it was unused for `unused` seconds as far as
    anybody knows, and certainly for as long as that knowledge may lag.
    """
    spec = skill.spec
    known = min(spec.archive_after_seconds, checkpoint_seconds(skill))
    to_archive = max(spec.archive_after_seconds - unused, known - idle)
    left = [spec.idle_timeout_seconds - idle] if spec.idle_timeout_seconds else []
    left += [to_archive] if spec.archive_after_seconds else []
    return min(left)


def _record_use(skill: Skill, progress: Progress, used_at: datetime, now: datetime) -> None:
    """Put the last use of an awake Skill into the status where the object tells too little: seldom, and once."""
    recorded = recorded_use(skill)
    if recorded is None or not is_checkpoint_due(skill, now):
        return
    if abs((used_at - recorded).total_seconds()) >= checkpoint_seconds(skill):
        progress.status["last_active_time"] = used_at.replace(microsecond=0)


def _has_expired(token: str, now: datetime) -> bool:
    """Tell whether a drain began too long ago, or is not the operator's: others may write the annotation, too."""
    try:
        return abs((now - parse_time(token)).total_seconds()) > DRAIN_SECONDS
    except (ValueError, TypeError):
        return True


def _replicas(observed: Observed) -> int:
    return int(observed.deployment["spec"].get("replicas", 1)) if observed.deployment else 0


def _active_seconds(observed: Observed, now: datetime) -> float:
    """Return the seconds since the Skill was found active."""
    active = get_condition(observed.skill.status.conditions, ACTIVE)
    return (now - active.last_transition_time).total_seconds() if active and active.status == "True" else 0.0


def _patch(observed: Observed, *operations: Object) -> tuple[Patch, ...]:
    meta = observed.skill.metadata
    return (Patch("Deployment", meta.namespace, naming.child(meta.name), operations),)


def _start_drain(observed: Observed, now: datetime) -> tuple[Patch, ...]:
    token = now.isoformat(timespec="milliseconds")
    one_replica = {"op": "test", "path": "/spec/replicas", "value": 1}
    return _patch(observed, one_replica, {"op": "add", "path": _TOKEN_PATH, "value": token})


def _cancel_drain(observed: Observed, token: str) -> tuple[Patch, ...]:
    if not token:
        return ()
    return _patch(observed, {"op": "test", "path": _TOKEN_PATH, "value": token}, {"op": "remove", "path": _TOKEN_PATH})


def _scale_to_zero(observed: Observed, token: str) -> tuple[Patch, ...]:
    return _patch(
        observed,
        {"op": "test", "path": _TOKEN_PATH, "value": token},
        {"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 0},
        {"op": "remove", "path": _TOKEN_PATH},
    )
