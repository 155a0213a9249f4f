"""What is no call over HTTP, as an ASGI app: what there is to call, its OpenAPI description, the way of agents."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skill_operator import naming
from skill_operator.gateway import problems
from skill_operator.gateway.access.authorizer import Authorizer, Caller
from skill_operator.gateway.access.origins import AllowedOrigins
from skill_operator.gateway.http.exchange import account, request_id
from skill_operator.gateway.http.openapi import document
from skill_operator.gateway.invocation import Invoker, starting
from skill_operator.gateway.mcp import McpServer
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey
from skill_operator.observability import logs, metrics
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
_NOBODY = Caller("")  # who was not asked, or not known


def app(
    directory: Directory,
    calls: Invoker,
    gatekeeper: Authorizer,
    pages: AllowedOrigins,
    agents: McpServer,
    settings: Settings,
) -> Starlette:
    api = Routes(directory, calls, gatekeeper, pages, settings)
    made = Starlette(
        routes=[
            Route("/v1/skills", api.listing),
            Route("/v1/skills/{namespace}/{name}", api.describe),
            Route("/openapi.json", api.openapi),
            Route("/mcp", agents, methods=["POST"]),
        ],
        exception_handlers={Problem: _problem, HTTPException: _refused},
        lifespan=lambda _: agents.run(),
    )
    made.add_middleware(ResponseMiddleware)
    return made


class Routes:
    """The handlers."""

    def __init__(
        self, directory: Directory, calls: Invoker, gatekeeper: Authorizer, pages: AllowedOrigins, settings: Settings
    ) -> None:
        self._directory = directory
        self._calls = calls
        self._gatekeeper = gatekeeper
        self._pages = pages
        self._settings = settings
        self._describing = asyncio.Semaphore(1)

    async def listing(self, request: Request) -> Response:
        """In all namespaces, or in `?namespace=`."""
        found = await self._visible(request, request.query_params.get("namespace"))
        return JSONResponse({"skills": [self._summary(entry) for entry in found]})

    async def openapi(self, request: Request) -> Response:
        """Beside the loop: the schemas of a thousand Skills must not hold up the calls of others."""
        found = await self._visible(request, None)
        authenticated = self._settings.gateway.auth != "none"
        async with self._describing:
            made = await asyncio.to_thread(_described, found, self._settings.gateway_url, authenticated)
        return Response(made, media_type="application/json")

    async def describe(self, request: Request) -> Response:
        key = SkillKey(request.path_params["namespace"], request.path_params["name"])
        await self._gatekeeper.permit(await self._caller(request), key)
        entry = self._calls.find(key)
        told = self._summary(entry)
        if entry.skill is not None:
            spec = entry.skill.spec
            examples = [e.model_dump(mode="json", by_alias=True, exclude_unset=True) for e in spec.examples]
            seconds = {"callTimeoutSeconds": spec.call_timeout_seconds}
            told |= {"input": spec.input, "output": spec.output, "examples": examples} | seconds
        return JSONResponse(told)

    async def _caller(self, request: Request) -> Caller:
        self._pages.check(request.headers.get("origin", ""), request.headers.get("host", ""))
        return await self._gatekeeper.caller(request.headers.get("authorization", ""))

    async def _visible(self, request: Request, namespace: str | None) -> list[SkillEntry]:
        """What the caller may call, by name."""
        caller = await self._caller(request)
        if not self._directory.ready:
            raise starting()
        entries = self._directory.entries
        visible = await self._gatekeeper.visible(caller, [key for key in entries if namespace in {None, key[0]}])
        return [entries[key] for key in sorted(visible) if key in entries]  # one may have gone while we asked

    def _summary(self, entry: SkillEntry) -> dict[str, Any]:
        ready = entry.ready
        described = {"description": entry.skill.spec.description, "url": entry.skill.status.url} if entry.skill else {}
        return {
            "namespace": entry.meta.namespace,
            "name": entry.meta.name,
            "tool": naming.tool(entry.meta.namespace, entry.meta.name),
            **described,
            "ready": ready is not None and ready.status == "True",
            "awake": bool(self._directory.backends(entry.meta)),
            "reason": ready.reason if ready else "Pending",
            "message": ready.message if ready else "",
        }


class ResponseMiddleware:
    """Every request has an id, an answer of one form, a line in the log and a place in the metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        id_ = request_id(headers.get(b"x-request-id", b""), headers.get(b"traceparent", b""))
        scope["state"]["request_id"] = id_
        began, status, outcome = time.monotonic(), 499, "client-disconnected"

        async def signed(message: Message) -> None:
            nonlocal status, outcome
            if message["type"] == "http.response.start":
                status, outcome = message["status"], scope["state"].get("outcome", f"{message['status'] // 100}xx")
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = id_
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        with logs.context(request=id_):
            try:
                await self._app(scope, receive, signed)
            except Exception:
                log.exception("a request failed")
                if status == 499:
                    scope["state"]["outcome"] = "internal-error"
                    await _answer(problems.internal_error(id_), id_)(scope, receive, signed)
            finally:
                caller = scope["state"].get("caller", _NOBODY).name
                account(scope["method"], scope["path"], id_, caller, status, outcome, time.monotonic() - began)


def _described(entries: list[SkillEntry], url: str, authenticated: bool) -> bytes:
    return json.dumps(document(entries, url, authenticated=authenticated), ensure_ascii=False).encode()


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - it was registered for these
    request.state.outcome = error.slug
    metrics.record_rejection(error.slug)
    return _answer(error, request.state.request_id)


def _refused(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it was registered for these
    if error.status_code == 405:
        allowed = sorted({name.strip() for name in (error.headers or {}).get("Allow", "").split(",") if name.strip()})
        if request.url.path.count("/") == 4:
            allowed = sorted({*allowed, "POST"})  # taken before it comes here
        detail = f"this path takes {', '.join(allowed)}; a skill is called by POST"
        headers = {"Allow": ", ".join(allowed)}
        return _problem(request, Problem("method-not-allowed", detail, headers=headers))
    if error.status_code == 404:
        return _problem(request, Problem("not-found", "see GET /v1/skills"))
    return _problem(request, Problem("bad-request", f"{error.detail}; see GET /v1/skills", status=error.status_code))


def _answer(problem: Problem, id_: str) -> Response:
    return Response(problem.body(id_), problem.status, problem.headers, problems.MEDIA_TYPE)
