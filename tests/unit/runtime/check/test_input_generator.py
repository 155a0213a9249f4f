"""Made up inputs: they fit, they are the same every time, and they reach the ends of what a schema allows."""

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_runtime.check.input_generator import MAX_INPUT_CHARACTERS, MAX_INPUTS, generate
from skill_runtime.contract import Schema
from skill_runtime.settings import RuntimeSettingsError
from tests.unit.runtime.harness import SOURCE


def record(**fields):
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def made(schema, samples=()):
    schema_ = Schema(schema, "input")
    return generate(schema, samples, lambda value: schema_.violation(value) is None)


def of(schema, samples=()):
    """What is made for a field of that schema."""
    return [one.value["x"] for one in made(record(x=schema), [{"x": sample} for sample in samples])]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer", "minimum": 3, "maximum": 4}, {3, 4}),
        ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 6}, {4, 5}),
        ({"type": "integer", "multipleOf": 50}, {-100, 0, 100}),
        ({"type": "integer"}, {-100, 100, 0}),
        ({"type": "number", "minimum": 1}, {1, 101}),
        ({"type": "boolean"}, {True, False}),
        ({"type": ["null", "boolean"]}, {None, True, False}),
        ({"enum": ["a", "b"]}, {"a", "b"}),
        ({"const": 7}, {7}),
        ({"type": "string", "format": "date"}, {"2024-02-29"}),
        ({"type": "string", "minLength": 1, "maxLength": 1}, {"a", "0", " ", "💥"}),
        ({"type": "string", "minLength": 50}, {"abc " * 12 + "ab"}),
        ({"anyOf": [{"const": 1}, {"const": 2}]}, {1, 2}),
        ({"type": "integer", "oneOf": [{"maximum": 5}, {"minimum": 7}]}, {7, 1}),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 3}]}, {3}),
        ({"type": "integer", "not": {"minimum": 0}}, {-1, -100}),
    ],
)
def test_the_ends_of_what_is_allowed_are_reached(schema, expected):
    assert expected <= set(of(schema))


def test_arrays_and_maps_are_empty_and_full():
    lists = of({"type": "array", "items": {"type": "integer"}})
    assert {0, 3} <= {len(one) for one in lists}
    assert {2} == {len(one) for one in of({"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 2})}
    unique = of({"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 2})
    assert [False, True] in [sorted(one) for one in unique]
    maps = of({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1})
    assert all(maps)
    assert of({"type": "array", "prefixItems": [{"const": 1}, {"const": "a"}], "items": False, "minItems": 2}) == [
        [1, "a"]
    ]


def test_what_is_optional_is_there_and_is_not():
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}}, "required": ["a"]}
    assert {True, False} == {"b" in one.value for one in made(schema)}
    assert all("a" in one.value for one in made(schema))


def test_definitions_are_followed_to_an_end():
    tree = record(kids={"type": "array", "items": {"$ref": "#"}})
    assert {"kids": []} in [one.value for one in made(tree)]
    endless = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, **record(x={"$ref": "#/$defs/a"})}
    assert made(endless) == []
    line = record(n={"$ref": "#/$defs/line~1n"}) | {"$defs": {"line/n": {"const": 5}}}
    assert [one.value for one in made(line)] == [{"n": 5}]


def test_patterns_are_left_to_samples():
    pattern = {"type": "string", "pattern": "^[A-Z]{3}-[0-9]+$"}
    assert of(pattern) == []
    assert of(pattern, ["ABC-1"]) == ["ABC-1"]
    assert of({**pattern, "examples": ["XYZ-9", "wrong"]}) == ["XYZ-9"]


def test_where_the_schema_is_silent_samples_speak_and_nothing_is_promised():
    for silent in ({}, True, {"type": "object"}, {"type": "array"}, {"description": "any"}):
        sample = [1] if silent == {"type": "array"} else {"q": 1}
        found = made(record(x=silent), [{"x": sample}])
        assert [one.value for one in found] == [{"x": sample}]
        assert not any(one.described for one in found)
    assert all(one.described for one in made(record(x={"type": "object", "additionalProperties": False})))
    assert all(one.described for one in made(record(x={"type": "array", "items": {"type": "string"}})))


def test_the_first_is_the_least():
    schema = {"type": "object", "required": ["n", "m", "s", "xs", "d"], "properties": {
        "n": {"type": "integer"}, "m": {"type": "number", "minimum": 3}, "s": {"type": "string"}, "o": {"const": 1},
        "xs": {"type": "array", "items": {"type": "null"}}, "d": {"type": "object", "additionalProperties": {"const": 1}},
    }}  # fmt: skip
    first, *others = made(schema)
    assert first.value == {"n": 0, "m": 3, "s": "", "xs": [], "d": {}}
    assert [one.minimal for one in (first, *others)] == [True] + [False] * len(others)


def test_samples_are_drawn_from():
    assert 777 in of({"type": "integer"}, [777])
    assert 778 in of({"type": "integer"}, [777])
    assert "rare" in of({"type": "string"}, ["rare"])


def test_they_are_the_same_in_every_process():
    schema = record(a={"type": "string"}, b={"type": "array", "items": {"type": "number"}}, c={"type": "object",
        "additionalProperties": {"type": "integer"}})  # fmt: skip
    code = f"import sys; sys.path.append({str(SOURCE)!r})\nfrom skill_runtime.check.input_generator import generate\nprint([one.value for one in generate({schema!r}, [], lambda value: True)])"
    told = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout for _ in "ab"
    }
    assert told == {f"{[one.value for one in generate(schema, [], lambda value: True)]}\n"}


