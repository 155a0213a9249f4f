"""The OpenAPI 3.1 description of the Skills that a caller may call: their schemas, as they stand in their specs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skill_operator import __version__, naming
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.untrusted.json_schema import BadSchemaError, CompiledSchema, rebase
from skill_operator.untrusted.text import printable

Object = dict[str, Any]
OPENAPI = "3.1.1"
_PROBLEM: Object = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "which problem it is; stable"},
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
        "description": {"type": "string"},
        "url": {"type": "string"},
        "ready": {"type": "boolean"},
        "awake": {"type": "boolean"},
        "reason": {"type": "string"},
        "message": {"type": "string"},
    },
    "required": ["namespace", "name", "tool", "ready", "awake", "reason", "message"],
}
_REQUEST_ID: Object = {
    "description": "the id of the request, for finding it in logs; the one that was sent, or a new one",
    "schema": {"type": "string"},
}
_COLD_START: Object = {
    "description": "milliseconds that the call waited for the skill to wake; absent when it was awake",
    "schema": {"type": "integer"},
}


def document(entries: Iterable[SkillEntry], url: str, *, authenticated: bool) -> Object:
    """`entries` are what the caller may call."""
    paths: Object = {"/v1/skills": {"get": _listing()}}
    schemas: Object = {"Problem": _PROBLEM, "Skill": _SUMMARY}
    for entry in sorted(entries, key=lambda one: (one.meta.namespace, one.meta.name)):
        if entry.skill is not None:
            paths[f"/v1/skills/{entry.meta.namespace}/{entry.meta.name}"] = _operations(entry, schemas)
    problem = {"description": "a problem", "content": _json("Problem", "application/problem+json")}
    made: Object = {
        "openapi": OPENAPI,
        "info": {"title": "Skills", "version": __version__, "description": "Skills that you may call."},
        "servers": [{"url": url}],
        "paths": paths,
        "components": {"schemas": schemas, "responses": {"Problem": problem}},
    }
    if authenticated:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
    return made


def _listing() -> Object:
    skills = {"type": "array", "items": {"$ref": "#/components/schemas/Skill"}}
    found = {"type": "object", "properties": {"skills": skills}, "required": ["skills"]}
    only = {"name": "namespace", "in": "query", "schema": {"type": "string"}, "description": "only those in there"}
    ok = {"description": "the skills", "content": {"application/json": {"schema": found}}}
    return {
        "operationId": "listSkills",
        "summary": "The skills that you may call",
        "parameters": [only],
        "responses": {"200": ok, "default": {"$ref": "#/components/responses/Problem"}},
    }


def _operations(entry: SkillEntry, schemas: Object) -> Object:
    """The operations of one Skill; its schemas are added to `schemas`."""
    if entry.skill is None:
        raise AssertionError("only what can be read is described")
    spec, tool = entry.skill.spec, naming.tool(entry.meta.namespace, entry.meta.name)
    for side, schema in (("input", spec.input), ("output", spec.output)):
        name = f"{tool}.{side}"
        schemas[name] = _placed(schema, f"#/components/schemas/{name}")
    good = [example for example in spec.examples if example.has_output]
    body = _json(f"{tool}.input")
    answer = _json(f"{tool}.output")
    if good:
        body["application/json"]["examples"] = {example.name: {"value": example.input} for example in good}
        answer["application/json"]["examples"] = {example.name: {"value": example.output} for example in good}
    headers = {"X-Request-Id": _REQUEST_ID, "X-Skill-Cold-Start": _COLD_START}
    problems = {"default": {"$ref": "#/components/responses/Problem"}}
    first = printable(spec.description.strip().partition("\n")[0], 120)
    return {
        "post": {
            "operationId": tool,
            "summary": first,
            "description": spec.description,
            "requestBody": {"required": True, "content": body},
            "responses": {"200": {"description": "its answer", "content": answer, "headers": headers}, **problems},
        },
        "get": {
            "operationId": f"{tool}.describe",
            "summary": f"{entry.meta.name}: description, schemas, state and examples",
            "responses": {"200": {"description": "the skill", "content": _json("Skill")}, **problems},
        },
    }


def _placed(schema: Object, to: str) -> Object:
    """A schema that the Skill's own check refuses says nothing here: the document must stay readable."""
    try:
        CompiledSchema(schema)
        return rebase(schema, to)
    except BadSchemaError:
        return {"description": "the schema in the Skill's spec is not valid"}


def _json(schema: str, media: str = "application/json") -> Object:
    return {media: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
