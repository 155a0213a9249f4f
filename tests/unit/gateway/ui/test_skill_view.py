"""A Skill in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from skill_operator.api.v1alpha1 import Condition, Evidence, MutantEvidence, Skill
from skill_operator.gateway.pods.directory import SkillEntry, parse_skill
from skill_operator.gateway.pods.usage_tracker import SkillActivity
from skill_operator.gateway.ui import skill_view
from tests.unit.gateway.objects import skill
from tests.unit.gateway.ui.page_world import MOMENT, awaiting, condition

NOW = datetime.fromisoformat(MOMENT).astimezone(UTC) + timedelta(hours=2)


def entry(*conditions: dict[str, Any], **spec: Any) -> SkillEntry:
    body = skill(ready=None, **spec)
    body["status"]["conditions"] = list(conditions)
    return parse_skill(body)


@pytest.mark.parametrize(
    ("found", "awake", "label", "group"),
    [
        (entry(condition("Ready", "True", "Ready")), True, "Awake", "ready"),
        (entry(condition("Ready", "True", "Ready")), False, "Asleep", "ready"),
        (entry(condition("Active", "False", "Archived")), False, "Archived", "archived"),
        (entry(condition("Ready", "False", "Suspended"), suspend=True), False, "Suspended", "attention"),
        (parse_skill(awaiting()), False, "Needs approval", "attention"),
        (entry(condition("Stalled", "True", "NoModel")), False, "Stopped", "attention"),
        (entry(condition("Ready", "Unknown", "Checking")), False, "In the making", "working"),
        (entry(), False, "In the making", "working"),
    ],
)
def test_the_state_is_one_word(found: SkillEntry, awake: bool, label: str, group: str) -> None:
    chip = skill_view.state_chip(found, awake)
    assert (chip.label, chip.group) == (label, group)
    assert group in {name for name, _ in skill_view.FILTERS}


def test_a_skill_that_is_being_deleted_says_no_other_state() -> None:
    body = skill()
    body["metadata"] |= {"deletionTimestamp": "2030-01-01T12:00:00Z", "finalizers": ["example.com/mine"]}
    assert skill_view.state_chip(parse_skill(body), awake=True).label == "Being deleted"


def test_the_way_stops_where_a_stage_does() -> None:
    steps = skill_view.stage_steps(
        entry(condition("Generated", "True", "Generated"), condition("Verified", "Unknown", "Checking"))
    )
    assert [(step.title, step.state) for step in steps] == [
        ("Words", "done"), ("Code", "done"), ("Check", "now"), ("Build", "next"), ("Run", "next"),
    ]  # fmt: skip
    stopped = skill_view.stage_steps(
        entry(condition("Generated", "False", "AttemptsExhausted"), condition("Stalled", "True", "AttemptsExhausted"))
    )
    assert (stopped[1].state, stopped[1].words) == ("failed", "attempts exhausted")


def test_a_stage_of_an_older_spec_is_not_done() -> None:
    body = skill(ready=None, generation=2)
    body["status"]["conditions"] = [condition("Generated", "True", "Generated")]
    assert skill_view.stage_steps(parse_skill(body))[1].state == "now"


def test_the_timeline_says_a_message_once_and_what_to_do() -> None:
    conditions = Skill.model_validate(awaiting()).status.conditions
    shown = skill_view.timeline(conditions, NOW)
    with_message = [one.type for one in shown if "nothing was approved" in one.message]
    assert with_message == ["Built"]
    (built,) = [one for one in shown if one.type == "Built"]
    assert built.action
    assert built.ago == "2 h ago"


@pytest.mark.parametrize(
    ("evidence", "says"),
    [
        (None, "Nothing was tried"),
        (Evidence(), "no examples"),
        (Evidence(visible=4, held_out=2), "6 examples, 2 of which the model was never shown"),
        (Evidence(visible=2, author="same"), "which the author of the code wrote too"),
        (Evidence(visible=2), "2 examples, all of which the model was shown."),
        (Evidence(visible=1, author="pinned"), "It passes 1 example."),
        (Evidence(visible=1, promises=9), "9 made inputs"),
        (Evidence(visible=1, mutants=MutantEvidence(killed=8, of=10)), "would miss 2 of them"),
        (Evidence(visible=1, mutants=MutantEvidence(killed=9, of=9)), "finds each of them"),
        (Evidence(visible=1, mutants=MutantEvidence(skipped="Slow")), "too slow"),
        (Evidence(visible=1, second_opinion="Differs"), "answers otherwise"),
    ],
)
def test_evidence_is_sentences(evidence: Evidence | None, says: str) -> None:
    assert says in " ".join(skill_view.evidence_words(evidence))


def test_grants_name_all_that_code_may_reach_read_and_use() -> None:
    egress = [{"host": "api.example.com", "ports": [443]}, {"cidr": "203.0.113.0/24", "ports": [80, 443]}]
    secrets = [{"name": "key", "secretKeyRef": {"name": "shop", "key": "token"}}]
    found = entry(egress=egress, secrets=secrets).skill
    assert found is not None
    words = "; ".join(skill_view.grants(found))
    for part in ("api.example.com, port 443", "203.0.113.0/24, ports 80, 443", "Secret shop, key token", "256Mi"):
        assert part in words
    plain = entry().skill
    assert plain is not None
    assert skill_view.grants(plain)[0] == "connects to nothing"


def test_the_last_call_is_the_latest_that_anybody_knows_of() -> None:
    found = entry()
    assert skill_view.last_call(found, None, NOW) == ""
    assert skill_view.last_call(found, SkillActivity(1, None), NOW) == "now"
    assert skill_view.last_call(found, SkillActivity(0, 90.0), NOW) == "2 min ago"
    body = skill()
    body["status"]["lastActiveTime"] = MOMENT
    assert skill_view.last_call(parse_skill(body), None, NOW) == "2 h ago"
    assert skill_view.last_call(parse_skill(body), SkillActivity(0, 5.0), NOW) == "5 s ago"


def test_every_reason_has_a_place() -> None:
    odd = Condition.model_validate(condition("Odd", "False", "NobodyKnows", "x"))
    (shown,) = skill_view.timeline([odd], NOW)
    assert (shown.action, shown.about) == ("", "")
