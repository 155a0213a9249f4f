"""To tell what is wrong with a value costs a bounded amount of memory: the library copies the value for each misfit."""

from __future__ import annotations

from typing import Any

import pytest

from skill_operator.untrusted.json_schema import (
    MAX_IN_PLACE_TOGETHER,
    UNEXPLAINED,
    BadSchemaError,
    CompiledSchema,
    WorkBudget,
)
from tests.unit.counting import peak_of

MANY = [f"q{n}" for n in range(300)]
FAT: dict[str, Any] = {"a": [{"": 0}] * 900} | {f"k{n}": 0 for n in range(100)}
NEEDED = [{"required": [name]} for name in MANY]
SHAPES: list[tuple[dict[str, Any], bool]] = [  # a schema, and whether its first misfit can be named at that price
    ({"required": MANY}, True),
    ({"dependentRequired": {"a": MANY}}, True),
    ({"dependentSchemas": {"a": {"required": MANY}}}, True),
    ({"propertyNames": {"minLength": 9}}, True),
    ({"allOf": NEEDED}, True),
    ({"allOf": [{"type": "array"}] * 300}, True),
    ({"$ref": "#/$defs/x", "$defs": {"x": {"required": MANY}}}, True),
    ({"if": True, "then": {"required": MANY}}, True),
    ({"properties": {"a": {"items": {"required": MANY}}}}, True),
    ({"properties": {"a": {"allOf": [False] * 300}}}, True),
    ({"anyOf": NEEDED}, False),
    ({"oneOf": NEEDED}, False),
    ({"allOf": [{"anyOf": NEEDED}]}, False),
    ({"anyOf": [{"allOf": NEEDED}]}, False),
    ({"properties": {"a": {"anyOf": [{"$ref": "#/$defs/x"}]}}, "$defs": {"x": {"allOf": [False] * 300}}}, False),
    ({"anyOf": [{"propertyNames": {"minLength": 9}}]}, False),
]


@pytest.mark.parametrize(("schema", "is_named"), SHAPES, ids=[str(schema)[:40] for schema, _ in SHAPES])
def test_a_value_is_not_copied_for_each_of_its_misfits(schema: dict[str, Any], is_named: bool) -> None:
    compiled = CompiledSchema(schema)
    found: list[Any] = []
    peak = peak_of(lambda: found.extend(compiled.misfits(FAT, WorkBudget(10_000_000, 10_000_000), 5)))
    assert peak < 4 << 20
    assert len(found) == 1
    assert (found[0].message != UNEXPLAINED) is is_named


def test_of_a_value_that_is_small_all_is_told() -> None:
    compiled = CompiledSchema({"required": [f"q{n}" for n in range(5)], "properties": {"n": {"type": "integer"}}})
    found = compiled.misfits({"n": "1", "note": "x" * 1000}, WorkBudget(5000, 5000), 10)
    assert [misfit.message for misfit in found] == [
        *(f'"q{n}" is missing' for n in range(5)),
        '"1" is not an integer',
    ]


@pytest.mark.parametrize("keyword", ["unevaluatedProperties", "unevaluatedItems"])
def test_what_many_keywords_look_back_at_is_bounded_together(keyword: str) -> None:
    """Each of them looks back at the same schemas, which take a definition."""
    places = {f"p{n}": {keyword: False, "$ref": "#/$defs/x"} for n in range(100)}
    for inside, is_good in ((MAX_IN_PLACE_TOGETHER // 100 - 4, True), (MAX_IN_PLACE_TOGETHER // 100, False)):
        schema = {"properties": places, "$defs": {"x": {"allOf": [{}] * inside}}}
        if is_good:
            assert peak_of(lambda schema=schema: CompiledSchema(schema)) < 2 << 20
            continue
        with pytest.raises(BadSchemaError, match="apply in place beside all keywords of its kind"):
            CompiledSchema(schema)


def test_names_beside_unevaluated_count_too() -> None:
    names = {f"n{n}": True for n in range(500)}
    schema = {
        "properties": {f"p{n}": {"unevaluatedProperties": False, "$ref": "#/$defs/x"} for n in range(100)},
        "$defs": {"x": {"properties": names}},
    }
    with pytest.raises(BadSchemaError, match="beside all keywords of its kind"):
        CompiledSchema(schema)


@pytest.mark.parametrize("keyword", ["properties", "patternProperties"])
@pytest.mark.parametrize("names", [5, None, True, "a", ["a"]], ids=str)
def test_what_is_no_schema_beside_unevaluated_is_told_as_that(keyword: str, names: Any) -> None:
    with pytest.raises(BadSchemaError):
        CompiledSchema({keyword: names, "unevaluatedProperties": False})
