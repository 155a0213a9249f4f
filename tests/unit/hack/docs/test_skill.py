"""The reference of the Skill says what the API server takes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hack.docs import skill
from hack.docs.markdown import anchor
from skill_operator.api import crd

DEFINITION = crd.definition()
PAGE = skill.render(DEFINITION)


def fields(node: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    """Return every field below a node with its path."""
    found = [(f"{path}.{name}", child) for name, child in node.get("properties", {}).items()]
    below = [each for name, child in node.get("properties", {}).items() for each in fields(child, f"{path}.{name}")]
    return found + below + (fields(node["items"], f"{path}[]") if "items" in node else [])


def all_fields() -> list[tuple[str, dict[str, Any]]]:
    """Return every field of spec and status."""
    root = DEFINITION["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return [each for part in ("spec", "status") for each in fields(root[part], part)]


@pytest.mark.parametrize(("path", "node"), all_fields(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_field_has_its_line_and_a_description(path: str, node: dict[str, Any]) -> None:
    parent, _, name = path.rpartition(".")
    section = PAGE.split(f"\n## {parent}\n")[1].split("\n## ")[0]
    line = next(line for line in section.splitlines() if line.startswith(f"| `{name}` |"))
    assert node["description"].split()[0].lower() in line.lower()


def test_every_link_leads_to_a_heading() -> None:
    headings = {anchor(line[3:]) for line in PAGE.splitlines() if line.startswith("## ")}
    links = set(re.findall(r"\(#([^)]+)\)", PAGE))
    assert links
    assert links <= headings


def test_a_field_is_told_with_all_that_bounds_it() -> None:
    node = {
        "type": "object",
        "description": "it is small",
        "required": ["a"],
        "oneOf": [{"required": ["b"]}, {"required": ["c"]}],
        "x-kubernetes-validations": [{"rule": "…", "message": "needs b"}],
        "properties": {
            "a": {"type": "integer", "minimum": 1, "maximum": 3, "description": "first"},
            "b": {"type": "string", "maxLength": 9, "pattern": "x|y", "default": "x"},
            "c": {"type": "array", "maxItems": 1, "items": {"type": "string", "enum": ["p", "q"]},
                  "x-kubernetes-list-type": "set"},
            "d": {"x-kubernetes-int-or-string": True, "maxLength": 20},
            "e": {"type": "string", "format": "date-time"},
            "f": {"x-kubernetes-preserve-unknown-fields": True, "minLength": 1},
        },
    }  # fmt: skip
    page = skill.render({
        "spec": {
            "names": {"kind": "Skill", "plural": "skills"}, "scope": "Namespaced", "group": "example.com",
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"properties": {"spec": node, "status": {}}}}}],
        }
    })  # fmt: skip
    for line in (
        "It is small.",
        "| `a` | integer | required | 1 to 3 | First. |",
        '| `b` | string | `"x"` | at most 9 characters; matches <code>x&#124;y</code> |  |',
        "| `c` | list of string, without repeats |  | at most 1 item; each `p` or `q` |  |",
        "| `d` | quantity |  |  |  |",
        "| `e` | time (RFC 3339) |  |  |  |",
        "| `f` | any JSON |  | at least 1 character |  |",
        "Exactly one of `b` and `c` is required.",
        "- Needs b.",
    ):
        assert line in page.splitlines()
