"""The description of the API, checked by a validator that others maintain."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from skill_operator.gateway.http.openapi import encode_openapi
from skill_operator.gateway.pods.directory import SkillEntry, parse_skill
from tests.unit.gateway.objects import skill

TREE = {
    "$id": "urn:example:tree",
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "$ref": {"type": "string"},  # a property of that name is no reference
        "root": {"$ref": "#/$defs/node"},
        "whole": {"$ref": "#"},
        "fixed": {"const": {"$ref": "#/$defs/node"}},
        "odd": {"$ref": "#/$defs/a~1b/properties/c"},
    },
    "$defs": {
        "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "size": {"type": "integer"}}},
        "a/b": {"properties": {"c": {"type": "boolean"}}},
    },
    "required": ["root"],
}


def made(*entries: SkillEntry, authenticated: bool = True) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        encode_openapi(entries, "https://skills.example", authenticated=authenticated)
    )
    validate(document, cls=OpenAPIV31SpecValidator)
    return document


def resolved(document: dict[str, Any], schema: str) -> Draft202012Validator:
    """The schema as whoever reads the document sees it."""
    wanted = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    return Draft202012Validator(wanted, offline=True)


def test_what_may_be_called_is_described() -> None:
    entries = [parse_skill(skill()), parse_skill(skill("a.b", "legal"))]
    document = made(*entries)
    assert set(document["paths"]) == {"/v1/skills", "/v1/skills/finance/invoice", "/v1/skills/legal/a.b"}
    call = document["paths"]["/v1/skills/finance/invoice"]["post"]
    assert (call["operationId"], call["summary"]) == ("finance__invoice", "Sum an invoice.")
    content = call["requestBody"]["content"]["application/json"]
    assert content["examples"] == {"plain": {"value": {"lines": []}}}
    assert content["schema"] == {"$ref": "#/components/schemas/finance__invoice.input"}
    assert document["components"]["schemas"]["finance__invoice.input"] == entries[0].skill.spec.input  # type: ignore[union-attr]
    identities = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(identities)) == len(identities)


def test_nothing_at_all_is_valid_too() -> None:
    assert set(made()["paths"]) == {"/v1/skills"}


def test_whether_a_token_is_needed_is_said() -> None:
    assert made()["security"] == [{"token": []}]
    assert "security" not in made(authenticated=False)


def test_references_of_a_schema_stay_its_own() -> None:
    before = copy.deepcopy(TREE)
    document = made(parse_skill(skill(input=TREE, output=TREE, examples=[])))
    assert before == TREE
    placed = document["components"]["schemas"]["finance__invoice.input"]
    assert placed["properties"]["fixed"] == TREE["properties"]["fixed"]  # type: ignore[index]
    theirs, ours = resolved(document, "finance__invoice.input"), Draft202012Validator(TREE)
    for value in (
        {"root": {"size": 1}},
        {"root": {"next": {"next": {"size": "x"}}}},
        {"root": {}, "whole": {"root": {}}},
        {"root": {}, "whole": {}},
        {"root": {}, "fixed": {"$ref": "#/$defs/node"}},
        {"root": {}, "fixed": {"$ref": "#/components/schemas/finance__invoice.input/$defs/node"}},
        {"root": {}, "odd": True},
        {"root": {}, "odd": 1},
        {"root": {}, "$ref": 1},
        {},
    ):
        assert theirs.is_valid(value) == ours.is_valid(value), value


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "object", "properties": {"a": {"$ref": "https://example.com/schema"}}},
        {"type": 7},
    ],
)
def test_a_bad_schema_spoils_nobody_else_s_description(schema: dict[str, Any]) -> None:
    document = made(parse_skill(skill(input=schema, examples=[])), parse_skill(skill("other")))
    assert "not valid" in document["components"]["schemas"]["finance__invoice.input"]["description"]
    assert "/v1/skills/finance/other" in document["paths"]


def test_a_skill_that_cannot_be_read_is_left_out() -> None:
    strange = skill()
    strange["spec"] = {"from": "the future"}
    assert set(made(parse_skill(strange))["paths"]) == {"/v1/skills"}
