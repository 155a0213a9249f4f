"""Where the schema says integer, code gets an int, however the number was written and wherever it stands."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_runtime.check.input_generator import generate
from skill_runtime.contract import Schema
from skill_runtime.integers import is_whole_float
from skill_runtime.strict_json import canonicalize
from tests.unit.runtime.harness import check, serving

INTEGER: dict[str, Any] = {"type": "integer"}
NUMBER: dict[str, Any] = {"type": "number"}
OBJECT: dict[str, Any] = {"type": "object"}
TREE = {"n": INTEGER, "inside": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}


def received(schema: Any, text: str) -> str:
    """What code would get of an input, as Python writes it."""
    compiled = Schema(schema, "input")
    value, body = canonicalize(text.encode())
    assert compiled.violation(value) is None
    return compiled.encode(value, body).decode()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *((text, "3") for text in ("3", "3.0", "3e0", "3E0", "3.000", "0.3e1", "30e-1", "3E+0", "300e-2")),
        *((text, "10") for text in ("1E1", "1e1", "1e+1", "10.0")),
        *((text, "0") for text in ("0", "-0", "0.0", "-0.0", "0e5", "-0e-5", "1e-999")),
        ("-7.0", "-7"),
        ("9007199254740991.0", "9007199254740991"),
        ("1e22", "1" + "0" * 22),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_each_way_to_write_an_integer_is_one(written: str, expected: str) -> None:
    assert received({"type": "object", "properties": {"n": INTEGER}}, f'{{"n":{written}}}') == f'{{"n":{expected}}}'


def test_the_largest_float_is_an_integer_of_few_digits() -> None:
    """What a float cannot hold is no number at all, so an exponent costs no memory."""
    text = received({"properties": {"n": INTEGER}}, '{"n":1e308}')
    assert text == f'{{"n":{int(1e308)}}}'
    assert len(text) < 320


AT_A_PLACE: list[tuple[str, Any, str, str]] = [
    ("items", {"items": INTEGER}, "[1.0,2e0]", "[1,2]"),
    ("prefixItems", {"prefixItems": [NUMBER, INTEGER], "items": INTEGER}, "[1.0,1.0,1.0]", "[1.0,1,1]"),
    ("unevaluatedItems", {"prefixItems": [NUMBER], "unevaluatedItems": INTEGER}, "[1.0,1.0]", "[1.0,1]"),
    ("properties", {"properties": {"a": {"properties": {"b": INTEGER}}}}, '{"a":{"b":1.0}}', '{"a":{"b":1}}'),
    (
        "additionalProperties",
        {"properties": {"p": NUMBER}, "additionalProperties": INTEGER},
        '{"p":1.0,"q":1.0}',
        '{"p":1.0,"q":1}',
    ),
    ("unevaluatedProperties", {"unevaluatedProperties": INTEGER}, '{"q":1.0}', '{"q":1}'),
    (
        "patternProperties",
        {"patternProperties": {"^i": INTEGER}, "additionalProperties": NUMBER},
        '{"i":1.0,"x":1.0}',
        '{"i":1,"x":1.0}',
    ),
    ("$ref", {"items": {"$ref": "#/$defs/n"}, "$defs": {"n": INTEGER}}, "[1.0]", "[1]"),
    (
        "a recursive $ref",
        {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": TREE}}},
        '{"n":1.0,"inside":[{"n":2.0,"inside":[{"n":3.0}]}]}',
        '{"n":1,"inside":[{"n":2,"inside":[{"n":3}]}]}',
    ),
    ("$ref to an alternative", {"anyOf": [{"items": {"$ref": "#/anyOf/1"}}, INTEGER]}, "[1.0]", "[1]"),
    ("allOf", {"items": {"allOf": [NUMBER, INTEGER, {"minimum": 0}]}}, "[1.0]", "[1]"),
    ("anyOf", {"items": {"anyOf": [INTEGER, {"type": "string"}]}}, '[1.0,"a"]', '[1,"a"]'),
    ("oneOf", {"items": {"oneOf": [INTEGER, {"type": "null"}]}}, "[1.0,null]", "[1,null]"),
    ("a list of types", {"items": {"type": ["integer", "null"]}}, "[1.0,null]", "[1,null]"),
    ("const", {"items": {"const": 1}}, "[1.0]", "[1]"),
    ("enum", {"items": {"enum": [1, 2.5, "a", True]}}, '[1.0,2.5,"a",true]', '[1,2.5,"a",true]'),
    ("then", {"if": {"required": ["i"]}, "then": {"properties": {"n": INTEGER}}}, '{"i":"","n":1.0}', '{"i":"","n":1}'),
    (
        "else",
        {"if": {"required": ["i"]}, "then": {}, "else": {"properties": {"n": INTEGER}}},
        '{"n":1.0}',
        '{"n":1}',
    ),
    ("dependentSchemas", {"dependentSchemas": {"i": {"additionalProperties": INTEGER}}}, '{"i":1.0}', '{"i":1}'),
    (
        "a union told apart by a constant",
        {
            "items": {
                "oneOf": [
                    {"properties": {"kind": {"const": "whole"}, "n": INTEGER}, "required": ["kind"]},
                    {"properties": {"kind": {"const": "any"}, "n": NUMBER}, "required": ["kind"]},
                ]
            }
        },
        '[{"kind":"whole","n":1.0},{"kind":"any","n":1.0}]',
        '[{"kind":"whole","n":1},{"kind":"any","n":1.0}]',
    ),
    (
        "a union told apart by what is required",
        {"anyOf": [{"required": ["a"], "properties": {"n": INTEGER}}, {"required": ["b"]}]},
        '{"a":"","n":1.0}',
        '{"a":"","n":1}',
    ),
]


@pytest.mark.parametrize(
    ("schema", "written", "expected"), [row[1:] for row in AT_A_PLACE], ids=[r[0] for r in AT_A_PLACE]
)
def test_the_place_makes_no_difference(schema: Any, written: str, expected: str) -> None:
    assert received(schema, written) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"items": NUMBER},
        {"items": {"type": ["integer", "number"]}},
        {"items": {"anyOf": [INTEGER, NUMBER]}},
        {"items": {"enum": [True, 1.0, "1"]}},
        {"items": {"not": {"type": "string"}}},
        {"contains": INTEGER},
    ],
    ids=str,
)
def test_a_number_that_is_not_called_an_integer_stays_as_it_was_written(schema: Any) -> None:
    assert received(schema, "[1.0]") == "[1.0]"
    assert received(schema, "[1]") == "[1]"


# Schemas of all kinds of places, with an input for each and what code must get.
Case = tuple[Any, Any, Any]
LEAVES: st.SearchStrategy[Case] = st.one_of(
    st.integers(-(2**53), 2**53).map(lambda n: (INTEGER, float(n), n)),
    st.integers(-(2**53), 2**53).map(lambda n: ({"type": ["null", "integer"]}, float(n), n)),
    st.integers(-(2**53), 2**53).map(lambda n: (NUMBER, float(n), float(n))),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: (NUMBER, x, x)),
    st.text(max_size=3).map(lambda text: ({"type": "string"}, text, text)),
)


def deeper(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    def in_object(cases: list[Case]) -> Case:
        names = [f"p{number}" for number in range(len(cases))]
        schema = {"type": "object", "properties": {n: c[0] for n, c in zip(names, cases, strict=True)}}
        return (
            schema | {"required": names},
            {n: c[1] for n, c in zip(names, cases, strict=True)},
            {n: c[2] for n, c in zip(names, cases, strict=True)},
        )

    def in_array(cases: list[Case]) -> Case:
        return {"type": "array", "prefixItems": [c[0] for c in cases]}, [c[1] for c in cases], [c[2] for c in cases]

    def repeated(case: Case) -> Case:
        value = copy.deepcopy(case[1])
        return {"type": "array", "items": case[0]}, [case[1], value], [case[2], copy.deepcopy(case[2])]

    def combined(case: Case, keyword: str) -> Case:
        other = {"type": "boolean"} if keyword != "allOf" else {}
        return {keyword: [case[0], other]}, case[1], case[2]

    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(in_object),
        st.lists(inner, min_size=1, max_size=3).map(in_array),
        inner.map(repeated),
        st.builds(combined, inner, st.sampled_from(["allOf", "anyOf", "oneOf"])),
        inner.map(lambda case: ({"additionalProperties": case[0]}, {"x": case[1]}, {"x": case[2]})),
    )


CASES = st.recursive(LEAVES, deeper, max_leaves=8)


def written(value: Any) -> str:
    """The value as JSON, in which 1 and 1.0 differ."""
    return json.dumps(value, sort_keys=True)


@given(CASES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_input_is_received_as_the_schema_says(case: Case, referred: bool) -> None:
    inner, value, expected = case
    schema = {"items": {"$ref": "#/$defs/it"}, "$defs": {"it": inner}} if referred else {"items": inner}
    got = received(schema, json.dumps([value]))
    assert written(json.loads(got)) == written([expected])
    assert json.loads(got) == [value], "the same value to JSON"
    assert received(schema, got) == got


@given(CASES)
@settings(max_examples=100, deadline=None)
def test_made_inputs_are_received_so_too(case: Case) -> None:
    schema = {"type": "object", "properties": {"x": case[0]}, "required": ["x"]}
    compiled = Schema(schema, "input")
    for one in generate(schema, [], lambda value: compiled.violation(value) is None):
        text = compiled.encode(*canonicalize(json.dumps(one.value).encode()))
        assert json.loads(text) == one.value
        assert compiled.violation(json.loads(text)) is None


@pytest.mark.parametrize(
    "schema",
    [INTEGER, {"type": ["integer", "null"]}, {"allOf": [INTEGER, {"minimum": 3}]}, {"multipleOf": 2, **INTEGER}],
)
def test_inputs_are_made_with_integers_in_both_forms(schema: Any) -> None:
    record = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    fits = Schema(record, "input")
    values = [one.value["x"] for one in generate(record, [], lambda value: fits.violation(value) is None)]
    assert any(is_whole_float(value) for value in values)
    assert any(type(value) is int for value in values)


KINDS = "def run(input):\n    return {name: type(value).__name__ for name, value in input.items()}\n"


def test_code_gets_integers_in_production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {
        "name": "ns/skill",
        "input": {"type": "object", "properties": {"i": INTEGER, "n": NUMBER}},
        "output": OBJECT,
        "callTimeoutSeconds": 5,
    }

    def contract(folder: Path, source: str, _timeout: float = 5) -> None:
        (folder / "skill.py").write_text(source)
        (folder / "contract.json").write_text(json.dumps(document))

    monkeypatch.setattr("tests.unit.runtime.harness.contract", contract)
    with serving(tmp_path, KINDS) as served:
        for text in (b"3.0", b"3e0", b"1E1", b"-0.0", b"3", b"1e300"):
            assert served.call(b'{"i": %b, "n": 3.0}' % text) == (200, {"i": "int", "n": "float"})
        for text in (b"1e400", b"-1E999", b"9" * 5000, b"NaN", b"3.5"):
            assert served.call(b'{"i": %b}' % text)[0] in (400, 422)


def test_code_gets_integers_in_a_check(tmp_path: Path) -> None:
    """Inputs are made in which they are written with a fraction, and so may examples be."""
    types = (
        "from typing import TypedDict\n\nclass Input(TypedDict):\n    n: int\n\nclass Output(TypedDict):\n    n: int\n"
    )
    schema = {"type": "object", "properties": {"n": INTEGER}, "required": ["n"]}
    checked = check(
        tmp_path,
        "from skill_types import Input, Output\n\ndef run(input: Input) -> Output:\n    return {'n': len(range(input['n']))}\n",
        types=types,
        input=schema,
        output=schema,
        examples=[{"name": "three", "input": {"n": 3.0}, "output": {"n": 3}}],
    )
    assert checked.report["passed"], checked.report["message"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, INTEGER]},
        {"anyOf": [{"$ref": "#"}, INTEGER]},
        {
            "$ref": "#/$defs/d0",
            "$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": INTEGER},
        },
        {
            "$ref": "#/$defs/d0",
            "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": INTEGER},
        },
        {"items": {"anyOf": [{"items": INTEGER}, *[{"anyOf": [{"type": "string"}] * 60}] * 60]}},
    ],
    ids=["itself", "all of itself", "any of itself", "doubling", "doubling in conjunctions", "wide"],
)
def test_no_schema_holds_up_the_server(schema: Any) -> None:
    """Such schemas are refused before, or cost their own skill alone: what matters is an end, and soon."""
    finder = Schema({"items": INTEGER}, "input")._integers
    finder._document = schema
    value = [[1.0] * 50_000 for _ in range(4)]
    began = time.monotonic()
    converted = finder.convert(value)
    assert converted == [[1] * 50_000] * 4
    assert time.monotonic() - began < 20
    assert not finder._known
