"""Which Skills there are and which pods answer for them, kept up to date by watches."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from skill_operator import naming
from skill_operator.api.conditions import READY, get_condition, is_true
from skill_operator.api.v1alpha1 import Condition, ObjectMeta, Skill
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.k8s.pod_status import PodProblem
from skill_operator.naming import SkillKey
from skill_operator.untrusted.json_schema import BadSchemaError, CompiledSchema

log = logging.getLogger(__name__)
OwnerKey = tuple[str, str]  # namespace and uid of a Skill
KINDS = ("Skill", "Pod", "Deployment")
DRAIN_ENDS_SECONDS = 15.0  # three times what the controller allows itself
T = TypeVar("T")
LABELS = naming.MANAGED | {naming.COMPONENT: "skill"}


class Backend(NamedTuple):
    """A pod that may answer. One that is not Ready yet may do so already: Ready comes up to a second late."""

    address: str
    ready: bool


class ScaleState(NamedTuple):
    """What the gateway needs of a Skill's Deployment."""

    name: str
    replicas: int
    refused: str  # why no pod may be made, where that is so
    draining: str  # the mark of the controller, who is about to put it to sleep; mostly empty


@dataclass(frozen=True)
class SkillEntry:
    """A Skill as the gateway needs it; `skill` is None where a newer API stored what this version cannot read."""

    meta: ObjectMeta
    skill: Skill | None

    @property
    def ready(self) -> Condition | None:
        return get_condition(self.skill.status.conditions, READY) if self.skill else None

    @cached_property
    def current(self) -> bool:
        """Whether this very spec is what the pods run."""
        return self.skill is not None and is_true(self.skill.status.conditions, READY, self.meta.generation)


Watcher = Callable[[SkillEntry | None, SkillEntry | None], None]
PodWatcher = Callable[[str, Object], None]


def skill_entry(body: Object) -> SkillEntry:
    """Never fails: one Skill that cannot be read must not hide the others."""
    meta = ObjectMeta.model_validate({k: body["metadata"].get(k, "") for k in ("name", "namespace", "uid")})
    try:
        skill = Skill.model_validate(body)
    except ValidationError as error:
        log.warning("skill %s/%s cannot be read: %s", meta.namespace, meta.name, error)
        return SkillEntry(meta, None)
    return SkillEntry(skill.metadata, skill)


def pod_backend(body: Object) -> Backend | None:
    """None for a pod that has no address, has ended or is about to."""
    status = body.get("status", {})
    address = status.get("podIP")
    if not address or "deletionTimestamp" in body["metadata"] or status.get("phase") in {"Succeeded", "Failed"}:
        return None
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
    return Backend(naming.format_host(address), ready)


