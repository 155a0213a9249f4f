"""Types from schemas: right for the usual, harmless for the rest. mypy and Python are the judges."""

from __future__ import annotations

import ast
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mypy import api as mypy

from skill_operator.generation import typed_dicts
from skill_operator.generation.typed_dicts import MAX_MODULE_CHARACTERS, types_module

Json = dict[str, Any]
OBJECT: Json = {"type": "object"}


def record(required: list[str] | None = None, **fields: Any) -> Json:
    return {"type": "object", "properties": fields, "required": required or []}


def defined(text: str) -> dict[str, Any]:
    """What the module defines, when it runs."""
    names: dict[str, Any] = {}
    exec(compile(text, "skill_types.py", "exec"), names)  # noqa: S102 - the text is the product
    return names


def field(schema: Any) -> str:
    """The type of a required field with that schema."""
    tree = ast.parse(types_module(record(["x"], x=schema), OBJECT))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Input")
    assert isinstance(found.body[0], ast.AnnAssign)
    return ast.unparse(found.body[0].annotation)


def checked(tmp_path: Path, types: str, code: str) -> str:
    """What mypy says about code that uses the types; nothing, if it has nothing to say."""
    (tmp_path / "skill_types.py").write_text(types)
    (tmp_path / "skill.py").write_text(code)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\nmypy_path = " + str(tmp_path))
    config = [
        "--config-file",
        str(tmp_path / "mypy.ini"),
        "--cache-dir",
        str(tmp_path.parent / "cache"),
        "--no-site-packages",
    ]
    depth = sys.getrecursionlimit()
    try:
        out, err, status = mypy.run([*config, str(tmp_path / "skill.py"), str(tmp_path / "skill_types.py")])
    finally:
        sys.setrecursionlimit(depth)  # mypy raises it for the whole process, and other tests come after this
    return "" if status == 0 else out + err


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "str"),
        ({"type": "integer"}, "int"),
        ({"type": "number"}, "float"),
        ({"type": "boolean"}, "bool"),
        ({"type": "null"}, "None"),
        ({"type": ["number", "null"]}, "float | None"),
        ({"type": "array", "items": {"type": "string"}}, "list[str]"),
        ({"type": "array"}, "list[Any]"),
        ({"type": "object"}, "dict[str, Any]"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "dict[str, int]"),
        ({"enum": ["a", "b", None, 1, True, "a"]}, "Literal['a', 'b', None, 1, True]"),
        ({"const": "it's\n"}, 'Literal["it\'s\\n"]'),
        ({"enum": [1.5]}, "Any"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "string"}]}, "str | int"),
        ({"oneOf": [{"type": "string"}, {}]}, "Any"),
        (record(y={"type": "integer"}), "InputX"),
        ({"type": ["object", "null"], "properties": {"y": {"type": "integer"}}}, "InputX | None"),
        ({"type": "array", "items": record(y={"type": "integer"})}, "list[InputXItem]"),
        ({"$ref": "#"}, "Input"),
        ({"$ref": "#/properties/x"}, "Any"),
        ({"allOf": [{"type": "string"}], "$ref": "#/properties/x/allOf/0"}, "str"),
        ({"$ref": "https://example.org/x"}, "Any"),
        ({"type": "file"}, "Any"),
        ({}, "Any"),
        (True, "Any"),
        (None, "Any"),
        (7, "Any"),
    ],
)
def test_type_of_a_field(schema: Any, expected: str) -> None:
    assert field(schema) == expected


def test_what_is_not_required_may_be_missing() -> None:
    found = defined(types_module(record(["a"], a={"type": "string"}, b={"type": "string"}), OBJECT))["Input"]
    assert found.__annotations__["a"].__forward_arg__ == "str"
    assert found.__annotations__["b"].__forward_arg__ == "NotRequired[str]"


