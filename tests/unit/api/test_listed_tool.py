"""What agents read of a Skill when they choose among tools."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.api.listed_tool import MAX_DESCRIPTION, describe_changes, listed_tool, short_description
from skill_operator.api.v1alpha1 import Skill, SkillSpec
from skill_operator.generation.request import task_hash

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def spec(**more: Any) -> SkillSpec:
    return SkillSpec.model_validate({"description": "Sums.", "input": SCHEMA, "output": SCHEMA, **more})


SENTENCE = "It does a thing. "


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"summary": " Use it for sums. ", "description": "Long."}, "Use it for sums."),
        ({"summary": "  ", "description": "Long."}, "Long."),
        ({"description": "\nFirst.\nStill first.\n \nSecond."}, "First.\nStill first."),
        ({"description": SENTENCE * 100}, (SENTENCE * 60).strip()),
        ({"description": "a" * 1020 + ". B. C."}, "a" * 1020 + ". B."),
        ({"description": "word " * 400}, ("word " * 204).strip() + "…"),
        ({"description": "x" * 3000}, "x" * 1023 + "…"),
        ({"description": "\u5b83\u3002" * 800}, "\u5b83\u3002" * 512),
        ({"description": "e.g. 3.5" + "x" * 1100}, "e.g."),
    ],
)
def test_the_description_is_short(more: dict[str, Any], told: str) -> None:
    assert short_description(spec(**more)) == told


@given(st.text(min_size=1, max_size=5000), st.text(max_size=1024))
def test_it_is_always_within_what_clients_take(description: str, summary: str) -> None:
    told = short_description(spec(description=description, summary=summary))
    assert len(told) <= MAX_DESCRIPTION
    assert told.removesuffix("…") in (summary if summary.strip() else description)
    assert told or not description.strip()


def test_what_is_listed_as_it_is_has_no_changes() -> None:
    tool = listed_tool("finance", "invoice", spec())
    assert (tool.name, tool.description, tool.changes) == ("finance__invoice", "Sums.", ())
    assert tool.input.schema == SCHEMA


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("x" * 60, {}, "its name is finance__xxxxx"),
        ("a.b", {}, "its name is finance__a-b_"),
        ("a", {"description": "One.\n\nTwo."}, "spec.summary"),
        ("a", {"input": {"type": "object", "anyOf": [{"required": ["a"]}]}}, "of spec.input, anyOf at its top"),
        ("a", {"output": {"type": "object", "properties": {"Unit price": {}}}}, 'of spec.output, properties have other names: "Unit price"'),
    ],
)  # fmt: skip
def test_what_is_listed_otherwise_is_told(name: str, more: dict[str, Any], told: str) -> None:
    (change,) = listed_tool("finance", name, spec(**more)).changes
    assert told in change


def test_no_code_depends_on_the_summary() -> None:
    assert task_hash(spec(summary="Use it.")) == task_hash(spec())


def stored(**more: Any) -> Skill:
    meta = {"name": "a.b", "namespace": "finance", "generation": 2}
    return Skill.model_validate({"metadata": meta, "spec": spec(**more).model_dump(by_alias=True)})


def test_a_skill_says_what_agents_see_of_it() -> None:
    told = describe_changes(stored(description="One.\n\nTwo."))
    assert "its name is finance__a-b_" in told
    assert "spec.summary" in told


@pytest.mark.parametrize(
    "side",
    [
        {"input": {"type": "array"}},
        {"input": {"type": "object", "properties": {"a": {"$ref": "http://203.0.113.1/"}}}},
        {"output": {"type": 7}},
        {"output": {"properties": []}},
    ],
)
def test_a_spec_that_is_no_tool_says_nothing(side: dict[str, Any]) -> None:
    assert describe_changes(stored(**side)) == ""
