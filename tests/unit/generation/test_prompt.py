"""The wording, letter for letter: whoever changes it sees the whole change, and changes PROMPT_VERSION.

`SKILL_WRITE_GOLDEN=1 pytest tests/unit/generation/test_prompt.py` writes the files anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.generation import prompt
from skill_operator.generation.typed_dicts import types_module

GOLDEN = Path(__file__).parent / "golden"
MANIFEST: dict[str, Any] = {
    "python": "3.13.9",
    "distributions": {"pandas": "3.1.1", "python-dateutil": "2.9.0"},
    "modules": {"pandas": "pandas", "dateutil": "python-dateutil"},
    "standard": ["json", "math"],
}


def spec(**values: Any) -> SkillSpec:
    return SkillSpec.model_validate(
        {
            "description": "Add two numbers.\nRefuse what is no number.\n",
            "input": {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]},
            "output": {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]},
            "examples": [
                {"name": "plain", "input": {"a": 1}, "output": {"sum": 1}},
                {"name": "nothing", "input": {"a": None}, "output": None},
                {"name": "bad", "input": {"a": "ü"}, "error": "ValueError"},
            ],
        }
        | values
    )


def first(given: SkillSpec) -> list[prompt.Message]:
    return prompt.initial_messages(given, types_module(given.input, given.output), given.examples, MANIFEST)


GRANTS = {
    "egress": [{"cidr": "203.0.113.0/24", "ports": [443, 8443]}],
    "secrets": [{"name": "api-key", "secretKeyRef": {"name": "billing", "key": "token"}}],
}
CASES = {
    "first": first(spec()),
    "changing": first(spec(deterministic=False)),
    "granted": first(spec(examples=[], **GRANTS)),
    "granted-hosts": first(spec(egress=[*GRANTS["egress"], {"host": "api.example.com", "ports": [443, 80]}])),
    "repair": prompt.repair_messages(
        first(spec()), "def run(input):\n    return {}\n", "examples", "plain: got {}, not {'sum': 1}"
    ),
    "repair-of-the-best": prompt.repair_messages(
        first(spec()), "def run(input):\n    return {}\n", "examples", "1/2 pass", ["mypy: name-defined: x", "ruff: E9"]
    ),
    "unusable": prompt.unusable_reply_messages(first(spec()), "the reply was empty"),
    "fresh": prompt.fresh_start_messages(first(spec()), ["examples: plain got {}", "repeat: the same code as before"]),
}


@pytest.mark.parametrize("name", CASES)
def test_wording(name: str) -> None:
    text = "".join(f"=== {message['role']}\n{message['content']}\n" for message in CASES[name])
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("SKILL_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_only_the_examples_that_are_handed_over_are_shown() -> None:
    whole = spec()
    shown = prompt.initial_messages(whole, "", whole.examples[:1], MANIFEST)
    text = "".join(message["content"] for message in shown)
    assert "plain: run(" in text
    assert "nothing: run(" not in text


def test_a_repair_holds_the_present_code_alone() -> None:
    """A growing chat costs more each time and keeps the errors in sight."""
    messages = first(spec())
    assert prompt.repair_messages(messages, "x = 1", "ruff", "E9")[:2] == messages
    assert len(prompt.repair_messages(messages, "x = 1", "ruff", "E9")) == 3
    assert len(prompt.repair_messages(messages, "x = 1", "ruff", "E9", ["worse"] * 3)) == 3
    assert messages == first(spec())


def test_an_example_too_long_to_show_is_left_out_whole() -> None:
    long = [{"name": f"e{n}", "input": {"a": "x" * 3000}, "output": {"sum": 0}} for n in range(20)]
    huge = [{"name": "huge", "input": {"a": "y" * 5000}, "output": {"sum": 0}}]
    text = first(spec(examples=huge + long))[1]["content"]
    assert "yyy" not in text
    assert "(14 more are too long to be shown)" in text
    assert text.count("x" * 3000) == 7


@given(st.text(min_size=1, max_size=200) | st.sampled_from([">>>", "\n>>>\n", "<<< x", "{source}", "{0}", "```"]))
def test_no_text_of_the_spec_can_end_its_own_quotation(text: str) -> None:
    content = first(spec(description=text))[1]["content"]
    word = content.split()[1]
    assert content.count(f"\n{word} >>>") == 1
    repaired = prompt.repair_messages([], text, "mypy", text, [text])[0]["content"]
    assert all(
        repaired.count(f"\n{line.split()[1]} >>>") == 1
        for line in repaired.splitlines()
        if line.startswith("<<< ") and len(line.split()) > 2
    )
