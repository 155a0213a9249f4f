"""The directory of Skills, their pods and their Deployments, kept up to date by watches."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from skill_operator import naming
from skill_operator.api.conditions import ACTIVE, READY, get_condition, is_true
from skill_operator.api.v1alpha1 import Condition, ObjectMeta, Skill, SkillSpec
from skill_operator.gateway.pods.entry_budget import EntryBudget
from skill_operator.gateway.pods.work_allowance import WorkAllowance
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import UNREADABLE, Cluster, Object
from skill_operator.k8s.pod_status import PodProblem
from skill_operator.naming import SkillKey
from skill_operator.untrusted.json_schema import (
    MAX_UNITS,
    BadSchemaError,
    CompiledSchema,
    TooMuchWorkError,
    is_presentable,
)
from skill_operator.untrusted.json_values import flaw, weight
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
OwnerKey = tuple[str, str]  # namespace and uid of a Skill
DeploymentKey = tuple[str, str]  # namespace and name: others may label a Deployment, but two never share a name
KINDS = ("Skill", "Pod", "Deployment")
DRAIN_TIMEOUT_SECONDS = 15.0  # three times what the controller allows itself
NOT_SHOWN = {"description": "the schema in the Skill's spec is not valid"}
NOT_KEPT = {"description": "the Skills of the namespace say more than the gateway keeps: see the Skill itself"}
NOT_READ_YET = {"description": "the Skills of the namespace change faster than the gateway reads: see the Skill itself"}
_PLACEHOLDERS = (NOT_SHOWN, NOT_KEPT, NOT_READ_YET)
MAX_KEPT_DESCRIPTION = 1024  # characters, beyond the budget of a namespace
MAX_EXAMPLES_BYTES = 64 << 10
MAX_EXAMPLES_UNITS = 4096
MAX_PATTERNS_KIB = 256
"""A schema whose patterns compile to more is left to the skills' own pods: to compile it would hold up all calls."""
MAX_COMPILED_SCHEMAS = 256
COMPILATION_COST = 4  # for each unit of the schema, of those that it takes to look at one
LEAST_WORK = 64  # units that the look at any spec takes
CATCH_UP_SECONDS = 0.5
K = TypeVar("K")
T = TypeVar("T")
LABELS = naming.MANAGED | {naming.COMPONENT: "skill"}


class Backend(NamedTuple):
    """Backend is a pod that may answer, even one that is not Ready yet: Ready comes up to a second late."""

    address: str
    ready: bool


class ScaleState(NamedTuple):
    """ScaleState is what the gateway needs of a Skill's Deployment."""

    name: str
    owner_uid: str  # of the Skill that its label and its owner reference name; else empty
    replicas: int
    creation_error: str  # why the cluster creates no pod, where that is so
    drain_token: str  # set by the controller that is about to scale the Skill to zero; mostly empty


class ParsedSpec(NamedTuple):
    """ParsedSpec is what one version of a Skill says to callers; `spec` is None where it cannot be read.

    The uid, the generation and `served`, the digest of what the status says is served, tell the version from others;
    nothing is known to equal what has no digest. `units` is the weight of what the whole spec says, also where it
    `is_reduced`. `postponed` is what waits for a look, if anything.
    """

    uid: str
    generation: int
    served: str | None
    spec: SkillSpec | None
    units: int
    is_reduced: bool = False
    postponed: Object | None = None

    def is_of(self, meta: ObjectMeta, served: str | None) -> bool:
        """Return whether a Skill with this metadata, and this digest of what is served, says the same to callers."""
        return served is not None and (self.uid, self.generation, self.served) == (meta.uid, meta.generation, served)


