"""The HTTP API: `POST /v1/skills/{namespace}/{name}` relays a call; the two GETs say what there is to call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from skill_operator.api.text import printable
from skill_operator.gateway.directory import Directory, Entry
from skill_operator.gateway.judge import judge
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.relay import POD_PORT, REQUEST_ID, Relay
from skill_operator.k8s.client import Cluster
from skill_operator.observability import health, logs, metrics
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
LARGEST_BODY = 1 << 20  # as in the runtime
BODY_SECONDS = 15.0
MARGIN_SECONDS = 5.0  # the runtime itself says 504; this is for when it cannot
MOST_CALLS = 512
DRAIN_SECONDS = 2.0  # until no Service leads here any more
GRACE_SECONDS = 25.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Gateway:
    """The handlers. `pod_port` is for tests, whose pods are on loopback."""

    def __init__(self, directory: Directory, session: aiohttp.ClientSession, pod_port: int = POD_PORT) -> None:
        self._directory = directory
        self._relay = Relay(directory, session, pod_port)
        self._calls = 0

    def app(self) -> web.Application:
        made = web.Application(client_max_size=LARGEST_BODY, middlewares=[_answer])
        made.on_response_prepare.append(_sign)
        made.router.add_get("/v1/skills", self.listing)
        made.router.add_get("/v1/skills/{namespace}/{name}", self.describe)
        made.router.add_post("/v1/skills/{namespace}/{name}", self.call)
        return made

    async def listing(self, request: web.Request) -> web.Response:
        """In all namespaces, or in `?namespace=`."""
        if not self._directory.ready:
            raise _starting()
        only = request.query.get("namespace")
        entries = sorted(self._directory.entries.items())
        return web.json_response({"skills": [self._summary(e) for (space, _), e in entries if only in {None, space}]})

    async def describe(self, request: web.Request) -> web.Response:
        entry = self._find(request)
        told = self._summary(entry)
        if entry.skill is not None:
            spec = entry.skill.spec
            examples = [e.model_dump(mode="json", by_alias=True, exclude_unset=True) for e in spec.examples]
            seconds = {"callTimeoutSeconds": spec.call_timeout_seconds}
            told |= {"input": spec.input, "output": spec.output, "examples": examples} | seconds
        return web.json_response(told)

    async def call(self, request: web.Request) -> web.StreamResponse:
        """The body is taken in full before a pod is called, so that a slow caller holds none."""
        _refuse_foreign_page(request)
        entry = self._find(request)
        with logs.context(namespace=entry.meta.namespace, skill=entry.meta.name), self._admitted():
            body = await _body(request)
            judge(self._directory.contract(entry), body, entry.meta)
            if entry.skill is None:
                raise _not_ready(entry, "newer than this gateway: its object cannot be read")
            backends = self._directory.backends(entry.meta)
            if not backends:
                raise _asleep(entry)
            limit = entry.skill.spec.call_timeout_seconds
            try:
                return await self._relay.call(request, backends, body, limit + MARGIN_SECONDS)
            except TimeoutError as error:
                detail = f"no answer within {limit} s (spec.callTimeoutSeconds); ask for less, or raise the limit"
                raise Problem(504, "timeout", "The skill took too long", detail) from error

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        """Each call may hold a body in memory: rather a prompt no than a killed gateway."""
        if self._calls >= MOST_CALLS:
            raise Problem(503, "overloaded", "Too many calls", f"{MOST_CALLS} calls are in flight; call again", 1)
        self._calls += 1
        metrics.in_flight(self._calls)
        try:
            yield
        finally:
            self._calls -= 1
            metrics.in_flight(self._calls)

    def _find(self, request: web.Request) -> Entry:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        entry = self._directory.entries.get((namespace, name))
        if entry is not None:
            return entry
        if not self._directory.ready:
            raise _starting()
        detail = f"there is no Skill {printable(name, 63)} in namespace {printable(namespace, 63)}; see GET /v1/skills"
        raise Problem(404, "unknown-skill", "No such skill", detail)

    def _summary(self, entry: Entry) -> dict[str, Any]:
        ready = entry.ready
        described = {"description": entry.skill.spec.description, "url": entry.skill.status.url} if entry.skill else {}
        return {
            "namespace": entry.meta.namespace,
            "name": entry.meta.name,
            **described,
            "ready": ready is not None and ready.status == "True",
            "awake": bool(self._directory.backends(entry.meta)),
            "reason": ready.reason if ready else "Pending",
            "message": ready.message if ready else "",
        }


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > LARGEST_BODY:
        raise _too_large()
    if "Content-Encoding" in request.headers:
        raise Problem(415, "encoded-body", "The body is encoded", "send it plain, without Content-Encoding")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError as error:
        detail = f"it did not arrive within {BODY_SECONDS:.0f} s"
        raise Problem(408, "slow-body", "The body came too slowly", detail) from error


def _refuse_foreign_page(request: web.Request) -> None:
    """A page that somebody opens in a browser must not call skills through it. Programs send no Origin."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        detail = "calls from pages of other origins are not taken; call from a program"
        raise Problem(403, "foreign-origin", "Called from a foreign page", detail)


