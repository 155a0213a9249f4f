"""The listed form of schemas: no client refuses it, and what the Skill's own schema takes can be sent and received."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft7Validator, Draft202012Validator

from skill_operator.api import tool_schema
from skill_operator.api.tool_schema import AmbiguousNameError, ListedSchema, listed_input, listed_output, rename
from skill_operator.untrusted.json_schema import is_presentable
from tests.unit.counting import count_lines

MAX_LINES = 400_000  # of Python, some 50 ns each

KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
AT_TOP = {"anyOf", "oneOf", "allOf", "$ref", "enum", "const", "not", "if", "then", "else", "$schema", "$defs"}
NAMES = ["a", "b", "Unit price", "€", "$filter", "", "x" * 65, "Unit_price", "line\n", "a/b"]
names = st.sampled_from(NAMES)
leaves = (
    st.sampled_from(
        [
            *({"type": kind} for kind in ("string", "integer", "number", "boolean", "null", "array", "object")),
            {"type": ["string", "null"]},
            {"const": "a"},
            {"enum": [1, True, None, {"Unit price": 1}]},
            {"type": "string", "pattern": r"(?i)^\p{L}+$"},
            {"type": "string", "pattern": "^[A-Z]{1,3}$", "format": "email", "maxLength": 3},
            {"exclusiveMinimum": 0, "multipleOf": 0.1},
            {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
            {"type": "array", "prefixItems": [{"type": "string"}]},
            {"$ref": "#"},
            {"$ref": "#/$defs/node"},
            {"$ref": "#/$defs/text", "description": "A text."},
            {},
        ]
    )
    | st.booleans()
)


def _compounds(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    members = st.dictionaries(names, inner, max_size=3)
    several = st.lists(inner, min_size=1, max_size=3)
    parts = {
        "type": st.sampled_from(["object", "array"]),
        "properties": members,
        "required": st.lists(names, max_size=2, unique=True),
        "additionalProperties": inner,
        "patternProperties": st.fixed_dictionaries({"^U": inner}),
        "items": inner,
        "prefixItems": several,
        "anyOf": several,
        "oneOf": several,
        "allOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "dependentSchemas": members,
        "unevaluatedProperties": st.booleans(),
    }
    return st.fixed_dictionaries({}, optional=parts).map(lambda schema: dict(list(schema.items())[:4]))


schemas = st.recursive(leaves, _compounds, max_leaves=12)
objects = st.builds(
    lambda top, other: {
        **(top if isinstance(top, dict) else {}),
        "type": "object",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"node": other, "text": {"type": "string", "title": "Text"}},
    },
    _compounds(schemas),
    schemas,
)
branches = st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from("abc"), leaves, max_size=2)})
alternatives = st.builds(
    lambda keyword, several, shared: {"type": "object", keyword: several, "$defs": {"node": {}, "text": {}}, **shared},
    st.sampled_from(["anyOf", "oneOf", "allOf"]),
    st.lists(branches, min_size=2, max_size=3),
    st.just({}) | branches,
)
values = st.recursive(
    st.sampled_from([None, True, 0, 1, 3.0, 0.1, "a", "", "AB", "x" * 5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(names | st.sampled_from("abc"), values, max_size=4)


def schemas_in(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from schemas_in(inner)
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from schemas_in(schema[keyword])
    for keyword in ("anyOf", "allOf"):
        for inner in schema.get(keyword, ()):
            yield from schemas_in(inner)


def assert_clients_take(schema: dict[str, Any]) -> None:
    assert schema["type"] == "object"
    assert isinstance(schema["properties"], dict)
    assert not AT_TOP & schema.keys()
    for inner in schemas_in(schema):
        assert isinstance(inner, dict)
        assert all(KEY.fullmatch(name) for name in inner.get("properties", ()))
        assert set(inner.get("required", ())) <= inner.get("properties", {}).keys()
        assert not {"$ref", "$defs", "oneOf", "not", "prefixItems", "$schema"} & inner.keys()
        assert "items" in inner or inner.get("type") != "array"
        assert "properties" in inner or inner.get("type") != "object"
    Draft7Validator(schema)
    Draft202012Validator(schema)
    assert len(json.dumps(schema)) <= tool_schema.MAX_BYTES


relaxed = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@relaxed
@given(objects)
def test_clients_take_any_schema_that_the_operator_takes(schema: dict[str, Any]) -> None:
    assume(is_presentable(schema))
    for listed in (listed_input(schema), listed_output(schema)):
        assert_clients_take(listed.schema)
        assert len(set(listed.names.values())) == len(listed.names)
        assert not set(listed.names.values()) & set(NAMES)


@relaxed
@given(objects | alternatives, bodies)
def test_every_answer_fits_the_listed_output(schema: dict[str, Any], body: dict[str, Any]) -> None:
    assume(is_presentable(schema) and Draft202012Validator(schema).is_valid(body))
    listed = listed_output(schema)
    sent = rename(body, listed.names)
    for draft in (Draft7Validator, Draft202012Validator):
        assert draft(listed.schema).is_valid(sent), (listed.schema, sent)
    assert rename(sent, {there: here for here, there in listed.names.items()}) == body


OBJECT = {"type": "object"}
CHAIN = {f"d{number}": {"allOf": [{"$ref": f"#/$defs/d{number + 1}"}] * 2} for number in range(40)} | {"d40": {}}
MESH = {f"d{n}": {"properties": {f"k{each}": {"$ref": f"#/$defs/d{each}"} for each in range(30)}} for n in range(30)}
ONE_OF_TWO = [{"const": "a"}, {"type": "null"}]
LARGE: dict[str, dict[str, Any]] = {
    "a chain that doubles": OBJECT | {"$defs": CHAIN, "$ref": "#/$defs/d0"},
    "a chain in a property": OBJECT | {"$defs": CHAIN, "properties": {"a": {"$ref": "#/$defs/d0"}}},
    "a mesh": OBJECT | {"$defs": MESH, "properties": {"a": {"$ref": "#/$defs/d0"}}},
    "many properties": OBJECT | {"properties": {f"p{number}": {} for number in range(3900)}},
    "many odd properties": OBJECT | {"properties": {f"€{number}": {} for number in range(3900)}},
    "odd properties": OBJECT | {"properties": {f"p {number}": {"anyOf": ONE_OF_TWO} for number in range(600)}},
    "required properties": OBJECT | {"required": [f"€{number}" for number in range(3900)]},
    "alternatives": OBJECT | {"anyOf": [{"properties": {f"p{n}": {}}, "required": [f"p{n}"]} for n in range(800)]},
    "an enum": OBJECT | {"properties": {"a": {"enum": list(range(4000))}}},
    "constants": OBJECT | {"properties": {"a": {"anyOf": [{"const": number} for number in range(1300)]}}},
    "texts": OBJECT | {"properties": {f"p{number}": {"description": "w" * 60} for number in range(1900)}},
    "a name": OBJECT | {"properties": {"x" * 200_000: {}}},
    "patterns": OBJECT | {"properties": {f"p{n}": {"pattern": "[a-z]{1,3}(a|b)*" * 60} for n in range(64)}},
    "odd patterns": OBJECT | {"properties": {f"p{n}": {"pattern": r"\d" * 500 + r"\p{L}"} for n in range(64)}},
}


@pytest.mark.parametrize("schema", LARGE.values(), ids=LARGE)
def test_what_is_large_is_listed_in_brief_and_at_once(schema: dict[str, Any]) -> None:
    assert is_presentable(schema)
    for make in (listed_input, listed_output):
        made: list[ListedSchema] = []
        lines = count_lines(lambda make=make, made=made: made.append(make(schema)))  # type: ignore[misc]
        assert lines < MAX_LINES, "both schemas of a Skill hold up the calls of others for 50 ms at most"
        assert_clients_take(made[0].schema)
        assert len(made[0].changes) == len(set(made[0].changes))


@pytest.mark.parametrize(
    ("schema", "properties", "required"),
    [
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {"type": "string"}, "b": {}}}, {"a": {"type": "string"}, "b": {}}, None),
        (
            {
                "oneOf": [
                    {"properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}, "required": ["kind", "x"]},
                    {"properties": {"kind": {"const": "b"}, "y": {"type": "string"}}, "required": ["kind"]},
                ]
            },
            {"kind": {"enum": ["a", "b"]}, "x": {"type": "integer"}, "y": {"type": "string"}},
            ["kind"],
        ),
        ({"$ref": "#/$defs/in", "$defs": {"in": {"properties": {"x": {"$ref": "#/$defs/t"}}, "required": ["x"]}, "t": {"type": "string"}}}, {"x": {"type": "string"}}, ["x"]),
        ({"allOf": [{"properties": {"x": {"minimum": 1}}}, {"properties": {"x": {"type": "integer"}}}]}, {"x": {"minimum": 1, "type": "integer"}}, None),
        ({"if": {"required": ["a"]}, "then": {"properties": {"b": {"type": "null"}}}}, {"b": {"type": "null"}}, None),
        ({"required": ["a"]}, {"a": {}}, ["a"]),
        ({"properties": {"tree": {"$ref": "#"}, "no": False}}, {"tree": {"type": "object", "properties": {}}}, None),
        ({"properties": {"p": {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "string"}}}}, {"p": {"type": "array", "items": {"anyOf": [{"type": "null"}, {"type": "string"}]}}}, None),
    ],
)  # fmt: skip
def test_an_agent_learns_what_it_may_send(
    schema: dict[str, Any], properties: dict[str, Any], required: list[str] | None
) -> None:
    listed = listed_input(OBJECT | schema)
    assert_clients_take(listed.schema)
    assert (listed.schema["properties"], listed.schema.get("required")) == (properties, required)
    assert listed.changes or required == ["a"]


def test_an_agent_learns_what_belongs_together() -> None:
    schema = {"anyOf": [{"required": ["a"]}, {"required": ["b", "Unit price"]}], "description": "An order."}
    listed = listed_input(OBJECT | schema)
    description = f"An order. Needs a, or b and {listed.names['Unit price']}."
    assert listed.schema["description"] == description
    assert listed_output(OBJECT | schema).schema["description"] == "An order."


def test_a_plain_schema_is_listed_as_it_is() -> None:
    lines = {"type": "array", "items": {"type": "object", "properties": {"qty": {"type": "integer", "minimum": 0}}}}
    plain = OBJECT | {
        "title": "Invoice",
        "properties": {
            "lines": lines | {"minItems": 1},
            "code": {"type": "string", "pattern": r"^[A-Z]{2}-\d+$", "format": "date", "default": "AB-1"},
            "note": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}], "description": "Why."},
        },
        "required": ["lines"],
        "additionalProperties": False,
    }
    assert listed_input(plain) == (plain, {}, ())
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://203.0.113.1/x", **plain}
    assert listed_input(schema) == (plain, {}, ())


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?i)a",
        r"\p{L}",
        r"(?<n>a)",
        r"a\-b",
        r"[[:alpha:]]",
        r"(?=a)",
        r"\x{41}",
        r"\A",
        r"[a&&b]",
        r"[z--a]",
        "a**",
        "a++",
        "a{2}{3}",
        "^*a",
        r"[\w-.]",
        "a{2",
        r"\_",
        "]",
    ],
)
def test_a_pattern_that_not_all_clients_read_is_left_out(pattern: str) -> None:
    listed = listed_input(OBJECT | {"properties": {"a": {"type": "string", "pattern": pattern}}})
    assert listed.schema["properties"] == {"a": {"type": "string"}}
    assert listed.changes == ("pattern is left out",)


@given(st.dictionaries(names | st.text(max_size=70), st.integers(), max_size=8))
def test_every_odd_name_has_a_name_of_its_own(body: dict[str, int]) -> None:
    listed = listed_input(OBJECT | {"properties": {name: {"type": "integer"} for name in body}})
    assert_clients_take(listed.schema)
    sent = {listed.names.get(name, name): value for name, value in body.items()}
    assert len(sent) == len(body)
    assert rename(sent, {there: here for here, there in listed.names.items()}) == body
    for name, given_name in listed.names.items():
        with pytest.raises(AmbiguousNameError):
            rename({name: 1, given_name: 2}, {given_name: name})


TOKENS = [
    *r"ab09-_^$.*+?()[]{}|/\,:&~ é",
    r"\d",
    r"\w",
    r"\S",
    r"\-",
    "(?:",
    "{2}",
    "{1,3}",
    "[a-z]",
    "[^",
    "--",
    r"\p{L}",
    "(?=",
]


@given(st.lists(st.sampled_from(TOKENS), max_size=8).map("".join))
def test_a_listed_pattern_compiles_elsewhere(pattern: str) -> None:
    listed = listed_input(OBJECT | {"properties": {"a": {"pattern": pattern}}}).schema["properties"]["a"]
    if "pattern" in listed and is_a_pattern(pattern):
        re.compile(pattern)


def is_a_pattern(pattern: str) -> bool:
    try:
        Draft202012Validator({"pattern": pattern})
    except ValueError:
        return False
    return True
