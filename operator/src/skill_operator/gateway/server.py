"""The HTTP API: `POST /v1/skills/{namespace}/{name}` relays a call; the two GETs say what there is to call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from skill_operator.api import conditions as api
from skill_operator.api.text import printable
from skill_operator.api.v1alpha1 import Skill
from skill_operator.gateway.directory import Directory, Entry
from skill_operator.gateway.problems import Problem
from skill_operator.k8s.client import Cluster
from skill_operator.observability import health, metrics
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
POD_PORT = 8080
LARGEST_BODY = 1 << 20
MARGIN_SECONDS = 5.0  # the runtime itself says 504; this is for when it cannot
PASSED_ON = ("Content-Type",)  # of an answer; nothing else of a skill's headers is trusted
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Gateway:
    """The handlers. `pod_port` is for tests, whose pods are on loopback."""

    def __init__(self, directory: Directory, session: aiohttp.ClientSession, pod_port: int = POD_PORT) -> None:
        self._directory = directory
        self._session = session
        self._port = pod_port

    def app(self) -> web.Application:
        made = web.Application(client_max_size=LARGEST_BODY, middlewares=[_errors])
        made.router.add_get("/v1/skills", self.listing)
        made.router.add_get("/v1/skills/{namespace}/{name}", self.describe)
        made.router.add_post("/v1/skills/{namespace}/{name}", self.call)
        return made

    async def listing(self, _: web.Request) -> web.Response:
        entries = sorted(self._directory.entries.items())
        return web.json_response({"skills": [_summary(entry.skill) for _, entry in entries]})

    async def describe(self, request: web.Request) -> web.Response:
        skill = self._find(request).skill
        examples = [e.model_dump(mode="json", by_alias=True, exclude_unset=True) for e in skill.spec.examples]
        schemas = {"input": skill.spec.input, "output": skill.spec.output}
        return web.json_response(_summary(skill) | schemas | {"examples": examples})

    async def call(self, request: web.Request) -> web.Response:
        entry = self._find(request)
        body = await request.read()
        _validate(entry, body)
        address = self._directory.address(entry.skill.metadata.uid)
        if address is None:
            raise _asleep(entry.skill)
        return await self._relay(request, entry.skill, address, body)

    async def _relay(self, request: web.Request, skill: Skill, address: str, body: bytes) -> web.Response:
        """One try: a call that may have reached the skill is never made twice."""
        meta = skill.metadata
        headers = {"Content-Type": "application/json", "X-Request-Id": request["id"]}
        timeout = aiohttp.ClientTimeout(total=skill.spec.call_timeout_seconds + MARGIN_SECONDS, sock_connect=2)
        in_flight = self._directory.in_flight
        in_flight[address] = in_flight.get(address, 0) + 1
        try:
            url = f"http://{address}:{self._port}/"
            async with self._session.post(url, data=body, headers=headers, timeout=timeout) as answer:
                data = await answer.content.read(LARGEST_BODY + 1)
                while len(data) <= LARGEST_BODY and (more := await answer.content.read(LARGEST_BODY + 1 - len(data))):
                    data += more
                if len(data) > LARGEST_BODY:
                    raise Problem(502, "answer-too-large", "Answer too large", f"more than {LARGEST_BODY} bytes")
                kept = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
                kept["X-Request-Id"] = request["id"]
                if answer.status == 503:
                    kept["Retry-After"] = answer.headers.get("Retry-After", "1")
                return web.Response(status=answer.status, body=data, headers=kept)
        except TimeoutError as error:
            wait = f"no answer within {skill.spec.call_timeout_seconds} s; see spec.callTimeoutSeconds"
            raise Problem(504, "timeout", "The skill took too long", wait) from error
        except (aiohttp.ClientError, OSError) as error:
            why = f"the pod of {meta.namespace}/{meta.name} broke off: {type(error).__name__}. Call again"
            raise Problem(502, "pod-broke-off", "The skill's pod broke off", why) from error
        finally:
            in_flight[address] -= 1
            if not in_flight[address]:
                del in_flight[address]

    def _find(self, request: web.Request) -> Entry:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        entry = self._directory.entries.get((namespace, name))
        if entry is not None:
            return entry
        if not self._directory.ready:
            raise Problem(503, "starting", "The gateway is starting", "it does not know all skills yet", 1)
        detail = f"there is no Skill {printable(name, 63)} in namespace {printable(namespace, 63)}; see GET /v1/skills"
        raise Problem(404, "unknown-skill", "No such skill", detail)


def _validate(entry: Entry, body: bytes) -> None:
    """Before a pod is bothered with it."""
    try:
        value: Any = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "invalid-json", "The body is no JSON", printable(str(error), 300)) from error
    if entry.validator is None:
        return
    misfit = next(entry.validator.iter_errors(value), None)
    if misfit is not None:
        place = "/".join(str(part) for part in misfit.instance_path)
        detail = printable(f"{place or 'the body'}: {misfit.message}", 500)
        raise Problem(422, "invalid-input", "The body does not fit spec.input", detail)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _asleep(skill: Skill) -> Problem:
    meta = skill.metadata
    ready = api.get_condition(skill.status.conditions, api.READY)
    reason = f"{ready.reason}: {ready.message}" if ready and ready.status != "True" else "no pod of it answers yet"
    how = f"kubectl describe skill -n {meta.namespace} {meta.name}"
    return Problem(503, "not-ready", "The skill is not ready", f"{printable(reason, 600)} — {how}", 2)


def _summary(skill: Skill) -> dict[str, Any]:
    ready = api.get_condition(skill.status.conditions, api.READY)
    return {
        "namespace": skill.metadata.namespace,
        "name": skill.metadata.name,
        "description": skill.spec.description,
        "url": skill.status.url,
        "ready": ready is not None and ready.status == "True",
        "reason": ready.reason if ready else "Pending",
    }


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    given = request.headers.get("X-Request-Id", "")
    request["id"] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    began, status = time.monotonic(), 500
    try:
        response = await handler(request)
        status = response.status
        return response
    except Problem as problem:
        status = problem.status
        return problem.response(request["id"])
    except web.HTTPRequestEntityTooLarge:
        status = 413
        detail = f"a call's body is {LARGEST_BODY} bytes at most"
        return Problem(413, "too-large", "The body is too large", detail).response(request["id"])
    except web.HTTPException as error:
        status = error.status
        slug = {404: "unknown-path", 405: "wrong-method"}.get(status, "http")
        return Problem(status, slug, error.reason, "see GET /v1/skills").response(request["id"])
    finally:
        seconds = time.monotonic() - began
        metrics.relayed(status, seconds)
        where = {"request": request["id"], "path": printable(request.path, 200), "status": status}
        log.info("call", extra=where | {"seconds": round(seconds, 4)})


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
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
    async with (
        health.serve(settings.healthPort, live, ready),
        aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=False) as session,
    ):
        runner = web.AppRunner(Gateway(directory, session).app(), access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", settings.listenPort).start()  # noqa: S104 - what a gateway is for
        log.info("listening", extra={"port": settings.listenPort})
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, following}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(2.0 if stop.is_set() else 0)  # until no Service leads here any more
        await runner.shutdown()
        await runner.cleanup()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
