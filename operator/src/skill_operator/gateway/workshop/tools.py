"""The workshop's tools for agents: `create_skill`, `skill_status` and `answer_skill`."""

from __future__ import annotations

import json
from typing import Any, Final

import mcp_types as types

from skill_operator.api.v1alpha1 import ObjectMeta
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.workshop.skill_request import name_examples
from skill_operator.gateway.workshop.task import MAX_ID_CHARACTERS, Task, TaskId, describe
from skill_operator.gateway.workshop.workshop import Answer
from skill_operator.untrusted.json_values import flaw, located
from skill_operator.untrusted.text import printable

CREATE_SKILL: Final = "create_skill"
SKILL_STATUS: Final = "skill_status"
ANSWER_SKILL: Final = "answer_skill"
NAMES: Final = frozenset({CREATE_SKILL, SKILL_STATUS, ANSWER_SKILL})
MAX_NAME_CHARACTERS: Final = 320
_TASK_ID: Final = {"type": "string", "maxLength": MAX_ID_CHARACTERS, "description": "as create_skill returned it"}
_EXAMPLES: Final = {
    "type": "array",
    "maxItems": 64,
    "items": {"type": "object"},
    "description": 'calls and what must come of them, each {"input": …, "output": …}, or "error" with the name of an '
    'exception such as "ValueError" in place of output; "name" is optional',
}
_CREATE_INPUT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "summary": {"type": "string", "maxLength": 1024, "description": "what it does and when to use it"},
        "description": {"type": "string", "maxLength": 16384, "description": "what it must do, exactly"},
        "input": {"type": "object", "description": "JSON Schema of the input; its type is object"},
        "output": {"type": "object", "description": "JSON Schema of the output"},
        "examples": _EXAMPLES,
        "name": {"type": "string", "maxLength": 63, "description": "lower-case letters, digits and dashes"},
        "namespace": {"type": "string", "maxLength": 63, "description": "where to make it, if not in your own"},
        "source": {
            "type": "string",
            "maxLength": 65536,
            "description": "Python that defines run(input), if you write it yourself; it is checked all the same",
        },
        "force": {"type": "boolean", "description": "make it although a skill that fits exists"},
    },
    "required": ["summary", "description", "input", "output", "examples"],
    "additionalProperties": False,
}
_STATUS_INPUT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "taskId": _TASK_ID,
        "name": {"type": "string", "maxLength": MAX_NAME_CHARACTERS, "description": "of the skill, instead of taskId"},
    },
    "additionalProperties": False,
}
_ANSWER_INPUT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "taskId": _TASK_ID,
        "examples": _EXAMPLES | {"description": "examples that replace those of the same name, or are added"},
        "description": {"type": "string", "maxLength": 16384, "description": "a clearer description, in place of it"},
    },
    "required": ["taskId"],
    "additionalProperties": False,
}
TOOLS: Final = (
    types.Tool(
        name=ANSWER_SKILL,
        title="Answer a skill's question",
        description="Correct examples or description of a skill that you asked for and whose status is input_required.",
        input_schema=_ANSWER_INPUT,
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False),
    ),
    types.Tool(
        name=CREATE_SKILL,
        title="Ask for a skill",
        description=(
            "Ask for a new tool: a small Python program that is written from your description, checked with your "
            "examples, and run isolated, without network. Where a skill that fits exists, it is offered instead. "
            "Making one takes a minute or so; then it is a tool like any other. Give at least three examples."
        ),
        input_schema=_CREATE_INPUT,
        annotations=types.ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
    ),
    types.Tool(
        name=SKILL_STATUS,
        title="Status of a skill",
        description="Tell how a skill that you asked for stands: working, input_required, completed or cancelled.",
        input_schema=_STATUS_INPUT,
        annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    ),
)  # by name, as lists are sorted


def read_status(arguments: dict[str, Any]) -> TaskId | str:
    """Return the task, or the name of the Skill, whose state is asked for. Raises Problem (404, 422)."""
    _check_fields(SKILL_STATUS, arguments, {"taskId", "name"})
    if len(arguments) != 1:
        raise Problem("invalid-input", f"{SKILL_STATUS} takes a taskId or a name")
    if "taskId" in arguments:
        return read_task_id(arguments["taskId"])
    name = arguments["name"]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS:
        raise Problem("invalid-input", f"name must be a text of at most {MAX_NAME_CHARACTERS} characters")
    return name


def read_answer(arguments: dict[str, Any]) -> tuple[TaskId, Answer]:
    """Return the task that is answered, and the answer. Raises Problem (404, 422)."""
    _check_fields(ANSWER_SKILL, arguments, {"taskId", "examples", "description"})
    id_ = read_task_id(arguments.get("taskId"))
    examples, description = arguments.get("examples", []), arguments.get("description", "")
    name_examples(examples)  # only to see whether they are examples at all
    if not isinstance(description, str):
        raise Problem("invalid-input", "description must be a text")
    if not examples and not description:
        raise Problem("invalid-input", f"{ANSWER_SKILL} needs examples or a description")
    return id_, Answer(examples, description)


def read_task_id(text: object) -> TaskId:
    """Return the id of a task. Raises Problem (404)."""
    id_ = TaskId.parse(text)
    if id_ is None:
        raise Problem("task-not-found", "a taskId is what create_skill returned")
    return id_


def task_result(task: Task, meta: ObjectMeta, tool: str, note: str = "") -> types.CallToolResult:
    """Return a task as a tool's result; `tool` is the name that the Skill's tool has at this endpoint."""
    value = describe(task, meta) | {"tool": tool} | ({"note": note} if note else {})
    text = f"{task.status}. {task.words}\ntaskId {task.id}. {advice(task, tool)}" + (f"\n{note}" if note else "")
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=value)


def offer_result(offered: list[dict[str, Any]]) -> types.CallToolResult:
    """Return the result where Skills that fit exist already."""
    names = ", ".join(skill["name"] for skill in offered)
    message = f"There is a skill that fits: {names}. Call it, or ask again with force if it is not what you need."
    value = {"status": "offered", "skills": offered, "message": message}
    text = f"{message}\n{json.dumps(offered, ensure_ascii=False)}"
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=value)


def advice(task: Task, tool: str) -> str:
    """Return what an agent does next."""
    match task.status:
        case "completed" if task.input_request is not None:
            return f"Call {tool}. Its examples leave something open; {ANSWER_SKILL} takes one more."
        case "completed":
            return f"Call {tool}, or call_skill with that name."
        case "input_required" if task.input_request is not None and task.input_request.who == "agent":
            return f"Correct what is wrong with {ANSWER_SKILL}, then ask {SKILL_STATUS}."
        case "input_required":
            return f"Tell a person; then ask {SKILL_STATUS}."
        case "cancelled":
            return "Ask for another skill."
        case _:
            return f"It goes on by itself. Ask {SKILL_STATUS} with this taskId in half a minute."


def _check_fields(tool: str, arguments: dict[str, Any], known: set[str]) -> None:
    if found := flaw(arguments):
        raise Problem("invalid-input", f"{located('input', found[0])}: it {found[1]}")
    if strange := sorted(set(arguments) - known):
        raise Problem("invalid-input", f"{tool} has no field {printable(strange[0], 63)}")
