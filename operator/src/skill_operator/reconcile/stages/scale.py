"""The scale stage scales an idle Skill to zero, in two steps. Only the gateways scale up: they alone know of a call.

First the Deployment gets a drain token as an annotation: gateways that see it send no more calls there, but hold them.
When all have reported that they see it and that nothing is in flight, the token and the last replica go in one write.
A call that comes meanwhile is in the next report, and the token is removed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from skill_operator import naming
from skill_operator.api.conditions import ACTIVE, get_condition
from skill_operator.k8s.interface import Object
from skill_operator.k8s.pod_status import parse_time
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Patch, Progress, Result

DRAIN_SECONDS = 5.0  # a third of what gateways bear
POLL_SECONDS = 0.1
_TOKEN_PATH = "/metadata/annotations/" + naming.DRAIN_ANNOTATION.replace("/", "~1")


def may_scale_to_zero(observed: Observed, now: datetime) -> bool:
    """Tell whether it is worth asking the gateways what is in use."""
    timeout = observed.skill.spec.idle_timeout_seconds
    return _replicas(observed) == 1 and bool(drain_token(observed) or 0 < timeout <= _active_seconds(observed, now))


def drain_token(observed: Observed) -> str:
    """Return the token of the drain under way: the time of its start; empty where there is none."""
    annotations: dict[str, str] = (observed.deployment or {}).get("metadata", {}).get("annotations", {})
    return annotations.get(naming.DRAIN_ANNOTATION, "")


def scale(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Take the next step towards zero, or back. `observed.usage` must be younger than the drain token."""
    now, usage = context.now, observed.usage
    replicas, token = _replicas(observed), drain_token(observed)
    idle_timeout = float(observed.skill.spec.idle_timeout_seconds)
    if replicas == 0:
        return Result.done()
    if replicas > 1:
        message = (
            f"somebody, or an autoscaler, set spec.replicas of its Deployment to {replicas}; "
            "the Skill sleeps only while that is 1"
        )
        by_hand = ConditionUpdate(ACTIVE, "True", "ScaledByHand", message)
        return Result.done(by_hand, patch=_cancel_drain(observed, token))
    if not idle_timeout:
        return Result.done(patch=_cancel_drain(observed, token))
    if usage is None:
        return Result.done(after=max(POLL_SECONDS, idle_timeout - _active_seconds(observed, now)))
    uid = observed.skill.metadata.uid
    idle = min(usage.idle(uid), _active_seconds(observed, now))
    if idle < idle_timeout or usage.waiting(uid):
        return Result.done(after=max(POLL_SECONDS, idle_timeout - idle), patch=_cancel_drain(observed, token))
    # A gateway that was lost may have left a call open, which lasts no longer than the call timeout.
    unknown = observed.skill.spec.call_timeout_seconds - (usage.at - usage.certain_since)
    if unknown > 0:
        return Result.done(after=max(POLL_SECONDS, unknown), patch=_cancel_drain(observed, token))
    if not token:
        return Result.done(after=POLL_SECONDS, patch=_start_drain(observed, now))
    if _has_expired(token, now):
        return Result.done(after=DRAIN_SECONDS, patch=_cancel_drain(observed, token))
    if not usage.drained(uid, token):
        return Result.done(after=POLL_SECONDS)
    progress.status["last_active_time"] = (now - timedelta(seconds=idle)).replace(microsecond=0)
    return Result.done(patch=_scale_to_zero(observed, token))


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
