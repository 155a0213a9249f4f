"""Skills as tools for agents: the Model Context Protocol over streamable HTTP, at /mcp.

No session is kept, so any replica answers any request, of the current revision and of those before it. Tools are listed
from the Skills' specs: that wakes nobody.
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
from skill_operator.gateway.access.authorizer import Authorizer, Caller
from skill_operator.gateway.access.origins import AllowedOrigins
from skill_operator.gateway.invocation import LARGEST_BODY, InvocationResponse, Invoker, starting
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.untrusted.json_values import parse_json
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
Context = ServerRequestContext[Any, Request]
PAGE = 100
FRESH_MS = 10_000  # how long a client may keep a list; as long as a right is remembered
NEWS_SECONDS = 1.0  # changes within it are told once
PROGRESS_SECONDS = 1.0
MOST_STREAMS = 16  # of one caller, that wait for changes
ENVELOPE = 1 << 16  # around a call's arguments
ANY_OUTPUT = "2026-07-28"  # before, a tool's structured output was an object
PROBLEM = f"{naming.GROUP}/problem"
INSTRUCTIONS = (
    "Each tool is a Skill: a small program that was written from its description and checked against examples. "
    "A tool that has not been used for a while takes a second or so to wake."
)


class McpServer:
    """The ASGI app of /mcp. `run` must be entered before it is asked."""

    def __init__(self, directory: Directory, calls: Invoker, gatekeeper: Authorizer, pages: AllowedOrigins) -> None:
        self._directory = directory
        self._calls = calls
        self._gatekeeper = gatekeeper
        self._pages = pages
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus)
        self._streams: Counter[str] = Counter()
        self._news = asyncio.Event()
        server: Server[Any] = Server(
            naming.MANAGER,
            version=__version__,
            instructions=INSTRUCTIONS,
            get_tool_input_schema=self._schema,
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=self._subscribe,
        )
        self._manager = StreamableHTTPSessionManager(
            server, stateless=True, max_request_body_size=LARGEST_BODY + ENVELOPE
        )

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        self._directory.watchers.append(self.see)
        async with self._manager.run():
            telling = asyncio.create_task(self._tell())
            try:
                yield
            finally:
                telling.cancel()
                self._directory.watchers.remove(self.see)

    def close(self) -> None:
        """Ends the streams that wait for changes: they would wait for ever."""
        self._listen.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        self._pages.check(request.headers.get("origin", ""), request.headers.get("host", ""))
        request.state.caller = await self._gatekeeper.caller(request.headers.get("authorization", ""))
        await self._manager.handle_request(scope, receive, send)

    def see(self, before: SkillEntry | None, after: SkillEntry | None) -> None:
        """A Skill has changed."""
        if not self._news.is_set() and _traits(before) != _traits(after):
            self._news.set()

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(NEWS_SECONDS)
            self._news.clear()
            await self._bus.publish(ToolsListChanged())

    async def _list(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """Page by page, in order of their names: a cursor holds at any replica, whatever came or went meanwhile."""
        after = _position(params.cursor if params else None)
        entries = {key: entry for key, entry in self._directory.entries.items() if _traits(entry)}
        try:
            if not self._directory.ready:
                raise starting()
            visible = await self._gatekeeper.visible(_caller(ctx), entries)
        except Problem as problem:
            raise MCPError(types.INTERNAL_ERROR, f"{problem.title}: {problem.detail}") from problem
        named = sorted((naming.tool(*key), key) for key in visible)
        rest = [pair for pair in named if pair[0] > after]
        page = rest[:PAGE]
        return types.ListToolsResult(
            tools=[_tool(name, entries[key], ctx.protocol_version) for name, key in page],
            next_cursor=base64.urlsafe_b64encode(page[-1][0].encode()).decode() if len(rest) > PAGE else None,
            ttl_ms=FRESH_MS,
            cache_scope="private",
        )

    async def _call(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        """Whatever keeps a skill from answering is told to the agent, who may know what to do."""
        caller, key = _caller(ctx), self._find(params.name)
        request_id = str(ctx.request.state.request_id) if ctx.request else ""
        waking: asyncio.Task[None] | None = None
        began, outcome, entry = time.monotonic(), "client-disconnected", None

        async def tell() -> None:
            nonlocal waking
            waking = asyncio.create_task(_progress(ctx, params.name))

        try:
            if key is None and not self._directory.ready:
                raise starting()
            if key is None:
                raise _unknown(params.name)
            await self._gatekeeper.permit(caller, key)
            entry = self._calls.find(key)
            body = json.dumps(params.arguments or {}, ensure_ascii=False).encode("utf-8", "surrogatepass")
            answer = await self._calls.invoke(entry, body, caller=caller, request_id=request_id, waking=tell)
            outcome = f"{answer.status // 100}xx"
        except Problem as problem:
            outcome = problem.slug
            metrics.record_rejection(outcome)
            if problem.status in {403, 404}:  # who may not call it is not told that it exists
                raise _unknown(params.name) from problem
            told = {"type": problem.type, "title": problem.title, "status": problem.status, "detail": problem.detail}
            return _failed(told | {"requestId": request_id})
        finally:
            if waking is not None:
                waking.cancel()
            if entry is not None:
                account(entry, request_id, outcome, time.monotonic() - began)
        return _result(answer, request_id, ctx.protocol_version)

    async def _subscribe(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        name = _caller(ctx).name
        if self._streams[name] >= MOST_STREAMS:
            raise MCPError(types.INTERNAL_ERROR, f"you have {MOST_STREAMS} such streams open; close one")
        self._streams[name] += 1
        metrics.set_mcp_streams(self._streams.total())
        try:
            return await self._listen(ctx, params)
        finally:
            self._streams[name] -= 1
            if not self._streams[name]:
                del self._streams[name]
            metrics.set_mcp_streams(self._streams.total())

    def _find(self, tool: str) -> SkillKey | None:
        """The Skill of that name. Nearly all tools are called what their Skill is."""
        namespace, _, name = tool.partition("__")
        entries = self._directory.entries
        if (namespace, name) in entries and naming.tool(namespace, name) == tool:
            return SkillKey(namespace, name)
        return next((key for key in entries if key[0] == namespace and naming.tool(*key) == tool), None)

    def _schema(self, tool: str) -> dict[str, Any] | None:
        """For the comparison of headers with arguments; judged is the call by `Calls`."""
        key = self._find(tool)
        entry = self._directory.entries.get(key) if key else None
        return entry.skill.spec.input if entry and entry.skill else None


def account(entry: SkillEntry, request_id: str, outcome: str, seconds: float) -> None:
    """That /mcp was asked is in the log as it is; which skill was called is not."""
    meta = entry.meta
    metrics.record_skill_call(meta.namespace, meta.name, outcome, seconds)
    who = {"namespace": meta.namespace, "skill": meta.name, "request": request_id}
    log.info("tool", extra=who | {"outcome": outcome, "seconds": round(seconds, 4)})


def _caller(ctx: Context) -> Caller:
    if ctx.request is None:
        raise AssertionError("it came by HTTP")
    caller: Caller = ctx.request.state.caller
    return caller


def _traits(entry: SkillEntry | None) -> tuple[Any, ...] | None:
    """What is told of a Skill as a tool. None for what is none: it cannot be read, or nothing of it can run yet."""
    skill = entry.skill if entry else None
    if skill is None or not skill.status.image or skill.spec.input.get("type") != "object":
        return None
    spec = skill.spec
    return spec.description, spec.input, spec.output, bool(spec.egress)


def _tool(name: str, entry: SkillEntry, version: str) -> types.Tool:
    if entry.skill is None:
        raise AssertionError("only what can be read is a tool")
    spec = entry.skill.spec
    return types.Tool(
        name=name,
        title=entry.meta.name,
        description=spec.description,
        input_schema=spec.input,
        output_schema=spec.output if _structured(spec.output.get("type") == "object", version) else None,
        # A skill that has no way out of its cage can change nothing.
        annotations=types.ToolAnnotations(read_only_hint=not spec.egress, open_world_hint=bool(spec.egress)),
    )


def _structured(is_object: bool, version: str) -> bool:
    return is_object or is_version_at_least(version, ANY_OUTPUT)


def _result(answer: InvocationResponse, request_id: str, version: str) -> types.CallToolResult:
    text = answer.body.decode("utf-8", "replace")
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return _failed({"title": "The skill's answer is no JSON", "status": 502, "requestId": request_id})
    if answer.status != 200:
        return _failed(value | {"requestId": request_id} if isinstance(value, dict) else {"status": answer.status})
    structured = value if _structured(isinstance(value, dict), version) else None
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=structured)


def _failed(problem: dict[str, Any]) -> types.CallToolResult:
    """In words for the model, and as a whole for programs."""
    words = ": ".join(str(problem[part]) for part in ("title", "detail") if problem.get(part))
    return types.CallToolResult(
        content=[types.TextContent(text=words or "The call failed")], is_error=True, _meta={PROBLEM: problem}
    )


def _unknown(tool: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, f"Unknown tool: {printable(tool, 200)}")


def _position(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise MCPError(types.INVALID_PARAMS, "this cursor was not given by tools/list") from error


async def _progress(ctx: Context, tool: str) -> None:
    """Until it is awake: once a second, so that the client does not take the silence for an end."""
    for seconds in itertools.count():
        await ctx.session.report_progress(seconds, None, f"waking {tool}")
        await asyncio.sleep(PROGRESS_SECONDS)