@dataclass(frozen=True)
class SkillEntry:
    """SkillEntry is a Skill as the gateway needs it; `skill` is None where it cannot be read.

    A schema that the gateway cannot show is `NOT_SHOWN` there, and examples of more than `MAX_EXAMPLES_BYTES` are left
    out, so that an entry takes less than 2 MiB, whatever was stored.
    """

    meta: ObjectMeta
    skill: Skill | None
    parsed: ParsedSpec | None = field(default=None, compare=False)

    @property
    def ready(self) -> Condition | None:
        """The condition Ready, where the Skill has one."""
        return get_condition(self.skill.status.conditions, READY) if self.skill else None

    @property
    def archive(self) -> str:
        """The token of the archive that the Skill is in; empty where it is in none. Lists do not show one that is."""
        archive = self.skill.status.archive if self.skill else None
        return archive.token if archive is not None else ""

    @property
    def restoring(self) -> bool:
        """True while the Skill comes back from the archive."""
        active = get_condition(self.skill.status.conditions, ACTIVE) if self.skill else None
        return active is not None and active.reason == "Restoring"

    @cached_property
    def encoded_uid(self) -> bytes:
        """The Skill's uid as the value of a header."""
        return self.meta.uid.encode("ascii", "replace")

    @cached_property
    def version(self) -> tuple[int, str]:
        """The version of the contract: the generation of the spec, and which other contract is served meanwhile."""
        serving = self.skill.status.serving if self.skill is not None else None
        return self.meta.generation, serving.digest if serving is not None else ""

    @cached_property
    def current(self) -> bool:
        """True if the pods run this very generation of the spec."""
        return self.skill is not None and is_true(self.skill.status.conditions, READY, self.meta.generation)


_MOST: Mapping[str, tuple[int, Any]] = {
    "input": (MAX_UNITS, NOT_SHOWN),
    "output": (MAX_UNITS, NOT_SHOWN),
    "examples": (MAX_EXAMPLES_UNITS, []),
}  # units, and what stands there instead
_POSTPONED = {"input": NOT_READ_YET, "output": NOT_READ_YET, "examples": []}
_KEPT_ANNOTATIONS = (naming.CREATED_BY_ANNOTATION, naming.PROMOTED_BY_ANNOTATION, naming.REQUEST_ANNOTATION)
_KEPT_METADATA = ("name", "namespace", "uid", "generation", "resourceVersion", "creationTimestamp", "deletionTimestamp")
_SERVED_TEXTS, _SERVED_SCHEMAS = ("description", "summary"), ("input", "output")
_SERVED_TO_CALLERS = {*_SERVED_TEXTS, *_SERVED_SCHEMAS}
MAX_ANNOTATION = 1024  # characters; no user has a longer name
SkillListener = Callable[[SkillEntry | None, SkillEntry | None], None]
PodListener = Callable[[str, Object], None]


def parse_skill(body: Object, former: SkillEntry | None = None, *, postpone: bool = False) -> SkillEntry:
    """Return the entry of a Skill. It never raises: one Skill that cannot be parsed must not hide the others.

    Where the former entry is of the same version, its spec is taken as it is. To look at a spec takes up to 20 ms, and
    there is an event for each annotation that somebody writes. To `postpone` is to take a new one without its schemas
    and examples, but with what bounds and grants calls.
    """
    meta = ObjectMeta.model_validate(_kept_metadata(body["metadata"]))
    if UNREADABLE in body:
        return SkillEntry(meta, None)
    status, parsed = body.get("status", {}), former.parsed if former is not None else None
    serving = status.get("serving") if isinstance(status, dict) else None
    served = _served_digest(serving)
    if parsed is None or parsed.postponed is not None or not parsed.is_of(meta, served):
        parsed = _parse_spec(meta, body.get("spec"), serving, postpone)._replace(served=served)
    if parsed.spec is None:
        return SkillEntry(meta, None, parsed)
    if isinstance(serving, dict):  # its words and schemas are in the spec by now, and are counted there
        status = status | {"serving": {key: serving[key] for key in serving.keys() - _SERVED_TO_CALLERS}}
    try:
        skill = Skill.model_validate(body | {"metadata": meta, "spec": parsed.spec, "status": status})
    except ValidationError as error:
        _warn(meta, error)
        return SkillEntry(meta, None, parsed)
    return SkillEntry(meta, skill, parsed)


