"""Skills as tools for agents: the Model Context Protocol, revision 2026-07-28, over streamable HTTP at /mcp.

No session is kept, so any replica answers any request, of that revision and of those before it. Tools are listed from
the Skills' specs: that wakes no skill.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import validate_mcp_param_headers
from mcp_types.version import is_version_at_least
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from skill_operator import __version__, naming
from skill_operator.api.listed_tool import ListedTool
from skill_operator.api.tool_schema import AmbiguousNameError, rename
from skill_operator.gateway import find_tools, json_bounds
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.access.limits import FairShares
from skill_operator.gateway.find_tools import SkillCall
from skill_operator.gateway.http import access_log
from skill_operator.gateway.http.body import body_too_large, read_body
from skill_operator.gateway.http.connection import GatewayServices
from skill_operator.gateway.http.mcp_response import McpResponse, ResponseForm, check_content_type, negotiate
from skill_operator.gateway.invocation import InvocationResponse, gateway_starting
from skill_operator.gateway.json_bounds import MAX_REQUEST_BYTES
from skill_operator.gateway.list_changes import ListChanges
from skill_operator.gateway.mcp_endpoint import McpEndpoint
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.tool_catalog import (
    ANY_OUTPUT_REVISION,
    Page,
    ToolCatalog,
    encode_any_tool,
    has_structured_output,
)
from skill_operator.gateway.workshop import mcp_tasks
from skill_operator.gateway.workshop import tools as workshop_tools
from skill_operator.gateway.workshop.mcp_workshop import McpWorkshop, TaskMethod
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.settings import McpSettings
from skill_operator.untrusted.json_values import parse_json
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
Context = ServerRequestContext[Any, Request]
LIST_TTL_MS = 10_000  # how long a client may keep a list; as long as an allowed right is cached
PROGRESS_INTERVAL_SECONDS = 1.0
MAX_STREAMS = 256  # that wait for changes
MAX_STREAMS_PER_CALLER = 16
MAX_READING_BYTES = 1 << 23  # of all bodies that are on their way: a caller has three or four large ones at once
MAX_BODIES_BYTES = 1 << 25  # of all requests in flight
MCP_REQUEST = "an MCP request"
PROBLEM_META_KEY = f"{naming.GROUP}/problem"
INSTRUCTIONS = (
    "Each tool is a Skill: a small program that was written from its description and checked against examples. "
    "A tool that has not been used for a while takes a second or so to wake. Where there are too many to be listed, "
    "find_skills finds one by what it does, and call_skill calls it."
)


class UnknownSkillError(Exception):
    """UnknownSkillError says that the caller may not call the Skill, or that there is none: the same for both."""


class McpServer:
    """McpServer is the ASGI app of /mcp. `run` must be entered before its first request."""

    def __init__(self, services: GatewayServices, settings: McpSettings) -> None:
        self._services = services
        self._settings = settings
        self._invoker = services.invoker
        self._directory = services.invoker.directory
        self._changes = ListChanges(services.authorizer, self._is_bounded)
        self._streams = FairShares(MAX_STREAMS)
        self._reading = FairShares(MAX_READING_BYTES)
        self._bodies = FairShares(MAX_BODIES_BYTES)
        self._catalog = ToolCatalog(self._directory)
        self._workshop = McpWorkshop(services.workshop, self._directory) if services.workshop else None
        server: Server[Any] = Server(
            naming.MANAGER,
            version=__version__,
            instructions=INSTRUCTIONS,
            get_tool_input_schema=lambda _: None,  # it would be compared with headers before the caller is authorized
            on_list_tools=self._list_tools,
            on_call_tool=cast("Any", self._call_tool),  # the SDK's types know no result of an extension
            on_subscriptions_listen=self._subscribe,
        )
        if self._workshop is not None:
            server.extensions[mcp_tasks.EXTENSION] = {}
            for name, params, method in self._workshop.task_methods:
                server.add_request_handler(name, params, self._task_handler(method))
        self._managers = {
            form: StreamableHTTPSessionManager(
                server,
                json_response=form is ResponseForm.JSON,
                stateless=True,
                max_request_body_size=MAX_REQUEST_BYTES,
            )
            for form in ResponseForm
        }

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run what the server needs in the background, while the context is open."""
        for entry in self._directory.entries.values():
            self.on_skill_change(None, entry)
        self._directory.skill_listeners.append(self.on_skill_change)
        async with contextlib.AsyncExitStack() as stack:
            for manager in self._managers.values():
                await stack.enter_async_context(manager.run())
            publish_task = asyncio.create_task(self._changes.run())
            try:
                yield
            finally:
                publish_task.cancel()
                self._directory.skill_listeners.remove(self.on_skill_change)

    def close(self) -> None:
        """End the streams that wait for changes: they would wait for ever."""
        self._changes.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request of a caller who is authenticated by its token, and whose body is not too much."""
        request = Request(scope)
        async with self._services.admit(request) as caller:
            request.state.caller = caller
            request.state.endpoint = McpEndpoint.of_request(scope)
            size = min(int(request.headers.get("content-length", MAX_REQUEST_BYTES)), MAX_REQUEST_BYTES + 1)
            if size > MAX_REQUEST_BYTES:
                raise body_too_large(MAX_REQUEST_BYTES, MCP_REQUEST)
            with self._hold_bytes(self._reading, caller, size):
                body = await read_body(receive, MAX_REQUEST_BYTES, MCP_REQUEST)
                if body is None:
                    return
                json_bounds.check_request(body)
            with self._hold_bytes(self._bodies, caller, len(body)):
                await self._serve(request, body, receive, send)

    async def _serve(self, request: Request, body: bytes, receive: Receive, send: Send) -> None:
        """Have the SDK answer in the form that the caller takes. Raises Problem (406, 415)."""
        check_content_type(request.headers.get("content-type", ""))
        accepted = negotiate(request.scope)
        handle_request = self._managers[accepted.form].handle_request
        response = McpResponse(accepted, send)
        if accepted.form is ResponseForm.EVENTS:
            await handle_request(accepted.scope, _replay(body, receive), response.send)
            return
        with anyio.CancelScope() as cancel_scope:  # the SDK itself would not see that the caller leaves
            watch_task = asyncio.create_task(_cancel_on_disconnect(receive, cancel_scope))
            try:
                await handle_request(accepted.scope, _replay(body, _wait_for_ever), response.send)
            finally:
                watch_task.cancel()

    @contextlib.contextmanager
    def _hold_bytes(self, pool: FairShares, caller: Caller, size: int) -> Iterator[None]:
        """Hold so much of a pool of memory while the context is open. Raises Problem (503)."""
        with pool.hold(caller.namespace, caller.name, max(1, size)) as admitted:
            if not admitted:
                raise Problem("overloaded", "your requests hold their share of the memory for bodies; call again", 1)
            yield

    def on_skill_change(self, before: SkillEntry | None, after: SkillEntry | None) -> None:
        """Publish a change of the list of tools, where a Skill's change is one."""
        entry = after or before
        if entry is not None and self._catalog.update(before, after):
            users = {side.meta.listed_for for side in (before, after) if side is not None}
            self._changes.add(SkillKey(entry.meta.namespace, entry.meta.name), users.pop() if len(users) == 1 else "")

    async def _visible(self, caller: Caller, endpoint: McpEndpoint, *, archived: bool = False) -> list[SkillKey]:
        """Return the Skills whose tools the caller may call at this endpoint. Raises Problem (503).

        Those that are archived are left out, unless they are asked for.

        The API server is asked about all namespaces, whichever is shown: how long that takes says nothing of one.
        """
        if not self._directory.ready:
            raise gateway_starting()
        keys = self._catalog.keys if archived else self._catalog.listed_keys
        visible = await self._services.authorizer.filter_visible(caller, keys)
        return [key for key in endpoint.select(visible) if self._directory.is_listed(key, caller.name)]

    async def _is_bounded(self, caller: Caller, endpoint: McpEndpoint) -> bool:
        """Return whether a caller has the tools of the search alone in its list. Raises Problem (503)."""
        tools = 0 if endpoint.search_only else len(await self._visible(caller, endpoint))
        return endpoint.is_bounded(tools, self._settings.list_at_most)

    async def _list_tools(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """Return a page of tools by name: a cursor holds at any replica, whatever Skills come or go meanwhile.

        The tools themselves, which are encoded already, come into the response on its way out.
        """
        after = _decode_cursor(params.cursor if params else None)
        endpoint = _endpoint(ctx)
        own: tuple[types.Tool, ...] = ()
        try:
            visible = [] if endpoint.search_only else await self._visible(_caller(ctx), endpoint)
            if self._workshop is not None and not after:
                own = await self._workshop.listed(_caller(ctx), endpoint)
        except Problem as problem:
            raise MCPError(types.INTERNAL_ERROR, f"{problem.title}: {problem.detail}") from problem
        if endpoint.is_bounded(len(visible), self._settings.list_at_most):
            page = Page([encode_any_tool(tool, ctx.protocol_version) for tool in find_tools.TOOLS], None)
        else:
            page = await self._catalog.page(visible, after, ctx.protocol_version, endpoint)
        if ctx.request is not None:
            first = [encode_any_tool(tool, ctx.protocol_version) for tool in own]
            McpResponse.insert_tools(ctx.request.scope, first + page.tools)
        return types.ListToolsResult(
            tools=[],
            next_cursor=base64.urlsafe_b64encode(page.last.encode()).decode() if page.last else None,
            ttl_ms=LIST_TTL_MS,
            cache_scope="private",
        )

    async def _call_tool(
        self, ctx: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | dict[str, Any]:
        """Return the result of a tool: a Skill's, one of the two of the search, or one of the workshop's."""
        if self._workshop is not None and params.name in workshop_tools.NAMES:
            try:
                return await self._workshop.call(ctx, _caller(ctx), _endpoint(ctx), params.name, params.arguments or {})
            except Problem as problem:
                metrics.record_rejection(problem.slug)
                return _problem_result(problem, _request_id(ctx), find_tools.title_of(problem))
        if params.name not in {find_tools.FIND_SKILLS, find_tools.CALL_SKILL}:
            try:
                return await self._call_skill(ctx, SkillCall(params.name, params.arguments or {}), direct=True)
            except UnknownSkillError as error:
                raise _unknown_tool(params.name) from error
        try:
            if params.name == find_tools.FIND_SKILLS:
                return await self._find_skills(ctx, params.arguments or {})
            call = find_tools.read_call(params.arguments or {})
            try:
                return await self._call_skill(ctx, call, direct=False)
            except UnknownSkillError:  # which was counted
                return _problem_result(find_tools.unknown_skill(call.name), _request_id(ctx))
        except Problem as problem:
            metrics.record_rejection(problem.slug)
            return _problem_result(problem, _request_id(ctx), find_tools.title_of(problem))

    def _task_handler(self, method: TaskMethod) -> Callable[[Context, Any], Awaitable[dict[str, Any]]]:
        """Return the handler of one method of tasks, which tells a problem as an error of the protocol."""

        async def handle(ctx: Context, params: Any) -> dict[str, Any]:
            mcp_tasks.require_declared(ctx)
            try:
                return await method(ctx, _caller(ctx), _endpoint(ctx), params)
            except Problem as problem:
                metrics.record_rejection(problem.slug)
                code = types.INVALID_PARAMS if problem.status < 500 else types.INTERNAL_ERROR
                raise MCPError(code, f"{problem.title}: {problem.detail}") from problem

        return handle

    async def _find_skills(self, ctx: Context, arguments: dict[str, Any]) -> types.CallToolResult:
        """Return the Skills that fit a query best, of those that the caller may call. Raises Problem."""
        caller, endpoint = _caller(ctx), _endpoint(ctx)
        query, limit = find_tools.read_query(arguments)
        visible = await self._visible(caller, endpoint, archived=True)
        found = []
        for key in await self._services.search.find(caller, visible, query, limit):
            tool, entry = await self._catalog.fetch(key), self._directory.entries.get(key)
            if tool is not None and entry is not None:
                awake = bool(self._directory.backends(entry.meta))
                found.append(find_tools.describe_found(endpoint.tool_name(key), tool, entry, awake))
        return find_tools.found_result(found)

    async def _call_skill(self, ctx: Context, call: SkillCall, *, direct: bool) -> types.CallToolResult:
        """Return the skill's result. A problem is a tool error: the model that reads it may know what to do.

        Whether the caller may call comes first. Until then nothing depends on whether there is such a Skill.
        `direct` says that the Skill's own tool was called. Raises UnknownSkillError.
        """
        caller, request_id = _caller(ctx), _request_id(ctx)
        if len(call.name) > find_tools.MAX_NAME_CHARACTERS:
            raise UnknownSkillError
        key = _endpoint(ctx).resolve(call.name, self._directory.tools)
        progress_task: asyncio.Task[None] | None = None
        start_time, outcome, entry = time.monotonic(), access_log.CLIENT_DISCONNECTED, None

        async def on_wait() -> None:
            nonlocal progress_task
            progress_task = progress_task or asyncio.create_task(_report_progress(ctx, call.name))

        try:
            await self._services.authorizer.authorize(caller, key)
            tool, arguments = await self._catalog.fetch(key), call.input
            found = self._invoker.lookup(key)
            if tool is not None:
                arguments = _own_names(tool, arguments)
                if direct:
                    _check_headers(ctx, tool, arguments)
            entry = found
            body = json.dumps(arguments, ensure_ascii=False).encode("utf-8", "surrogatepass")
            response = await self._invoker.invoke(
                entry,
                body,
                caller=caller,
                request_id=request_id,
                on_wait=on_wait,
            )
            outcome = f"{response.status // 100}xx"
        except Problem as problem:
            outcome = problem.slug
            metrics.record_rejection(outcome)
            if problem.status in {403, 404}:  # whoever may not call it does not learn that it exists
                raise UnknownSkillError from problem
            return _problem_result(problem, request_id)
        finally:
            if progress_task is not None:
                progress_task.cancel()
            if entry is not None:
                record_tool_call(entry, request_id, outcome, time.monotonic() - start_time)
        return _tool_result(response, tool, request_id, ctx.protocol_version)

    async def _subscribe(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        caller = _caller(ctx)
        try:
            with self._streams.hold(caller.namespace, caller.name) as admitted:
                if not admitted or self._streams.held_by(caller.name) > MAX_STREAMS_PER_CALLER:
                    most = f"as many streams open as may be ({MAX_STREAMS_PER_CALLER})"
                    raise MCPError(types.INTERNAL_ERROR, f"you, or all callers, have {most}; close one")
                metrics.set_mcp_streams(self._streams.held)
                return await self._changes.serve(ctx, params, caller, _endpoint(ctx))
        finally:
            metrics.set_mcp_streams(self._streams.held)


def record_tool_call(entry: SkillEntry, request_id: str, outcome: str, seconds: float) -> None:
    """Count a call and log which Skill it was: the access log has only the path /mcp."""
    meta = entry.meta
    metrics.record_skill_call(meta.namespace, meta.name, outcome, seconds)
    fields = {"namespace": meta.namespace, "skill": meta.name, "request": request_id}
    log.info("tool", extra=fields | {"outcome": outcome, "seconds": round(seconds, 4)})


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives the SDK the body, and then whatever follows."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def next_message() -> Message:
        return next(messages, None) or await receive()

    return next_message


def _check_headers(ctx: Context, tool: ListedTool, arguments: dict[str, Any]) -> None:
    """Raise MCPError where headers of the call (Mcp-Param-*) say something else than its arguments."""
    if ctx.request is None or not is_version_at_least(ctx.protocol_version, ANY_OUTPUT_REVISION):
        return
    listed = rename(arguments, tool.input.names)
    rejection = validate_mcp_param_headers(tool.input.schema, listed, ctx.request.headers)
    if rejection is not None:
        raise MCPError(rejection.code, rejection.message, rejection.data)


def _own_names(tool: ListedTool, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by the names of the Skill's own schema. Raises Problem (422)."""
    names = {listed: name for name, listed in tool.input.names.items()}
    try:
        renamed: dict[str, Any] = rename(arguments, names)
    except AmbiguousNameError as error:
        raise Problem("invalid-input", str(error)) from error
    return renamed


def _caller(ctx: Context) -> Caller:
    if ctx.request is None:
        raise AssertionError("every request comes over HTTP")
    caller: Caller = ctx.request.state.caller
    return caller


def _endpoint(ctx: Context) -> McpEndpoint:
    if ctx.request is None:
        raise AssertionError("every request comes over HTTP")
    endpoint: McpEndpoint = ctx.request.state.endpoint
    return endpoint


def _request_id(ctx: Context) -> str:
    return str(ctx.request.state.request_id) if ctx.request else ""


def _tool_result(
    response: InvocationResponse, tool: ListedTool | None, request_id: str, version: str
) -> types.CallToolResult:
    text = response.body.decode("utf-8", "replace")
    if not json_bounds.is_small(response.body):
        title = "The skill's response has too many values, or levels of them, for an agent; call it over HTTP"
        return _tool_error({"title": title, "status": 502, "requestId": request_id})
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return _tool_error({"title": "The skill's response is not JSON", "status": 502, "requestId": request_id})
    if response.status != 200:
        return _tool_error(
            value | {"requestId": request_id} if isinstance(value, dict) else {"status": response.status}
        )
    if tool is not None and tool.output.names:
        try:
            value = rename(value, tool.output.names)
        except AmbiguousNameError:
            title = "The skill's response has a property under two names; call it over HTTP"
            return _tool_error({"title": title, "status": 502, "requestId": request_id})
        text = json.dumps(value, ensure_ascii=False)
    structured = value if has_structured_output(isinstance(value, dict), version) else None
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=structured)


def _problem_result(problem: Problem, request_id: str, title: str = "") -> types.CallToolResult:
    fields = {"type": problem.type, "title": title or problem.title, "status": problem.status, "detail": problem.detail}
    return _tool_error(fields | {"requestId": request_id})


def _tool_error(problem: dict[str, Any]) -> types.CallToolResult:
    """Return a problem as a tool error: text for the model, and the whole of it for programs."""
    text = ": ".join(str(problem[part]) for part in ("title", "detail") if problem.get(part))
    return types.CallToolResult(
        content=[types.TextContent(text=text or "The call failed")], is_error=True, _meta={PROBLEM_META_KEY: problem}
    )


def _unknown_tool(tool: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, f"Unknown tool: {printable(tool, 200)}")


def _decode_cursor(cursor: str | None) -> str:
    """Return the name after which the page starts."""
    if cursor is None:
        return ""
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise MCPError(types.INVALID_PARAMS, "this cursor was not given by tools/list") from error


async def _wait_for_ever() -> Message:
    await anyio.sleep_forever()
    raise AssertionError("nothing ends it but its cancellation")


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    """End a request once its caller leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _report_progress(ctx: Context, tool: str) -> None:
    """Report progress once a second until a pod has the call: a client takes silence for an end. Words come once."""
    for seconds in itertools.count():
        await ctx.session.report_progress(seconds, None, None if seconds else f"waking {tool}")
        await asyncio.sleep(PROGRESS_INTERVAL_SECONDS)