def test_definitions_are_followed() -> None:
    line = record(["qty"], qty={"type": "integer"})
    schema = record(["lines"], lines={"type": "array", "items": {"$ref": "#/$defs/line"}}) | {"$defs": {"line": line}}
    assert "qty: int" in types_module(schema, OBJECT)


def test_the_checker_holds_code_to_the_contract(tmp_path: Path) -> None:
    schema = record(["lines"], lines={"type": "array", "items": record(["qty"], qty={"type": "integer"})})
    types = types_module(schema, record(["total"], total={"type": "number"}))
    head = "from skill_types import Input, Output\n\ndef run(input: Input) -> Output:\n"
    assert checked(tmp_path, types, head + "    return {'total': sum(x['qty'] for x in input['lines'])}\n") == ""
    assert "typeddict-item" in checked(tmp_path, types, head + "    return {'total': 'many'}\n")
    assert "typeddict-item" in checked(tmp_path, types, head + "    return {'total': input['line']}\n")
    bare = "from typing import Any\n\ndef run(input: dict[str, Any]) -> dict[str, Any]:\n    return input\n"
    assert checked(tmp_path, types, bare) == ""


STRANGE = [
    "",
    "a b",
    "class",
    "list",
    "int",
    "__x",
    "Input",
    "ﬁ",
    "é",
    "q'\"\n\\",
    "\ud800",
    "}",
    "{x}",
    "1",
    "#",
    "self",
]


@pytest.mark.parametrize(
    "schemas",
    [
        (record(STRANGE, **{name: {"type": "array", "items": {"type": "integer"}} for name in STRANGE}), OBJECT),
        (record(list=OBJECT, x={"type": "array", "items": {"type": "string"}}), OBJECT),
        (record(["a b"], **{"a b": {"$ref": "#"}}), OBJECT),
        (record(**{"a b": {"anyOf": [{"$ref": "#"}, {"enum": ["'", '"']}]}}), OBJECT),
        (record(next={"type": ["object", "null"], "properties": {"next": {"$ref": "#"}}}), OBJECT),
        (OBJECT, {"type": ["object", "null"], "properties": {"a": {"type": "integer"}}}),
        (OBJECT, {"type": "null"}),
        (OBJECT, {"type": "array", "items": record(a={"type": "integer"})}),
        (OBJECT, {"anyOf": [record(a={"type": "integer"}), record(b={"type": "integer"})]}),
        (OBJECT, record(a={}) | {"anyOf": [{"required": ["a"]}]}),
        (OBJECT, {"$ref": "#/$defs/tree", "$defs": {"tree": record(kids={"$ref": "#/$defs/trees"}),
            "trees": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}),
        (OBJECT, {"$ref": "#"}),
        (OBJECT, record(a={"$ref": "#/$defs/a"}) | {"$defs": {"a": {"$ref": "#/$defs/a"}}}),
        (record(inputA=record(x={}), a=record(y={}), A=record(z={})), record(a=record(y={}))),
    ],
)  # fmt: skip
def test_mypy_and_python_take_strange_schemas(tmp_path: Path, schemas: tuple[Json, Json]) -> None:
    text = types_module(*schemas)
    assert {"Input", "Output"} <= defined(text).keys()
    use = "from skill_types import Input, Output\n\n\ndef run(input: Input) -> Output:\n    raise ValueError\n"
    assert checked(tmp_path, text, use) == ""


def chain(levels: int, options: int) -> Json:
    """Definitions that each name the next one several times: small to write, endless to write out."""
    defs: Json = {
        f"d{n}": {"anyOf": [{"type": "array", "items": {"$ref": f"#/$defs/d{n + 1}"}}] * options
                  + [{"type": "object", "additionalProperties": {"$ref": f"#/$defs/d{n + 1}"}}] * options}
        for n in range(levels)
    }  # fmt: skip
    return {"$ref": "#/$defs/d0", "$defs": defs | {f"d{levels}": {"type": "string"}}}


def deep(levels: int) -> Json:
    schema: Json = {"type": "string"}
    for _ in range(levels):
        schema = record(**{"x" * 100: schema})
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        record(**{f"field{n}": record(x={"type": "string"}) for n in range(10_000)}),
        record(**{"x" * 1_000_000: {"type": "string"}}),
        record(**{f"f{n}": record(**{f"g{m}": record(x={}) for m in range(150)}) for n in range(150)}),
        {"enum": [str(n) for n in range(10_000)]},
        {"enum": ["x" * 1_000_000]},
        {"enum": [10**5000]},
        {"const": {"a": [1]}},
        {"enum": []},
        chain(40, 2),
        chain(6, 100),
        deep(150),
        {"type": "array", "items": {"type": ["string"] * 1000}},
        {"properties": [], "type": "object"},
        {"type": "object", "properties": {"a": 1}, "required": "a"},
        {"type": "object", "properties": {"a": {"$ref": 7}}, "required": [7, None]},
        {"type": ["array", 3, None], "items": []},
        {"anyOf": {}, "oneOf": "x"},
        {"$ref": "#/" + "/" * 1000},
    ],
)
def test_hostile_schemas_are_cheap_and_their_text_is_small_and_runs(schema: Json) -> None:
    began = time.monotonic()
    text = types_module(schema, schema)
    assert time.monotonic() - began < 2
    assert len(text) < MAX_MODULE_CHARACTERS + 1000
    assert {"Input", "Output"} <= defined(text).keys()


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.text(max_size=6) | st.sampled_from(STRANGE)
schemas = st.recursive(
    json | st.sampled_from([{"$ref": "#"}, {"$ref": "#/$defs/a"}, {"type": "string"}]),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", ["object", "null"], ["array"]]) | json,
            "properties": st.dictionaries(names, inner, max_size=4),
            "required": st.lists(names, max_size=3) | json,
            "items": inner,
            "additionalProperties": inner,
            "anyOf": st.lists(inner, max_size=3),
            "enum": st.lists(json, max_size=3),
            "const": json,
            "$defs": st.dictionaries(st.just("a"), inner, max_size=1),
        },
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(schemas, schemas)
def test_whatever_the_schema_the_text_is_ascii_python_that_runs(first: Any, second: Any) -> None:
    text = types_module(first, second)
    assert text.isascii()
    assert {"Input", "Output"} <= defined(text).keys()
    assert text == types_module(first, second)


