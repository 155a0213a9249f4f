"""A gateway whose workshop is open, over an API server that stores Skills."""

from __future__ import annotations

import asyncio
import copy
import json
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from skill_operator import naming
from skill_operator.k8s.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound
from skill_operator.settings import GatewaySettings, WorkshopSettings
from tests.unit.gateway.http.test_routes import Guarded
from tests.unit.gateway.world import SETTINGS

ALICE, BOB = "system:serviceaccount:finance:alice", "system:serviceaccount:finance:bob"
ALICE_HEADERS, BOB_HEADERS = {"Authorization": "Bearer of-alice"}, {"Authorization": "Bearer of-bob"}
CELSIUS = {
    "summary": "Converts a temperature from Celsius to Fahrenheit.",
    "description": "Multiply by 9, divide by 5, add 32.",
    "input": {"type": "object", "properties": {"celsius": {"type": "number"}}, "required": ["celsius"]},
    "output": {"type": "object", "properties": {"fahrenheit": {"type": "number"}}, "required": ["fahrenheit"]},
    "examples": [
        {"input": {"celsius": 0}, "output": {"fahrenheit": 32}},
        {"input": {"celsius": 100}, "output": {"fahrenheit": 212}},
        {"input": {"celsius": -40}, "output": {"fahrenheit": -40}},
    ],
}
MOMENT = "2026-01-01T00:00:00Z"


class Store:
    """The part of an API server that has namespaces and Skills, and a watch that tells of them, unless it is cut."""

    def __init__(self, world: OpenWorkshop) -> None:
        self._world = world
        self.namespaces = {"finance": {naming.WORKSHOP_LABEL: "enabled"}, "legal": {}}
        self.skills: dict[tuple[str, str], dict[str, Any]] = {}
        self.writes = 0
        self.watched = True
        self.fault: ClusterError | None = None
        self.fault_after_write: ClusterError | None = None

    async def get(self, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        if kind == "Namespace":
            labels = self.namespaces.get(name)
            return None if labels is None else {"metadata": {"name": name, "labels": dict(labels)}}
        await asyncio.sleep(0)
        return copy.deepcopy(self.skills.get((str(namespace), name)))

    async def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        if self.fault:
            raise self.fault
        meta = obj["metadata"]
        key = meta["namespace"], meta["name"]
        if key in self.skills:
            raise Conflict(f"skills {meta['name']} already exists", 409)
        self.writes += 1
        stored = copy.deepcopy(obj)
        uid = f"00000000-0000-0000-0000-{self.writes:012d}"
        stored["metadata"] |= {"uid": uid, "generation": 1, "creationTimestamp": MOMENT}
        stored["status"] = {}
        self.skills[key] = stored
        self.tell(key)
        if self.fault_after_write:
            raise self.fault_after_write
        return copy.deepcopy(stored)

    async def patch(self, kind: str, namespace: str, name: str, operations: list[Any], subresource: str = "") -> None:
        stored = self.skills.get((namespace, name))
        if stored is None:
            raise NotFound("not found", 404)
        changed = copy.deepcopy(stored)
        for operation in operations:
            path = [part.replace("~1", "/") for part in operation["path"].split("/")[1:]]
            node = changed
            for part in path[:-1]:
                node = node[part]
            if operation["op"] == "test":
                if node.get(path[-1]) != operation["value"]:
                    raise Invalid("the server rejected our request: testing path failed: test operation", 422)
            else:
                node[path[-1]] = copy.deepcopy(operation["value"])
        self.writes += 1
        if changed["spec"] != stored["spec"]:
            changed["metadata"]["generation"] += 1
        self.skills[namespace, name] = changed
        self.tell((namespace, name))

    async def review(self, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        return await self._world.api_server.review(kind, spec)

    def tell(self, key: tuple[str, str]) -> None:
        if self.watched:
            self._world.directory.on_skill("MODIFIED", copy.deepcopy(self.skills[key]))

    def annotate(self, key: tuple[str, str], **annotations: str) -> None:
        named = {f"{naming.GROUP}/{name.replace('_', '-')}": value for name, value in annotations.items()}
        self.skills[key]["metadata"]["annotations"] |= named
        self.tell(key)

    def condition(self, key: tuple[str, str], *conditions: tuple[str, str, str, str], **status: Any) -> None:
        """Have the controller say this of the present generation."""
        generation = self.skills[key]["metadata"]["generation"]
        told = [
            {"type": type_, "status": state, "reason": reason, "message": message, "observedGeneration": generation}
            | {"lastTransitionTime": MOMENT}
            for type_, state, reason, message in conditions
        ]
        self.skills[key]["status"] = {"observedGeneration": generation, "conditions": told, **status}
        self.tell(key)

    def ready(self, key: tuple[str, str], **status: Any) -> None:
        image = "localhost:30500/skills/finance/x@sha256:0"
        revision = {"revision": "0123456789", "image": image, "time": MOMENT}
        self.condition(key, ("Ready", "True", "Ready", ""), image=image, history=[revision], **status)


class OpenWorkshop(Guarded):
    """A gateway that Alice and Bob may ask for Skills in finance, and where they may call all of finance."""

    def __init__(self, stack: AsyncExitStack, **settings: Any) -> None:
        super().__init__(stack)
        self.api_server.users = {
            "of-alice": {"username": ALICE, "uid": "1", "groups": []},
            "of-bob": {"username": BOB, "uid": "2", "groups": []},
            "of-carol": {"username": "carol", "uid": "3", "groups": []},
        }
        self.api_server.rights = {("finance", "")}
        self.api_server.creators = {(ALICE, "finance"), (BOB, "finance"), (ALICE, "legal"), ("carol", "finance")}
        options = {"per_minute": 600, "wait_seconds": 5, **settings}
        workshop = WorkshopSettings(enabled=True, **options)
        gateway = GatewaySettings(auth="kubernetes", workshop=workshop)
        self.settings = SETTINGS.model_copy(update={"gateway": gateway})
        self.cluster = self.store = Store(self)

    async def ask(
        self, body: Any = CELSIUS, namespace: str = "finance", headers: dict[str, str] = ALICE_HEADERS
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"{self.url}/v1/skills/{namespace}"
        async with self.client.post(url, data=data, headers=headers) as response:
            return response.status, await response.json(content_type=None), response


QUOTA = Forbidden(
    'skills.skill-operator.dev "x" is forbidden: exceeded quota: skills, requested: count/skills.skill-operator.dev=1, '
    "used: count/skills.skill-operator.dev=5, limited: count/skills.skill-operator.dev=5",
    403,
)
