"""Every keyword that does nothing gets a word, wherever it stands; every one that does something gets none."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from skill_operator.api.dropped_nulls import LAST_APPLIED
from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.api.validation import MAX_PROBLEMS, advice, problems
from skill_operator.untrusted.json_schema import CompiledSchema
from skill_operator.untrusted.schema_keywords import idle_keywords, refused_null
from tests.unit.generation.world import NAME, NAMESPACE, World
from tests.unit.reconcile.samples import SETTINGS, SOURCE

WORKING: dict[str, dict[str, Any]] = {
    "maxLength": {"type": "string", "maxLength": 3},
    "minLength": {"minLength": 1},
    "pattern": {"type": ["string", "null"], "pattern": "^a"},
    "multipleOf": {"type": "integer", "multipleOf": 2},
    "maximum": {"type": "number", "maximum": 2},
    "exclusiveMaximum": {"type": ["integer", "string"], "exclusiveMaximum": 2},
    "minimum": {"minimum": 2},
    "exclusiveMinimum": {"type": "number", "exclusiveMinimum": 2},
    "items": {"type": "array", "items": {"type": "string"}},
    "prefixItems": {"type": "array", "prefixItems": [{"type": "string"}]},
    "contains": {"type": "array", "contains": {"const": 1}, "minContains": 1, "maxContains": 2},
    "uniqueItems": {"type": "array", "uniqueItems": True, "minItems": 1, "maxItems": 3},
    "required": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
    "additionalProperties": {"type": "object", "additionalProperties": False, "minProperties": 1, "maxProperties": 2},
    "patternProperties": {"patternProperties": {"^a": {"type": "string"}}, "propertyNames": {"maxLength": 3}},
    "dependentRequired": {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"a": {"required": ["b"]}}},
    "dependencies": {"dependencies": {"a": ["b"]}},
    "if": {"if": {"type": "string"}, "then": {"maxLength": 3}, "else": {"type": "number"}},
    "anyOf": {"anyOf": [{"type": "string"}, {"const": 1}], "oneOf": [True], "allOf": [{}], "not": {"const": 3}},
    "enum": {"enum": ["requried", "nullable"], "title": "a", "description": "b", "default": {"nullable": True}},
    "notes": {"type": "string", "format": "email", "deprecated": True, "readOnly": True, "writeOnly": False},
    "examples": {"type": "string", "examples": [{"requried": 1}], "example": "a", "externalDocs": {}, "xml": {}},
    "extension": {"x-anything": {"nullable": True}, "$comment": "c"},
    "names": {"type": "object", "properties": {"requried": {"type": "string"}, "nullable": {"type": "null"}}},
    "unevaluated": {"type": "object", "unevaluatedProperties": False},
    "content": {"type": "string", "contentMediaType": "application/json", "contentEncoding": "base64"},
    "definitions": {"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"},
}
IDLE: list[tuple[dict[str, Any], str, str]] = [
    ({"requried": ["a"]}, "requried", "did you mean required?"),
    ({"minlength": 3}, "minlength", "did you mean minLength?"),
    ({"maxLenght": 3}, "maxLenght", "did you mean maxLength?"),
    ({"propertes": {}}, "propertes", "did you mean properties?"),
    ({"additionalproperties": False}, "additionalproperties", "did you mean additionalProperties?"),
    ({"additional_properties": False}, "additional_properties", "did you mean additionalProperties?"),
    ({"enums": [1]}, "enums", "did you mean enum?"),
    ({"any_of": []}, "any_of", "did you mean anyOf?"),
    ({"nullable": False}, "nullable", 'add "null" to type'),
    ({"nullable": True}, "nullable", 'add "null" to type'),
    ({"type": "array", "additionalItems": False}, "additionalItems", "use items beside prefixItems"),
    ({"optional": True}, "optional", "leave the name out of required"),
    ({"divisibleBy": 2}, "divisibleBy", "use multipleOf"),
    ({"zzz": 1}, "zzz", "does nothing"),
    ({"\x1b[31m": 1}, "\x1b[31m", "does nothing"),
    ({"k" * 5000: 1}, "k" * 5000, "does nothing"),
    ({"type": "integer", "maxLength": 3}, "maxLength", "does nothing for type integer: it is about type string"),
    ({"type": "string", "maximum": 3}, "maximum", "it is about type number"),
    ({"type": "string", "required": ["a"]}, "required", "it is about type object"),
    ({"type": ["object", "null"], "items": {}}, "items", "does nothing for type object or null"),
    ({"type": "object", "minItems": 1}, "minItems", "it is about type array"),
    ({"then": {"type": "string"}}, "then", "does nothing without if"),
    ({"else": {"type": "string"}}, "else", "does nothing without if"),
    ({"type": "array", "minContains": 1}, "minContains", "does nothing without contains"),
]


def wrapped(chance: random.Random, node: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with this one in it, at a place of any kind."""
    shapes = [
        lambda inner: {"type": "object", "properties": {"a": inner}},
        lambda inner: {"type": "array", "items": inner},
        lambda inner: {"anyOf": [{"type": "null"}, inner]},
        lambda inner: {"$defs": {"part": inner}, "properties": {"b": {"$ref": "#/$defs/part"}}},
        lambda inner: {"type": "object", "additionalProperties": inner},
        lambda inner: {"if": {"type": "string"}, "then": inner},
    ]
    for _ in range(chance.randrange(3)):
        shape = chance.choice(shapes)
        node = shape(node) if "$ref" not in node and "properties" not in node.get("$defs", {}) else node
        if "$defs" in node:
            return node
    return node


