"""The reference of the Skill, from its CustomResourceDefinition: fields, types, defaults, bounds and rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hack.docs.markdown import bullets, code, link, page, sentence, table

Schema = Mapping[str, Any]

INTRODUCTION = """\
A `Skill` describes a piece of software in words: what it does, what it takes and returns, and what it may use.
`kubectl explain skill.spec` shows the same text. Examples are in the folder `examples/skills`. Conditions and their
reasons are explained in [problems and conditions](problems-and-conditions.md).
"""
RULES = "The API server refuses an object with one of these messages:"


def render(definition: Schema) -> str:
    """Return the page for a CustomResourceDefinition."""
    names, (version,) = definition["spec"]["names"], definition["spec"]["versions"]
    root = version["schema"]["openAPIV3Schema"]
    about = bullets(
        [
            f"apiVersion: {code('/'.join((definition['spec']['group'], version['name'])))}",
            f"kind: {code(names['kind'])}",
            f"scope: {definition['spec']['scope']}",
        ]
    )
    columns = table(
        ("Column", "Field", "Shown"),
        [
            (column["name"], code(column["jsonPath"]), "with `-o wide`" if column.get("priority") else "always")
            for column in version.get("additionalPrinterColumns", [])
        ],
    )
    sections = [
        block for part in ("spec", "status") for path, node in _objects(part, root["properties"][part])
        for block in _section(path, node)
    ]  # fmt: skip
    return page(names["kind"], INTRODUCTION, about, "## Columns of kubectl get", columns, *sections)


def _objects(path: str, node: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield every object that has fields of its own, outer ones first."""
    if "items" in node:
        yield from _objects(f"{path}[]", node["items"])
    if "properties" in node:
        yield path, node
        for name, child in node["properties"].items():
            yield from _objects(f"{path}.{name}", child)


def _section(path: str, node: Schema) -> list[str]:
    required = node.get("required", [])
    rows = [
        (code(name), _type(f"{path}.{name}", child), _default(child, name in required), bounds(child),
         " ".join([sentence(child.get("description", "")), *([] if "properties" in child else _rules(child))]))
        for name, child in node["properties"].items()
    ]  # fmt: skip
    rules = _rules(node)
    return [
        f"## {path}",
        sentence(node.get("description", "")),
        table(("Field", "Type", "Default", "Bounds", "Description"), rows),
        _alternatives(node),
        f"{RULES}\n\n{bullets(rules)}" if rules else "",
    ]


def _type(path: str, node: Schema) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind = str(node.get("type", "any JSON"))
    if kind == "array":
        inner = _type(f"{path}[]", node["items"])
        keys = ", ".join(map(code, node.get("x-kubernetes-list-map-keys", [])))
        unique = f", unique by {keys}" if keys else ""
        return f"list of {inner}{', without repeats' if node.get('x-kubernetes-list-type') == 'set' else unique}"
    if kind == "object" and "properties" in node:
        return link(path)
    if node.get("format") == "date-time":
        return "time (RFC 3339)"
    return f"{kind} or null" if node.get("nullable") else kind


def _default(node: Schema, required: bool) -> str:
    if required:
        return "required"
    return code(json.dumps(node["default"])) if "default" in node and "properties" not in node else ""


def bounds(node: Schema, *, patterns: bool = True) -> str:
    """Return the limits of a value in words: choices, numbers, lengths, pattern. What bounds a quantity is known."""
    if node.get("x-kubernetes-int-or-string"):
        return ""
    parts = [
        " or ".join(code(str(choice)) for choice in node.get("enum", [])),
        _between(node, "minimum", "maximum", ""),
        _between(node, "minLength", "maxLength", "character"),
        _between(node, "minItems", "maxItems", "item"),
        _between(node, "minProperties", "maxProperties", "field"),
        f"matches {code(node['pattern'])}" if patterns and "pattern" in node else "",
    ]
    if "items" in node and "properties" not in node["items"]:
        inner = bounds(node["items"], patterns=patterns)
        parts.append(f"each {inner}" if inner else "")
    return "; ".join(filter(None, parts))


def _between(node: Schema, low: str, high: str, unit: str) -> str:
    least, most = node.get(low), node.get(high)
    if least is None and most is None:
        return ""
    if most is None:
        text = f"at least {least}"
    elif least is None or (unit and not least):
        text = f"at most {most}"
    else:
        text = f"{least} to {most}"
    plural = "" if 1 in {most, least if most is None else None} else "s"
    return f"{text} {unit}{plural}" if unit else text


def _rules(node: Schema) -> list[str]:
    return [sentence(rule["message"]) for rule in node.get("x-kubernetes-validations", [])]


def _alternatives(node: Schema) -> str:
    names = [" and ".join(map(code, branch["required"])) for branch in node.get("oneOf", [])]
    return f"Exactly one of {' and '.join(names)} is required." if names else ""
