"""Which Skills there are and which pods answer for them, kept up to date by two watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s.client import Cluster, Object

Key = tuple[str, str]  # namespace, name


@dataclass
class Entry:
    """A Skill and the compiled form of its input schema."""

    skill: Skill
    validator: Any


@dataclass
class Directory:
    """`synced` holds the kinds that have been listed in full: before that, an unknown Skill may well exist."""

    entries: dict[Key, Entry] = field(default_factory=dict)
    pods: dict[str, dict[str, str]] = field(default_factory=dict)  # uid of the Skill → pod name → address
    in_flight: dict[str, int] = field(default_factory=dict)  # address → calls
    synced: set[str] = field(default_factory=set)

    @property
    def ready(self) -> bool:
        return self.synced == {"Skill", "Pod"}

    def address(self, uid: str) -> str | None:
        """The pod with the fewest calls of ours in flight."""
        addresses = self.pods.get(uid, {}).values()
        return min(addresses, key=lambda a: self.in_flight.get(a, 0), default=None)

    def see_skill(self, change: str, body: Object) -> None:
        meta = body["metadata"]
        key = (meta["namespace"], meta["name"])
        if change == "DELETED":
            self.entries.pop(key, None)
            self.pods.pop(meta["uid"], None)
            return
        known = self.entries.get(key)
        skill = Skill.model_validate(body)
        if known is not None and known.skill.spec.input == skill.spec.input:
            self.entries[key] = Entry(skill, known.validator)
        else:
            self.entries[key] = Entry(skill, _validator(skill.spec.input))

    def see_pod(self, change: str, body: Object) -> None:
        meta = body["metadata"]
        uid, status = meta["labels"].get(naming.UID_LABEL, ""), body.get("status", {})
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
        serving = change != "DELETED" and ready and "deletionTimestamp" not in meta and status.get("podIP")
        if serving:
            self.pods.setdefault(uid, {})[meta["name"]] = status["podIP"]
        else:
            self.pods.get(uid, {}).pop(meta["name"], None)

    async def follow(self, cluster: Cluster, namespaces: list[str]) -> None:
        """Keeps the directory; never returns."""
        labels = {naming.MANAGED_BY: naming.MANAGER, naming.COMPONENT: "skill"}
        async with asyncio.TaskGroup() as tasks:
            wanted: list[str | None] = [*namespaces] or [None]
            for namespace in wanted:
                tasks.create_task(self._keep("Skill", cluster.watch("Skill", namespace)))
                tasks.create_task(self._keep("Pod", cluster.watch("Pod", namespace, labels)))

    async def _keep(self, kind: str, changes: AsyncIterator[tuple[str, Object]]) -> None:
        see = self.see_skill if kind == "Skill" else self.see_pod
        async for change, body in changes:
            if change == "SYNCED":
                self.synced.add(kind)
            else:
                see(change, body)


def _validator(schema: dict[str, Any]) -> Any:
    """None for a schema that is none: such a Skill is stalled and has no pod to call."""
    try:
        return jsonschema_rs.Draft202012Validator(schema)
    except (ValueError, jsonschema_rs.ReferencingError):
        return None