def _kept_metadata(raw: Object) -> Object:
    found = raw.get("annotations") or {}  # of a tenant, who may write megabytes there, as into labels
    annotations = {key: str(found[key])[:MAX_ANNOTATION] for key in _KEPT_ANNOTATIONS if key in found}
    return {key: raw[key] for key in _KEPT_METADATA if key in raw} | {"annotations": annotations}


def _parse_spec(meta: ObjectMeta, spec: Object | None, serving: Object | None, postpone: bool) -> ParsedSpec:
    try:
        trimmed, units = _trimmed(_served(spec, serving))
        model = SkillSpec.model_validate(trimmed | _POSTPONED if postpone else _shown(trimmed))
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        _warn(meta, error)
        return ParsedSpec(meta.uid, meta.generation, None, None, 0)
    return ParsedSpec(meta.uid, meta.generation, None, model, units, postponed=trimmed if postpone else None)


def _served_digest(serving: object) -> str | None:
    """Return the digest of what the status says is served; None where it is nested without end."""
    try:
        return naming.digest(serving)
    except RecursionError:  # a status that no operator writes
        return None


def _warn(meta: ObjectMeta, error: Exception) -> None:
    log.warning("skill %s/%s cannot be parsed: %s", meta.namespace, meta.name, printable(str(error), 300))


def _reduced(entry: SkillEntry) -> SkillEntry:
    """Return the entry without all that calls do not need: the pods hold their input against the schema, too."""
    if entry.skill is None or entry.parsed is None or entry.parsed.is_reduced:
        return entry
    description = entry.skill.spec.description[:MAX_KEPT_DESCRIPTION]
    lost = {"input": NOT_KEPT, "output": NOT_KEPT, "examples": [], "description": description}
    spec = entry.skill.spec.model_copy(update=lost)
    parsed = entry.parsed._replace(spec=spec, is_reduced=True, postponed=None)
    return SkillEntry(entry.meta, entry.skill.model_copy(update={"spec": spec}), parsed)


def _served(spec: Object | None, serving: Object | None) -> Object:
    """Return the spec with what the status says that callers get meanwhile: another revision runs than it asks for."""
    if spec is None:
        raise KeyError("spec")
    if serving is None:
        return spec
    texts = {name: serving.get(name, "") for name in _SERVED_TEXTS}
    schemas = {side: serving.get(side, NOT_SHOWN) for side in _SERVED_SCHEMAS}
    # The examples are those of the spec, and may not fit.
    return spec | texts | schemas | {"callTimeoutSeconds": serving["callTimeoutSeconds"], "examples": []}


def _trimmed(spec: Object) -> tuple[Object, int]:
    """Return the spec without what the gateway never reads, nor what is too much for it, and the weight of the rest."""
    trimmed = {key: value for key, value in spec.items() if key not in {"source", "generation", *_MOST}}
    units = weight(trimmed)
    for part, (most, instead) in _MOST.items():
        if part not in spec:
            continue
        own = weight(spec[part], most)
        trimmed[part] = spec[part] if own <= most else instead
        units += own if own <= most else 1
    return trimmed, units


def _shown(trimmed: Object) -> Object:
    """Return the spec without what cannot be shown."""
    shown = dict(trimmed)
    for side in ("input", "output"):
        if isinstance(shown.get(side), dict) and not is_presentable(shown[side]):
            shown[side] = NOT_SHOWN
    examples = shown.get("examples", [])
    if any(flaw(example) for example in examples) or len(json.dumps(examples)) > MAX_EXAMPLES_BYTES:
        shown["examples"] = []
    return shown


def parse_backend(body: Object) -> Backend | None:
    """Return the backend that a pod is, or None where it has no address, has ended or is about to end."""
    status = body.get("status", {})
    address = status.get("podIP")
    if not address or "deletionTimestamp" in body["metadata"] or status.get("phase") in {"Succeeded", "Failed"}:
        return None
    return Backend(naming.format_host(address), pod_status.is_ready(body))


def parse_scale(body: Object) -> ScaleState:
    """Return the scale of a Deployment."""
    meta, status = body["metadata"], body.get("status", {})
    current = status.get("observedGeneration", 0) >= meta.get("generation", 0)
    error = pod_status.replica_failure(body) if current else None
    drain_token = meta.get("annotations", {}).get(naming.DRAIN_ANNOTATION, "")
    return ScaleState(meta["name"], _owner_uid(meta), body["spec"].get("replicas", 1), error or "", drain_token)


