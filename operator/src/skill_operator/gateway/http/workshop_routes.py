"""The workshop over HTTP: a POST asks for a Skill in a namespace, and a GET tells how that stands."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from skill_operator.gateway import json_bounds
from skill_operator.gateway.access.limits import FairShares
from skill_operator.gateway.http.body import body_too_large, read_body
from skill_operator.gateway.http.connection import GatewayServices
from skill_operator.gateway.input_validation import check_encoding
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.tool_catalog import note_of
from skill_operator.gateway.workshop.skill_request import read_request
from skill_operator.gateway.workshop.task import TaskId, describe, task_of
from skill_operator.gateway.workshop.workshop import FoundTask, Workshop
from skill_operator.naming import SkillKey
from skill_operator.untrusted.json_values import parse_json
from skill_operator.untrusted.text import printable

MAX_REQUEST_BYTES = 1 << 18
MAX_READING_BYTES = 1 << 23  # of all such requests together
REQUEST = "a request for a Skill"


class WorkshopRoutes:
    """WorkshopRoutes has the handlers of the workshop's paths."""

    def __init__(self, services: GatewayServices, workshop: Workshop) -> None:
        self._services = services
        self._workshop = workshop
        self._reading = FairShares(MAX_READING_BYTES)

    def routes(self) -> list[Route]:
        """Return the paths. A POST with a name behind the namespace is a call, and never comes here."""
        return [
            Route("/v1/skills/{namespace:label}", self.create, methods=["POST"]),
            Route("/v1/skills/{namespace:label}/{name}/status", self.status),
        ]

    async def create(self, request: Request) -> Response:
        """Ask for a Skill: 202 with its task, 200 where it is known already or another one is offered."""
        namespace = request.path_params["namespace"]
        async with self._services.admit(request) as caller:
            request.state.caller = caller
            await self._services.authorizer.authorize_creation(caller, namespace)
            size = min(int(request.headers.get("content-length", MAX_REQUEST_BYTES)), MAX_REQUEST_BYTES + 1)
            if size > MAX_REQUEST_BYTES:
                raise body_too_large(MAX_REQUEST_BYTES, REQUEST)
            with self._reading.hold(caller.namespace, caller.name, max(1, size)) as admitted:
                if not admitted:
                    raise Problem("overloaded", "your requests hold their share of the memory for bodies; ask again", 1)
                body = await read_body(request.receive, MAX_REQUEST_BYTES, REQUEST)
                if body is None:
                    return Response(status_code=400)
                creation = await self._workshop.create(caller, read_request(_parse(body), namespace))
        if creation.skill is None:
            message = "a skill that fits exists; call it, or ask again with force"
            return JSONResponse({"status": "offered", "skills": creation.offered, "message": message})
        meta = creation.skill.metadata
        location = f"/v1/skills/{meta.namespace}/{meta.name}/status"
        found = FoundTask(creation.skill, task_of(creation.skill, TaskId(meta.uid, 1)))
        return JSONResponse(_describe(found), 202 if creation.is_new else 200, {"Location": location})

    async def status(self, request: Request) -> Response:
        """Return how a Skill stands, to its maker and to whoever may call it."""
        key = SkillKey(request.path_params["namespace"], request.path_params["name"])
        async with self._services.admit(request) as caller:
            request.state.caller = caller
            return JSONResponse(_describe(await self._workshop.find_by_name(caller, key)))


def _parse(body: bytes) -> dict[str, Any]:
    """Return the object that a body is. Raises Problem (400, 413)."""
    check_encoding(body[:4])
    if not json_bounds.is_small(body):
        raise Problem("too-large", f"{REQUEST} has too many values, or levels of them")
    try:
        value = parse_json(body)
    except (ValueError, RecursionError) as error:
        raise Problem("invalid-json", printable(f"{error}. Send one JSON object, in UTF-8", 300)) from error
    if not isinstance(value, dict):
        raise Problem("invalid-skill", f"{REQUEST} is a JSON object")
    return value


def _describe(found: FoundTask) -> dict[str, Any]:
    note = note_of(found.skill)
    return describe(found.task, found.skill.metadata) | ({"note": note} if note else {})
