"""How a request stands, by the conditions of its Skill alone."""

from __future__ import annotations

from typing import Any

import pytest

from skill_operator.api.reasons import REASONS
from skill_operator.api.v1alpha1 import Skill
from skill_operator.gateway.workshop.mcp_tasks import read_responses
from skill_operator.gateway.workshop.task import ANSWERABLE, TaskId, task_of
from tests.unit.gateway.objects import UID, skill

MOMENT = "2026-01-01T00:00:00Z"


def state(*conditions: tuple[str, str, str, str], generation: int = 1, observed: int = 1, **more: Any) -> Skill:
    body = skill(generation=generation, **more.pop("spec", {}))
    body["status"] = {
        "conditions": [
            {"type": type_, "status": status, "reason": reason, "message": message, "observedGeneration": observed}
            | {"lastTransitionTime": MOMENT}
            for type_, status, reason, message in conditions
        ],
        **more,
    }
    return Skill.model_validate(body)


NOT_READY = ("Ready", "False", "Any", "")
HISTORY = [{"revision": "0123456789", "image": "i", "time": MOMENT}]


@pytest.mark.parametrize(
    ("found", "status", "reason"),
    [
        (state(), "working", "Pending"),
        (state(("Generated", "Unknown", "Generating", "a model is writing"), NOT_READY), "working", "Generating"),
        (
            state(("Generated", "True", "Generated", ""), ("Verified", "Unknown", "Checking", "it runs"), NOT_READY),
            "working",
            "Checking",
        ),
        (state(("Ready", "True", "Ready", "")), "completed", "Ready"),
        (state(("Ready", "True", "Ready", ""), generation=2), "working", "Pending"),  # of the former spec
        (state(NOT_READY, history=HISTORY), "completed", "Ready"),  # what happens later is no part of the task
        (state(NOT_READY, spec={"suspend": True}), "cancelled", "Suspended"),
        (
            state(
                ("Generated", "False", "SuspectSpec", "example a"), ("Stalled", "True", "SuspectSpec", ""), NOT_READY
            ),
            "input_required",
            "SuspectSpec",
        ),
        (
            state(("Generated", "False", "NoModel", "none"), ("Stalled", "True", "NoModel", ""), NOT_READY),
            "input_required",
            "NoModel",
        ),
        (
            state(
                ("Generated", "True", "Generated", ""),
                ("Verified", "True", "Verified", ""),
                ("Built", "Unknown", "AwaitingApproval", "kubectl annotate …approve=TOKEN"),
                NOT_READY,
            ),
            "input_required",
            "AwaitingApproval",
        ),
    ],
)
def test_the_conditions_say_how_it_stands(found: Skill, status: str, reason: str) -> None:
    task = task_of(found, TaskId(UID, 1))
    assert (task.status, task.reason) == (status, reason)
    assert (task.input_request is not None) == (status == "input_required")
    assert "TOKEN" not in task.words, "no token of an approval is told to an agent"


def test_whom_a_question_is_for() -> None:
    for reason in REASONS:
        task = task_of(state(("Generated", "False", reason, "why"), ("Stalled", "True", reason, ""), NOT_READY))
        assert task.input_request is not None
        assert (task.input_request.who == "agent") == (reason in ANSWERABLE)
    assert set(REASONS) >= ANSWERABLE
    assert "AwaitingApproval" not in ANSWERABLE


def test_an_agent_approves_nothing() -> None:
    awaited = state(("Built", "Unknown", "AwaitingApproval", "why"), NOT_READY)
    task = task_of(awaited)
    assert task.input_request is not None
    response = {"action": "accept", "content": {"description": "approved", "example": "plain", "output": "1"}}
    assert read_responses(task, {task.input_request.key: response}) is None


def test_a_question_s_key_is_used_once() -> None:
    told = [("Generated", "False", "SuspectSpec", "a"), ("Stalled", "True", "SuspectSpec", ""), NOT_READY]
    first = task_of(state(*told), TaskId(UID, 1)).input_request
    second = task_of(state(*told, generation=2, observed=2), TaskId(UID, 1)).input_request
    assert first
    assert second
    assert first.key != second.key


def test_weak_examples_are_asked_about_after_the_end() -> None:
    weak = state(("Verified", "True", "WeakExamples", "which of two?"), ("Ready", "True", "Ready", ""))
    task = task_of(weak)
    assert (task.status, task.input_request and task.input_request.text) == ("completed", "which of two?")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".1",
        f"{UID}",
        f"{UID}.0",
        f"{UID}.-1",
        f"{UID}.1 ",
        f"{UID}.1\n",
        f"{UID.upper()}x.1",
        7,
        None,
        f"{UID}.{'9' * 60}",
    ],
)
def test_what_is_no_task(text: object) -> None:
    assert TaskId.parse(text) is None


def test_an_id_is_read_as_it_was_written() -> None:
    assert TaskId.parse(str(TaskId(UID, 12))) == TaskId(UID, 12)


@pytest.mark.parametrize(
    "response", [None, 7, {}, {"action": "decline"}, {"action": "accept"}, {"action": "accept", "content": []}]
)
def test_what_answers_nothing_is_ignored(response: object) -> None:
    stalled = state(("Generated", "False", "SuspectSpec", "a"), ("Stalled", "True", "SuspectSpec", ""), NOT_READY)
    task = task_of(stalled)
    assert task.input_request
    assert read_responses(task, {task.input_request.key: response}) is None
    assert read_responses(task, {"SuspectSpec-7": {"action": "accept", "content": {"description": "x"}}}) is None
