"""When a Skill sleeps: never while anybody might use it, and in two steps."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from skill_operator import naming
from skill_operator.api.usage_report import SkillUsage, UsageReport
from skill_operator.reconcile.result import Progress
from skill_operator.reconcile.stages.scale import may_scale_to_zero, scale
from skill_operator.reconcile.usage_collector import UsageSnapshot
from tests.unit.reconcile.samples import NOW, observed, skill, stage_context

TOKEN = (NOW - timedelta(seconds=1)).isoformat(timespec="milliseconds")
OLD_TOKEN = (NOW - timedelta(seconds=9)).isoformat(timespec="milliseconds")


def state(replicas: int = 1, token: str = "", awake: float = 1000, **spec: Any) -> Any:
    moment = (NOW - timedelta(seconds=awake)).strftime("%Y-%m-%dT%H:%M:%SZ")
    active = {"type": "Active", "status": "True", "reason": "Awake", "message": "", "lastTransitionTime": moment}
    live = {
        "metadata": {"annotations": {naming.DRAIN_ANNOTATION: token} if token else {}},
        "spec": {"replicas": replicas},
        "status": {},
    }
    return observed(skill({"conditions": [active]}, **({"idleTimeoutSeconds": 60} | spec)), deployment=live)


def snapshot(
    *uses: SkillUsage | None, certain: float = 1000, age: float = 1000, token: str = "", complete: bool = True
) -> UsageSnapshot:
    """One report for each gateway; None: it never heard of the Skill."""
    draining = {"u-1": token} if token else {}
    reports = tuple(UsageReport(age=age, skills={"u-1": use} if use else {}, draining=draining) for use in uses)
    return UsageSnapshot(at=2000, certain_since=2000 - certain, complete=complete, reports=reports)


def quiet(idle: float) -> SkillUsage:
    return SkillUsage(idle=idle, open=0, waiting=0)


def change(result: Any) -> str:
    """What of the Deployment is changed."""
    operations = [(o["op"], o["path"].rpartition("/")[2], o.get("value")) for p in result.patch for o in p.operations]
    if ("replace", "replicas", 0) in operations:
        return "sleep"
    return "drain" if any(op == "add" for op, *_ in operations) else "cancel" if operations else ""


@pytest.mark.parametrize(
    ("reports", "more", "what", "after"),
    [
        ((quiet(70), None), {}, "drain", 0.1),
        ((quiet(70), quiet(20)), {}, "", 40),
        ((quiet(70), SkillUsage(idle=0, open=1, waiting=0)), {}, "", 60),
        ((quiet(70), None), {"age": 10}, "", 50),
        ((quiet(70),), {"certain": 5}, "", 55),
        ((), {}, "drain", 0.1),
    ],
    ids=["all idle", "one was used", "a call is open", "one is fresh", "one is gone", "there is no gateway"],
)
def test_who_is_idle_for_all_gateways_is_drained(reports: Any, more: Any, what: str, after: float) -> None:
    result = scale(replace(state(), usage=snapshot(*reports, **more)), Progress(), stage_context())
    assert (change(result), result.after) == (what, pytest.approx(after))
    assert result.is_done


@pytest.mark.parametrize(
    ("reports", "more", "what"),
    [
        ((quiet(70), quiet(80)), {"token": TOKEN}, "sleep"),
        ((quiet(70), quiet(80)), {}, ""),
        ((quiet(70), quiet(80)), {"token": "of an earlier drain"}, ""),
        ((quiet(70),), {"token": TOKEN, "complete": False}, ""),
        ((quiet(70), SkillUsage(idle=0, open=1, waiting=1)), {"token": TOKEN}, "cancel"),
        ((quiet(70), SkillUsage(idle=0, open=1, waiting=0)), {"token": TOKEN}, "cancel"),
        ((quiet(70), quiet(0.1)), {"token": TOKEN}, "cancel"),
    ],
    ids=["all know", "nobody knows yet", "old news", "one is silent", "somebody waits", "a call is open", "was used"],
)
def test_who_is_drained_sleeps_when_all_gateways_know_it_and_nothing_is_in_flight(
    reports: Any, more: Any, what: str
) -> None:
    assert (
        change(scale(replace(state(token=TOKEN), usage=snapshot(*reports, **more)), Progress(), stage_context()))
        == what
    )


def test_the_write_that_puts_to_sleep_holds_only_for_this_drain() -> None:
    progress = Progress()
    (patch,) = scale(
        replace(state(token=TOKEN), usage=snapshot(quiet(70), token=TOKEN)), progress, stage_context()
    ).patch
    tests = {o["path"]: o["value"] for o in patch.operations if o["op"] == "test"}
    assert tests == {"/metadata/annotations/skill-operator.dev~1draining": TOKEN, "/spec/replicas": 1}
    assert (patch.kind, patch.namespace, patch.name) == ("Deployment", "team", "skill-echo")
    assert progress.status["last_active_time"] == NOW - timedelta(seconds=70)


def test_a_drain_that_takes_too_long_is_taken_back() -> None:
    result = scale(replace(state(token=OLD_TOKEN), usage=snapshot(quiet(70))), Progress(), stage_context())
    assert (change(result), result.after) == ("cancel", 5)


def test_a_call_that_a_lost_gateway_left_open_has_its_time() -> None:
    short = state(idleTimeoutSeconds=2, callTimeoutSeconds=30)
    result = scale(replace(short, usage=snapshot(quiet(100), certain=10)), Progress(), stage_context())
    assert (change(result), result.after) == ("", pytest.approx(20))
    assert change(scale(replace(short, usage=snapshot(quiet(100), certain=31)), Progress(), stage_context())) == "drain"


def test_what_a_person_scaled_is_left_alone_and_said() -> None:
    result = scale(state(replicas=3, token=TOKEN), Progress(), stage_context())
    assert change(result) == "cancel"
    (found,) = result.conditions
    assert (found.type, found.status, found.reason) == ("Active", "True", "ScaledByHand")
    assert not may_scale_to_zero(state(replicas=3), NOW)


def test_who_never_sleeps() -> None:
    assert not may_scale_to_zero(state(idleTimeoutSeconds=0), NOW)
    assert change(scale(state(idleTimeoutSeconds=0), Progress(), stage_context())) == ""
    assert change(scale(state(replicas=0), Progress(), stage_context())) == ""


def test_who_woke_a_moment_ago_is_not_asked_about() -> None:
    assert not may_scale_to_zero(state(awake=20), NOW)
    assert scale(state(awake=20), Progress(), stage_context()).after == pytest.approx(40)
    assert may_scale_to_zero(state(awake=61), NOW)
    assert may_scale_to_zero(state(awake=20, token=TOKEN), NOW), "the token must not stay"


@pytest.mark.parametrize(
    "token", ["x", "2030", "2030-01-01T12:00:00", "9999-01-01T00:00:00+00:00", "\u0661", "0" * 9000]
)
def test_a_token_that_others_wrote_is_taken_away(token: str) -> None:
    result = scale(replace(state(token=token), usage=snapshot(quiet(70), token=token)), Progress(), stage_context())
    assert change(result) == "cancel"
