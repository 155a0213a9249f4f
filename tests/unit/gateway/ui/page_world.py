"""A gateway with a page, and an API server that its callers reach with their own tokens."""

from __future__ import annotations

import html
import re
from contextlib import AsyncExitStack
from typing import Any

from skill_operator import naming
from skill_operator.k8s.errors import ClusterError, Forbidden
from tests.unit.gateway.access import test_kubernetes
from tests.unit.gateway.objects import UID, skill
from tests.unit.gateway.world import World

ALICE = {"Authorization": "Bearer good"}
APPROVAL = "a" * 64
MOMENT = "2026-11-29T12:00:00Z"
CODE = "def run(input: dict) -> dict:\n    return {'total': 3}\n"
HERE = {"Sec-Fetch-Site": "same-origin"}


def condition(type_: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    times = {"observedGeneration": 1, "lastTransitionTime": MOMENT}
    return {"type": type_, "status": status, "reason": reason, "message": message, **times}


def awaiting(name: str = "invoice", **spec: Any) -> dict[str, Any]:
    """A Skill whose code waits for an approval."""
    body = skill(name, ready=None, review="Manual", **spec)
    message = f"nothing was approved yet. Read it. Then: kubectl annotate {naming.APPROVE_ANNOTATION}={APPROVAL}"
    digest = naming.source_digest(CODE)
    request = {"token": APPROVAL, "revision": "0123456789", "sourceDigest": digest, "changed": ["code", "spec.egress"]}
    body["status"]["approvalRequest"] = request
    body["status"]["conditions"] = [
        condition("Generated", "True", "Generated", "accepted"),
        condition("Verified", "True", "Verified", "passed"),
        condition("Built", "Unknown", "AwaitingApproval", message),
        condition("Ready", "Unknown", "AwaitingApproval", message),
        condition("Reconciling", "True", "AwaitingApproval", message),
    ]
    return body


def config_map(data: dict[str, str], uid: str = UID) -> dict[str, Any]:
    return {"metadata": {"labels": naming.labels("invoice", uid, "skill")}, "data": data}


class Callers:
    """The API server for callers: what it has, what it refuses, and which tokens it saw."""

    audience = "https://api.test"

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.refused: dict[str, ClusterError] = {}  # by kind, or by verb
        self.tokens: set[str] = set()
        self.patches: list[tuple[str, str, dict[str, Any]]] = []
        self.may_approve = True

    def _enter(self, token: str, *what: str) -> None:
        self.tokens.add(token)
        for one in what:
            if one in self.refused:
                raise self.refused[one]

    async def get(self, token: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        self._enter(token, kind, "get")
        return self.objects.get((kind, name))

    async def list(self, token: str, kind: str, namespace: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        self._enter(token, kind, "list")
        return []

    async def patch(self, token: str, kind: str, namespace: str, name: str, changes: dict[str, Any]) -> None:
        self._enter(token, kind, "patch")
        self.patches.append((namespace, name, changes))

    async def review(self, token: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        self._enter(token, kind)
        if kind == "SelfSubjectReview":
            return {"userInfo": {"username": "alice@api"}}
        return {"allowed": self.may_approve}


class PageWorld(World):
    """A gateway that asks an API server, which knows Alice, who may call finance/invoice."""

    def __init__(self, stack: AsyncExitStack) -> None:
        super().__init__(stack)
        self.api_server = test_kubernetes.World()
        self.authorizer = self.api_server.authorizer
        self.api = Callers()
        self.callers = self.api

    def store(self, body: dict[str, Any], source: str = "", **generation: str) -> None:
        """Have the watches and the API server tell of a Skill, and the latter of its ConfigMaps."""
        name = body["metadata"]["name"]
        self.know(body=body)
        self.api.objects["Skill", name] = body
        if source:
            self.api.objects["ConfigMap", naming.source(name)] = config_map({"skill.py": source})
        if generation:
            data = {key.replace("__", ".").replace("_", "-"): value for key, value in generation.items()}
            self.api.objects["ConfigMap", naming.candidates(name)] = config_map(data)

    async def get(self, path: str, **headers: str) -> tuple[int, str, Any]:
        sent = headers or ALICE
        async with self.client.get(self.url + path, headers=sent, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer

    async def post(self, path: str, data: dict[str, str], **headers: str) -> tuple[int, str, Any]:
        sent = ALICE | HERE | headers
        kept = {key: value for key, value in sent.items() if value}
        async with self.client.post(self.url + path, data=data, headers=kept, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer


def words(page: str) -> str:
    """The text of a page as a person reads it."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


FORBIDDEN = Forbidden("no right", 403)
UNAUTHORIZED = Forbidden("Unauthorized", 401)
