"""Whether a body fits. The short cut says what the walk says, and costs what it says that it costs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skill_operator.api.v1alpha1 import ObjectMeta
from skill_operator.gateway import input_validation
from skill_operator.gateway.problems import Problem
from skill_operator.untrusted.json_schema import BadSchemaError, CompiledSchema, WorkBudget
from skill_operator.untrusted.json_values import weight
from skill_runtime.strict_json import StrictJsonError, canonicalize

META = ObjectMeta(name="invoice", namespace="finance")
LINES = {
    "type": "object",
    "properties": {"lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}, "to": {"type": "string"}},
    "required": ["lines"],
    "$defs": {"line": {"type": "object", "properties": {"qty": {"type": "number"}}, "required": ["qty"]}},
}
TREE: dict[str, Any] = {"properties": {"kids": {"items": {"$ref": "#"}}}, "type": "object"}
TWICE: dict[str, Any] = {
    "$ref": "#/$defs/d0",
    "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": True},
}
CHAIN: dict[str, Any] = {
    "$ref": "#/$defs/d0",
    "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(1300)} | {"d1300": {"type": "array"}},
}
texts = st.text(st.characters(exclude_categories=()), max_size=6)
names = st.sampled_from(["a", "b", "lines"])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | texts, inner, max_size=4), max_leaves=12
)
types = st.sampled_from(["object", "array", "string", "number", "integer", "boolean", "null"])


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    keywords = {
        "type": types,
        "properties": st.dictionaries(names, inner, max_size=3),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "s$"]), inner, max_size=2),
        "additionalProperties": inner,
        "propertyNames": inner,
        "items": inner,
        "prefixItems": some,
        "contains": inner,
        "allOf": some,
        "anyOf": some,
        "oneOf": some,
        "not": inner,
        "if": inner,
        "then": inner,
        "dependentSchemas": st.dictionaries(names, inner, max_size=2),
        "enum": st.lists(st.none() | st.integers(-3, 3) | names, min_size=1, max_size=3, unique_by=repr),
        "uniqueItems": st.booleans(),
        "maxLength": st.integers(0, 4),
        "pattern": st.sampled_from(["^a", "b{1,60}$", r"^\S+$"]),
        "unevaluatedProperties": inner,
        "const": st.none() | st.lists(st.integers(0, 2), max_size=3),
        "multipleOf": st.integers(1, 3),
        "required": st.lists(names, max_size=2, unique=True),
        "$ref": st.sampled_from(["#/$defs/one", "#/$defs/two", "#"]),
    }
    return st.fixed_dictionaries({}, optional=keywords)


schemas = st.builds(
    lambda root, one, two: {**root, "$defs": {"one": one, "two": two}},
    *[_schemas(st.recursive(st.booleans(), _schemas, max_leaves=4))] * 3,
)


def verdict(contract: CompiledSchema | None, body: bytes) -> tuple[int, str]:
    try:
        input_validation.validate_input(contract, body, META)
    except Problem as problem:
        return problem.status, problem.detail
    return 200, ""


def walked(contract: CompiledSchema, body: bytes) -> tuple[int, str]:
    try:
        input_validation._validate_fully(contract, body, META)
    except Problem as problem:
        return problem.status, problem.detail
    return 200, ""


@given(schemas, values, st.booleans())
@settings(max_examples=100, deadline=None)
@example(TREE, {"kids": [{"kids": []}]}, True)
@example(LINES, {"lines": [{"qty": 1}] * 40}, False)
@example({"enum": [1e999]}, float("inf"), True)
@example({"propertyNames": {"maxLength": 1}}, {"\ud800": 1}, True)
def test_the_short_cut_says_what_the_walk_says(schema: dict[str, Any], value: Any, escaped: bool) -> None:
    try:
        contract = CompiledSchema(schema)
    except BadSchemaError:
        return
    body = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert verdict(contract, body) == walked(contract, body)


@given(schemas, values)
@settings(max_examples=100, deadline=None)
@example(LINES, {"lines": [{"qty": 1}] * 40})
@example({"patternProperties": {"^a": {"propertyNames": True}}}, {"a" * 300: {"b" * 300: 1}})
def test_nothing_costs_more_than_was_said(schema: dict[str, Any], value: Any) -> None:
    class Paid(WorkBudget):
        spent = searched = 0

        def pay(self, units: int, searches: int = 0) -> None:
            self.spent += units
            self.searched += searches

    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert weight(value) <= input_validation._max_weight(body)
    try:
        contract = CompiledSchema(schema)
    except BadSchemaError:
        return
    if contract._breadth.units < 1000:
        paid = Paid(0, 0)
        contract._pay(value, paid)
        assert paid.spent <= 2 * contract._breadth.units * weight(value)
        assert paid.searched <= 2 * contract._breadth.kib * len(body.decode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("schema", [TREE, TWICE, CHAIN], ids=["a loop", "an explosion", "a long chain"])
def test_what_may_cost_anything_takes_no_short_cut(schema: dict[str, Any]) -> None:
    contract = CompiledSchema(schema)
    assert not contract.surely_fits([], 1, 2, input_validation.MAX_WORK)
    assert verdict(contract, b"{}")[0] == (422 if schema is CHAIN else 200)


def test_a_usual_body_takes_the_short_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("walked through")

    monkeypatch.setattr(input_validation, "_validate_fully", refuse)
    value = {"lines": [{"qty": n} for n in range(40)], "to": "L\u00e9a, 12\u00bd \U0001f600 \n\x1f"}
    input_validation.validate_input(CompiledSchema(LINES), json.dumps(value, ensure_ascii=False).encode(), META)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xef\xbb\xbf{}", 400),
        ('{"lines": []}'.encode("utf-16"), 400),
        ('{"lines": []}'.encode("utf-16-le"), 400),
        (b'{"lines": [NaN]}', 400),
        (b'{"lines": []} ]', 400),
        (b'{"lines": [], "lines": 1}', 422),
        (b'{"lines": [], "to": "\\ud83d\\ude00"}', 200),
        (b'{"lines": [], "to": "\\uDFFF"}', 400),
        (b'{"lines": 1, "to": "\\udfff"}', 400),
        (b'{"lines": [], "to": "\xed\xa0\x80"}', 400),
        (b'{"lines": [], "to": "\xff"}', 400),
        (b"[" * 20_000, 400),
        (b"[" * 2_000 + b"]" * 2_000, 400),
        (b'{"lines": 1, "to": 1e999}', 400),
        (b'{"lines": 1' + b"0" * 18 + b"}", 422),
        (b'{"lines": 1' + b"0" * 4000 + b"}", 200),
        (b'{"lines": 1' + b"0" * 5000 + b"}", 400),
        (b"x" * (input_validation.MAX_VALIDATED_BYTES + 1), 200),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bodies_that_are_nearly_json(body: bytes, status: int) -> None:
    """What has a flaw that only the runtime judges is passed on."""
    assert verdict(CompiledSchema(LINES), body)[0] == status


# JSON as programs of all kinds write it, and what is nearly JSON.
NUMBERS = [
    "0",
    "-0.0",
    "1e400",
    "-1E+999",
    "1e-400",
    "9" * 400 + ".0",
    "9" * 5000,
    "1" * 4300,
    "NaN",
    "Infinity",
    "01",
    "1.",
]
STRINGS = [
    '""',
    r'"\ud83d"',
    r'"\ud83d\ude00"',
    r'"\uDE00\ud83d"',
    r'"\\ud83d"',
    r'"\u0000"',
    '"\x00"',
    '"\u00e9"',
    "'a'",
    '"\t"',
]
PARTS = st.sampled_from([*NUMBERS, *STRINGS, "null", "true", "True", "", " ", "[]", "{}"])
DOCUMENTS = st.recursive(
    PARTS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(inner, max_size=3).map(lambda items: "{" + ",".join(f'"a": {item}' for item in items) + "}"),
        st.builds(
            lambda text, levels: "[" * levels + text + "]" * levels,
            inner,
            st.sampled_from([1, 31, 66]),
        ),
        st.builds(
            lambda text, end: text + end, inner, st.sampled_from(["", " ", "\n", "x", "{}", "\x0b", "\ufeff", "\u00a0"])
        ),
    ),
    max_leaves=6,
)
ENCODINGS = [
    "utf-8",
    "utf-8",
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "utf-32-le",
    "utf-32-be",
    "latin-1",
]


def is_json_to_the_runtime(body: bytes) -> bool:
    try:
        canonicalize(body)
    except StrictJsonError:
        return False
    return True


def is_json_to_the_gateway(body: bytes, schema: CompiledSchema | None) -> bool:
    try:
        input_validation.validate_input(schema, body, META)
    except Problem as problem:
        return problem.status != 400
    return True


@given(DOCUMENTS, st.sampled_from(ENCODINGS))
@settings(max_examples=500, deadline=None)
@example("", "utf-8")
@example("1", "utf-16-le")
@example("[]", "utf-16")
def test_what_the_runtime_calls_no_json_wakes_nobody(text: str, encoding: str) -> None:
    body = text.encode(encoding, "replace")
    expected = is_json_to_the_runtime(body)
    may_be_deep = text.count("[") + text.count("{") > 100  # of levels see below
    for schema in (None,) if may_be_deep else (None, CompiledSchema({}), CompiledSchema({"type": "object"})):
        assert is_json_to_the_gateway(body, schema) == expected


@pytest.mark.parametrize("levels", [32, 33, 99, 100, 101, 200])
def test_both_count_levels_alike(levels: int) -> None:
    """Where the schema does not describe them, so that it takes no walk through them, the runtime alone counts."""
    body = b"[" * levels + b"]" * levels
    assert is_json_to_the_runtime(body) == (levels <= 100)
    assert is_json_to_the_gateway(body, None) == (levels <= 100)
    assert is_json_to_the_gateway(body, CompiledSchema({"type": "object"})) == (levels <= 100)