def chain(levels):
    defs = {f"d{n}": {"type": "array", "minItems": 2, "items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(levels)}
    return {**record(x={"$ref": "#/$defs/d0"}), "$defs": defs | {f"d{levels}": {"type": "null"}}}


@pytest.mark.parametrize(
    "schema",
    [
        chain(5),
        chain(40),
        record(**{f"f{n}": {"type": "string", "minLength": 40} for n in range(250)}),
        record(x={"type": "array", "minItems": 1 << 19, "items": {"type": "integer"}}),
        record(x={"type": "string", "minLength": 1 << 19}),
        record(x={"type": "integer", "minimum": 1e308}),
        record(x={"type": "integer", "minimum": 5, "maximum": 1}),
        record(x={"type": "number", "multipleOf": 1e-300}),
        record(x={"allOf": [{"$ref": "#"}] * 50}),
        record(x={"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "minItems": 3}),
    ],
)
def test_hostile_schemas_cost_little(schema):
    began = time.process_time()
    for one in made(schema):
        assert len(str(one.value)) < 2 * MAX_INPUT_CHARACTERS
    assert time.process_time() - began < 3


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
number = st.integers(-5, 50) | st.floats(-5, 50)
length = st.integers(0, 9)
schemas = st.recursive(
    st.just({}) | st.booleans() | st.sampled_from([{"$ref": "#"}, {"$ref": "#/$defs/a"}, {"$ref": "#/nowhere"}]),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", "integer", "number", "null", ["integer", "null"]]),
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            "required": st.lists(st.sampled_from("abcd"), max_size=3, unique=True),
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "additionalProperties": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=3),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "enum": st.lists(json, min_size=1, max_size=3),
            "const": json,
            "default": json,
            "examples": st.lists(json, max_size=2),
            "minimum": number,
            "exclusiveMaximum": number,
            "multipleOf": st.integers(1, 5) | st.floats(0.5, 4),
            "minItems": length, "maxItems": length, "minLength": length, "maxLength": length, "minProperties": length,
            "uniqueItems": st.booleans(),
            "format": st.sampled_from(["date", "email", "strange"]),
            "$defs": st.dictionaries(st.just("a"), inner, max_size=1),
        },
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(schemas, st.lists(json, max_size=2))
def test_whatever_the_schema_it_ends_and_what_is_made_fits(schema, samples):
    try:
        checked = Schema(schema, "input")
    except RuntimeSettingsError:
        return
    found = generate(schema, samples, lambda value: checked.violation(value) is None)
    assert len(found) <= MAX_INPUTS
    assert [one.value for one in found] == [
        one.value for one in generate(schema, samples, lambda value: checked.violation(value) is None)
    ]
    assert all(checked.violation(one.value) is None for one in found)
