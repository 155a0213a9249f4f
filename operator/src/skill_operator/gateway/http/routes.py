"""The ASGI app for all that is no call over HTTP: the list of skills, their OpenAPI description, and MCP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.convertors import register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skill_operator import naming
from skill_operator.api.listed_tool import short_description
from skill_operator.gateway import mcp_endpoint, problems
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.find_tools import state_of
from skill_operator.gateway.http import access_log
from skill_operator.gateway.http.connection import GatewayServices
from skill_operator.gateway.http.cors import CorsMiddleware
from skill_operator.gateway.http.openapi import encode_openapi
from skill_operator.gateway.http.paths import LabelConvertor, has_encoded_slash, is_page_path
from skill_operator.gateway.http.request_id import resolve_request_id
from skill_operator.gateway.http.workshop_routes import WorkshopRoutes
from skill_operator.gateway.invocation import gateway_starting
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.skill_search import DEFAULT_RESULTS, MAX_QUERY_BYTES, MAX_RESULTS
from skill_operator.naming import SkillKey
from skill_operator.observability import logs, metrics
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
register_url_convertor("label", LabelConvertor())
_UNKNOWN_CALLER = Caller("")


class ManagedApp(Protocol):
    """ManagedApp is an ASGI app that serves only while `run` is open."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""

    def run(self) -> AbstractAsyncContextManager[None]:
        """Return the context in which the app serves."""


def make_app(
    services: GatewayServices, mcp_server: ManagedApp, settings: Settings, pages: Sequence[Route] = ()
) -> Starlette:
    """Return the app, which has `mcp_server` at /mcp and below, and runs it; `pages` are the page's for people."""
    routes = Routes(services, settings)
    workshop = WorkshopRoutes(services, services.workshop).routes() if services.workshop else []
    app = Starlette(
        routes=[
            *workshop,
            Route("/v1/skills", routes.list_skills),
            Route("/v1/skills/{namespace}/{name}", routes.describe_skill),
            Route("/openapi.json", routes.openapi),
            Route(mcp_endpoint.PATH, mcp_server, methods=["POST"]),
            Route(mcp_endpoint.SEARCH_PATH, mcp_server, methods=["POST"]),
            Route(f"{mcp_endpoint.PATH}/{{namespace:label}}", mcp_server, methods=["POST"]),
            *(Route(path, routes.describe_resource) for path in routes.resource_paths()),
            *pages,
        ],
        exception_handlers={Problem: _problem_response, HTTPException: _http_exception_response},
        lifespan=lambda _: mcp_server.run(),
    )
    app.router.redirect_slashes = False  # ResponseMiddleware ignores one at the end instead: no redirect to any Host
    app.add_middleware(CorsMiddleware, origins=services.origins)
    app.add_middleware(ResponseMiddleware)
    return app


