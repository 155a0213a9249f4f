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
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types.version import is_version_at_least
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from skill_operator import __version__, naming
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.http import access_log
from skill_operator.gateway.http.connection import GatewayServices
from skill_operator.gateway.invocation import MAX_BODY_BYTES, InvocationResponse, gateway_starting
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.untrusted.json_values import parse_json
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
Context = ServerRequestContext[Any, Request]
PAGE_SIZE = 100
LIST_TTL_MS = 10_000  # how long a client may keep a list; as long as an allowed right is cached
CHANGE_DELAY_SECONDS = 1.0  # changes within it are published once
PROGRESS_INTERVAL_SECONDS = 1.0
MAX_STREAMS_PER_CALLER = 16  # that wait for changes
ENVELOPE_BYTES = 1 << 16  # around a call's arguments
ANY_OUTPUT_REVISION = "2026-07-28"  # before, a tool's structured output was an object
PROBLEM_META_KEY = f"{naming.GROUP}/problem"
INSTRUCTIONS = (
    "Each tool is a Skill: a small program that was written from its description and checked against examples. "
    "A tool that has not been used for a while takes a second or so to wake."
)


class McpServer:
    """McpServer is the ASGI app of /mcp. `run` must be entered before its first request."""

    def __init__(self, services: GatewayServices) -> None:
        self._services = services
        self._invoker = services.invoker
        self._directory = services.invoker.directory
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus)
        self._streams: Counter[str] = Counter()
        self._change = asyncio.Event()
        server: Server[Any] = Server(
            naming.MANAGER,
            version=__version__,
            instructions=INSTRUCTIONS,
            get_tool_input_schema=self._input_schema,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_subscriptions_listen=self._subscribe,
        )
        self._manager = StreamableHTTPSessionManager(
            server, stateless=True, max_request_body_size=MAX_BODY_BYTES + ENVELOPE_BYTES
        )

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run what the server needs in the background, while the context is open."""
        self._directory.skill_listeners.append(self.on_skill_change)
        async with self._manager.run():
            publish_task = asyncio.create_task(self._publish_changes())
            try:
                yield
            finally:
                publish_task.cancel()
                self._directory.skill_listeners.remove(self.on_skill_change)

    def close(self) -> None:
        """End the streams that wait for changes: they would wait for ever."""
        self._listen.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request of a caller who is authenticated by its token."""
        request = Request(scope)
        self._services.origins.check(request.headers.get("origin", ""), request.headers.get("host", ""))
        request.state.caller = await self._services.authorizer.authenticate(request.headers.get("authorization", ""))
        await self._manager.handle_request(scope, receive, send)

    def on_skill_change(self, before: SkillEntry | None, after: SkillEntry | None) -> None:
        """Publish a change of the list of tools, where a Skill's change is one."""
        if not self._change.is_set() and _tool_fields(before) != _tool_fields(after):
            self._change.set()

    async def _publish_changes(self) -> None:
        while True:
            await self._change.wait()
            await asyncio.sleep(CHANGE_DELAY_SECONDS)
            self._change.clear()
            await self._bus.publish(ToolsListChanged())

    async def _list_tools(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """Return a page of tools by name: a cursor holds at any replica, whatever Skills come or go meanwhile."""
        after = _decode_cursor(params.cursor if params else None)
        entries = {key: entry for key, entry in self._directory.entries.items() if _tool_fields(entry)}
        try:
            if not self._directory.ready:
                raise gateway_starting()
            visible = await self._services.authorizer.filter_visible(_caller(ctx), entries)
        except Problem as problem:
            raise MCPError(types.INTERNAL_ERROR, f"{problem.title}: {problem.detail}") from problem
        tools = sorted((naming.tool(*key), key) for key in visible)
        rest = [pair for pair in tools if pair[0] > after]
        page = rest[:PAGE_SIZE]
        return types.ListToolsResult(
            tools=[_tool(name, entries[key], ctx.protocol_version) for name, key in page],
            next_cursor=base64.urlsafe_b64encode(page[-1][0].encode()).decode() if len(rest) > PAGE_SIZE else None,
            ttl_ms=LIST_TTL_MS,
            cache_scope="private",
        )

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        """Return the skill's result. A problem is a tool error: the model that reads it may know what to do."""
        caller, key = _caller(ctx), self._find_skill(params.name)
        request_id = str(ctx.request.state.request_id) if ctx.request else ""
        progress_task: asyncio.Task[None] | None = None
        start_time, outcome, entry = time.monotonic(), access_log.CLIENT_DISCONNECTED, None

        async def on_cold_start() -> None:
            nonlocal progress_task
            progress_task = asyncio.create_task(_report_progress(ctx, params.name))

        try:
            if key is None and not self._directory.ready:
                raise gateway_starting()
            if key is None:
                raise _unknown_tool(params.name)
            await self._services.authorizer.authorize(caller, key)
            entry = self._invoker.lookup(key)
            body = json.dumps(params.arguments or {}, ensure_ascii=False).encode("utf-8", "surrogatepass")
            response = await self._invoker.invoke(
                entry, body, caller=caller, request_id=request_id, on_cold_start=on_cold_start
            )
            outcome = f"{response.status // 100}xx"
        except Problem as problem:
            outcome = problem.slug
            metrics.record_rejection(outcome)
            if problem.status in {403, 404}:  # whoever may not call it does not learn that it exists
                raise _unknown_tool(params.name) from problem
            fields = {"type": problem.type, "title": problem.title, "status": problem.status, "detail": problem.detail}
            return _tool_error(fields | {"requestId": request_id})
        finally:
            if progress_task is not None:
                progress_task.cancel()
            if entry is not None:
                record_tool_call(entry, request_id, outcome, time.monotonic() - start_time)
        return _tool_result(response, request_id, ctx.protocol_version)

    async def _subscribe(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        name = _caller(ctx).name
        if self._streams[name] >= MAX_STREAMS_PER_CALLER:
            raise MCPError(types.INTERNAL_ERROR, f"you have {MAX_STREAMS_PER_CALLER} such streams open; close one")
        self._streams[name] += 1
        metrics.set_mcp_streams(self._streams.total())
        try:
            return await self._listen(ctx, params)
        finally:
            self._streams[name] -= 1
            if not self._streams[name]:
                del self._streams[name]
            metrics.set_mcp_streams(self._streams.total())

    def _find_skill(self, tool: str) -> SkillKey | None:
        """Return the Skill of a tool, or None."""
        return self._directory.tools.get(tool)

    def _input_schema(self, tool: str) -> dict[str, Any] | None:
        """Return the schema by which the SDK compares headers with arguments; the Invoker validates the call."""
        key = self._find_skill(tool)
        entry = self._directory.entries.get(key) if key else None
        return entry.skill.spec.input if entry and entry.skill else None


def record_tool_call(entry: SkillEntry, request_id: str, outcome: str, seconds: float) -> None:
    """Count a call and log which Skill it was: the access log has only the path /mcp."""
    meta = entry.meta
    metrics.record_skill_call(meta.namespace, meta.name, outcome, seconds)
    fields = {"namespace": meta.namespace, "skill": meta.name, "request": request_id}
    log.info("tool", extra=fields | {"outcome": outcome, "seconds": round(seconds, 4)})


def _caller(ctx: Context) -> Caller:
    if ctx.request is None:
        raise AssertionError("every request comes over HTTP")
    caller: Caller = ctx.request.state.caller
    return caller


def _tool_fields(entry: SkillEntry | None) -> tuple[Any, ...] | None:
    """Return what a tool shows of a Skill; None for what is no tool: it cannot be parsed, or nothing can run yet."""
    skill = entry.skill if entry else None
    if skill is None or not skill.status.image or skill.spec.input.get("type") != "object":
        return None
    spec = skill.spec
    return spec.description, spec.input, spec.output, bool(spec.egress)


def _tool(name: str, entry: SkillEntry, version: str) -> types.Tool:
    if entry.skill is None:
        raise AssertionError("a Skill that cannot be parsed is no tool")
    spec = entry.skill.spec
    return types.Tool(
        name=name,
        title=entry.meta.name,
        description=spec.description,
        input_schema=spec.input,
        output_schema=spec.output if _has_structured_output(spec.output.get("type") == "object", version) else None,
        # A skill without egress can change nothing outside its sandbox.
        annotations=types.ToolAnnotations(read_only_hint=not spec.egress, open_world_hint=bool(spec.egress)),
    )


def _has_structured_output(is_object: bool, version: str) -> bool:
    return is_object or is_version_at_least(version, ANY_OUTPUT_REVISION)


def _tool_result(response: InvocationResponse, request_id: str, version: str) -> types.CallToolResult:
    text = response.body.decode("utf-8", "replace")
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return _tool_error({"title": "The skill's response is not JSON", "status": 502, "requestId": request_id})
    if response.status != 200:
        return _tool_error(
            value | {"requestId": request_id} if isinstance(value, dict) else {"status": response.status}
        )
    structured = value if _has_structured_output(isinstance(value, dict), version) else None
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=structured)


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


async def _report_progress(ctx: Context, tool: str) -> None:
    """Report progress once a second until the skill is awake: a client takes silence for an end."""
    for seconds in itertools.count():
        await ctx.session.report_progress(seconds, None, f"waking {tool}")
        await asyncio.sleep(PROGRESS_INTERVAL_SECONDS)
