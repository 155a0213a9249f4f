"""Build the Service of a Skill: a stable name for people's tools. The gateway itself calls pods by address."""

from __future__ import annotations

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s.interface import Object
from skill_operator.resources.common import HTTP_PORT, metadata


def service(skill: Skill) -> Object:
    """Return the Service of a Skill."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(skill, naming.child(skill.metadata.name), "skill"),
        "spec": {
            "selector": naming.selector(skill.metadata.uid),
            "ports": [{"name": "http", "port": 80, "targetPort": HTTP_PORT, "protocol": "TCP"}],
        },
    }
