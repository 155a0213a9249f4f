from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from skill_operator.api.conditions import (
    BUILT,
    LIMIT,
    READY,
    VERIFIED,
    get_condition,
    is_true,
    remove_condition,
    set_condition,
)
from skill_operator.api.v1alpha1 import Condition, SkillStatus

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def test_a_new_condition_is_appended():
    one = set_condition([], VERIFIED, "True", "Passed", "6 of 6", 1, NOW)
    two = set_condition(one, BUILT, "Unknown", "Building", "", 1, LATER)
    assert [condition.type for condition in two] == [VERIFIED, BUILT]
    assert one == two[:1]


def test_the_transition_time_moves_only_with_the_status():
    first = set_condition([], READY, "False", "Checking", "a", 1, NOW)
    same = set_condition(first, READY, "False", "Building", "b", 2, LATER)
    assert same[0].last_transition_time == NOW.replace(microsecond=0)
    assert (same[0].reason, same[0].message, same[0].observed_generation) == ("Building", "b", 2)
    moved = set_condition(same, READY, "True", "Deployed", "", 2, LATER)
    assert moved[0].last_transition_time == LATER.replace(microsecond=0)


def test_a_condition_keeps_its_place_and_the_list_is_not_changed():
    old = set_condition(set_condition([], VERIFIED, "True", "A", "", 1, NOW), BUILT, "True", "B", "", 1, NOW)
    before = list(old)
    new = set_condition(old, VERIFIED, "False", "C", "", 1, NOW)
    assert [condition.type for condition in new] == [VERIFIED, BUILT]
    assert old == before


def test_setting_the_same_again_changes_nothing():
    once = set_condition([], READY, "True", "Deployed", "fine", 3, NOW)
    assert set_condition(once, READY, "True", "Deployed", "fine", 3, LATER) == once


def test_what_is_read_back_equals_what_was_written():
    conditions = set_condition([], READY, "True", "Deployed", "fine", 3, NOW)
    status = SkillStatus(conditions=conditions, last_active_time=NOW)
    assert SkillStatus.model_validate(status.wire()) == status
    assert status.wire()["conditions"][0]["lastTransitionTime"] == "2026-03-01T12:00:00Z"


def test_the_message_is_one_printable_line_and_cut():
    message = "\x1b[31mline 1\nline 2" + "x" * 5000
    shown = set_condition([], READY, "False", "Failed", message, 1, NOW)[0].message
    assert shown.startswith("\\x1b[31mline 1; line 2x")
    assert len(shown) == LIMIT


@pytest.mark.parametrize("reason", ["", "two words", "über", "trailing,", "1st", "a" * 300])
def test_a_reason_that_the_api_server_would_refuse_is_refused(reason):
    with pytest.raises(ValidationError):
        set_condition([], READY, "True", reason, "", 1, NOW)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValidationError):
        set_condition([], READY, "True", "Deployed", "", 1, NOW.replace(tzinfo=None))


def test_remove():
    conditions = set_condition(set_condition([], VERIFIED, "True", "A", "", 1, NOW), BUILT, "True", "B", "", 1, NOW)
    assert [condition.type for condition in remove_condition(conditions, VERIFIED)] == [BUILT]
    assert remove_condition(conditions, READY) == conditions


@pytest.mark.parametrize(
    ("status", "observed", "asked", "answer"),
    [
        ("True", 2, None, True),
        ("True", 2, 2, True),
        ("True", 3, 2, True),
        ("True", 1, 2, False),
        ("False", 2, 2, False),
        ("Unknown", 2, None, False),
    ],
)
def test_is_true(status, observed, asked, answer):
    conditions = [
        Condition(type=READY, status=status, reason="R", observed_generation=observed, last_transition_time=NOW)
    ]
    assert is_true(conditions, READY, asked) is answer
    assert not is_true(conditions, BUILT)
    assert get_condition(conditions, BUILT) is None
