"""Build the quota of a namespace's skills. It counts pods of the skill priority class and no others."""

from __future__ import annotations

from skill_operator import naming
from skill_operator.api.quantity import canonical
from skill_operator.k8s.interface import Object
from skill_operator.settings import Settings


def quota(settings: Settings, namespace: str) -> Object:
    """Return the ResourceQuota of a namespace."""
    isolation = settings.isolation
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {
            "name": naming.SHARED_QUOTA,
            "namespace": namespace,
            "labels": dict(naming.MANAGED),
        },
        "spec": {
            "hard": {
                "pods": str(isolation.namespace_pods),
                "limits.cpu": canonical(isolation.namespace_cpu),
                "limits.memory": canonical(isolation.namespace_memory),
            },
            "scopeSelector": {
                "matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "In", "values": [settings.priority_class_name]}
                ]
            },
        },
    }
