"""To tell why a value does not fit costs the server a few copies of the value, whatever schema its owner wrote."""

from __future__ import annotations

from typing import Any

import pytest

from skill_runtime.contract import Schema
from tests.unit.counting import peak_of

MANY = [f"field{n}" for n in range(50)]
NEEDED = [{"required": [name]} for name in MANY]
LARGE = {"items": [[n] for n in range(100_000)]}
COPY_BYTES = 20 << 20


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"required": MANY}, '/: "field0" is a required property'),
        ({"allOf": NEEDED}, '/: "field0" is a required property'),
        ({"propertyNames": {"minLength": 9}}, "/: "),
        ({"properties": {"items": {"items": {"required": MANY, "type": "object"}}}}, "/items/0: "),
        ({"anyOf": NEEDED}, "/: does not fit the schema; the value is too large to tell which"),
        ({"properties": {"items": {"oneOf": [*NEEDED, False]}}}, "/: does not fit the schema; the value is too large"),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"anyOf": [{"allOf": [False] * 50}]}}}, "/: does not fit the schema;"),
    ],
)
def test_a_large_value_is_not_copied_for_each_mistake(schema: dict[str, Any], words: str) -> None:
    compiled = Schema(schema, "input")
    said: list[str | None] = []
    assert peak_of(lambda: said.append(compiled.violation(LARGE))) < COPY_BYTES
    assert said[0] is not None
    assert said[0].startswith(words)


def test_a_small_value_is_explained_in_full() -> None:
    compiled = Schema({"anyOf": NEEDED}, "input")
    assert (
        compiled.violation({"other": 1})
        == "/: {\"other\":1} is not valid under any of the schemas listed in the 'anyOf' keyword"
    )