def tree(width: int, depth: int) -> dict[str, object]:
    leaf: dict[str, object] = {"type": "string"}
    return {"anyOf": [tree(width, depth - 1) for _ in range(width)]} if depth else leaf


def shared(depth: int) -> dict[str, object]:
    """Return a schema that is small as a graph, and huge when every way through it is walked."""
    found: dict[str, object] = {"type": "string"}
    for _ in range(depth):
        found = {"type": ["object", "array"] * 20, "items": found, "additionalProperties": found}
    return found


@pytest.mark.parametrize(
    "schema",
    [
        tree(5, 6),
        {"anyOf": [{"type": "string"}] * 100_000},
        {"oneOf": [tree(4, 5)] * 100},
        shared(8),
        {"type": "object", "properties": {"a b" * 100_000: {"type": "string"}}},
    ],
    ids=["tree", "union", "unions", "shared", "key"],
)
def test_the_schemas_looked_at_are_bounded(schema: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    visits = 0
    original = typed_dicts._TypedDictWriter.type_of

    def count(self: typed_dicts._TypedDictWriter, *arguments: Any) -> str:
        nonlocal visits
        visits += 1
        return original(self, *arguments)

    monkeypatch.setattr(typed_dicts._TypedDictWriter, "type_of", count)
    compile(typed_dicts.types_module(schema, schema), "skill_types.py", "exec")
    assert visits <= 10 * typed_dicts.MAX_SCHEMAS
