from __future__ import annotations

from datetime import timedelta

from skill_operator.api.conditions import get_condition
from skill_operator.reconcile.result import ConditionUpdate, Result
from skill_operator.reconcile.status import summarize, transitions
from skill_operator.reconcile.writer import holds
from tests.unit.reconcile.samples import NOW, skill

DONE = tuple(ConditionUpdate(t, "True", t, "") for t in ("Generated", "Verified", "Built", "Deployed"))


def statuses(conditions: list) -> dict[str, str]:
    return {c.type: f"{c.status}/{c.reason}" for c in conditions}


def test_ready_when_all_is_done() -> None:
    status = summarize(skill(), DONE, Result.done(*DONE), NOW)
    assert statuses(status.conditions)["Ready"] == "True/Ready"
    assert status.observed_generation == 3
    assert {c.observed_generation for c in status.conditions} == {3}
    assert not {"Reconciling", "Stalled"} & set(statuses(status.conditions))


def test_under_way_is_unknown_and_reconciling() -> None:
    note = ConditionUpdate("Built", "Unknown", "Building", "the build is running")
    found = statuses(summarize(skill(), (*DONE[:2], note), Result.waiting(note), NOW).conditions)
    assert found["Ready"] == "Unknown/Building"
    assert found["Reconciling"] == "True/Building"
    assert found["Deployed"] == "Unknown/Pending"


def test_stalled_replaces_reconciling_and_back() -> None:
    busy = ConditionUpdate("Generated", "Unknown", "Generating", "")
    first = summarize(skill(), (busy,), Result.waiting(busy), NOW)
    over = ConditionUpdate("Generated", "False", "AttemptsExhausted", "3 of 3")
    one = skill(first.wire())
    second = summarize(one, (over,), Result.stalled(over), NOW + timedelta(seconds=9))
    found = statuses(second.conditions)
    assert found["Ready"] == "False/AttemptsExhausted"
    assert found["Stalled"] == "True/AttemptsExhausted"
    assert "Reconciling" not in found


def test_a_long_story_is_told_where_it_belongs_and_its_gist_beside() -> None:
    over = ConditionUpdate("Generated", "False", "AttemptsExhausted", "3 of 3 attempts were refused\nexample 'one': …")
    told = {c.type: c.message for c in summarize(skill(), (over,), Result.stalled(over), NOW).conditions}
    assert told["Generated"] == told["Ready"] == "3 of 3 attempts were refused; example 'one': …"
    assert told["Stalled"] == "3 of 3 attempts were refused"


def test_a_second_look_changes_nothing() -> None:
    first = summarize(skill(), DONE, Result.done(*DONE), NOW)
    again = summarize(skill(first.wire()), DONE, Result.done(*DONE), NOW + timedelta(hours=1))
    assert again.wire() == first.wire()
    assert transitions(first.conditions, again.conditions) == []


def test_what_runs_is_still_deployed_while_its_successor_fails() -> None:
    before = summarize(skill(), DONE, Result.done(*DONE), NOW)
    bad = ConditionUpdate("Verified", "False", "CheckRefused", "mypy: no")
    after = summarize(skill(before.wire()), (DONE[0], bad), Result.stalled(bad), NOW + timedelta(seconds=5))
    deployed = get_condition(after.conditions, "Deployed")
    assert deployed is not None
    assert deployed.status == "True"
    assert [c.type for c in transitions(before.conditions, after.conditions)] == ["Verified"]


def test_only_what_differs_is_written() -> None:
    live = {"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"}, "status": {}}
    assert holds(live, {"spec": {"ports": [{"port": 80}]}})
    assert not holds(live, {"spec": {"ports": [{"port": 81}]}})
    assert not holds(live, {"spec": {"ports": []}})
    assert not holds(live, {"spec": {"selector": {}}})
    assert not holds({"spec": None}, {"spec": {"a": 1}})
