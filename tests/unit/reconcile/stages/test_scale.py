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


# --- a Skill that is archived when nobody calls it ---

DAY = 86_400.0
MONTH = 30 * DAY


def awake(since: float, used: float | None = None, created: float = 1000 * DAY, **spec: Any) -> Any:
    """Awake for `since` seconds; `used` is how long ago its status says it was called."""
    found = state(awake=since, **({"archiveAfterSeconds": int(MONTH), "idleTimeoutSeconds": 0} | spec))
    status, meta = found.skill.status, found.skill.metadata
    status = status.model_copy(update={"last_active_time": None if used is None else NOW - timedelta(seconds=used)})
    meta = meta.model_copy(update={"creation_timestamp": NOW - timedelta(seconds=created)})
    return replace(found, skill=found.skill.model_copy(update={"status": status, "metadata": meta}))


def decide(found: Any, *uses: SkillUsage | None, **more: Any) -> tuple[str, Any]:
    """What becomes of the Deployment, and for how many days the status then says that nobody called."""
    progress = Progress()
    usage = snapshot(*uses, **({"certain": DAY, "age": DAY} | more)) if may_scale_to_zero(found, NOW) else None
    result = scale(replace(found, usage=usage), progress, stage_context())
    written = progress.status.get("last_active_time")
    return change(result), None if written is None else round((NOW - written).total_seconds() / DAY, 1)


@pytest.mark.parametrize(
    ("found", "uses", "what"),
    [
        (awake(40 * DAY), (None, None), "drain"),
        (awake(40 * DAY), (quiet(31 * DAY), None), "drain"),
        (awake(40 * DAY), (quiet(29 * DAY), None), ""),
        (awake(29 * DAY), (None,), ""),
        (awake(40 * DAY, used=29 * DAY), (None,), ""),
        (awake(40 * DAY, used=31 * DAY), (None,), "drain"),
        (awake(40 * DAY, created=DAY), (None,), ""),
        (awake(40 * DAY), (SkillUsage(idle=0, open=1, waiting=0),), ""),
        (awake(40 * DAY, idleTimeoutSeconds=int(90 * DAY)), (None,), "drain"),
    ],
    ids=[
        "never called",
        "31 days",
        "29 days",
        "new",
        "status: 29",
        "status: 31",
        "backup",
        "a call is open",
        "idle longer",
    ],
)
def test_what_never_sleeps_is_drained_when_it_is_to_be_archived(found: Any, uses: Any, what: str) -> None:
    assert decide(found, *uses)[0] == what


@pytest.mark.parametrize("more", [{"age": 60.0}, {"certain": 60.0}], ids=["the gateways", "the controller"])
def test_a_restart_of_all_neither_puts_the_archive_off_for_long_nor_is_it_taken_for_peace(more: Any) -> None:
    """For an hour they must have known all calls; before, the status knows."""
    assert decide(awake(40 * DAY, used=31 * DAY), None, **more)[0] == ""
    assert decide(awake(40 * DAY, used=31 * DAY), None, **dict.fromkeys(more, 3601.0))[0] == "drain"


@pytest.mark.parametrize(
    ("found", "idle", "written"),
    [
        (awake(10 * DAY), 0.5 * DAY, 0.5),
        (awake(10 * DAY, used=2 * DAY), 0.5 * DAY, 0.5),
        (awake(10 * DAY, used=0.5 * DAY), 0.5 * DAY - 3599, None),
        (awake(10 * DAY, used=0.5 * DAY), 0.5 * DAY - 3600, 0.5),
        (awake(10 * DAY, used=2 * DAY), 2 * DAY, None),
        (awake(600), 1, None),
        (awake(40 * DAY, used=-400 * DAY), 3 * DAY, 0),
    ],
    ids=["none yet", "later", "not by an hour", "by an hour", "no news", "just Ready", "in the future"],
)
def test_the_last_use_is_written_seldom(found: Any, idle: float, written: float | None) -> None:
    assert decide(found, quiet(idle)) == ("", written)


def test_without_an_archive_nothing_is_written_while_it_is_awake() -> None:
    assert decide(awake(10 * DAY, archiveAfterSeconds=0, idleTimeoutSeconds=int(90 * DAY)), quiet(1)) == ("", None)


def test_calls_all_the_time_for_a_month_are_seven_hundred_writes_and_not_more() -> None:
    """The interval is an hour; of a shorter archive time it is a tenth."""
    writes, last = 0, 0.0
    for minute in range(0, 30 * 24 * 60, 20):
        found = awake(60 * (minute + 1), used=60 * minute - last if writes else None)
        progress = Progress()
        usage = snapshot(quiet(0.5)) if may_scale_to_zero(found, NOW) else None
        scale(replace(found, usage=usage), progress, stage_context())
        if "last_active_time" in progress.status:
            writes, last = writes + 1, 60.0 * minute
    assert 300 < writes <= 720


@pytest.mark.parametrize(
    ("found", "use", "days"),
    [
        (awake(40 * DAY, used=31 * DAY), None, 31),
        (awake(40 * DAY, used=31 * DAY, idleTimeoutSeconds=900), quiet(0.5 * DAY), 0.5),
    ],
    ids=["for the archive, the last known use", "for sleep, what nobody knows is use"],
)
def test_what_is_known_of_the_last_use_goes_to_sleep_with_it(found: Any, use: Any, days: float) -> None:
    live = found.deployment | {"metadata": {"annotations": {naming.DRAIN_ANNOTATION: TOKEN}}}
    assert decide(replace(found, deployment=live), use, token=TOKEN) == ("sleep", days)


@pytest.mark.parametrize(
    ("spec", "after"),
    [
        ({"archiveAfterSeconds": 100, "idleTimeoutSeconds": 0}, 10),
        ({"archiveAfterSeconds": 100, "idleTimeoutSeconds": 5}, 5),
        ({"archiveAfterSeconds": int(MONTH), "idleTimeoutSeconds": 900}, 900),
        ({"archiveAfterSeconds": int(MONTH), "idleTimeoutSeconds": 0}, 3600),
    ],
)
def test_when_it_looks_again(spec: Any, after: float) -> None:
    found = state(awake=0, **spec)
    assert scale(found, Progress(), stage_context()).after == pytest.approx(after)
