"""The authorizer of the egress proxy, which asks it before it opens a connection to a host.

A pod is known by its address, which no skill can forge (no raw sockets), and which reaches the proxy unchanged. Skills
and pods are those of the directory: a pod that starts is known as soon as it has an address, and a Skill that is
deleted opens nothing from then on, however long its pods take to end.

A pod may call what was granted as it was deployed and is granted still. A spec widens before anybody approves it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web

from skill_operator import naming
from skill_operator.api.granted_hosts import HostPort, deployed_hosts, granted_hosts
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


class CallingPod(NamedTuple):
    """CallingPod is a pod as the authorizer knows it: `hosts` are those that were granted as it was deployed."""

    owner: PodOwner
    addresses: frozenset[str]
    hosts: frozenset[HostPort]


class EgressAuthorizer:
    """EgressAuthorizer decides by the grants of a pod and of its Skill. Whatever is unknown is denied."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._pods: dict[str, CallingPod] = {}  # by uid of the pod
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
        former = self._pods.pop(meta["uid"], None)
        for address in () if former is None else former.addresses:
            self._pods_by_address[address].discard(meta["uid"])
            if not self._pods_by_address[address]:
                del self._pods_by_address[address]
        addresses = frozenset(entry["ip"] for entry in status.get("podIPs") or ()) | {status.get("podIP", "")} - {""}
        if change == "DELETED" or status.get("phase") in {"Succeeded", "Failed"} or not addresses:
            return
        owner = PodOwner(meta["namespace"], meta.get("labels", {}).get(naming.UID_LABEL, ""))
        self._pods[meta["uid"]] = CallingPod(owner, addresses, deployed_hosts(meta))
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
        pod = self._pods[next(iter(pods))]
        entry = self._skills.get(pod.owner)
        if entry is None or entry.skill is None:
            return EgressDecision(False, "no-such-skill")
        name = f"{entry.meta.namespace}/{entry.meta.name}"
        if entry.meta.deletion_timestamp is not None:
            return EgressDecision(False, "skill-is-being-deleted", name)
        wanted, granted = (host, str(port)), granted_hosts(entry.skill.spec)
        if wanted not in granted:
            reason = "port-not-granted" if host in {name for name, _ in granted} else "host-not-granted"
            return EgressDecision(False, reason, name)
        if wanted not in pod.hosts:
            return EgressDecision(False, "grant-not-deployed", name)
        return EgressDecision(True, "granted", name)


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
