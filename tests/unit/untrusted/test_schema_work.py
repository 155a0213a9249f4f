"""What it takes to look at a schema grows with its size alone, however its references lie."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_operator.api.tool_schema import listed_input, listed_output
from skill_operator.untrusted.json_schema import (
    MAX_UNITS,
    BadSchemaError,
    CompiledSchema,
    References,
    is_presentable,
    rebase,
)
from skill_operator.untrusted.json_values import DEEPEST, flaw, weight
from tests.unit.untrusted.counted_work import counted_lines

LINES_PER_UNIT = 50  # to judge a schema, or to move it; a line takes some 50 ns
COMPILED_LINES_PER_UNIT = 100
LISTED_LINES = 600_000  # of both listed forms; these are bounded by themselves


def nested(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = {"allOf": [inner]}
    return inner


@st.composite
def worst_schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a schema that is as large as may be, of references that are as long as may be, or to as many places."""
    levels = draw(st.integers(0, (DEEPEST - 4) // 2))
    targets = draw(st.integers(1, 900))
    references = draw(st.integers(0, 1000))
    keyword = draw(st.sampled_from(["properties", "anyOf", "$defs", "prefixItems"]))
    leaf = draw(st.sampled_from([{}, {"type": "string"}, {"required": ["a b"]}, True]))
    start = f"#/$defs/a{'/allOf/0' * levels}/properties"
    found: list[Any] = [{"$ref": f"{start}/x{n % targets}"} for n in range(references)]
    found += [leaf] * draw(st.integers(0, 1000))
    inner = {"properties": {f"x{n}": {} for n in range(targets)}}
    of_names = keyword in {"properties", "$defs"}
    schema = {
        "type": "object",
        "$defs": {"a": nested(levels, inner)},
        keyword: {f"ü {n}": schema for n, schema in enumerate(found)} if of_names else found or [True],
    }
    if keyword == "$defs":
        schema["$defs"] = {"a": nested(levels, inner)} | {f"ü {n}": schema for n, schema in enumerate(found)}
    return schema


def compiled(schema: dict[str, Any]) -> None:
    with contextlib.suppress(BadSchemaError):
        CompiledSchema(schema)


@settings(max_examples=15, deadline=None)
@given(schema=worst_schemas())
def test_a_look_is_paid_by_the_size(schema: dict[str, Any]) -> None:
    units = 64 + min(weight(schema), MAX_UNITS)
    assert counted_lines(lambda: is_presentable(schema)) <= LINES_PER_UNIT * units
    assert counted_lines(lambda: compiled(schema)) <= COMPILED_LINES_PER_UNIT * units
    if is_presentable(schema):
        assert counted_lines(lambda: rebase(schema, "#/x")) <= LINES_PER_UNIT * units
        assert counted_lines(lambda: (listed_input(schema), listed_output(schema))) <= LISTED_LINES


@settings(max_examples=15, deadline=None)
@given(schema=worst_schemas())
def test_no_part_of_a_reference_is_looked_up_twice(schema: dict[str, Any]) -> None:
    references = References(schema)
    found: list[Any] = [schema]
    while found:
        node = found.pop()
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            references.find(node["$ref"])
        found += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    assert references.steps <= weight(schema)


@pytest.mark.parametrize("reference", ["#" + "/a" * 100_000, "#/" + "a" * 100_000, "#/$defs" * 40, "#//", "#/", 7])
def test_a_long_reference_is_no_work(reference: Any) -> None:
    schema = {"$ref": reference, "$defs": {"a": {}}}
    assert not is_presentable(schema)
    assert counted_lines(lambda: is_presentable(schema)) <= 1000


def test_moved_references_are_moved_once_where_one_object_stands_in_two_places() -> None:
    shared = {"$ref": "#/$defs/a"}
    moved = rebase({"allOf": [shared, shared], "$defs": {"a": {}}}, "#/x")
    assert moved["allOf"] == [{"$ref": "#/x/$defs/a"}] * 2


@pytest.mark.parametrize(
    ("value", "is_sound"),
    [
        ({"a": [1, 2.5, None, True, "x"]}, True),
        (2**63 - 1, True),
        (-(2**63), False),
        (2**63, False),
        (float("inf"), False),
        (1e300, True),
        (["\ud83d", "\ude00"], False),
        ({"\ud800": 1}, False),
        ({1: 1}, False),
        ({"a": (1,)}, False),
        (nested(16, True), True),
        (nested(17, True), False),
    ],
)
def test_flaws_are_found_in_one_walk(value: Any, is_sound: bool) -> None:
    assert (flaw(value) is None) == is_sound