def scale_state(body: Object) -> ScaleState:
    meta, status = body["metadata"], body.get("status", {})
    current = status.get("observedGeneration", 0) >= meta.get("generation", 0)
    conditions = status.get("conditions", []) if current else []
    refused = (c.get("message", "") for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True")
    mark = meta.get("annotations", {}).get(naming.DRAIN_ANNOTATION, "")
    return ScaleState(meta["name"], body["spec"].get("replicas", 1), next(refused, ""), mark)


@dataclass
class Directory:
    """`missing` holds the lists that are not complete yet: until then, an unknown Skill may well exist."""

    entries: dict[SkillKey, SkillEntry] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)  # address → our calls
    missing: set[tuple[str, str | None]] = field(default_factory=lambda: {(kind, None) for kind in KINDS})
    watchers: list[Watcher] = field(default_factory=list)  # are told of each Skill that comes, changes or goes
    pod_watchers: list[PodWatcher] = field(default_factory=list)  # likewise of pods
    cut: set[tuple[str, str | None]] = field(default_factory=set)  # lists that may be out of date: their watch is cut
    _pods: dict[OwnerKey, dict[str, Backend]] = field(default_factory=dict)  # namespace, uid of the Skill → by pod name
    _troubles: dict[OwnerKey, dict[str, PodProblem]] = field(default_factory=dict)
    _scales: dict[OwnerKey, ScaleState] = field(default_factory=dict)
    _draining: dict[OwnerKey, float] = field(default_factory=dict)  # since when, by our clock
    _changes: dict[OwnerKey, asyncio.Event] = field(default_factory=dict, compare=False)
    _contracts: dict[str, tuple[int, CompiledSchema | None]] = field(
        default_factory=dict
    )  # uid of the Skill → generation

    @property
    def ready(self) -> bool:
        return not self.missing

    def backends(self, meta: ObjectMeta) -> list[Backend]:
        """Whom to ask, best first: Ready ones, then those with the fewest calls of ours in flight.

        Only pods of the Skill's own namespace: elsewhere, anyone could label a pod as that Skill's. None while it is
        about to sleep: what comes then is held, and either wakes it or keeps it awake.
        """
        key = (meta.namespace, meta.uid)
        if key in self._draining and self.drained(meta):
            return []
        found = list(self._pods.get(key, {}).values())
        if len(found) < 2:
            return found
        random.shuffle(found)
        return sorted(found, key=lambda backend: (not backend.ready, self.in_flight[backend.address]))

    def scale(self, meta: ObjectMeta) -> ScaleState | None:
        """Its Deployment, where that is the operator's own."""
        found = self._scales.get((meta.namespace, meta.uid))
        return found if found is not None and found.name == naming.child(meta.name) else None

    def drained(self, meta: ObjectMeta) -> str:
        """The mark of a drain under way. One that is never taken back or carried out ends by itself: calls may not
        hang on a controller that is gone."""
        key = (meta.namespace, meta.uid)
        since = self._draining.get(key)
        if since is None or time.monotonic() - since > DRAIN_ENDS_SECONDS:
            return ""
        return self._scales[key].draining

    def drains(self) -> dict[str, str]:
        """All of these, by uid of the Skill."""
        metas = (entry.meta for entry in self.entries.values())
        return {meta.uid: mark for meta in metas if (mark := self.drained(meta))}

    def trouble(self, meta: ObjectMeta) -> PodProblem | None:
        """Why a pod of it does not run, if that is known."""
        return next(iter(self._troubles.get((meta.namespace, meta.uid), {}).values()), None)

    def changed(self, meta: ObjectMeta) -> asyncio.Event:
        """Is set at the next news of its pods or its Deployment."""
        return self._changes.setdefault((meta.namespace, meta.uid), asyncio.Event())

    def _tell(self, key: OwnerKey) -> None:
        if (event := self._changes.pop(key, None)) is not None:
            event.set()

    def contract(self, entry: SkillEntry) -> CompiledSchema | None:
        """The compiled input schema, once per generation, at its first call.

        None where it is not known to be what the pods run: of a spec that is not deployed yet, or is none. Then only
        the skill itself can judge.
        """
        meta = entry.meta
        if entry.skill is None or not entry.current:
            return None
        generation, compiled = self._contracts.get(meta.uid, (None, None))
        if generation != meta.generation:
            try:
                compiled = CompiledSchema(entry.skill.spec.input)
            except BadSchemaError:
                compiled = None
            self._contracts[meta.uid] = (meta.generation, compiled)
        return compiled

    def see_skill(self, change: str, body: Object) -> None:
        meta = body["metadata"]
        key = SkillKey(meta["namespace"], meta["name"])
        before, after = self.entries.get(key), None
        if change != "DELETED":
            after = self.entries[key] = skill_entry(body)
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
        gone = change == "DELETED" or "deletionTimestamp" in meta or body.get("status", {}).get("phase") == "Failed"
        _put(self._pods, key, meta["name"], None if gone else pod_backend(body))
        _put(self._troubles, key, meta["name"], None if gone else pod_status.pod_problem(body))
        self._tell(key)
        for watcher in self.pod_watchers:
            watcher(change, body)

    def see_deployment(self, change: str, body: Object) -> None:
        meta = body["metadata"]
        key = (meta["namespace"], meta.get("labels", {}).get(naming.UID_LABEL, ""))
        former = self._scales.pop(key, None)
        if change != "DELETED":
            found = self._scales[key] = scale_state(body)
            if not found.draining:
                self._draining.pop(key, None)
            elif former is None or former.draining != found.draining:
                self._draining[key] = time.monotonic()
        else:
            self._draining.pop(key, None)
        self._tell(key)

    async def follow(self, cluster: Cluster, namespaces: list[str]) -> None:
        """Keeps the directory; never returns."""
        wanted: list[str | None] = [*namespaces] or [None]
        self.missing = {(kind, namespace) for kind in KINDS for namespace in wanted}
        sees = {"Skill": self.see_skill, "Pod": self.see_pod, "Deployment": self.see_deployment}
        async with asyncio.TaskGroup() as tasks:
            for kind, namespace in sorted(self.missing, key=str):
                changes = cluster.watch(kind, namespace, None if kind == "Skill" else LABELS)
                tasks.create_task(self._keep((kind, namespace), changes, sees[kind]))

    async def _keep(
        self,
        what: tuple[str, str | None],
        changes: AsyncIterator[tuple[str, Object]],
        see: Callable[[str, Object], None],
    ) -> None:
        async for change, body in changes:
            if change == "SYNCED":
                self.missing.discard(what)
                self.cut.discard(what)
            elif change == "CUT":
                self.cut.add(what)
            else:
                see(change, body)


def _put(all_: dict[OwnerKey, dict[str, T]], key: OwnerKey, name: str, value: T | None) -> None:
    """Nothing is kept of what there is not."""
    found = all_.setdefault(key, {})
    if value is None:
        found.pop(name, None)
    else:
        found[name] = value
    if not found:
        del all_[key]
