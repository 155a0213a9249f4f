"""Writing only what differs."""

from __future__ import annotations

from typing import Any

from skill_operator import naming
from skill_operator.k8s.errors import Conflict
from skill_operator.k8s.interface import Cluster, Object

MARK = naming.APPLIED_ANNOTATION
EXACT = frozenset({"NetworkPolicy"})  # one more word in it may open what it shuts, and the API server adds none


async def apply_changed(cluster: Cluster, wanted: Object) -> Object:
    """Apply `wanted` unless the cluster already holds all it says. Returns the live object."""
    meta = wanted["metadata"]
    wanted = wanted | {"metadata": meta | {"annotations": meta.get("annotations", {}) | {MARK: _digest(wanted)}}}
    live = await cluster.get(wanted["kind"], meta["namespace"], meta["name"])
    if (
        live is not None
        and holds(live, wanted)
        and (wanted["kind"] not in EXACT or holds(wanted["spec"], live["spec"]))
    ):
        return live
    return await cluster.apply(wanted)


def _digest(wanted: Object) -> str:
    """Replicas are said once, to the API server that makes the Deployment; afterwards they are others' to change."""
    spec = {key: value for key, value in wanted.get("spec", {}).items() if key != "replicas"}
    return naming.digest(wanted | {"spec": spec})[:16]


async def create_absent(cluster: Cluster, wanted: Object) -> Object | None:
    """Create what cannot be changed later; None if it is there already."""
    try:
        return await cluster.create(wanted)
    except Conflict:
        return None


def holds(live: Any, wanted: Any) -> bool:
    """Whether every value of `wanted` is in `live`. What the API server added does not count. It leaves empty lists
    out."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(holds(live.get(k), v) for k, v in wanted.items())
    if isinstance(wanted, list):
        found = [] if live is None else live
        return isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
    return bool(live == wanted)
