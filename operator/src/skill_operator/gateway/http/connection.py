"""The interface between a caller's connection and the call that runs on it: neither module imports the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import httptools
from starlette.requests import Request
from uvicorn.protocols.http.flow_control import FlowControl

from skill_operator.gateway.access.authorizer import Authorizer, Caller
from skill_operator.gateway.access.limits import ConnectionLimiter, FairShares
from skill_operator.gateway.access.origins import AllowedOrigins
from skill_operator.gateway.access.protected_resource import ProtectedResource
from skill_operator.gateway.http.deadlines import Deadlines
from skill_operator.gateway.invocation import Invoker
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.skill_search import SkillSearch
from skill_operator.gateway.workshop.workshop import Workshop


@dataclass(frozen=True, slots=True)
class GatewayServices:
    """GatewayServices are the parts of the gateway that every connection of a caller uses."""

    invoker: Invoker
    authorizer: Authorizer
    origins: AllowedOrigins
    resource: ProtectedResource
    deadlines: Deadlines
    connections: ConnectionLimiter
    requests: FairShares
    pipelined: FairShares
    search: SkillSearch
    workshop: Workshop | None = None  # where agents may not ask for Skills

    @asynccontextmanager
    async def admit(self, request: Request, authorization: str | None = None) -> AsyncIterator[Caller]:
        """Authenticate the caller of what is no call over HTTP, and hold a place for it while the context is open.

        `authorization` stands for the header where the caller sent its token otherwise. Raises Problem (401, 403, 429,
        503).
        """
        self.origins.check(request.headers.get("origin", ""), request.headers.get("host", ""))
        address = request.client.host if request.client else ""
        sent = request.headers.get("authorization", "") if authorization is None else authorization
        try:
            caller = await self.authorizer.authenticate(sent, address)
        except Problem as problem:
            raise self.resource.with_challenge(problem, request.scope["path"]) from problem
        with self.requests.hold(caller.namespace, caller.name) as admitted:
            if not admitted:
                detail = f"{self.requests.held} requests are in flight, and yours hold their share of the places"
                raise Problem("overloaded", detail, 1)
            yield caller


class RunningExchange(Protocol):
    """RunningExchange is what a connection needs of the call that runs on it."""

    keep_alive: bool
    request_complete: bool

    def on_problem(self, problem: Problem) -> None:
        """End the call with a problem."""

    def on_caller_disconnected(self) -> None:
        """End the call: the caller has closed the connection."""

    def set_paused(self, paused: bool) -> None:
        """Pause or resume the response: the caller reads too slowly, or has caught up."""


class ExchangeConnection(Protocol):
    """ExchangeConnection is what a call needs of the caller's connection. The attributes are uvicorn's."""

    services: GatewayServices
    running: RunningExchange | None
    parser: httptools.HttpRequestParser
    transport: asyncio.Transport
    client: tuple[str, int] | None
    flow: FlowControl
    loop: asyncio.AbstractEventLoop

    def on_exchange_end(self, exchange: RunningExchange) -> None:
        """Go on with the next request, or close the connection: the response is written."""

    def write_head(self, status: int, headers: bytes, close: bool, body: bytes | bytearray = b"") -> None:
        """Write status line and headers, and the body or its beginning."""

    def write_problem(self, problem: Problem, request_id: str, close: bool, headers: bytes = b"") -> None:
        """Write a whole response that is a problem."""
