"""Make the manifest of a new Skill out of a few words and examples, with comments that say what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.example_text import format_examples
from kubectl_skill.manifest_text import dump_flow, dump_yaml
from skill_operator import naming
from skill_operator.untrusted.text import single_line

_TYPES: Final = ("string", "integer", "number", "boolean", "object")
_MAX_LEVELS: Final = 16


def parse_field(text: str) -> tuple[str, dict[str, Any], bool]:
    """Return name, schema and whether it must be there, of `NAME:TYPE`, `NAME?:TYPE` or `NAME:TYPE[]`.

    Raises CliError.
    """
    name, colon, type_ = text.partition(":")
    base = type_.strip().removesuffix("[]")
    optional = name.strip().endswith("?")
    name = name.strip().removesuffix("?")
    if not colon or not name or base not in _TYPES:
        raise CliError(
            f"{single_line(text, 80)!r} is no field: write NAME:TYPE, such as qty:number, note?:string or "
            f"tags:string[]; types are {', '.join(_TYPES)}",
            ExitCode.USAGE,
        )
    schema: dict[str, Any] = {"type": base}
    return name, ({"type": "array", "items": schema} if type_.strip().endswith("[]") else schema), not optional


def schema_of_fields(fields: Sequence[str]) -> dict[str, Any]:
    """Return the schema of an object with these fields. Raises CliError."""
    parsed = [parse_field(field) for field in fields]
    required = [name for name, _, is_required in parsed if is_required]
    properties = {name: schema for name, schema, _ in parsed}
    if len(properties) != len(parsed):
        raise CliError("a field stands there twice", ExitCode.USAGE)
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def infer_schema(values: Sequence[Any], level: int = 0) -> dict[str, Any]:
    """Return a schema that all these values fit: what a person would begin with."""
    kinds = {_kind(value) for value in values}
    if not kinds or level > _MAX_LEVELS:
        return {}
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    nullable = "null" in kinds and len(kinds) > 1
    kinds -= {"null"} if nullable else set()
    if "integer" in kinds and "number" in kinds:
        kinds -= {"integer"}
    if len(kinds) > 1:
        return {"type": sorted(kinds | ({"null"} if nullable else set()))}
    (kind,) = kinds
    schema: dict[str, Any] = {"type": [kind, "null"] if nullable else kind}
    if kind == "object":
        objects = [value for value in values if isinstance(value, dict)]
        names = list(dict.fromkeys(name for value in objects for name in value))
        required = [name for name in names if all(name in value for value in objects)]
        schema["properties"] = {
            name: infer_schema([value[name] for value in objects if name in value], level + 1) for name in names
        }
        if required:
            schema["required"] = required
    if kind == "array":
        items = infer_schema([item for value in values if isinstance(value, list) for item in value], level + 1)
        if items:
            schema["items"] = items
    return schema


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    kinds = {int: "integer", float: "number", str: "string", dict: "object", list: "array", type(None): "null"}
    return kinds[type(value)]


def make_spec(
    description: str, summary: str, inputs: Sequence[str], outputs: Sequence[str], examples: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the spec: schemas from fields where they are given, else from the examples. Raises CliError."""
    results = [example["output"] for example in examples if "output" in example]
    takes = schema_of_fields(inputs) if inputs else infer_schema([example["input"] for example in examples])
    gives = schema_of_fields(outputs) if outputs else infer_schema(results)
    return {
        "description": description.strip() + "\n",
        **({"summary": summary} if summary else {}),
        "input": takes,
        "output": gives,
        "examples": list(examples),
    }


def render(name: str, file: str, spec: dict[str, Any]) -> str:
    """Return the manifest with its comments."""
    parts = [
        f"# Made by `kubectl skill new`. Next: kubectl skill check {file}",
        f"# then: kubectl skill apply -f {file} --watch",
        dump_yaml({"apiVersion": naming.API_VERSION, "kind": "Skill", "metadata": {"name": name}}).rstrip("\n"),
        "spec:",
        "  # What it must do: a model reads this. Say what is right at the edges: nothing, zero, ties, bad input.",
        _indent(dump_yaml({"description": spec["description"]})),
    ]
    if "summary" in spec:
        parts += [
            "  # What it does and when to use it, for agents that choose among tools.",
            _indent(dump_yaml({"summary": spec["summary"]})),
        ]
    parts += [
        "  # The body of a call, as JSON Schema (2020-12). Bounds help: maxItems, minimum, enum, maxLength.",
        _indent(dump_yaml({"input": spec["input"]})),
        "  # The answer. Name what callers rely on under `required`.",
        _indent(dump_yaml({"output": spec["output"]})),
        "  # The tests. About a third is never shown to the model, so six or more say most; errors are outcomes, too:",
        f"  #   - {{name: refused, input: {dump_flow(spec['examples'][0]['input'])}, error: ValueError}}",
        "  examples:",
        format_examples(spec["examples"], "    ").rstrip("\n"),
        "  # It may call nothing and read no secret unless you grant it:",
        "  # egress: [{host: api.example.com, ports: [443]}]",
        "  # secrets: [{name: token, secretKeyRef: {name: my-secret, key: token}}]",
        "  # With Manual a person approves the code before it runs: kubectl skill approve " + name,
        "  # With WhenInDoubt only where its examples leave open what is right.",
        "  # review: Manual",
    ]
    return "\n".join(parts) + "\n"


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.rstrip("\n").split("\n"))
