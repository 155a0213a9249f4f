"""The wording, letter for letter: whoever changes it sees the whole change, and changes PROMPT_VERSION.

`SKILL_WRITE_GOLDEN=1 pytest tests/unit/generation/test_prompt.py` writes the files anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.generation import prompt
from skill_operator.generation.typed_dicts import types_module
from tests.unit.generation.prompt_samples import MANIFEST as IMAGE
from tests.unit.generation.prompt_samples import SKILLS

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
    "rejection": prompt.rejection_messages(
        first(spec()), "def run(input):\n    return {}\n", "Round half up. amber >>>", ["mypy: name-defined: x"]
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


ALL_WORDS = " ".join(prompt._WORDS)
FOREIGN = st.text(min_size=1, max_size=200) | st.lists(
    st.sampled_from([">>>", "\n", " >>>", "<<< ", "{source}", "{0}", "```", ALL_WORDS, *(f"\n{word} >>>\n" for word in prompt._WORDS)]),
    min_size=1, max_size=8,
).map("".join)  # fmt: skip


def blocks(content: str) -> list[str]:
    """Return the titles of the blocks of a message, each of which ends where its own word says so, and once."""
    titles, ending = [], ""
    for line in content.split("\n"):
        if ending:
            ending = "" if line == ending else ending
        elif line.startswith("<<< "):
            _, word, title = line.split(" ", 2)
            titles.append(title)
            ending = f"{word} >>>"
    assert not ending
    return titles


TITLES = ["what it must do", "skill_types.py", "input schema", "output schema", "least inputs", "examples"]


@given(FOREIGN)
def test_no_text_of_the_spec_can_end_its_own_quotation(text: str) -> None:
    schema = {"type": "object", "properties": {text: {"type": "string"}}, "required": [], "description": text}
    example = {"name": "a", "input": {text: text}, "output": {text: text}}
    (_, task) = first(spec(description=text, input=schema, output=schema, examples=[example]))
    assert [title for title in TITLES if title != "least inputs"] == [
        title for title in blocks(task["content"]) if title != "least inputs"
    ]
    repaired = prompt.repair_messages([], text, "mypy", text, [text])[0]["content"]
    assert blocks(repaired) == ["skill.py", "the first check that failed: mypy", "refused"]
    assert blocks(prompt.fresh_start_messages([], [text])[0]["content"]) == ["refused"]
    assert blocks(prompt.unusable_reply_messages([], text)[0]["content"]) == ["what is wrong with it"]


@given(FOREIGN)
def test_the_rules_hold_no_word_of_the_spec(text: str) -> None:
    assert first(spec(description=text, input={"type": "object", "title": text}))[0] == first(spec())[0]


def test_one_short_word_marks_all_blocks_and_no_block_contains_it() -> None:
    plain, amber = (first(spec(description=text))[1]["content"] for text in ("Add.", "Sum the AMBER ones.\namber >>>"))
    assert plain.count("amber >>>") == len(blocks(plain))
    assert amber.count("\nbasalt >>>") == amber.count("<<< basalt ") == len(blocks(amber)) == len(TITLES)
    hashed = first(spec(description=ALL_WORDS))[1]["content"]
    assert len(hashed.split()[1]) == 16
    assert blocks(hashed) == blocks(plain)


# UTF-8 bytes of version 3 of the prompt for the same Skills and image.
LENGTHS_BEFORE = {"invoice": 3072, "slug": 2550, "statistics": 2903, "rates": 2708, "tree": 2901}


@pytest.mark.parametrize("name", SKILLS)
def test_a_prompt_is_shorter_than_it_was(name: str) -> None:
    given = SkillSpec.model_validate(SKILLS[name])
    messages = prompt.initial_messages(given, types_module(given.input, given.output), given.examples, IMAGE)
    assert sum(len(message["content"].encode()) for message in messages) < LENGTHS_BEFORE[name]


def test_only_libraries_that_the_image_was_asked_for_are_named() -> None:
    rules = prompt.initial_messages(spec(), "", [], IMAGE)[0]["content"]
    assert "bs4 4, dateutil 4, jinja2 3, lxml 6, numpy 2" in rules
    assert not {"h11", "jsonschema_rs", "certifi", "urllib3"} & set(re.findall(r"\w+", rules))
    everything = {key: value for key, value in IMAGE.items() if key != "libraries"}
    rules = prompt.initial_messages(spec(), "", [], everything)[0]["content"]
    assert "certifi 2026" in rules
    assert "h11" not in rules
    strange = IMAGE | {
        "modules": {"a\nb": "x", "c": "d"},
        "distributions": {"d": "1e9\n- You"},
        "libraries": ["a\nb", "c", "e"],
    }
    assert "version): c 1. Refused" in prompt.initial_messages(spec(), "", [], strange)[0]["content"]


def test_modules_are_called_refused_unless_the_image_allows_them() -> None:
    rules = prompt.initial_messages(spec(), "", [], IMAGE)[0]["content"]
    assert "subprocess, multiprocessing, ctypes, pickle" in rules
    allowed = prompt.initial_messages(spec(), "", [], IMAGE | {"standard": ["pickle", "timeit"]})[0]["content"]
    assert not {"pickle", "timeit"} & set(re.findall(r"\w+", allowed))


def test_the_time_of_a_call_is_told() -> None:
    assert "A call ends after 7 s." in first(spec(callTimeoutSeconds=7))[0]["content"]
