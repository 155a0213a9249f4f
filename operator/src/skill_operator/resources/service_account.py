"""The identity of a Skill: it has no rights of its own, and its pods hold no token."""

from __future__ import annotations

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.resources.common import Object, metadata


def service_account(skill: Skill) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(skill, naming.child(skill.metadata.name), "skill"),
        "automountServiceAccountToken": False,
    }
