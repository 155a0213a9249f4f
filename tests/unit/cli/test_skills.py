"""Skills of older and newer operators are read; what is not known is left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubectl_skill.errors import CliError
from kubectl_skill.skills import age, read_skill
from tests.unit.cli.kubectl_double import condition, ready, skill


@pytest.mark.parametrize(
    ("status", "spec", "state"),
    [
        (None, {}, "New"),
        (ready(), {}, "Ready"),
        (ready(), {"suspend": True}, "Suspended"),
        ({"conditions": [condition("Active", "False", "Idle"), condition("Ready", "True", "Ready")]}, {}, "Asleep"),
        (
            {"conditions": [condition("Active", "False", "Archived"), condition("Ready", "True", "Archived")]},
            {},
            "Archived",
        ),
        (
            {"conditions": [condition("Stalled", "True", "NoModel"), condition("Ready", "False", "NoModel")]},
            {},
            "Stalled",
        ),
        ({"conditions": [condition("Reconciling", "True", "Generating")]}, {}, "Working"),
    ],
)
def test_the_state_is_one_word(status: dict[str, Any] | None, spec: dict[str, Any], state: str) -> None:
    assert read_skill(skill("x", status, **spec)).state == state


def test_a_skill_that_is_being_deleted_says_no_other_state() -> None:
    raw = skill("x", ready())
    raw["metadata"] |= {"deletionTimestamp": "2030-01-01T12:00:00Z", "finalizers": ["example.com/mine"]}
    assert read_skill(raw).state == "Deleting"


def test_what_a_newer_operator_says_does_not_hide_the_rest() -> None:
    status = ready(revision="abc", newField={"a": 1}, evidence={"author": "committee", "visible": 3})
    status["conditions"].append({"type": "!", "status": "Maybe", "reason": "", "lastTransitionTime": "never"})
    raw = skill("x", status, review="Council", resources={"limits": {"cpu": "a lot"}})
    found = read_skill(raw)
    assert found.state == "Ready"
    assert found.status.revision == "abc"
    assert found.status.evidence is not None
    assert found.status.evidence.visible == 3
    assert found.spec.review == "Automatic"
    assert raw["spec"]["review"] == "Council", "the object itself stays as it was"


@pytest.mark.parametrize("broken", [{"spec": {}}, {"metadata": {}}])
def test_a_skill_without_what_is_required_is_refused_in_words(broken: dict[str, Any]) -> None:
    with pytest.raises(CliError, match="cannot read the Skill"):
        read_skill(skill("x") | broken)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172799, "47h"), (172800, "2d")],
)
def test_age(seconds: int, text: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(now - timedelta(seconds=seconds), now) == text
    assert age(None) == ""