def _starting() -> Problem:
    return Problem(503, "starting", "The gateway is starting", "it does not know all skills yet; call again", 1)


def _too_large() -> Problem:
    return Problem(413, "too-large", "The body is too large", f"a call's body is {LARGEST_BODY} bytes at most")


def _asleep(entry: Entry) -> Problem:
    """Why there is no pod to call, as the Skill itself says it."""
    if entry.skill is not None and entry.skill.spec.suspend:
        detail = "no pod of it runs, and none is started while spec.suspend is true; set it to false"
        return Problem(503, "suspended", "The skill is suspended", detail)
    ready = entry.ready
    said = f"{ready.reason}: {ready.message}" if ready and ready.status != "True" else "no pod of it runs at the moment"
    return _not_ready(entry, said)


def _not_ready(entry: Entry, said: str) -> Problem:
    how = f"kubectl describe skill -n {entry.meta.namespace} {entry.meta.name}"
    return Problem(503, "not-ready", "The skill is not ready", f"{printable(said, 600)} — see {how}", 5)


def _plain(error: web.HTTPException) -> Problem:
    """What aiohttp itself refuses."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return _too_large()
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        detail = f"this path takes {allowed}; a skill is called by POST"
        return Problem(405, "wrong-method", "Wrong method", detail, headers={"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return Problem(404, "unknown-path", "Nothing here", "see GET /v1/skills")
    return Problem(error.status, "bad-request", error.reason, "see GET /v1/skills")


@web.middleware
async def _answer(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every request has an id, an answer of one form, a line in the log and a place in the metrics."""
    given = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    began, status, outcome = time.monotonic(), 499, "caller-left"
    with logs.context(request=request[REQUEST_ID]):
        try:
            response, outcome = await _outcome(request, handler)
            status = response.status
        finally:
            seconds = time.monotonic() - began
            metrics.relayed(outcome, seconds)
            where = {"method": request.method, "path": printable(request.path, 200), "status": status}
            log.info("call", extra=where | {"outcome": outcome, "seconds": round(seconds, 4)})
    return response


async def _outcome(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> tuple[web.StreamResponse, str]:
    try:
        response = await handler(request)
    except Problem as problem:
        return problem.response(request[REQUEST_ID]), problem.slug
    except web.HTTPException as error:
        plain = _plain(error)
        return plain.response(request[REQUEST_ID]), plain.slug
    except Exception:  # whatever it is, the caller gets an answer and we a trace
        log.exception("a request failed")
        detail = f"this is a fault of the gateway; its log has more under {request[REQUEST_ID]}"
        return Problem(500, "internal", "The gateway failed", detail).response(request[REQUEST_ID]), "internal"
    return response, f"{response.status // 100}xx"


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    """On every answer, streamed or not."""
    response.headers.pop("Server", None)
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    response.headers["X-Content-Type-Options"] = "nosniff"


async def serve(settings: Settings, cluster: Cluster) -> None:
    """Until SIGTERM: then first out of the Services, then no more calls, then the end."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    directory = Directory()
    ready = {
        "directory": lambda: None if directory.ready else "skills and pods are not listed yet",
        "stopping": lambda: "it is" if stop.is_set() else None,
    }
    following = asyncio.create_task(directory.follow(cluster, settings.watchNamespaces))
    live = {"directory": lambda: "the watches have ended" if following.done() else None}
    async with (
        health.serve(settings.healthPort, live, ready),
        session() as outward,
    ):
        listening = runner(Gateway(directory, outward).app())
        await listening.setup()
        await web.TCPSite(listening, "0.0.0.0", settings.listenPort).start()
        log.info("listening", extra={"port": settings.listenPort})
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, following}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            await asyncio.sleep(DRAIN_SECONDS)
        await listening.cleanup()
        stopping.cancel()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def runner(app: web.Application) -> web.AppRunner:
    """Inwards: a caller who leaves frees the pod; a body is passed on as it is."""
    return web.AppRunner(
        app, access_log=None, handler_cancellation=True, auto_decompress=False, shutdown_timeout=GRACE_SECONDS
    )


def session() -> aiohttp.ClientSession:
    """To pods: as many connections as there are calls, never through a proxy, no cookie remembered."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
        trust_env=False,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "skill-operator-gateway"},
    )
