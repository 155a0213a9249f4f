"""Writing only what differs."""

from __future__ import annotations

from typing import Any

from skill_operator.k8s.client import Cluster, Conflict
from skill_operator.resources.common import Object


async def apply_changed(cluster: Cluster, wanted: Object) -> Object:
    """Apply `wanted` unless the cluster already holds all it says. Returns the live object."""
    meta = wanted["metadata"]
    live = await cluster.get(wanted["kind"], meta["namespace"], meta["name"])
    if live is not None and holds(live, wanted):
        return live
    return await cluster.apply(wanted)


async def create_absent(cluster: Cluster, wanted: Object) -> Object | None:
    """Create what cannot be changed later; None if it is there already."""
    try:
        return await cluster.create(wanted)
    except Conflict:
        return None


def holds(live: Any, wanted: Any) -> bool:
    """Whether every value of `wanted` is in `live`. Defaults that the API server added do not count."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(k in live and holds(live[k], v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(holds, live, wanted))
    return bool(live == wanted)