class Routes:
    """Routes has the handlers of the paths."""

    def __init__(self, services: GatewayServices, settings: Settings) -> None:
        self._services = services
        self._directory = services.invoker.directory
        self._settings = settings
        self._openapi_slot = asyncio.Semaphore(1)
        self._openapi_callers: set[str] = set()

    def resource_paths(self) -> list[str]:
        """Return the paths of the metadata of protected resources (RFC 9728); none where nobody signs in."""
        resource = self._services.resource
        ends = ("", mcp_endpoint.PATH, f"{mcp_endpoint.PATH}/{{namespace:label}}")
        return [path + end for path in resource.well_known_paths for end in ends] if resource.enabled else []

    async def describe_resource(self, request: Request) -> Response:
        """Return the metadata of one resource to anybody: it says where to sign in, and nothing of namespaces."""
        self._services.origins.check(request.headers.get("origin", ""), request.headers.get("host", ""))
        return JSONResponse(self._services.resource.metadata(request.scope["path"]))

    async def list_skills(self, request: Request) -> Response:
        """Return the Skills that the caller may call, in all namespaces or in `?namespace=`, save for archived ones.

        With `?q=` they are those that fit these words, also archived ones, best first, and at most `?limit=`.
        """
        query, limit = _read_search(request)
        async with self._services.admit(request) as caller:
            entries = await self._visible(caller, request.query_params.get("namespace"), archived=bool(query))
            if query:
                by_key = {SkillKey(entry.meta.namespace, entry.meta.name): entry for entry in entries}
                found = await self._services.search.find(caller, by_key, query, limit)
                entries = [by_key[key] for key in found]
            return JSONResponse({"skills": [self._summary(entry) for entry in entries]})

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI document of the Skills that the caller may call.

        A thread makes it, one at a time: the schemas of a thousand Skills must not hold up the calls of others.
        """
        authenticated = self._settings.gateway.auth != "none"
        async with self._services.admit(request) as caller:
            if caller.name in self._openapi_callers:
                raise Problem("concurrency-limit", "your former request for this document is not answered yet", 1)
            self._openapi_callers.add(caller.name)
            try:
                entries = await self._visible(caller, None)
                async with self._openapi_slot:
                    url = self._settings.gateway_url
                    body = await asyncio.to_thread(encode_openapi, entries, url, authenticated=authenticated)
            finally:
                self._openapi_callers.discard(caller.name)
        return Response(body, media_type="application/json")

    async def describe_skill(self, request: Request) -> Response:
        """Return one Skill with its schemas, its examples and its time limit."""
        key = SkillKey(request.path_params["namespace"], request.path_params["name"])
        async with self._services.admit(request) as caller:
            await self._services.authorizer.authorize(caller, key)
            return self._describe(self._services.invoker.lookup(key))

    def _describe(self, entry: SkillEntry) -> Response:
        description = self._summary(entry)
        if entry.skill is not None:
            spec = entry.skill.spec
            examples = [e.model_dump(mode="json", by_alias=True, exclude_unset=True) for e in spec.examples]
            seconds = {"callTimeoutSeconds": spec.call_timeout_seconds}
            description |= {"input": spec.input, "output": spec.output, "examples": examples} | seconds
        return JSONResponse(description)

    async def _visible(self, caller: Caller, namespace: str | None, *, archived: bool = False) -> list[SkillEntry]:
        """Return what the caller may call, sorted by namespace and name; what is archived only if it is asked for.

        The API server is asked about all namespaces, whichever is wanted: how long that takes says nothing of one.
        """
        if not self._directory.ready:
            raise gateway_starting()
        entries = self._directory.entries
        keys = [key for key, entry in entries.items() if archived or not entry.archive]
        visible = await self._services.authorizer.filter_visible(caller, keys)
        wanted = sorted(key for key in visible if namespace in {None, key[0]})
        return [entries[key] for key in wanted if self._directory.is_listed(key, caller.name)]

    def _summary(self, entry: SkillEntry) -> dict[str, Any]:
        ready, awake = entry.ready, bool(self._directory.backends(entry.meta))
        described = {}
        if entry.skill is not None:
            spec = entry.skill.spec
            described = {"summary": short_description(spec), "description": spec.description}
            described["url"] = entry.skill.status.url
        return {
            "namespace": entry.meta.namespace,
            "name": entry.meta.name,
            "tool": naming.tool(entry.meta.namespace, entry.meta.name),
            **described,
            "ready": ready is not None and ready.status == "True",
            "awake": awake,
            "state": state_of(entry, awake),
            "reason": ready.reason if ready else "Pending",
            "message": ready.message if ready else "",
        }


def _read_search(request: Request) -> tuple[str, int]:
    """Return query, empty where there is none, and limit of a list. Raises Problem (400)."""
    query, limit = request.query_params.get("q", ""), request.query_params.get("limit")
    if len(query.encode("utf-8", "surrogatepass")) > MAX_QUERY_BYTES:
        raise Problem("bad-request", f"q has {MAX_QUERY_BYTES} bytes of UTF-8 at most")
    if limit is None:
        return query, DEFAULT_RESULTS
    if not query:
        raise Problem("bad-request", "limit bounds a search; send it with q, the words to search for")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 2 and 1 <= int(limit) <= MAX_RESULTS):
        raise Problem("bad-request", f"limit is a whole number from 1 to {MAX_RESULTS}")
    return query, int(limit)


class ResponseMiddleware:
    """ResponseMiddleware gives each request an id, a response of one form, a log line and a place in the metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        app = _no_such_path if has_encoded_slash(scope["raw_path"]) else self._app
        scope["path"] = scope["path"].removesuffix("/")
        headers = dict(scope["headers"])
        request_id = resolve_request_id(headers.get(b"x-request-id", b""), headers.get(b"traceparent", b""))
        scope["state"]["request_id"] = request_id
        start_time = time.monotonic()
        status, outcome = access_log.CLIENT_CLOSED_REQUEST, access_log.CLIENT_DISCONNECTED

        async def send_with_headers(message: Message) -> None:
            nonlocal status, outcome
            if message["type"] == "http.response.start":
                status, outcome = message["status"], scope["state"].get("outcome", f"{message['status'] // 100}xx")
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        with logs.context(request=request_id):
            try:
                await app(scope, receive, send_with_headers)
            except Exception:
                log.exception("a request failed")
                if status == access_log.CLIENT_CLOSED_REQUEST:
                    problem = problems.internal_error(request_id)
                    scope["state"]["outcome"] = problem.slug
                    await _encode_problem(problem, request_id)(scope, receive, send_with_headers)
            finally:
                caller = scope["state"].get("caller", _UNKNOWN_CALLER).name
                seconds = time.monotonic() - start_time
                access_log.record_request(scope["method"], scope["path"], request_id, caller, status, outcome, seconds)


def _problem_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - it was registered for these
    request.state.outcome = error.slug
    metrics.record_rejection(error.slug)
    return _encode_problem(error, request.state.request_id)


def _http_exception_response(request: Request, error: Exception) -> Response:
    """Return the problem for what Starlette itself refuses."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it was registered for these
    if error.status_code == 405:
        allowed = sorted({name.strip() for name in (error.headers or {}).get("Allow", "").split(",") if name.strip()})
        if request.url.path.count("/") == 4 and not is_page_path(request.url.path):
            allowed = sorted({*allowed, "POST"})  # which CallerConnection takes before it comes here
        detail = f"this path takes {', '.join(allowed)}; a skill is called by POST"
        headers = {"Allow": ", ".join(allowed)}
        return _problem_response(request, Problem("method-not-allowed", detail, headers=headers))
    if error.status_code == 404:
        return _problem_response(request, _not_found())
    detail = f"{error.detail}; see GET /v1/skills"
    return _problem_response(request, Problem("bad-request", detail, status=error.status_code))


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    await _problem_response(Request(scope), _not_found())(scope, receive, send)


def _not_found() -> Problem:
    return Problem("not-found", "there is nothing at this path; see GET /v1/skills")


def _encode_problem(problem: Problem, request_id: str) -> Response:
    return Response(problem.body(request_id), problem.status, problem.headers, problems.MEDIA_TYPE)
