"""The two tools that stand for all others where these are too many to be listed: `find_skills` and `call_skill`.

No Skill's own tool has such a name: only what is cut, and ends in a hash, has one underscore.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

import mcp_types as types

from skill_operator.api.listed_tool import ListedTool
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.skill_search import DEFAULT_RESULTS, MAX_QUERY_BYTES, MAX_RESULTS
from skill_operator.untrusted.json_schema import CompiledSchema, TooMuchWorkError, WorkBudget
from skill_operator.untrusted.json_values import flaw, located
from skill_operator.untrusted.text import printable

State = Literal["awake", "asleep", "archived", "not-ready"]
FIND_SKILLS = "find_skills"
CALL_SKILL = "call_skill"
MAX_NAME_CHARACTERS = 320  # a namespace has 63 at most, a Skill 253
MAX_FOUND_BYTES = 1 << 16  # of the schemas in one result
MAX_WORK = 1_000
MAX_MISFITS = 3
FIND_INPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "query": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_QUERY_BYTES,
            "description": "words for what the skill does, takes and returns, with synonyms: words are compared",
        },
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_RESULTS,
            "default": DEFAULT_RESULTS,
            "description": "how many skills to return",
        },
    },
    "required": ["query"],
    "additionalProperties": False,
}
FIND_OUTPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "skills": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "summary": {"type": "string"},
                    "input": {"type": "object", "description": "JSON Schema of what call_skill takes as input"},
                    "state": {"type": "string", "enum": ["awake", "asleep", "archived", "not-ready"]},
                    "reason": {"type": "string", "description": "why it is not ready"},
                    "evidence": {"type": "object", "description": "what was tried on its code, and what it came to"},
                },
                "required": ["name", "summary", "state"],
            },
        }
    },
    "required": ["skills"],
}
CALL_INPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_NAME_CHARACTERS,
            "description": "the name that find_skills returned, or namespace/name",
        },
        "input": {"type": "object", "description": "the skill's input, as its own schema says"},
    },
    "required": ["name", "input"],
    "additionalProperties": False,
}
TOOLS = (
    types.Tool(
        name=CALL_SKILL,
        title="Call a skill",
        description="Call a skill by its name with an input that fits its schema. find_skills returns both.",
        input_schema=CALL_INPUT,
        annotations=types.ToolAnnotations(read_only_hint=False, open_world_hint=True),
    ),
    types.Tool(
        name=FIND_SKILLS,
        title="Find skills",
        description=(
            "Find skills (small checked programs) by what they do: the best matches first, each with its name, what it "
            "does, its input schema and its state. One that is asleep or archived comes back when it is called. Then "
            "call it with call_skill. If an input schema is left out, search for that name with limit 1."
        ),
        input_schema=FIND_INPUT,
        output_schema=FIND_OUTPUT,
        annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    ),
)  # by name, as lists are sorted
_CHECKS = {FIND_SKILLS: CompiledSchema(FIND_INPUT), CALL_SKILL: CompiledSchema(CALL_INPUT)}


class SkillCall(NamedTuple):
    """SkillCall is what call_skill is asked for."""

    name: str
    input: dict[str, Any]


def read_query(arguments: dict[str, Any]) -> tuple[str, int]:
    """Return query and limit of find_skills. Raises Problem (422)."""
    _check(FIND_SKILLS, arguments)
    return arguments["query"], int(arguments.get("limit", DEFAULT_RESULTS))


def read_call(arguments: dict[str, Any]) -> SkillCall:
    """Return what call_skill is asked for. Raises Problem (422)."""
    value = arguments.get("input")
    without = {key: {} if key == "input" and isinstance(item, dict) else item for key, item in arguments.items()}
    _check(CALL_SKILL, without)  # the input itself is its Skill's to judge
    return SkillCall(arguments["name"], value if isinstance(value, dict) else {})


def _check(tool: str, arguments: dict[str, Any]) -> None:
    misfits: list[str] = []
    if found := flaw(arguments):
        misfits = [f"{located('input', found[0])}: it {found[1]}"]
    else:
        try:
            budget = WorkBudget(MAX_WORK, MAX_WORK)
            fits = _CHECKS[tool].misfits(arguments, budget, MAX_MISFITS)
            misfits = [f"{located('input', misfit.place)}: {misfit.message}" for misfit in fits]
        except TooMuchWorkError:
            misfits = ["it is larger than any input of this tool"]
    if misfits:
        raise Problem("invalid-input", f"{tool}: {printable('; '.join(misfits), 600)}")


def unknown_skill(name: str) -> Problem:
    """Return the problem for a name that the caller may not call, or that does not exist: the same for both."""
    return Problem("skill-not-found", f"there is no skill {printable(name, 200)} that you may call; use {FIND_SKILLS}")


def title_of(problem: Problem) -> str:
    """Return the title of a problem with one of the two tools, which have no `spec.input`."""
    return "The arguments do not fit the tool" if problem.slug == "invalid-input" else problem.title


def state_of(entry: SkillEntry, awake: bool) -> State:
    """Return in a word whether a call is answered at once, after the skill woke or was restored, or not at all."""
    if entry.ready is None or entry.ready.status != "True":
        return "not-ready"
    if entry.archive and not awake:
        return "archived"
    return "awake" if awake else "asleep"


def describe_found(name: str, tool: ListedTool, entry: SkillEntry, awake: bool) -> dict[str, Any]:
    """Return what find_skills tells of a Skill."""
    state = state_of(entry, awake)
    found: dict[str, Any] = {"name": name, "summary": tool.description, "state": state, "input": tool.input.schema}
    if state == "not-ready":
        found["reason"] = entry.ready.reason if entry.ready else "Pending"
    evidence = entry.skill.status.evidence if entry.skill else None
    if evidence is not None:
        found["evidence"] = evidence.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found


def found_result(found: list[dict[str, Any]]) -> types.CallToolResult:
    """Return the result of find_skills. From where schemas would be too much, they are left out, save the first one."""
    size = 0
    for skill in found:
        size += len(json.dumps(skill["input"]))
        if size > MAX_FOUND_BYTES and skill is not found[0]:
            del skill["input"]
    value = {"skills": found}
    text = json.dumps(value, ensure_ascii=False) if found else "No skill that you may call matches. Try other words."
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=value)
