"""Writes to the cluster: in one fixed order, only what differs, and never over what is not the operator's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from skill_operator import naming
from skill_operator.generation.request import CompletionRequest
from skill_operator.k8s.errors import Conflict, Invalid, NotFound, TooManyRequests
from skill_operator.k8s.interface import UNREADABLE, Cluster, Object
from skill_operator.reconcile.observed import PARTIAL, Observed
from skill_operator.reconcile.ownership import belongs_to, was_left_behind
from skill_operator.reconcile.refusals import OBJECT_REFUSED, NotWritten, refusals, refusals_of
from skill_operator.reconcile.result import Ref, Result
from skill_operator.resources import build as build_resource
from skill_operator.resources.common import metadata

log = logging.getLogger(__name__)
# One more word in a NetworkPolicy may open what it blocks, and the API server adds none.
EXACT_KINDS = frozenset({"NetworkPolicy"})
NAME_TAKEN = "NameTaken"
EVICTION_SECONDS = 0  # for a pod that never started
_DENIED = "denied"  # by a policy; a patch whose test failed is Invalid too
Check = Callable[[Object], None]


class Writer:
    """Writer does what a stage decided: record, call, patch, delete, evict, apply, create."""

    def __init__(self, cluster: Cluster, builder_namespace: str, start: Callable[[CompletionRequest], None]) -> None:
        """`start` makes the call to a model that the record now holds."""
        self._cluster = cluster
        self._builder_namespace = builder_namespace
        self._start = start

    async def write(self, observed: Observed, result: Result, check: Check = lambda _: None) -> Observed:
        """Write all that `result` wants. Return `observed` with the records and the ConfigMaps as they are now.

        `check` raises NotWritten for an object that must not be tried yet. Raises Conflict if somebody else wrote a
        record meanwhile; then nothing else of the result is written. Raises NotWritten for an object that the cluster
        refuses, or whose name another object has.
        """
        if result.call is not None:
            await self._require_names(observed)
        observed = await self._record(observed, result)
        if result.call is not None:  # before anything can come in between
            self._start(result.call)
        for patch in result.patch:
            with refusals(patch.kind, patch.namespace, patch.name):
                try:
                    await self._cluster.patch(patch.kind, patch.namespace, patch.name, list(patch.operations))
                except (Invalid, NotFound) as error:
                    if _DENIED in error.message:
                        raise
                    # Its event brings the next reconcile.
                    log.info("a patch was dropped, since the object has changed: %s", error.message)
        for ref in result.delete:
            if (live := observed.find(ref)) is not None:
                await delete(self._cluster, live)
        for pod in result.evict:
            await evict(self._cluster, pod, EVICTION_SECONDS)
        # All are looked at before the first is written: half a Skill helps nobody.
        found = await asyncio.gather(*(self._read_own(observed, wanted) for wanted in result.apply))
        for wanted, live in zip(result.apply, found, strict=True):
            observed = observed.with_written(await _apply_over(self._cluster, wanted, live, check))
        for wanted in result.create:
            check(wanted)
            created = await create_absent(self._cluster, wanted)
            if created is not None and created["metadata"]["namespace"] == self._builder_namespace:
                await self._hand_over(result.apply, created)
        return observed

    async def _require_names(self, observed: Observed) -> None:
        """Raise NotWritten where somebody else's object has a name that the Skill will need: no token is spent then."""
        skill, name = observed.skill, observed.skill.metadata.name
        places = [
            *(("ConfigMap", each) for each in (naming.source(name), naming.candidates(name))),
            *((kind, naming.child(name)) for kind in ("ServiceAccount", "NetworkPolicy", "Service", "Deployment")),
        ]
        needed = ({"kind": kind, "metadata": metadata(skill, place, "skill")} for kind, place in places)
        await asyncio.gather(*(self._read_own(observed, each) for each in needed))

    async def _read_own(self, observed: Observed, wanted: Object) -> Object | None:
        """Return the object that `wanted` is to replace; it is read again only where it was not observed whole."""
        meta = wanted["metadata"]
        live = observed.find(Ref(wanted["kind"], meta["namespace"], meta["name"]))
        return await read_own(self._cluster, wanted, None if live is not None and PARTIAL in live else live)

    async def _record(self, observed: Observed, result: Result) -> Observed:
        """Write the records first: if somebody wrote one meanwhile, nothing else of this reconcile may happen."""
        for wanted in result.record:
            known = "resourceVersion" in wanted["metadata"]
            with refusals_of(wanted, conflicts=False):
                live = await (self._cluster.apply(wanted) if known else self._cluster.create(wanted))
            if live["metadata"]["name"] == naming.ACCOUNT:
                observed = replace(observed, daily_usage=live)
            else:
                observed = replace(observed, ledger=live)
        return observed

    async def _hand_over(self, contexts: tuple[Object, ...], job: Object) -> None:
        """Let a build's Job own its context, so that the two are deleted together."""
        for context in contexts:
            meta = context["metadata"] | {"ownerReferences": [build_resource.owner(job)]}
            with refusals_of(context):
                await self._cluster.apply(context | {"metadata": meta})


async def apply_changed(
    cluster: Cluster, wanted: Object, live: Object | None = None, check: Check = lambda _: None
) -> Object:
    """Apply `wanted`, unless the cluster already holds all it says. Return the live object. Raises NotWritten.

    `live` is what `wanted` replaces, where that was read a moment ago. `check` raises for what must not be tried yet.
    """
    return await _apply_over(cluster, wanted, await read_own(cluster, wanted, live), check)


