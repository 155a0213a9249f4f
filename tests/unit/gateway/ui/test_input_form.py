"""Which form a schema gets, and which JSON a filled one is."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from skill_operator.api.v1alpha1 import Example, SkillSpec
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.ui import input_form

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["text", "count", "odd name"],
    "properties": {
        "text": {"type": "string"},
        "short": {"type": "string", "maxLength": 20},
        "day": {"type": ["string", "null"], "format": "date"},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "sure": {"type": "boolean"},
        "size": {"enum": ["small", 3, None]},
        "lines": {"type": "array"},
        "odd name": {"$ref": "#/$defs/any"},
        "anything": True,
    },
}


def spec(schema: dict[str, Any] = SCHEMA, *examples: Any) -> SkillSpec:
    listed = [Example(name=f"e{number}", input=value, output={}) for number, value in enumerate(examples)]
    return SkillSpec(description="d", input=schema, output={}, examples=listed)


def encode(**values: str) -> Any:
    return json.loads(input_form.encode_input(spec(), values))


def test_each_property_gets_the_field_that_fits() -> None:
    fields = input_form.make_form(spec()).fields
    assert {field.property: field.kind for field in fields} == {
        "text": "area",
        "short": "text",
        "day": "text",
        "count": "number",
        "ratio": "number",
        "sure": "boolean",
        "size": "choice",
        "lines": "json",
        "odd name": "json",
        "anything": "json",
    }
    assert [field.property for field in fields if field.required] == ["text", "count", "odd name"]
    assert [field.name for field in fields] == [f"v{number}" for number in range(10)]
    assert fields[7].choices == [('"small"', "small"), ("3", "3"), ("null", "null")]


def test_a_filled_form_is_the_input_and_numbers_stay_as_written() -> None:
    sent = {
        "v0": "a\nb",
        "v3": "",
        "v1": " 12345678901234567890 ",
        "v5": "1.50",
        "v6": "true",
        "v7": "null",
        "v8": "[1]",
        "v2": "{}",
    }
    raw = input_form.encode_input(spec(), sent)
    assert b"12345678901234567890" in raw
    assert b"1.50" in raw
    assert json.loads(raw) == {
        "text": "a\nb",
        "count": 12345678901234567890,
        "ratio": 1.5,
        "sure": True,
        "size": None,
        "lines": [1],
        "odd name": {},
    }


def test_an_empty_field_is_left_out_unless_a_text_is_wanted() -> None:
    assert encode(v0="", v1="", v2="") == {"text": ""}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("v1", "1,5"),
        ("v1", "0x1"),
        ("v1", "NaN"),
        ("v1", "1 2"),
        ("v6", "maybe"),
        ("v8", "[1"),
        ("v8", '1, "x": 2'),
        ("v8", "[" * 9000),
    ],
)
def test_what_is_no_value_names_its_field(field: str, text: str) -> None:
    with pytest.raises(Problem) as raised:
        encode(**{field: text})
    assert raised.value.status == 400
    assert raised.value.detail.startswith(("count", "sure", "lines"))


@pytest.mark.parametrize("text", ["", "{", "NaN", "1 2", "\ud800"])
def test_raw_input_must_be_json(text: str) -> None:
    with pytest.raises(Problem):
        input_form.encode_input(spec(), {"raw": text})


def test_raw_input_is_sent_as_it_was_written() -> None:
    assert input_form.encode_input(spec(), {"raw": '{"a": 1.0}', "v0": "x"}) == b'{"a": 1.0}'


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object"},
        {"type": "object", "properties": []},
        {"type": "object", "properties": {str(number): {} for number in range(40)}},
        {},
    ],
)
def test_what_no_form_can_do_is_json(schema: dict[str, Any]) -> None:
    form = input_form.make_form(spec(schema, {"a": 1}))
    assert form.fields == []
    assert json.loads(form.raw) == {"a": 1}


def test_the_named_example_fills_the_form() -> None:
    filled = spec(SCHEMA, {"text": "one", "count": 1}, {"text": "two", "lines": [1]})
    assert [field.value for field in input_form.make_form(filled, example="e1").fields][:1] == ["two"]
    assert input_form.make_form(filled, example="nothing").fields[0].value == "one"
    sent = input_form.make_form(filled, {"v0": "mine"}, "e1")
    assert sent.fields[0].value == "mine"
    assert sent.fields[8].value == "", "what was sent empty stays empty"


@pytest.mark.parametrize(
    "schema",
    [{"title": 5, "description": []}, {"enum": "x"}, {"enum": []}, {"enum": [{}]}, {"type": ["a", "b"]}, [], 5, None],
)
def test_an_odd_schema_gets_a_field_all_the_same(schema: Any) -> None:
    (field,) = input_form.make_form(spec({"type": "object", "properties": {"": schema}, "required": "x"})).fields
    assert (field.kind, field.label, field.required) == ("json", "(without a name)", False)


def test_a_form_is_read_as_browsers_write_it() -> None:
    assert input_form.read_form(urlencode({"a": "é\r\nb", "c": ""}).encode()) == {"a": "é\nb", "c": ""}


@pytest.mark.parametrize("raw", [b"a=%ff", "a=é".encode(), b"&".join([b"a=1"] * 100)])
def test_what_is_no_form_is_refused(raw: bytes) -> None:
    with pytest.raises(Problem):
        input_form.read_form(raw)
