"""When a Skill sleeps: never while anybody might use it, and in two steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from skill_operator import naming
from skill_operator.api.usage_report import SkillUsage, UsageReport
from skill_operator.reconcile.result import Progress
from skill_operator.reconcile.stages.scale import may_sleep, scale
from skill_operator.reconcile.usage_collector import UsageSnapshot
from tests.unit.reconcile.samples import NOW, observed, skill

MARK = (NOW - timedelta(seconds=1)).isoformat(timespec="milliseconds")
LATE = (NOW - timedelta(seconds=9)).isoformat(timespec="milliseconds")


def seen(replicas: int = 1, mark: str = "", awake: float = 1000, **spec: Any) -> Any:
    moment = (NOW - timedelta(seconds=awake)).strftime("%Y-%m-%dT%H:%M:%SZ")
    active = {"type": "Active", "status": "True", "reason": "Awake", "message": "", "lastTransitionTime": moment}
    live = {
        "metadata": {"annotations": {naming.DRAIN_ANNOTATION: mark} if mark else {}},
        "spec": {"replicas": replicas},
        "status": {},
    }
    return observed(skill({"conditions": [active]}, **({"idleTimeoutSeconds": 60} | spec)), deployment=live)


def picture(
    *uses: SkillUsage | None, certain: float = 1000, age: float = 1000, mark: str = "", complete: bool = True
) -> UsageSnapshot:
    """One report for each gateway; None: it never heard of the Skill."""
    draining = {"u-1": mark} if mark else {}
    reports = tuple(UsageReport(age=age, skills={"u-1": use} if use else {}, draining=draining) for use in uses)
    return UsageSnapshot(at=2000, certain_since=2000 - certain, complete=complete, reports=reports)


def quiet(idle: float) -> SkillUsage:
    return SkillUsage(idle=idle, open=0, waiting=0)


def does(result: Any) -> str:
    """What of the Deployment is changed."""
    said = [(o["op"], o["path"].rpartition("/")[2], o.get("value")) for p in result.patch for o in p.operations]
    if ("replace", "replicas", 0) in said:
        return "sleep"
    return "mark" if any(op == "add" for op, *_ in said) else "unmark" if said else ""


@pytest.mark.parametrize(
    ("reports", "more", "what", "after"),
    [
        ((quiet(70), None), {}, "mark", 0.1),
        ((quiet(70), quiet(20)), {}, "", 40),
        ((quiet(70), SkillUsage(idle=0, open=1, waiting=0)), {}, "", 60),
        ((quiet(70), None), {"age": 10}, "", 50),
        ((quiet(70),), {"certain": 5}, "", 55),
        ((), {}, "mark", 0.1),
    ],
    ids=["all idle", "one was used", "a call is open", "one is fresh", "one is gone", "there is no gateway"],
)
def test_who_is_idle_for_all_gateways_is_marked(reports: Any, more: Any, what: str, after: float) -> None:
    result = scale(seen(), Progress(), NOW, picture(*reports, **more))
    assert (does(result), result.after) == (what, pytest.approx(after))
    assert result.done


@pytest.mark.parametrize(
    ("reports", "more", "what"),
    [
        ((quiet(70), quiet(80)), {"mark": MARK}, "sleep"),
        ((quiet(70), quiet(80)), {}, ""),
        ((quiet(70), quiet(80)), {"mark": "of an earlier drain"}, ""),
        ((quiet(70),), {"mark": MARK, "complete": False}, ""),
        ((quiet(70), SkillUsage(idle=0, open=1, waiting=1)), {"mark": MARK}, "unmark"),
        ((quiet(70), SkillUsage(idle=0, open=1, waiting=0)), {"mark": MARK}, "unmark"),
        ((quiet(70), quiet(0.1)), {"mark": MARK}, "unmark"),
    ],
    ids=["all know", "nobody knows yet", "old news", "one is silent", "somebody waits", "a call is open", "was used"],
)
def test_who_is_marked_sleeps_when_all_gateways_know_it_and_nothing_is_in_flight(
    reports: Any, more: Any, what: str
) -> None:
    assert does(scale(seen(mark=MARK), Progress(), NOW, picture(*reports, **more))) == what


def test_the_write_that_puts_to_sleep_holds_only_for_this_drain() -> None:
    work = Progress()
    (patch,) = scale(seen(mark=MARK), work, NOW, picture(quiet(70), mark=MARK)).patch
    tests = {o["path"]: o["value"] for o in patch.operations if o["op"] == "test"}
    assert tests == {"/metadata/annotations/skill-operator.dev~1draining": MARK, "/spec/replicas": 1}
    assert (patch.kind, patch.namespace, patch.name) == ("Deployment", "team", "skill-echo")
    assert work.status["last_active_time"] == NOW - timedelta(seconds=70)


def test_a_drain_that_takes_too_long_is_taken_back() -> None:
    result = scale(seen(mark=LATE), Progress(), NOW, picture(quiet(70)))
    assert (does(result), result.after) == ("unmark", 5)


def test_a_call_that_a_lost_gateway_left_open_has_its_time() -> None:
    short = seen(idleTimeoutSeconds=2, callTimeoutSeconds=30)
    result = scale(short, Progress(), NOW, picture(quiet(100), certain=10))
    assert (does(result), result.after) == ("", pytest.approx(20))
    assert does(scale(short, Progress(), NOW, picture(quiet(100), certain=31))) == "mark"


def test_what_a_person_scaled_is_left_alone_and_said() -> None:
    result = scale(seen(replicas=3, mark=MARK), Progress(), NOW, None)
    assert does(result) == "unmark"
    (found,) = result.findings
    assert (found.type, found.status, found.reason) == ("Active", "True", "ScaledByHand")
    assert not may_sleep(seen(replicas=3), NOW)


def test_who_never_sleeps() -> None:
    assert not may_sleep(seen(idleTimeoutSeconds=0), NOW)
    assert does(scale(seen(idleTimeoutSeconds=0), Progress(), NOW, None)) == ""
    assert does(scale(seen(replicas=0), Progress(), NOW, None)) == ""


def test_who_woke_a_moment_ago_is_not_asked_about() -> None:
    assert not may_sleep(seen(awake=20), NOW)
    assert scale(seen(awake=20), Progress(), NOW, None).after == pytest.approx(40)
    assert may_sleep(seen(awake=61), NOW)
    assert may_sleep(seen(awake=20, mark=MARK), NOW), "the mark must not stay"
