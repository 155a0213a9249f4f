"""Which form a schema gets, and which JSON a filled one is."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from skill_operator.api.v1alpha1 import Example, SkillSpec
from skill_operator.gateway import json_bounds
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


class TestTooMuchToParse:
    """One call of the parser keeps all other threads from running, the loop's too."""

    MANY = f"[{','.join(['[]'] * json_bounds.MAX_MARKS)}]"
    DEEP = "[" * 200 + "]" * 200

    @pytest.fixture
    def parsed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        texts: list[str] = []
        monkeypatch.setattr(input_form, "parse_json", texts.append)
        return texts

    @pytest.mark.parametrize("text", [MANY, DEEP])
    def test_raw_input_is_sent_unparsed_as_over_http(self, text: str, parsed: list[str]) -> None:
        assert input_form.encode_input(spec(), {"raw": text}) == text.encode()
        assert parsed == []

    @pytest.mark.parametrize(("text", "status"), [(MANY, 413), (DEEP, 400)])
    def test_a_field_says_what_to_do(self, text: str, status: int, parsed: list[str]) -> None:
        with pytest.raises(Problem) as raised:
            input_form.encode_input(spec(), {"v8": text})
        assert raised.value.status == status
        assert raised.value.detail.startswith("lines has too many ")
        assert "over HTTP" in raised.value.detail
        assert parsed == []


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


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"&&a=1&",
        b"a",
        b"=b",
        b"a=1&a=2",
        b"a=b=c",
        b"%61+=%2B+%zz%4%",
        b"a=%C3%A9%f0%9f%98%80x%0d%0a",
        b"a=%%41%2",
    ],
)
def test_a_form_is_read_as_the_standard_library_reads_it(raw: bytes) -> None:
    expected = {name: value.replace("\r\n", "\n") for name, value in parse_qsl(raw.decode(), keep_blank_values=True)}
    assert input_form.read_form(raw) == expected


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("text", ["[" * 30_000, "a€" * 20_000, "%4" * 30_000])
def test_no_escape_is_cut(text: str, before: int) -> None:
    assert input_form.read_form(b"x" * before + urlencode({"": text}).encode()) == {"x" * before: text}


@pytest.mark.parametrize("piece", [b"%5B", b"%5b+", b"%0D%0A", b"%", b"%E2%82%AC"])
def test_a_form_of_escapes_takes_no_more_than_some_times_its_size(piece: bytes) -> None:
    """A list of a million pieces takes 60 MiB, and the loop stands until it is there."""
    raw = b"raw=" + piece * ((1 << 20) // len(piece))
    tracemalloc.start()
    try:
        assert len(input_form.read_form(raw)["raw"]) > 1 << 16
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()
