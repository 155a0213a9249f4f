"""Ownership tells whose an object is.

The operator writes over and deletes what bears its mark and the uid of the Skill, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from skill_operator import naming
from skill_operator.k8s.interface import Cluster, Object


def belongs_to(live: Object, labels: Mapping[str, str]) -> bool:
    """Return whether `live` bears the operator's mark and the uid, or the lack of one, that is in `labels`."""
    found = _labels(live)
    return all(found.get(key) == labels.get(key) for key in (naming.MANAGED_BY, naming.UID_LABEL))


async def was_left_behind(cluster: Cluster, live: Object, labels: Mapping[str, str]) -> bool:
    """Return whether `live` is of a former Skill of this name: orphaned by its deletion, or restored without it.

    `labels` are those that the operator gives its object of this name. The proof is that no Skill has the uid any more.
    Raises ClusterError.
    """
    found = _labels(live)
    same = (naming.MANAGED_BY, naming.SKILL_LABEL, naming.NAMESPACE_LABEL)
    uid = found.get(naming.UID_LABEL, "")
    if not uid or naming.UID_LABEL not in labels or any(found.get(key) != labels.get(key) for key in same):
        return False
    namespace = labels.get(naming.NAMESPACE_LABEL) or live["metadata"]["namespace"]
    return all(skill["metadata"]["uid"] != uid for skill in await cluster.list("Skill", namespace))


def _labels(live: Object) -> Mapping[str, str]:
    """Return the labels that tell whose an object is; of a Deployment its pods', which its selector does not let go."""
    own: Mapping[str, str] = live["metadata"].get("labels") or {}
    pods: Mapping[str, str] = live.get("spec", {}).get("template", {}).get("metadata", {}).get("labels") or {}
    return pods if live["kind"] == "Deployment" and naming.UID_LABEL in pods else own