def _owner_uid(meta: Object) -> str:
    uid = str(meta.get("labels", {}).get(naming.UID_LABEL, ""))
    controllers = [
        (owner["kind"], owner["uid"]) for owner in meta.get("ownerReferences", ()) if owner.get("controller")
    ]
    return uid if controllers == [("Skill", uid)] else ""


@dataclass
class Directory:
    """Directory holds what the watches report.

    `unsynced` are the lists that are not complete yet: until then, an unknown Skill may well exist.
    """

    entries: dict[SkillKey, SkillEntry] = field(default_factory=dict)
    tools: dict[str, SkillKey] = field(default_factory=dict, compare=False)  # by each name of the MCP tool
    in_flight: Counter[str] = field(default_factory=Counter)  # address → our calls
    unsynced: set[tuple[str, str | None]] = field(default_factory=lambda: {(kind, None) for kind in KINDS})
    skill_listeners: list[SkillListener] = field(default_factory=list)  # called with each Skill before and after
    pod_listeners: list[PodListener] = field(default_factory=list)  # called with each event of a pod
    stale: set[tuple[str, str | None]] = field(default_factory=set)  # lists whose watch is interrupted
    _pods: dict[OwnerKey, dict[str, Backend]] = field(default_factory=dict)  # namespace, uid of the Skill → by pod name
    _pod_problems: dict[OwnerKey, dict[str, PodProblem]] = field(default_factory=dict)
    _scales: dict[DeploymentKey, ScaleState] = field(default_factory=dict)
    _draining: dict[DeploymentKey, float] = field(default_factory=dict)  # since when, by this process's clock
    _changes: dict[OwnerKey, asyncio.Event] = field(default_factory=dict, compare=False)
    _budget: EntryBudget = field(default_factory=EntryBudget, compare=False)
    _looks: WorkAllowance = field(default_factory=WorkAllowance, compare=False)
    _compilations: WorkAllowance = field(default_factory=WorkAllowance, compare=False)
    _postponed: dict[str, dict[str, Object]] = field(default_factory=dict)  # what waits for a look: by namespace, name
    _input_schemas: dict[str, tuple[tuple[int, str], CompiledSchema | None]] = field(default_factory=dict)  # by uid

    @property
    def ready(self) -> bool:
        """True if all lists are complete."""
        return not self.unsynced

    def is_listed(self, key: SkillKey, user: str) -> bool:
        """Return whether there is such a Skill, and lists and searches show it to this user, who may call it."""
        entry = self.entries.get(key)
        return entry is not None and entry.meta.listed_for in {"", user}

    def backends(self, meta: ObjectMeta) -> list[Backend]:
        """Return the pods that may get a call, best first: Ready ones, then those with the fewest calls in flight.

        They are pods of the Skill's own namespace: elsewhere, anyone could label a pod as that Skill's. There are none
        while it drains: calls that come then wait, and either wake it or keep it awake.
        """
        if self._draining and self.drain_token(meta):
            return []
        backends = list(self._pods.get((meta.namespace, meta.uid), {}).values())
        if len(backends) < 2:
            return backends
        random.shuffle(backends)
        return sorted(backends, key=lambda backend: (not backend.ready, self.in_flight[backend.address]))

    def forget_backend(self, meta: ObjectMeta, address: str) -> None:
        """Remove a pod that does not take the Skill's calls, until the watch tells of it again."""
        key = (meta.namespace, meta.uid)
        for name, backend in list(self._pods.get(key, {}).items()):
            if backend.address == address:
                _put(self._pods, key, name, None)

    def scale(self, meta: ObjectMeta) -> ScaleState | None:
        """Return the scale of the Skill's Deployment, where that is the operator's own."""
        scale = self._scales.get(_deployment_key(meta))
        return scale if scale is not None and scale.owner_uid == meta.uid else None

    def drain_token(self, meta: ObjectMeta) -> str:
        """Return the token of a drain under way, or nothing.

        A drain that is neither withdrawn nor carried out ends by itself: calls may not hang on a controller that is
        gone.
        """
        since = self._draining.get(_deployment_key(meta))
        if since is None or time.monotonic() - since > DRAIN_TIMEOUT_SECONDS:
            return ""
        scale = self.scale(meta)
        return scale.drain_token if scale is not None else ""

    def drain_tokens(self) -> dict[str, str]:
        """Return the tokens of all drains under way, by uid of the Skill."""
        metas = (entry.meta for entry in self.entries.values()) if self._draining else ()
        return {meta.uid: token for meta in metas if (token := self.drain_token(meta))}

    def pod_problem(self, meta: ObjectMeta) -> PodProblem | None:
        """Return why a pod of the Skill does not run, if that is known."""
        return next(iter(self._pod_problems.get((meta.namespace, meta.uid), {}).values()), None)

    def next_change(self, meta: ObjectMeta) -> asyncio.Event:
        """Return the event that the next change of the Skill's pods or its Deployment sets."""
        return self._changes.setdefault((meta.namespace, meta.uid), asyncio.Event())

    def _notify(self, key: OwnerKey) -> None:
        if (event := self._changes.pop(key, None)) is not None:
            event.set()

    def input_schema(self, entry: SkillEntry) -> CompiledSchema | None:
        """Return the compiled input schema; it is compiled once per version, at the first call.

        None where the pods may run another one, since the spec is not deployed yet or has no valid schema, where its
        patterns are too large for a process that serves everybody, and where its namespace has too many new ones. Then
        only the skill itself can validate.
        """
        meta = entry.meta
        if entry.skill is None or not entry.current or entry.skill.spec.input in _PLACEHOLDERS:
            return None
        version, compiled = self._input_schemas.get(meta.uid, (None, None))
        if version != entry.version:
            if not self._compilations.has_left(meta.namespace):
                return None
            self._compilations.pay(meta.namespace, COMPILATION_COST * weight(entry.skill.spec.input))
            try:
                compiled = CompiledSchema(entry.skill.spec.input, MAX_PATTERNS_KIB)
            except (BadSchemaError, TooMuchWorkError):
                compiled = None
            while len(self._input_schemas) >= MAX_COMPILED_SCHEMAS:
                del self._input_schemas[next(iter(self._input_schemas))]
            self._input_schemas[meta.uid] = (entry.version, compiled)
        return compiled

    def on_skill(self, change: str, body: Object) -> None:
        """Take an event of the watch of Skills."""
        meta = body["metadata"]
        key = SkillKey(meta["namespace"], meta["name"])
        before, after = self.entries.get(key), None
        if change != "DELETED":
            after = self.entries[key] = self._parse(key, body, before)
            self.tools |= dict.fromkeys(_tool_names(key), key)
        elif before is not None and before.meta.uid == meta["uid"]:
            del self.entries[key]
            _put(self._postponed, key.namespace, key.name, None)
            self._budget.release(key)
            for name in _tool_names(key):
                self.tools.pop(name, None)
            self._input_schemas.pop(meta["uid"], None)
        else:
            return
        for listener in self.skill_listeners:
            listener(before, after)

    def _parse(self, key: SkillKey, body: Object, before: SkillEntry | None) -> SkillEntry:
        """Return the entry of a Skill, reduced where the namespace has no room for all that its spec says.

        A new spec is postponed where the namespace had its part of the gateway's time.
        """
        entry = self._look(key, body, before)
        waiting = None
        if not self._budget.take(key, entry.parsed.units if entry.parsed is not None else 0):
            entry = _reduced(entry)
        elif entry.parsed is not None:
            if entry.parsed.is_reduced:  # there is room again
                entry = self._look(key, body, None)
            if entry.parsed is not None and entry.parsed.postponed is not None:
                waiting = body | {"metadata": _kept_metadata(body["metadata"]), "spec": entry.parsed.postponed}
        _put(self._postponed, key.namespace, key.name, waiting)
        return entry

    def _look(self, key: SkillKey, body: Object, before: SkillEntry | None) -> SkillEntry:
        """Return the entry of a Skill, whose namespace pays for the look at a new spec."""
        entry = parse_skill(body, before, postpone=not self._looks.has_left(key.namespace))
        parsed = entry.parsed
        if parsed is not None and parsed.postponed is None and (before is None or parsed is not before.parsed):
            self._looks.pay(key.namespace, LEAST_WORK + (parsed.units if parsed.spec is not None else 2 * MAX_UNITS))
        return entry

    async def catch_up(self) -> None:
        """Look at the specs that wait for it, of namespaces that have time left again."""
        for namespace in list(self._postponed):
            while (waiting := self._postponed.get(namespace)) and self._looks.has_left(namespace):
                self.on_skill("MODIFIED", next(iter(waiting.values())))
                await asyncio.sleep(0)  # for the calls of others

    async def _keep_catching_up(self) -> None:
        while True:
            await asyncio.sleep(CATCH_UP_SECONDS)
            await self.catch_up()

    def on_pod(self, change: str, body: Object) -> None:
        """Take an event of the watch of pods."""
        meta = body["metadata"]
        key = (meta["namespace"], meta.get("labels", {}).get(naming.UID_LABEL, ""))
        gone = change == "DELETED" or "deletionTimestamp" in meta or body.get("status", {}).get("phase") == "Failed"
        _put(self._pods, key, meta["name"], None if gone else parse_backend(body))
        _put(self._pod_problems, key, meta["name"], None if gone else pod_status.pod_problem(body))
        self._notify(key)
        for listener in self.pod_listeners:
            listener(change, body)

    def on_deployment(self, change: str, body: Object) -> None:
        """Take an event of the watch of Deployments."""
        meta = body["metadata"]
        key = (meta["namespace"], meta["name"])
        former = self._scales.pop(key, None)
        scale = parse_scale(body) if change != "DELETED" else None
        if scale is not None and scale.owner_uid:
            self._scales[key] = scale
            if not scale.drain_token:
                self._draining.pop(key, None)
            elif former is None or former.drain_token != scale.drain_token:
                self._draining[key] = time.monotonic()
        else:
            self._draining.pop(key, None)
        self._notify((meta["namespace"], meta.get("labels", {}).get(naming.UID_LABEL, "")))

    async def watch(self, cluster: Cluster, namespaces: list[str]) -> None:
        """Keep the directory up to date, of these namespaces or (where there are none) of all; never returns."""
        watched: list[str | None] = [*namespaces] or [None]
        self.unsynced = {(kind, namespace) for kind in KINDS for namespace in watched}
        handlers = {"Skill": self.on_skill, "Pod": self.on_pod, "Deployment": self.on_deployment}
        async with asyncio.TaskGroup() as tasks:
            for kind, namespace in sorted(self.unsynced, key=str):
                changes = cluster.watch(kind, namespace, None if kind == "Skill" else LABELS)
                tasks.create_task(self._consume((kind, namespace), changes, handlers[kind]))
            tasks.create_task(self._keep_catching_up())

    async def _consume(
        self,
        key: tuple[str, str | None],
        changes: AsyncIterator[tuple[str, Object]],
        handler: Callable[[str, Object], None],
    ) -> None:
        async for change, body in changes:
            if change == "SYNCED":
                self.unsynced.discard(key)
                self.stale.discard(key)
            elif change == "CUT":
                self.stale.add(key)
            else:
                handler(change, body)
                await asyncio.sleep(0)  # for the calls of others: a list has many of what takes a while


def _tool_names(key: SkillKey) -> tuple[str, str]:
    """Return the names of a Skill's tool: among those of all namespaces, and `namespace/` with its name in that one."""
    return naming.tool(*key), f"{key.namespace}/{naming.bare_tool(*key)}"


def _deployment_key(meta: ObjectMeta) -> DeploymentKey:
    return meta.namespace, naming.child(meta.name)


def _put(index: dict[K, dict[str, T]], key: K, name: str, value: T | None) -> None:
    """Set or remove a value; a key without values is removed."""
    values = index.setdefault(key, {})
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value
    if not values:
        del index[key]