@pytest.mark.parametrize("schema", WORKING.values(), ids=WORKING)
@pytest.mark.parametrize("seed", range(4))
def test_what_works_gets_no_word(schema: dict[str, Any], seed: int) -> None:
    whole = schema if "$ref" in schema else wrapped(random.Random(seed), schema)
    CompiledSchema(whole)
    assert list(idle_keywords(whole)) == []
    assert list(refused_null(whole)) == []


@pytest.mark.parametrize(
    ("schema", "keyword", "words"), IDLE, ids=[f"{n}-{key[:20]!r}" for n, (_, key, _) in enumerate(IDLE)]
)
@pytest.mark.parametrize("seed", range(4))
def test_what_does_nothing_gets_a_word(schema: dict[str, Any], keyword: str, words: str, seed: int) -> None:
    whole = wrapped(random.Random(seed), schema)
    ((place, message),) = idle_keywords(whole)
    assert place[-1] == keyword
    assert words in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("schema", "keyword", "words"), IDLE, ids=[f"{n}-{key[:20]!r}" for n, (_, key, _) in enumerate(IDLE)]
)
def test_it_does_nothing_indeed(schema: dict[str, Any], keyword: str, words: str) -> None:
    """The validator agrees: with the keyword and without it the same values fit."""
    without = {key: value for key, value in schema.items() if key != keyword}
    values = [None, True, 0, 1, 2.5, "", "abcdef", [], [1, 1], {}, {"a": 1}, {"b": {}}]
    one, other = Draft202012Validator(schema), Draft202012Validator(without)
    assert [one.is_valid(value) for value in values] == [other.is_valid(value) for value in values]


@pytest.mark.parametrize("kinds", ["string", "integer", "object", ["string", "integer"], ["array"]])
@pytest.mark.parametrize("seed", range(4))
def test_nullable_that_refuses_null_is_refused_with_what_to_write(kinds: Any, seed: int) -> None:
    inner = {"type": kinds, "nullable": True}
    whole = wrapped(random.Random(seed), inner)
    schema = {"type": "object"} | (whole if "$defs" in whole else {"properties": {"a": whole}})
    (found,) = problems(SkillSpec(description="x", input=schema, output={}))
    listed = kinds if isinstance(kinds, list) else [kinds]
    assert found.path.endswith(".nullable")
    assert "write type: [" + ", ".join(f'"{kind}"' for kind in [*listed, "null"]) + "]" in found.message


@pytest.mark.parametrize(
    "schema", [{"nullable": True}, {"type": ["string", "null"], "nullable": True}, {"nullable": False}]
)
def test_nullable_that_changes_nothing_is_taken(schema: dict[str, Any]) -> None:
    spec = SkillSpec(description="x", input={"type": "object", "properties": {"a": schema}}, output={})
    assert problems(spec) == []
    assert len(advice(spec)) == 1


def test_advice_is_bounded_and_printable() -> None:
    schema = {"type": "object"} | {f"\u202ekey{n}" * 100: n for n in range(200)}
    found = advice(SkillSpec(description="x", input=schema, output={}))
    assert len(found) == MAX_PROBLEMS
    assert all(str(problem).isprintable() and len(str(problem)) < 1000 for problem in found)


async def test_a_generation_is_told_once_of_what_it_says_in_vain() -> None:
    world = World(SETTINGS)
    vain = {"type": "object", "properties": {"what": {"type": "string", "maxlength": 3}}, "requried": ["what"]}
    world.skill(source={"inline": SOURCE}, input=vain)
    await world.reconcile(4)
    told = [message for reason, message in world.events.recorded if reason == "KeywordIgnored"]
    assert len(told) == 1
    assert "did you mean required?" in told[0]
    assert "spec.input.properties.what.maxlength" in told[0]
    assert world.condition("Generated")["status"] == "True", "it works all the same"
    world.skill(input=vain | {"title": "Another"})
    await world.reconcile(4)
    assert [reason for reason, _ in world.events.recorded].count("KeywordIgnored") == 2


@pytest.mark.parametrize("output", [{"type": "object"}, {"type": "object", "required": ["said"]}])
async def test_a_null_that_was_lost_is_named_once_also_where_the_spec_is_refused_without_it(output: Any) -> None:
    world = World(SETTINGS)
    example = {"name": "one", "input": {"what": "a"}, "output": {"said": None}}
    applied = {"spec": {"output": output, "examples": [example]}}
    world.skill(source={"inline": SOURCE}, output=output, examples=[example | {"output": {}}])
    world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(applied)}
    await world.reconcile(4)
    messages = [message for reason, message in world.events.recorded if reason == "NullsDropped"]
    assert len(messages) == 1
    assert "spec.examples[0].output.said" in messages[0]
