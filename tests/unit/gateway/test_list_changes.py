"""Streams that tell of changed lists, and the end of the gateway that serves them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from skill_operator.gateway.access.authorizer import AllowAll, Caller
from skill_operator.gateway.list_changes import ListChanges
from skill_operator.gateway.mcp_endpoint import McpEndpoint


async def test_no_stream_begins_once_all_were_ended() -> None:
    """A stream that is being opened as the gateway ends would hold it until it is cut off."""
    acknowledged: list[object] = []

    class Session:
        async def send_notification(self, sent: object, **_: object) -> None:
            acknowledged.append(sent)
            raise AssertionError("the stream began, and nothing would end it")

    async def is_bounded(_caller: Caller, _endpoint: McpEndpoint) -> bool:
        changes.close()  # while the caller's rights are being looked up
        return False

    changes = ListChanges(AllowAll(), is_bounded)
    ctx: Any = SimpleNamespace(request_id=1, session=Session())
    params = types.SubscriptionsListenRequestParams(notifications=types.SubscriptionFilter(tools_list_changed=True))
    with pytest.raises(MCPError, match="listen again"):
        await changes.serve(cast("Any", ctx), params, Caller("alice"), McpEndpoint())
    assert not acknowledged
