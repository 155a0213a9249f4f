"""An agent of the workshop's tests: a ServiceAccount with the rights of `skill-maker`, and the official client of MCP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from pydantic import ConfigDict

from skill_operator.gateway.workshop.mcp_tasks import EXTENSION
from skill_operator.naming import WORKSHOP_ENABLED, WORKSHOP_LABEL, WORKSHOP_REVIEW_LABEL
from tests.integration.installed import Answer, Operator, http

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
USAGE = {"prompt_tokens": 100, "completion_tokens": 50}


def wanted(description: str, factor: int, **more: Any) -> dict[str, Any]:
    """Return a request for a Skill that multiplies: enough examples for no second opinion, each outcome its own."""
    numbers = (1009, 2017, 3109, 9769, 50021, 40009, 300007, 2000003)  # none of which a message says by chance
    examples = [{"input": {"n": n}, "output": {"n": n * factor}} for n in numbers]
    summary = f"Multiplies a whole number by {factor}, for prices of {description.partition(',')[0].lower()}."
    request = {"summary": summary, "description": description, "input": NUMBER, "output": NUMBER, "examples": examples}
    return request | more


def program(expression: str) -> str:
    return f"def run(input: dict) -> dict:\n    return {{'n': {expression}}}\n"


def reply(expression: str, **more: Any) -> dict[str, Any]:
    return {"text": f"```python\n{program(expression)}```", "usage": USAGE, **more}


@contextmanager
def opened(operator: Operator, namespace: str, review: str = "") -> Iterator[str]:
    """Open a namespace for agents, and yield the token of one."""
    labels = [f"{WORKSHOP_LABEL}={WORKSHOP_ENABLED}", *([f"{WORKSHOP_REVIEW_LABEL}={review}"] if review else [])]
    operator.cluster.kubectl("label", "namespace", namespace, *labels)
    yield maker(operator, namespace, "agent")


def maker(operator: Operator, namespace: str, name: str) -> str:
    """Make an account that may ask for Skills and call them, and return a token of it."""
    account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    operator.cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{name}-makes", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "skill-maker"},
            "subjects": [account],
        },
    )
    return operator.cluster.token(namespace, name)


def ask(operator: Operator, namespace: str, token: str, body: dict[str, Any]) -> Answer:
    """Ask for a Skill over HTTP."""
    url = f"{operator.url}/v1/skills/{namespace}"
    return http("POST", url, json.dumps(body).encode(), token, operator.service.forwarded_context)


def state(operator: Operator, namespace: str, token: str, name: str) -> Any:
    """Return how a request stands, over HTTP."""
    url = f"{operator.url}/v1/skills/{namespace}/{name}/status"
    return http("GET", url, None, token, operator.service.forwarded_context).body


class CreatedTask(types.Result):
    """CreatedTask is a CreateTaskResult of SEP-2663."""

    model_config = ConfigDict(extra="allow")
    result_type: Literal["task"] = "task"


class TaskResult(types.Result):
    """TaskResult is what a method of tasks returns."""

    model_config = ConfigDict(extra="allow")


class TaskRequest(types.Request[Any, Any]):
    """TaskRequest is a request of one of the methods of tasks."""

    method: str
    params: dict[str, Any]


async def _unused(_result: CreatedTask, _context: ClaimContext) -> types.CallToolResult:
    raise AssertionError("the test polls itself")


class TasksExtension(ClientExtension):
    """TasksExtension declares SEP-2663."""

    identifier = EXTENSION

    def claims(self) -> list[ResultClaim[Any]]:
        """Return the one result that it adds."""
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=_unused)]


async def task(client: Client, method: str, id_: str, **params: Any) -> dict[str, Any]:
    """Return the response of a method of tasks."""
    request = TaskRequest(method=method, params={"taskId": id_, **params})
    result: TaskResult = await client.session.send_request(request, TaskResult)
    return result.model_dump(by_alias=True)


@asynccontextmanager
async def agent(operator: Operator, token: str, path: str = "/mcp", **more: Any) -> AsyncIterator[Client]:
    """Connect as an agent with this token."""
    async with (
        httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=120,
            verify=operator.service.forwarded_context or True,
        ) as connection,
        Client(streamable_http_client(f"{operator.url}{path}", http_client=connection), cache=None, **more) as client,
    ):
        yield client