async def read_own(cluster: Cluster, wanted: Object, live: Object | None = None) -> Object | None:
    """Return the object that `wanted` is to replace, if there is one: `live`, where that was read a moment ago.

    Raises NotWritten where it is somebody else's.
    """
    meta = wanted["metadata"]
    live = live or await cluster.get(wanted["kind"], meta["namespace"], meta["name"])
    if live is not None and not await _is_own(cluster, live, wanted):
        raise _name_taken(wanted)
    return live


async def _is_own(cluster: Cluster, live: Object, wanted: Object) -> bool:
    labels = wanted["metadata"]["labels"]
    return belongs_to(live, labels) or await was_left_behind(cluster, live, labels)


async def _apply_over(cluster: Cluster, wanted: Object, live: Object | None, check: Check) -> Object:
    meta = wanted["metadata"]
    annotations = meta.get("annotations", {}) | {naming.APPLIED_ANNOTATION: applied_digest(wanted)}
    wanted = wanted | {"metadata": meta | {"annotations": annotations}}
    if live is not None and holds(live, wanted) and _adds_nothing(live, wanted):
        return live
    if live is not None and "uid" in live["metadata"]:  # so that no other object of that name is written over
        wanted["metadata"]["uid"] = live["metadata"]["uid"]
    check(wanted)
    with refusals_of(wanted):
        written = await cluster.apply(wanted)
    if not _adds_nothing(written, wanted):
        raise NotWritten(OBJECT_REFUSED, _explain_more(wanted, written), obj=wanted)
    return written


def _adds_nothing(live: Object, wanted: Object) -> bool:
    """Return whether `live` says no more than `wanted`, where one more word is one too many."""
    return wanted["kind"] not in EXACT_KINDS or holds(wanted["spec"], live.get("spec"))


def _explain_more(wanted: Object, written: Object) -> str:
    """Return why an object may let more in or out than was written, and what to do."""
    name = f"{wanted['kind']} {wanted['metadata']['namespace']}/{wanted['metadata']['name']}"
    if UNREADABLE in written:
        return (
            f"{name} is too large to be read, since somebody has filled it: delete it, and the operator makes it anew"
        )
    return (
        f"{name} says more than the operator writes, so that it would let more in or out: another writer has set "
        "fields of it, or a mutating webhook or policy changes it. Delete it; if that does not help, exempt "
        f"NetworkPolicies with the label {naming.MANAGED_BY}={naming.MANAGER} from the latter"
    )


async def delete(cluster: Cluster, live: Object) -> None:
    """Delete this very object, and none that took its name meanwhile. Raises NotWritten."""
    meta = live["metadata"]
    with refusals_of(live):
        await cluster.delete(live["kind"], meta["namespace"], meta["name"], meta.get("uid"))


async def delete_unchanged(cluster: Cluster, live: Object) -> None:
    """Delete this very object, unless somebody has changed it since. Raises Conflict then, and NotWritten."""
    meta = live["metadata"]
    with refusals_of(live, conflicts=False):
        await cluster.delete(live["kind"], meta["namespace"], meta["name"], meta["uid"], meta["resourceVersion"])


async def evict(cluster: Cluster, pod: Object, grace_seconds: int) -> None:
    """Have this very pod end in `grace_seconds`. Raises NotWritten."""
    meta = pod["metadata"]
    with refusals_of(pod):
        try:
            await cluster.evict(meta["namespace"], meta["name"], meta["uid"], grace_seconds)
        except TooManyRequests as error:  # once it is ending, since what made it is gone, nothing keeps it
            log.info("a pod is not evicted yet: %s", error.message)


def _name_taken(wanted: Object) -> NotWritten:
    place = f"{wanted['metadata']['namespace']}/{wanted['metadata']['name']}"
    message = f"{wanted['kind']} {place} is not this Skill's: delete or move it, or rename the Skill"
    if wanted["metadata"]["name"] in naming.SHARED_NAMES:
        message = (
            f"{wanted['kind']} {place} is not the operator's, which needs this name in every namespace of Skills: "
            "delete it, or make it anew under another name"
        )
    return NotWritten(NAME_TAKEN, message)


def applied_digest(wanted: Object) -> str:
    """Return the digest of what is applied, without `replicas`: once a Deployment is made, others change that."""
    spec = {key: value for key, value in wanted.get("spec", {}).items() if key != "replicas"}
    return naming.digest(wanted | {"spec": spec})


async def create_absent(cluster: Cluster, wanted: Object) -> Object | None:
    """Create what cannot change later. Return None if it is there already. Raises NotWritten."""
    with refusals_of(wanted):
        try:
            return await cluster.create(wanted)
        except Conflict:
            meta = wanted["metadata"]
            live = await cluster.get(wanted["kind"], meta["namespace"], meta["name"])
            if live is None:  # not of that kind: a quota may conflict with itself
                raise
        if not await _is_own(cluster, live, wanted):
            raise _name_taken(wanted)
        if not belongs_to(live, meta["labels"]):
            await delete(cluster, live)  # of a former Skill; that it is gone brings the next reconcile
    return None


def holds(live: Any, wanted: Any, field: str = "") -> bool:
    """Tell whether every value of `wanted` is in `live`; both are values of the field of that name.

    What the API server or a webhook added does not count: in lists that the API server merges by a key, such as
    containers, that may be items too. It leaves empty lists out, so that an absent list equals an empty one.
    """
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(holds(live.get(k), v, k) for k, v in wanted.items())
    if isinstance(wanted, list):
        items = [] if live is None else live
        if not isinstance(items, list):
            return False
        if (key := _MERGE_KEYS.get(field)) is not None:
            known = {item.get(key): item for item in items if isinstance(item, dict)}
            return all(holds(known.get(item.get(key)), item) for item in wanted)
        return len(items) == len(wanted) and all(map(holds, items, wanted))
    return bool(live == wanted)


_MERGE_KEYS = {  # of lists that more than one may write to
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
