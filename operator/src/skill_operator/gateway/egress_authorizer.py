"""The authorizer of the egress proxy, which asks it before it opens a connection to a host.

A pod is known by its address, which no skill can forge (no raw sockets), and which reaches the proxy unchanged. Skills
and pods are those of the directory: a pod that starts is known as soon as it has an address, and a Skill that is
deleted opens nothing from then on, however long its pods take to end.
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
WAIT_TIMEOUT_SECONDS = 2.0  # for what the directory may yet learn: of a pod that has just started, or a lost watch
POLL_INTERVAL_SECONDS = 0.02
TRANSIENT_REASONS = frozenset({"api-server-not-heard", "unknown-pod", "address-of-two-pods"})


class EgressDecision(NamedTuple):
    """EgressDecision says whether a connection is allowed, and why; `skill` is namespace/name, or empty if unknown."""

    allowed: bool
    reason: str
    skill: str = ""


class PodOwner(NamedTuple):
    """PodOwner is the Skill that a pod belongs to."""

    namespace: str
    uid: str


class EgressAuthorizer:
    """EgressAuthorizer decides by the grants of a pod's Skill. Whatever is unknown is denied."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._pods: dict[str, tuple[PodOwner, frozenset[str]]] = {}  # by uid of the pod: its owner and its addresses
        self._pods_by_address: dict[str, set[str]] = {}  # the uids of the pods
        self._skills: dict[PodOwner, SkillEntry] = {}
        directory.skill_listeners.append(self._on_skill)
        directory.pod_listeners.append(self._on_pod)

    def _on_skill(self, before: SkillEntry | None, after: SkillEntry | None) -> None:
        if before is not None:
            self._skills.pop(PodOwner(before.meta.namespace, before.meta.uid), None)
        if after is not None:
            self._skills[PodOwner(after.meta.namespace, after.meta.uid)] = after

    def _on_pod(self, change: str, body: Object) -> None:
        """Index the pod by its addresses.

        A pod that ends keeps its address, and its rights while its Skill exists: it may have calls to finish.
        """
        meta, status = body["metadata"], body.get("status", {})
        _, former = self._pods.pop(meta["uid"], (None, frozenset[str]()))
        for address in former:
            self._pods_by_address[address].discard(meta["uid"])
            if not self._pods_by_address[address]:
                del self._pods_by_address[address]
        addresses = frozenset(entry["ip"] for entry in status.get("podIPs") or ()) | {status.get("podIP", "")} - {""}
        if change == "DELETED" or status.get("phase") in {"Succeeded", "Failed"} or not addresses:
            return
        owner = PodOwner(meta["namespace"], meta.get("labels", {}).get(naming.UID_LABEL, ""))
        self._pods[meta["uid"]] = (owner, addresses)
        for address in addresses:
            self._pods_by_address.setdefault(address, set()).add(meta["uid"])

    async def authorize(self, source: str, host: str, port: int) -> EgressDecision:
        """Decide, and wait for a moment where the directory may not be up to date yet."""
        deadline = asyncio.get_running_loop().time() + WAIT_TIMEOUT_SECONDS
        while True:
            decision = self.decide(source, host, port)
            if decision.reason not in TRANSIENT_REASONS or asyncio.get_running_loop().time() > deadline:
                return decision
            await asyncio.sleep(POLL_INTERVAL_SECONDS)

    def decide(self, source: str, host: str, port: int) -> EgressDecision:
        """Return whether the pod with the address `source` may connect to the host, as far as is known now."""
        if self._directory.unsynced or self._directory.stale:
            return EgressDecision(False, "api-server-not-heard")
        pods = self._pods_by_address.get(source, set())
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
        hosts = entry.skill.spec.hosts
        ports = {n for _, granted, numbers in hosts if granted == host and is_host(granted) for n in numbers}
        if not ports:
            return EgressDecision(False, "host-not-granted", name)
        return (
            EgressDecision(True, "granted", name) if port in ports else EgressDecision(False, "port-not-granted", name)
        )


@asynccontextmanager
async def serve_authorizer(authorizer: EgressAuthorizer, port: int) -> AsyncIterator[None]:
    """Serve `GET /v1/egress?source=10.244.0.7&host=api.example.com&port=443` while the context is open.

    NetworkPolicies let in the egress proxy alone.
    """

    async def decide(request: web.Request) -> web.Response:
        query = request.query
        try:
            source, host, number = query["source"], query["host"], int(query["port"])
        except (KeyError, ValueError):
            raise web.HTTPBadRequest(text="source, host and port are required\n") from None
        return web.json_response((await authorizer.authorize(source, host, number))._asdict())

    app = web.Application()
    app.router.add_get(PATH, decide)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    try:
        yield
    finally:
        await runner.cleanup()
