"""Who may call which host: what the egress proxy asks before it opens anything.

A pod is known by its address, which none of ours can forge (no raw sockets), and which the proxy sees as it is. Skills
and pods are those that the directory hears of: a pod that starts is known as soon as it has an address, and a Skill
that is gone opens nothing from then on, however long its pods take to end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web

from skill_operator import naming
from skill_operator.api.v1alpha1 import is_host
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.k8s.interface import Object

log = logging.getLogger(__name__)
PATH = "/v1/egress"
PATIENCE = 2.0
"""Seconds for what may yet be heard of: a pod that began a moment ago, a watch that was cut."""
PAUSE = 0.02
PASSING = frozenset({"api-server-not-heard", "unknown-pod", "address-of-two-pods"})


class EgressDecision(NamedTuple):
    """`skill` is namespace/name, or empty where nobody knows."""

    allowed: bool
    reason: str
    skill: str = ""


class Owner(NamedTuple):
    """The Skill that a pod is of."""

    namespace: str
    uid: str


class EgressAuthorizer:
    """The rules. Whatever is not known is refused."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._pods: dict[str, tuple[Owner, frozenset[str]]] = {}  # by uid: whose, and its addresses
        self._at: dict[str, set[str]] = {}  # address → uids of pods
        self._skills: dict[Owner, SkillEntry] = {}
        directory.watchers.append(self._see_skill)
        directory.pod_watchers.append(self._see_pod)

    def _see_skill(self, before: SkillEntry | None, after: SkillEntry | None) -> None:
        if before is not None:
            self._skills.pop(Owner(before.meta.namespace, before.meta.uid), None)
        if after is not None:
            self._skills[Owner(after.meta.namespace, after.meta.uid)] = after

    def _see_pod(self, change: str, body: Object) -> None:
        """One that ends keeps its address, and its rights while its Skill is there: it may have calls to finish."""
        meta, status = body["metadata"], body.get("status", {})
        _, former = self._pods.pop(meta["uid"], (None, frozenset[str]()))
        for address in former:
            self._at[address].discard(meta["uid"])
            if not self._at[address]:
                del self._at[address]
        addresses = frozenset(one["ip"] for one in status.get("podIPs") or ()) | {status.get("podIP", "")} - {""}
        if change == "DELETED" or status.get("phase") in {"Succeeded", "Failed"} or not addresses:
            return
        owner = Owner(meta["namespace"], meta.get("labels", {}).get(naming.UID_LABEL, ""))
        self._pods[meta["uid"]] = (owner, addresses)
        for address in addresses:
            self._at.setdefault(address, set()).add(meta["uid"])

    async def ask(self, source: str, host: str, port: int) -> EgressDecision:
        """As `decide`, once the picture is as new as it can be."""
        end = asyncio.get_running_loop().time() + PATIENCE
        while True:
            verdict = self.decide(source, host, port)
            if verdict.reason not in PASSING or asyncio.get_running_loop().time() > end:
                return verdict
            await asyncio.sleep(PAUSE)

    def decide(self, source: str, host: str, port: int) -> EgressDecision:
        if self._directory.missing or self._directory.cut:
            return EgressDecision(False, "api-server-not-heard")
        pods = self._at.get(source, set())
        if not pods:
            return EgressDecision(False, "unknown-pod")
        if len(pods) > 1:
            return EgressDecision(False, "address-of-two-pods")
        owner, _ = self._pods[next(iter(pods))]
        entry = self._skills.get(owner)
        if entry is None or entry.skill is None:
            return EgressDecision(False, "no-such-skill")
        name = f"{entry.meta.namespace}/{entry.meta.name}"
        if entry.meta.deletion_timestamp is not None:
            return EgressDecision(False, "skill-is-being-deleted", name)
        ports = {n for _, granted, some in entry.skill.spec.hosts if granted == host and is_host(granted) for n in some}
        if not ports:
            return EgressDecision(False, "host-not-granted", name)
        return (
            EgressDecision(True, "granted", name) if port in ports else EgressDecision(False, "port-not-granted", name)
        )


@asynccontextmanager
async def serve_authorizer(judge: EgressAuthorizer, port: int) -> AsyncIterator[None]:
    """`GET /v1/egress?source=10.244.0.7&host=api.example.com&port=443`. Policies let in the egress proxy alone."""

    async def answer(request: web.Request) -> web.Response:
        query = request.query
        try:
            source, host, number = query["source"], query["host"], int(query["port"])
        except (KeyError, ValueError):
            raise web.HTTPBadRequest(text="source, host and port are asked for\n") from None
        return web.json_response((await judge.ask(source, host, number))._asdict())

    app = web.Application()
    app.router.add_get(PATH, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    try:
        yield
    finally:
        await runner.cleanup()
