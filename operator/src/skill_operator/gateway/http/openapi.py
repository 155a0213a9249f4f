"""The OpenAPI 3.1 document of the Skills that a caller may call, with the schemas of their specs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from skill_operator import __version__, naming
from skill_operator.api.listed_tool import short_description
from skill_operator.gateway.json_bounds import bounded_weight
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.skill_search import DEFAULT_RESULTS, MAX_QUERY_BYTES, MAX_RESULTS
from skill_operator.k8s.interface import Object
from skill_operator.untrusted.json_schema import rebase
from skill_operator.untrusted.text import printable

OPENAPI_VERSION = "3.1.1"
MAX_SKILLS_CHARACTERS = 1 << 23  # of what all Skills add to the document
_PROBLEM: Object = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "the problem type; stable"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what went wrong this time, and what to do"},
        "requestId": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail"],
}
_SUMMARY: Object = {
    "type": "object",
    "properties": {
        "namespace": {"type": "string"},
        "name": {"type": "string"},
        "tool": {"type": "string", "description": "its name over MCP"},
        "summary": {"type": "string", "description": "what it does and when to use it, in short"},
        "description": {"type": "string"},
        "url": {"type": "string"},
        "ready": {"type": "boolean"},
        "awake": {"type": "boolean"},
        "state": {
            "type": "string",
            "enum": ["awake", "asleep", "archived", "not-ready"],
            "description": "whether a call is answered at once, after the skill woke or was restored, or not at all",
        },
        "reason": {"type": "string"},
        "message": {"type": "string"},
    },
    "required": ["namespace", "name", "tool", "ready", "awake", "state", "reason", "message"],
}
_REQUEST_ID: Object = {
    "description": "the id of the request, for finding it in logs; the one that was sent, or a new one",
    "schema": {"type": "string"},
}
_COLD_START: Object = {
    "description": "milliseconds that the call waited for the skill to wake; absent when it was awake",
    "schema": {"type": "integer"},
}


def encode_openapi(entries: Iterable[SkillEntry], url: str, *, authenticated: bool) -> bytes:
    """Return the document of `entries`, which are what the caller may call, served at `url`.

    Skills that would make it too large are left out, the last by name. Each Skill is encoded by itself, since nothing
    else runs while one value is.
    """
    paths = {"/v1/skills": _dump({"get": _list_operation()})}
    schemas = {"Problem": _dump(_PROBLEM), "Skill": _dump(_SUMMARY)}
    size, omitted = 0, 0
    for entry in sorted(entries, key=lambda one: (one.meta.namespace, one.meta.name)):
        if entry.skill is None:
            continue
        own: Object = {}
        operations = _dump(_operations(entry, own))
        own_schemas = {name: _dump(schema) for name, schema in own.items()}
        size += len(operations) + sum(map(len, own_schemas.values()))
        if size > MAX_SKILLS_CHARACTERS:
            omitted += 1
            continue
        paths[f"/v1/skills/{entry.meta.namespace}/{entry.meta.name}"] = operations
        schemas |= own_schemas
    description = "Skills that you may call." + (
        f" {omitted} more are left out: see GET /v1/skills." if omitted else ""
    )
    document = {
        "openapi": _dump(OPENAPI_VERSION),
        "info": _dump({"title": "Skills", "version": __version__, "description": description}),
        "servers": _dump([{"url": url}]),
        "paths": _join(paths),
    }
    problem = {"description": "a problem", "content": _json("Problem", "application/problem+json")}
    components = {"schemas": _join(schemas), "responses": _dump({"Problem": problem})}
    if authenticated:
        components["securitySchemes"] = _dump({"token": {"type": "http", "scheme": "bearer"}})
        document["security"] = _dump([{"token": []}])
    return _join(document | {"components": _join(components)}).encode()


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _join(members: dict[str, str]) -> str:
    """Return the JSON object of members that are JSON already."""
    return "{" + ", ".join(f"{_dump(name)}: {text}" for name, text in members.items()) + "}"


def _list_operation() -> Object:
    skills = {"type": "array", "items": {"$ref": "#/components/schemas/Skill"}}
    listed = {"type": "object", "properties": {"skills": skills}, "required": ["skills"]}
    parameters = [
        {"name": "namespace", "in": "query", "schema": {"type": "string"}, "description": "only Skills in it"},
        {
            "name": "q",
            "in": "query",
            "schema": {"type": "string", "maxLength": MAX_QUERY_BYTES},
            "description": "only Skills that fit these words, best first",
        },
        {
            "name": "limit",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_RESULTS, "default": DEFAULT_RESULTS},
            "description": "how many Skills to return, with q",
        },
    ]
    ok = {"description": "the skills", "content": {"application/json": {"schema": listed}}}
    return {
        "operationId": "listSkills",
        "summary": "The skills that you may call",
        "parameters": parameters,
        "responses": {"200": ok, "default": {"$ref": "#/components/responses/Problem"}},
    }


def _operations(entry: SkillEntry, schemas: Object) -> Object:
    """Return the operations of one Skill, and add its schemas to `schemas`."""
    if entry.skill is None:
        raise AssertionError("a Skill that cannot be parsed has no operations")
    spec, tool = entry.skill.spec, naming.tool(entry.meta.namespace, entry.meta.name)
    for side, schema in (("input", spec.input), ("output", spec.output)):
        name = f"{tool}.{side}"
        schemas[name] = _relocated_schema(schema, f"#/components/schemas/{name}")
    successes = [example for example in spec.examples if example.has_output]
    if bounded_weight(*(value for example in successes for value in (example.input, example.output))) is None:
        successes = []
    body = _json(f"{tool}.input")
    response = _json(f"{tool}.output")
    if successes:
        body["application/json"]["examples"] = {example.name: {"value": example.input} for example in successes}
        response["application/json"]["examples"] = {example.name: {"value": example.output} for example in successes}
    headers = {"X-Request-Id": _REQUEST_ID, "X-Skill-Cold-Start": _COLD_START}
    problems = {"default": {"$ref": "#/components/responses/Problem"}}
    summary = printable(short_description(spec).partition("\n")[0], 120)
    return {
        "post": {
            "operationId": tool,
            "summary": summary,
            "description": spec.description,
            "requestBody": {"required": True, "content": body},
            "responses": {"200": {"description": "the result", "content": response, "headers": headers}, **problems},
        },
        "get": {
            "operationId": f"{tool}.describe",
            "summary": f"{entry.meta.name}: description, schemas, state and examples",
            "responses": {"200": {"description": "the skill", "content": _json("Skill")}, **problems},
        },
    }


def _relocated_schema(schema: Object, to: str) -> Object:
    """Return the schema with its references moved to `to`. The document must stay readable, whatever it holds."""
    if bounded_weight(schema) is None:
        return {"description": "the schema in the Skill's spec is too large to be shown here"}
    return rebase(schema, to)


def _json(schema: str, media: str = "application/json") -> Object:
    return {media: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
