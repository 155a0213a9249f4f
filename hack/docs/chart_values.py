"""The reference of the chart's values, from values.yaml with its comments, and values.schema.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from hack.docs.markdown import code, page, plain, sentence, table
from hack.docs.skill import bounds

Schema = Mapping[str, Any]

INTRODUCTION = """\
`helm show values charts/skill-operator` prints the same list. `values.schema.json` refuses every value that is not
listed here. At the end of an installation Helm says what is not secure as it is set.
"""
# What every component has, and what Kubernetes' own documentation explains.
COMMON = {
    "enabled": "Whether the chart makes it.",
    "interval": "Time between two scrapes.",
    "labels": "Further labels of the object.",
    "imagePullPolicy": "When the kubelet pulls the image.",
    "deadlineSeconds": "Time after which the Job is ended.",
    "everySeconds": "Time between two runs.",
    "repository": "Name of the image without tag and digest.",
    "pullPolicy": "When the kubelet pulls the image.",
    "resources": "Requests and limits of the container.",
    "podAnnotations": "Further annotations of the pods.",
    "podLabels": "Further labels of the pods.",
    "nodeSelector": "Labels that a node must have for the pods.",
    "tolerations": "Taints of nodes that the pods tolerate.",
    "affinity": "Affinity of the pods.",
    "priorityClassName": "PriorityClass of the pods. Empty: the cluster's default.",
}


@dataclass(frozen=True)
class ChartValue:
    """ChartValue is one setting of the chart, or a group of them where `default` is None."""

    path: str
    default: str | None
    comment: str

    @property
    def group(self) -> bool:
        """Return whether other values lie below this one."""
        return self.default is None


def read_values(text: str) -> list[ChartValue]:
    """Return the values of a values.yaml in its order, each with the comment above it."""
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return list(_values(root, "", lines)) if isinstance(root, yaml.MappingNode) else []


def _values(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[ChartValue]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        comment = _comment_above(lines, key.start_mark.line, key.start_mark.column) if not node.flow_style else ""
        if isinstance(value, yaml.MappingNode) and not value.flow_style and value.value and not _is_data(path):
            yield ChartValue(path, None, comment)
            yield from _values(value, f"{path}.", lines)
        else:
            yield ChartValue(path, json.dumps(_plain(value)), comment)


def _is_data(path: str) -> bool:
    """Return whether a block is one value: its keys are no settings of the chart."""
    return path.rpartition(".")[2] in {"resources", "quota", "limitRange"}


def _plain(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node, Dumper=yaml.SafeDumper))


def _comment_above(lines: list[str], line: int, column: int) -> str:
    """Return the comment lines that stand directly above a key, at its own indentation, as one text."""
    found: list[str] = []
    for text in reversed(lines[:line]):
        if not text.startswith(f"{' ' * column}#"):
            break
        found.append(text.strip().removeprefix("#"))
    return "\n".join(reversed(found))


def render(values: str, schema: Schema) -> str:
    """Return the page: one section for each component."""
    known = read_values(values)
    top = [value for value in known if "." not in value.path]
    blocks = [
        "## Of the whole release",
        table(HEADER, [_row(value, schema) for value in top if not value.group]),
    ]
    for section in (value for value in top if value.group):
        text, example = _prose(section.comment)
        below = [value for value in known if value.path.startswith(f"{section.path}.")]
        rows = [_row(value, schema) for value in below if not value.group or describe(value)]
        blocks += [f"## {section.path}", text, example, table(HEADER, rows)]
    examples = [
        f"An entry of `{value.path}`:\n\n{example}" for value in top if not value.group
        for _, example in [_prose(value.comment)] if example
    ]  # fmt: skip
    blocks[2:2] = examples
    return page("Chart values", INTRODUCTION, *blocks)


HEADER = ("Value", "Default", "Accepts", "Description")


def describe(value: ChartValue) -> str:
    """Return what a value is for: its comment, else what it is for in all components."""
    text, _ = _prose(value.comment)
    return text or ("" if value.group else COMMON.get(value.path.rpartition(".")[2], ""))


def _row(value: ChartValue, schema: Schema) -> tuple[str, str, str, str]:
    accepts = "" if value.group else _accepts(lookup(schema, value.path))
    return code(value.path), code(value.default or ""), accepts, describe(value)


def _accepts(node: Schema) -> str:
    """Return the schema's own words where it has some, else type and limits; patterns say little to people."""
    if "description" in node and "properties" not in node:
        return plain(str(node["description"]))
    kinds = node.get("type", "")
    kind = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    kind = "" if "enum" in node else {"array": "list", "object": "map"}.get(kind, kind)
    limits = "" if "properties" in node else bounds(node, patterns=False)
    return ": ".join(filter(None, (kind, limits)))


def _prose(comment: str) -> tuple[str, str]:
    """Return a comment's words, and the YAML that its indented lines show, each empty where there is none."""
    words: list[str] = []
    shown: list[str] = []
    for line in comment.split("\n"):
        (shown if line.startswith("   ") else words).append(line)
    example = "\n".join(line[3:] for line in shown)
    return sentence(" ".join(words)), f"```yaml\n{example}\n```" if shown else ""


def lookup(schema: Schema, path: str) -> Schema:
    """Return the schema of a value; references are followed. Raises KeyError where the schema does not know it."""
    node = schema
    for name in path.split("."):
        node = _resolve(schema, _resolve(schema, node)["properties"][name])
    return node


def _resolve(schema: Schema, node: Schema) -> Schema:
    while "$ref" in node:
        target: Any = schema
        for name in str(node["$ref"]).removeprefix("#/").split("/"):
            target = target[name]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node
