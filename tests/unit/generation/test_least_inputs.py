"""The least inputs are named as far as a schema tells, in bounded words, and each of them fits the schema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.generation import least_inputs as module
from skill_operator.generation.least_inputs import least_inputs

NUMBER = {"type": "number"}


def of(required: list[str] | None = None, **properties: Any) -> list[str]:
    return least_inputs({"type": "object", "properties": properties, "required": required or list(properties)})


@pytest.mark.parametrize(
    ("properties", "phrases"),
    [
        ({"xs": {"type": "array"}}, ["xs: []"]),
        ({"xs": {"type": "array", "minItems": 1}}, []),
        ({"xs": {"type": "array", "minItems": 1, "items": {"type": "string"}}}, ['xs[]: ""']),
        ({"t": {"type": "string"}}, ['t: ""']),
        ({"t": {"type": "string", "minLength": 1}}, []),
        ({"t": {"type": "string", "pattern": "^a$"}}, []),
        ({"t": {"type": "string", "enum": ["a"]}}, []),
        ({"n": NUMBER}, ["n: 0"]),
        ({"n": NUMBER | {"minimum": 1}}, []),
        ({"n": NUMBER | {"maximum": -1}}, []),
        ({"n": NUMBER | {"exclusiveMinimum": 0}}, []),
        ({"n": NUMBER | {"minimum": 0, "maximum": 0}}, ["n: 0"]),
        ({"n": {"type": ["integer", "null"]}}, ["n: 0", "n: null"]),
        ({"m": {"type": "object"}}, ["m: {}"]),
        ({"m": {"type": "object", "properties": {"a": NUMBER}, "required": ["a"]}}, ["m.a: 0"]),
        ({"x": {"const": 1}}, []),
        ({"x": True}, []),
    ],
)
def test_the_least_values_that_fit_are_named(properties: dict[str, Any], phrases: list[str]) -> None:
    assert of(**properties) == phrases


def test_what_may_be_left_out_is_named_and_the_outermost_comes_first() -> None:
    line = {"type": "object", "properties": {"qty": NUMBER, "note": {"type": "string"}}, "required": ["qty"]}
    phrases = of(["lines"], lines={"type": "array", "items": line}, discount=NUMBER)
    assert phrases == [
        "no discount",
        "lines: []",
        "discount: 0",
        "no lines[].note",
        "lines[].qty: 0",
        'lines[].note: ""',
    ]


def test_a_tree_that_contains_itself_is_looked_at_once() -> None:
    node = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}
    schema = {"type": "object", "properties": {"root": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}
    assert least_inputs(schema) == ["no root", "root: {}", "no root.children", "root.children: []"]


def test_the_words_are_bounded() -> None:
    wide = of([], **{f"{'p' * 50}{number}": NUMBER for number in range(3000)})
    assert 0 < len(wide) <= module.MAX_PHRASES
    assert sum(map(len, wide)) <= module.MAX_CHARACTERS
    assert of([], **{"p" * 61: NUMBER, "a\nb": NUMBER}) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["array", "object", "string", "#/a", "#/$defs/0"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "properties", "items", "required", "$ref", "$defs", "minItems", "a", "0"]), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_any_schema_is_read(schema: Any) -> None:
    assert all("\n" not in phrase for phrase in least_inputs(schema))
