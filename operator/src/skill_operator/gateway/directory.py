"""Which Skills there are and which pods answer for them, kept up to date by watches."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ValidationError

from skill_operator import naming
from skill_operator.api.conditions import READY, get_condition, is_true
from skill_operator.api.schemas import BadSchemaError, Contract
from skill_operator.api.v1alpha1 import Condition, ObjectMeta, Skill
from skill_operator.k8s.client import Cluster, Object

log = logging.getLogger(__name__)
Key = tuple[str, str]  # namespace, name
LABELS = {naming.MANAGED_BY: naming.MANAGER, naming.COMPONENT: "skill"}


class Backend(NamedTuple):
    """A pod that may answer. One that is not Ready yet may do so already: Ready comes up to a second late."""

    address: str
    ready: bool


@dataclass(frozen=True)
class Entry:
    """A Skill as the gateway needs it; `skill` is None where a newer API stored what this version cannot read."""

    meta: ObjectMeta
    skill: Skill | None

    @property
    def ready(self) -> Condition | None:
        return get_condition(self.skill.status.conditions, READY) if self.skill else None


Watcher = Callable[[Entry | None, Entry | None], None]


def entry_of(body: Object) -> Entry:
    """Never fails: one Skill that cannot be read must not hide the others."""
    meta = ObjectMeta.model_validate({k: body["metadata"].get(k, "") for k in ("name", "namespace", "uid")})
    try:
        skill = Skill.model_validate(body)
    except ValidationError as error:
        log.warning("skill %s/%s cannot be read: %s", meta.namespace, meta.name, error)
        return Entry(meta, None)
    return Entry(skill.metadata, skill)


def backend_of(body: Object) -> Backend | None:
    """None for a pod that has no address, has ended or is about to."""
    status = body.get("status", {})
    address = status.get("podIP")
    if not address or "deletionTimestamp" in body["metadata"] or status.get("phase") in {"Succeeded", "Failed"}:
        return None
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
    return Backend(f"[{address}]" if ":" in address else address, ready)


@dataclass
class Directory:
    """`missing` holds the lists that are not complete yet: until then, an unknown Skill may well exist."""

    entries: dict[Key, Entry] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)  # address → our calls
    missing: set[tuple[str, str | None]] = field(default_factory=lambda: {("Skill", None), ("Pod", None)})
    watchers: list[Watcher] = field(default_factory=list)  # are told of each Skill that comes, changes or goes
    _pods: dict[Key, dict[str, Backend]] = field(default_factory=dict)  # namespace, uid of the Skill → by pod name
    _contracts: dict[str, tuple[int, Contract | None]] = field(default_factory=dict)  # uid of the Skill → generation

    @property
    def ready(self) -> bool:
        return not self.missing

    def backends(self, meta: ObjectMeta) -> list[Backend]:
        """Whom to ask, best first: Ready ones, then those with the fewest calls of ours in flight.

        Only pods of the Skill's own namespace: elsewhere, anyone could label a pod as that Skill's.
        """
        found = list(self._pods.get((meta.namespace, meta.uid), {}).values())
        if len(found) < 2:
            return found
        random.shuffle(found)
        return sorted(found, key=lambda backend: (not backend.ready, self.in_flight[backend.address]))

    def contract(self, entry: Entry) -> Contract | None:
        """The compiled input schema, once per generation, at its first call.

        None where it is not known to be what the pods run: of a spec that is not deployed yet, or is none. Then only
        the skill itself can judge.
        """
        meta = entry.meta
        if entry.skill is None or not is_true(entry.skill.status.conditions, READY, meta.generation):
            return None
        generation, compiled = self._contracts.get(meta.uid, (None, None))
        if generation != meta.generation:
            try:
                compiled = Contract(entry.skill.spec.input)
            except BadSchemaError:
                compiled = None
            self._contracts[meta.uid] = (meta.generation, compiled)
        return compiled

    def see_skill(self, change: str, body: Object) -> None:
        meta = body["metadata"]
        key = (meta["namespace"], meta["name"])
        before, after = self.entries.get(key), None
        if change != "DELETED":
            after = self.entries[key] = entry_of(body)
        elif before is not None and before.meta.uid == meta["uid"]:
            del self.entries[key]
            self._contracts.pop(meta["uid"], None)
        else:
            return
        for watcher in self.watchers:
            watcher(before, after)

    def see_pod(self, change: str, body: Object) -> None:
        meta = body["metadata"]
        key = (meta["namespace"], meta.get("labels", {}).get(naming.UID_LABEL, ""))
        backend = backend_of(body) if change != "DELETED" else None
        pods = self._pods.setdefault(key, {})
        if backend is None:
            pods.pop(meta["name"], None)
        else:
            pods[meta["name"]] = backend
        if not pods:
            del self._pods[key]

    async def follow(self, cluster: Cluster, namespaces: list[str]) -> None:
        """Keeps the directory; never returns."""
        wanted: list[str | None] = [*namespaces] or [None]
        self.missing = {(kind, namespace) for kind in ("Skill", "Pod") for namespace in wanted}
        async with asyncio.TaskGroup() as tasks:
            for namespace in wanted:
                skills = cluster.watch("Skill", namespace)
                pods = cluster.watch("Pod", namespace, LABELS)
                tasks.create_task(self._keep(("Skill", namespace), skills, self.see_skill))
                tasks.create_task(self._keep(("Pod", namespace), pods, self.see_pod))

    async def _keep(
        self,
        what: tuple[str, str | None],
        changes: AsyncIterator[tuple[str, Object]],
        see: Callable[[str, Object], None],
    ) -> None:
        async for change, body in changes:
            if change == "SYNCED":
                self.missing.discard(what)
            else:
                see(change, body)
