"""Tasks of the Model Context Protocol (extension io.modelcontextprotocol/tasks, SEP-2663), for clients that declare it.

The extension has no list of tasks and no call that waits for a result: a client polls `tasks/get`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import is_version_at_least
from pydantic import Field

from skill_operator.gateway.problems import Problem
from skill_operator.gateway.workshop.task import MAX_ID_CHARACTERS, Task
from skill_operator.gateway.workshop.workshop import Answer
from skill_operator.untrusted.json_values import parse_json

EXTENSION: Final = "io.modelcontextprotocol/tasks"
FIRST_REVISION: Final = "2026-07-28"
POLL_INTERVAL_MS: Final = 3_000
MAX_OUTPUT_CHARACTERS: Final = 1 << 16
_FORM: Final = {
    "type": "object",
    "properties": {
        "example": {"type": "string", "description": "name of the example that is wrong"},
        "output": {"type": "string", "description": "what it must return, as JSON"},
        "description": {"type": "string", "description": "a clearer description instead"},
    },
}
_NOTHING: Final[dict[str, Any]] = {"type": "object", "properties": {}}


class TaskParams(types.RequestParams):
    """TaskParams are those of `tasks/get` and `tasks/cancel`."""

    task_id: str = Field(alias="taskId", max_length=MAX_ID_CHARACTERS)


class UpdateTaskParams(TaskParams):
    """UpdateTaskParams are those of `tasks/update`."""

    input_responses: dict[str, Any] = Field(alias="inputResponses", default_factory=dict)


def is_declared(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Return whether the client of this very request takes tasks."""
    capabilities = ctx.session.client_capabilities
    declared = capabilities is not None and EXTENSION in (capabilities.extensions or {})
    return declared and is_version_at_least(ctx.protocol_version, FIRST_REVISION)


def require_declared(ctx: ServerRequestContext[Any, Any]) -> None:
    """Raise MCPError for a client that did not declare the extension."""
    if not is_declared(ctx):
        required: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, f"declare the extension {EXTENSION}", required)


def created(task: Task) -> dict[str, Any]:
    """Return the result of a call that goes on as a task (CreateTaskResult)."""
    return {"resultType": "task", **_task(task)}


def detailed(task: Task, result: types.CallToolResult, *, asks: bool) -> dict[str, Any]:
    """Return the result of `tasks/get`; `asks` says that the client takes questions (elicitation)."""
    fields: dict[str, Any] = {"resultType": "complete", **_task(task)}
    if task.status == "completed":
        fields["result"] = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    elif task.status == "input_required":
        fields["inputRequests"] = _questions(task) if asks else {}
    return fields


def read_responses(task: Task, responses: dict[str, Any]) -> Answer | None:
    """Return the answer to the task's question, None where there is none: for other questions, or declined.

    A question for a person takes no answer here, whatever is sent. Raises Problem (422).
    """
    question = task.input_request
    if question is None or question.who != "agent" or task.status != "input_required":
        return None
    response = responses.get(question.key)
    content = response.get("content") if isinstance(response, dict) and response.get("action") == "accept" else None
    if not isinstance(content, dict):
        return None
    example, output, description = (content.get(name, "") for name in ("example", "output", "description"))
    if not all(isinstance(text, str) and len(text) <= MAX_OUTPUT_CHARACTERS for text in (example, output, description)):
        raise Problem("invalid-skill", "example, output and description must be texts")
    examples = []
    if example:
        try:
            examples.append({"name": example, "output": parse_json(output)})
        except (ValueError, RecursionError) as error:
            raise Problem("invalid-skill", "output must be JSON; put a text in quotes") from error
    return Answer(examples, description) if examples or description else None


def takes_questions(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Return whether the client asks its user what a server wants to know (elicitation)."""
    capabilities = ctx.session.client_capabilities
    return capabilities is not None and capabilities.elicitation is not None


def _task(task: Task) -> dict[str, Any]:
    created_at = task.created_at or datetime.now(UTC)
    return {
        "taskId": str(task.id),
        "status": task.status,
        "statusMessage": task.words,
        "createdAt": _moment(created_at),
        "lastUpdatedAt": _moment(task.updated_at or created_at),
        "ttlMs": None,  # the object stays
        "pollIntervalMs": POLL_INTERVAL_MS,
    }


def _questions(task: Task) -> dict[str, Any]:
    if task.input_request is None:
        return {}
    schema = _FORM if task.input_request.who == "agent" else _NOTHING
    params = {"mode": "form", "message": task.input_request.text, "requestedSchema": schema}
    return {task.input_request.key: {"method": "elicitation/create", "params": params}}


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
