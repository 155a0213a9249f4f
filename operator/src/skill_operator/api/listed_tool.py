"""A Skill as lists of tools show it to agents: its name, a short description, and schemas that every client takes."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from skill_operator import naming
from skill_operator.api.tool_schema import ListedSchema, listed_input, listed_output
from skill_operator.api.v1alpha1 import Skill, SkillSpec
from skill_operator.untrusted.json_schema import is_presentable

MAX_DESCRIPTION: Final = 1024  # characters: models' endpoints refuse, and clients cut, what is longer
_PARAGRAPH_END: Final = re.compile(r"\n[ \t]*\n")
_SENTENCE_END: Final = re.compile(r"[.!?…](?=\s)|[\u3002\uff01\uff1f]")  # of Chinese and Japanese, too
_ELLIPSIS: Final = "…"


class ListedTool(NamedTuple):
    """ListedTool is what a list of tools shows of a Skill."""

    name: str
    description: str
    input: ListedSchema
    output: ListedSchema
    changes: tuple[str, ...]


def listed_tool(namespace: str, name: str, spec: SkillSpec) -> ListedTool:
    """Return the tool that a Skill is. Its schemas must be presentable, and its input an object.

    `changes` say in words what is listed otherwise than the Skill has it.
    """
    tool, description = naming.tool(namespace, name), short_description(spec)
    takes, gives = listed_input(spec.input), listed_output(spec.output)
    changes = []
    if naming.skill_of_tool(tool) != (namespace, name):
        changes.append(f"its name is {tool}")
    if not spec.summary.strip() and description != spec.description.strip():
        changes.append("its description is the beginning of spec.description; set spec.summary for a better one")
    changes += [f"of spec.input, {change}" for change in takes.changes]
    changes += [f"of spec.output, {change}" for change in gives.changes]
    return ListedTool(tool, description, takes, gives, tuple(changes))


def describe_changes(skill: Skill) -> str:
    """Return in words what agents see of a Skill otherwise than it is; empty where that is nothing, or no tool."""
    meta, spec = skill.metadata, skill.spec
    if spec.input.get("type") != "object" or not (is_presentable(spec.input) and is_presentable(spec.output)):
        return ""
    changes = listed_tool(meta.namespace, meta.name, spec).changes
    return f"agents see its tool in a form that every client takes: {'; '.join(changes)}" if changes else ""


def short_description(spec: SkillSpec) -> str:
    """Return the summary, or else the description's first paragraph, as many whole sentences of it as fit."""
    return shortened(spec.summary.strip()) or first_paragraph(spec)


def first_paragraph(spec: SkillSpec) -> str:
    """Return the description's first paragraph, as many whole sentences of it as fit."""
    return shortened(_PARAGRAPH_END.split(spec.description.strip(), maxsplit=1)[0].strip())


def shortened(text: str, limit: int = MAX_DESCRIPTION) -> str:
    """Return as many whole sentences as `limit` characters hold."""
    if len(text) <= limit:
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text[: limit + 1])]
    fitting = [end for end in ends if end <= limit]
    if fitting:
        return text[: fitting[-1]]
    cut = text[: limit - len(_ELLIPSIS)]
    return cut[: cut.rfind(" ") if " " in cut else None].rstrip() + _ELLIPSIS
