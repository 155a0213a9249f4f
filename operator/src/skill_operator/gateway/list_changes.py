"""Notifications that a list of tools changed: each stream hears of what changes its own list, and of nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError

from skill_operator.gateway.access.authorizer import Authorizer, Caller
from skill_operator.gateway.mcp_endpoint import McpEndpoint
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey

log = logging.getLogger(__name__)
CHANGE_DELAY_SECONDS = 1.0  # changes within it are published once
IsBounded = Callable[[Caller, McpEndpoint], Awaitable[bool]]


class _ChangeStream:
    """_ChangeStream is one stream of a caller that listens at an endpoint."""

    def __init__(self, caller: Caller, endpoint: McpEndpoint, bounded: bool) -> None:
        self.caller = caller
        self.endpoint = endpoint
        self.bounded = bounded  # whether its list had the two tools of the search alone, when it was last looked at
        self.bus = InMemorySubscriptionBus()
        self.handler = ListenHandler(self.bus)


class ListChanges:
    """ListChanges tells listening clients of changes. `run` must be running."""

    def __init__(self, authorizer: Authorizer, is_bounded: IsBounded) -> None:
        """`is_bounded` returns whether a caller's list at an endpoint is that of the search alone. Raises Problem."""
        self._authorizer = authorizer
        self._is_bounded = is_bounded
        self._changed: dict[SkillKey, str] = {}
        self._wake = asyncio.Event()
        self._streams: set[_ChangeStream] = set()
        self._closed = False

    def add(self, key: SkillKey, user: str = "") -> None:
        """Take a change of a tool; `user` is who alone may hear of it, empty for all who may call it."""
        if self._streams:
            self._changed[key] = user if self._changed.get(key, user) == user else ""
            self._wake.set()

    async def run(self) -> None:
        """Publish changes, those of a second together; never returns."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(CHANGE_DELAY_SECONDS)
            self._wake.clear()
            changed, self._changed = self._changed, {}
            publications = (self._publish(stream, changed) for stream in self._streams)
            for error in filter(None, await asyncio.gather(*publications, return_exceptions=True)):
                log.error("a change of tools could not be published", exc_info=error)

    async def serve(
        self,
        ctx: ServerRequestContext[Any, Any],
        params: types.SubscriptionsListenRequestParams,
        caller: Caller,
        endpoint: McpEndpoint,
    ) -> types.SubscriptionsListenResult:
        """Serve one stream until its client leaves, or `close`. Raises MCPError after that."""
        try:
            bounded = await self._is_bounded(caller, endpoint)
        except Problem:
            bounded = False
        if self._closed:  # a client whose stream ends listens again at once, while connections are still taken
            raise MCPError(types.INTERNAL_ERROR, "this gateway ends; listen again")
        stream = _ChangeStream(caller, endpoint, bounded)
        self._streams.add(stream)
        try:
            return await stream.handler(ctx, params)
        finally:
            self._streams.discard(stream)

    def close(self) -> None:
        """End all streams, and begin none from now on: they would wait for ever."""
        self._closed = True
        for stream in list(self._streams):
            stream.handler.close()

    async def _publish(self, stream: _ChangeStream, users: Mapping[SkillKey, str]) -> None:
        changed = {key for key, user in users.items() if user in {"", stream.caller.name}}
        if await self._is_affected(stream, changed):
            await stream.bus.publish(ToolsListChanged())

    async def _is_affected(self, stream: _ChangeStream, changed: set[SkillKey]) -> bool:
        """Return whether the client's list is another one now. A list of the search alone is always the same."""
        if stream.endpoint.search_only:
            return False
        try:
            covered = stream.endpoint.select(changed)
            if not covered or not await self._authorizer.filter_visible(stream.caller, covered):
                return False
            was_bounded, stream.bounded = stream.bounded, await self._is_bounded(stream.caller, stream.endpoint)
        except Problem:  # it cannot be known; a client that lists in vain loses nothing
            return not stream.bounded
        return not (was_bounded and stream.bounded)
