"""The sweeper deletes what no owner reference reaches, and stops the egress proxy that no Skill needs.

These are the builds and ledgers of deleted Skills, which lie in other namespaces, Deployments that were orphaned or
restored without their Skill, and what isolates a namespace that has no Skills any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from skill_operator import naming
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.observability import metrics
from skill_operator.settings import Settings

SHARED_OBJECTS = (("NetworkPolicy", naming.SHARED_POLICY), ("ResourceQuota", naming.SHARED_QUOTA))


class Sweeper:
    """Sweeper compares what the operator owns with the Skills there are."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        list_skills: Callable[[], Awaitable[list[Object]]],
        stop_egress_proxy: Callable[[], Awaitable[None]],
    ) -> None:
        """`stop_egress_proxy` is called while no Skill has a grant of a host."""
        self._cluster = cluster
        self._settings = settings
        self._list_skills = list_skills
        self._stop_egress_proxy = stop_egress_proxy

    async def sweep(self) -> None:
        """Sweep once. Raises ClusterError."""
        candidates = await self._list_candidates()
        skills = await self._list_skills()  # afterwards: a build listed above belongs to a Skill that is listed here
        metrics.set_skill_conditions(
            Counter((c["type"], c["status"]) for s in skills for c in s.get("status", {}).get("conditions", []))
        )
        archived = [body for body in skills if "archive" in body.get("status", {})]
        metrics.set_archived_skills(len(archived))
        running = [body for body in skills if "archive" not in body.get("status", {})]
        if not any(grant.get("host") for body in running for grant in body["spec"].get("egress") or ()):
            await self._stop_egress_proxy()
        uids = {body["metadata"]["uid"] for body in skills}
        namespaces = {body["metadata"]["namespace"] for body in skills}
        for kind, obj in candidates:
            meta = obj["metadata"]
            if meta["labels"].get(naming.UID_LABEL) not in uids:
                await self._cluster.delete(kind, meta["namespace"], meta["name"], meta["uid"])
        for scope in self._settings.namespace_scopes:
            await self._sweep_namespaces(scope, namespaces)

    async def _list_candidates(self) -> list[tuple[str, Object]]:
        """List Deployments, builds, their contexts and ledgers, each with its kind."""
        builder, operator = self._settings.builder_namespace, self._settings.namespace
        builds = await self._cluster.list("Job", builder, naming.MANAGED)
        contexts = await self._cluster.list("ConfigMap", builder, naming.MANAGED)
        ledgers = await self._cluster.list("ConfigMap", operator, naming.MANAGED | {naming.COMPONENT: naming.LEDGER})
        skills = naming.MANAGED | {naming.COMPONENT: "skill"}
        deployments = [
            deployment
            for scope in self._settings.namespace_scopes
            for deployment in await self._cluster.list("Deployment", scope, skills)
        ]
        return [
            *(("Deployment", deployment) for deployment in deployments),
            *(("Job", job) for job in builds),
            *(("ConfigMap", obj) for obj in (*contexts, *ledgers)),
        ]

    async def _sweep_namespaces(self, scope: str | None, inhabited: set[str]) -> None:
        """Delete what isolates namespaces without Skills. It goes last: not while a pod of a skill still ends.

        `inhabited` is from before: a Skill that was made since is isolated by what is found here, and begins to run.
        """
        for kind, name in SHARED_OBJECTS:
            for obj in await self._cluster.list(kind, scope, naming.MANAGED):
                namespace = obj["metadata"]["namespace"]
                if obj["metadata"]["name"] != name or namespace in inhabited:
                    continue
                if await self._cluster.list("Pod", namespace, naming.MANAGED):
                    continue
                if not await self._cluster.list("Skill", namespace):
                    await self._cluster.delete(kind, namespace, name, obj["metadata"]["uid"])
