"""Writes to the cluster: in one fixed order, and only what differs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from skill_operator import naming
from skill_operator.generation.request import CompletionRequest
from skill_operator.k8s.errors import Conflict, Invalid, NotFound
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Result
from skill_operator.resources import build as build_resource

log = logging.getLogger(__name__)
# One more word in a NetworkPolicy may open what it blocks, and the API server adds none.
EXACT_KINDS = frozenset({"NetworkPolicy"})


class Writer:
    """Writer does what a stage decided: record, call, patch, delete, apply, create."""

    def __init__(self, cluster: Cluster, builder_namespace: str, start: Callable[[CompletionRequest], None]) -> None:
        """`start` makes the call to a model that the record now holds."""
        self._cluster = cluster
        self._builder_namespace = builder_namespace
        self._start = start

    async def write(self, observed: Observed, result: Result) -> Observed:
        """Write all that `result` wants. Return `observed` with the records as they are now.

        Raises Conflict if somebody else wrote a record meanwhile; then nothing else of the result is written.
        """
        observed = await self._record(observed, result)
        if result.call is not None:  # before anything can come in between
            self._start(result.call)
        for patch in result.patch:
            try:
                await self._cluster.patch(patch.kind, patch.namespace, patch.name, list(patch.operations))
            except (Invalid, NotFound) as error:  # its event brings the next reconcile
                log.info("a patch was dropped, since the object has changed: %s", error.message)
        for ref in result.delete:
            await self._cluster.delete(ref.kind, ref.namespace, ref.name)
        for wanted in result.apply:
            await apply_changed(self._cluster, wanted)
        for wanted in result.create:
            created = await create_absent(self._cluster, wanted)
            if created is not None and created["metadata"]["namespace"] == self._builder_namespace:
                await self._hand_over(result.apply, created)
        return observed

    async def _record(self, observed: Observed, result: Result) -> Observed:
        """Write the records first: if somebody wrote one meanwhile, nothing else of this reconcile may happen."""
        for wanted in result.record:
            known = "resourceVersion" in wanted["metadata"]
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
            await self._cluster.apply(context | {"metadata": meta})


async def apply_changed(cluster: Cluster, wanted: Object) -> Object:
    """Apply `wanted`, unless the cluster already holds all it says. Return the live object."""
    meta = wanted["metadata"]
    annotations = meta.get("annotations", {}) | {naming.APPLIED_ANNOTATION: _digest(wanted)}
    wanted = wanted | {"metadata": meta | {"annotations": annotations}}
    live = await cluster.get(wanted["kind"], meta["namespace"], meta["name"])
    if (
        live is not None
        and holds(live, wanted)
        and (wanted["kind"] not in EXACT_KINDS or holds(wanted["spec"], live["spec"]))
    ):
        return live
    return await cluster.apply(wanted)


def _digest(wanted: Object) -> str:
    """Return a digest without `replicas`: it is set when a Deployment is made, and others' to change afterwards."""
    spec = {key: value for key, value in wanted.get("spec", {}).items() if key != "replicas"}
    return naming.digest(wanted | {"spec": spec})


async def create_absent(cluster: Cluster, wanted: Object) -> Object | None:
    """Create what cannot change later. Return None if it is there already."""
    try:
        return await cluster.create(wanted)
    except Conflict:
        return None


def holds(live: Any, wanted: Any) -> bool:
    """Tell whether every value of `wanted` is in `live`.

    What the API server added does not count. It leaves empty lists out, so that an absent list equals an empty one.
    """
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(holds(live.get(k), v) for k, v in wanted.items())
    if isinstance(wanted, list):
        items = [] if live is None else live
        return isinstance(items, list) and len(items) == len(wanted) and all(map(holds, items, wanted))
    return bool(live == wanted)
