"""The workshop over the Model Context Protocol: its tools, messages of progress, and tasks."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext

from skill_operator.api.v1alpha1 import Skill
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.mcp_endpoint import McpEndpoint
from skill_operator.gateway.pods.directory import Directory
from skill_operator.gateway.tool_catalog import note_of
from skill_operator.gateway.workshop import mcp_tasks, tools
from skill_operator.gateway.workshop.skill_request import read_request
from skill_operator.gateway.workshop.task import Task, TaskId, task_of
from skill_operator.gateway.workshop.workshop import FoundTask, Workshop
from skill_operator.naming import SkillKey

_USER_PREFIX: Final = "user:"
Context = ServerRequestContext[Any, Any]
Result = types.CallToolResult | dict[str, Any]
TaskMethod = Callable[[Context, Caller, McpEndpoint, Any], Awaitable[dict[str, Any]]]


class McpWorkshop:
    """McpWorkshop answers for the workshop's tools and tasks at each endpoint. Its methods raise Problem."""

    def __init__(self, workshop: Workshop, directory: Directory) -> None:
        self._workshop = workshop
        self._directory = directory

    async def listed(self, caller: Caller, endpoint: McpEndpoint) -> tuple[types.Tool, ...]:
        """Return the tools for who may create Skills where a request without a namespace goes; else none."""
        return tools.TOOLS if await self._workshop.may_create(caller, _namespace(caller, endpoint)) else ()

    async def call(
        self, ctx: Context, caller: Caller, endpoint: McpEndpoint, name: str, arguments: dict[str, Any]
    ) -> Result:
        """Return the result of one of the tools."""
        if name == tools.CREATE_SKILL:
            return await self._create(ctx, caller, endpoint, arguments)
        if name == tools.ANSWER_SKILL:
            id_, answer = tools.read_answer(arguments)
            return _result(await self._workshop.answer(caller, id_, answer), endpoint)
        wanted = tools.read_status(arguments)
        if isinstance(wanted, TaskId):
            return _result(await self._workshop.find(caller, wanted), endpoint)
        return _result(
            await self._workshop.find_by_name(caller, endpoint.resolve(wanted, self._directory.tools)), endpoint
        )

    async def _create(self, ctx: Context, caller: Caller, endpoint: McpEndpoint, arguments: dict[str, Any]) -> Result:
        """Ask for a Skill. Without tasks, wait for it as long as a client may, and then return a handle."""
        default = _namespace(caller, endpoint)
        request = read_request(
            arguments if "namespace" in arguments else arguments | {"namespace": default}, endpoint.namespace
        )
        creation = await self._workshop.create(caller, request)
        if creation.skill is None:
            return tools.offer_result(creation.offered)
        meta = creation.skill.metadata
        id_ = TaskId(meta.uid, 1)
        if mcp_tasks.is_declared(ctx):
            return mcp_tasks.created(task_of(self._latest(creation.skill), id_))
        steps = itertools.count(1)
        reported = ""

        async def report(task: Task) -> None:
            nonlocal reported
            news, reported = (None if task.words == reported else task.words), task.words
            await ctx.session.report_progress(next(steps), None, news)

        return _result(await self._workshop.wait(caller, id_, self._workshop.settings.wait_seconds, report), endpoint)

    @property
    def task_methods(self) -> tuple[tuple[str, type[mcp_tasks.TaskParams], TaskMethod], ...]:
        """Return the methods of tasks: the name of each, its parameters, and what answers it."""
        return (
            ("tasks/get", mcp_tasks.TaskParams, self._get_task),
            ("tasks/update", mcp_tasks.UpdateTaskParams, self._update_task),
            ("tasks/cancel", mcp_tasks.TaskParams, self._cancel_task),
        )

    async def _get_task(
        self, ctx: Context, caller: Caller, endpoint: McpEndpoint, params: mcp_tasks.TaskParams
    ) -> dict[str, Any]:
        """Return how a task stands."""
        found = await self._workshop.find(caller, tools.read_task_id(params.task_id))
        return mcp_tasks.detailed(found.task, _result(found, endpoint), asks=mcp_tasks.takes_questions(ctx))

    async def _update_task(
        self, _ctx: Context, caller: Caller, _endpoint: McpEndpoint, params: mcp_tasks.UpdateTaskParams
    ) -> dict[str, Any]:
        """Take the answer to a task's question. Answers to other questions are ignored."""
        id_ = tools.read_task_id(params.task_id)
        found = await self._workshop.find(caller, id_)
        answer = mcp_tasks.read_responses(found.task, params.input_responses)
        if answer is not None:
            await self._workshop.answer(caller, id_, answer)
        return {"resultType": "complete"}

    async def _cancel_task(
        self, _ctx: Context, caller: Caller, _endpoint: McpEndpoint, params: mcp_tasks.TaskParams
    ) -> dict[str, Any]:
        """Cancel a task that is not completed."""
        await self._workshop.cancel(caller, tools.read_task_id(params.task_id))
        return {"resultType": "complete"}

    def _latest(self, skill: Skill) -> Skill:
        """Return the Skill as the watch knows it, where that is the same object."""
        entry = self._directory.entries.get(SkillKey(skill.metadata.namespace, skill.metadata.name))
        return entry.skill if entry and entry.skill and entry.meta.uid == skill.metadata.uid else skill


def _result(found: FoundTask, endpoint: McpEndpoint) -> types.CallToolResult:
    meta = found.skill.metadata
    tool = endpoint.tool_name(SkillKey(meta.namespace, meta.name))
    return tools.task_result(found.task, meta, tool, note_of(found.skill))


def _namespace(caller: Caller, endpoint: McpEndpoint) -> str:
    """Return where a request goes that names no namespace: the endpoint's, or that of the ServiceAccount that calls."""
    own = caller.namespace
    return endpoint.namespace or ("" if own.startswith(_USER_PREFIX) else own)
