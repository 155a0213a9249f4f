"""Build the identity of a Skill: it has no rights of its own, and its pods hold no token."""

from __future__ import annotations

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s.interface import Object
from skill_operator.resources.common import metadata


def name_of(skill: Skill) -> str:
    """Return the name of the Skill's ServiceAccount, to which people grant rights."""
    return naming.child(skill.metadata.name)


def may_get_secret(skill: Skill, secret: str) -> Object:
    """Return a review of whether this identity may read that Secret. The operator itself may not, and never does."""
    namespace = skill.metadata.namespace
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "LocalSubjectAccessReview",
        "metadata": {"namespace": namespace},
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{name_of(skill)}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": {
                "namespace": namespace, "verb": "get", "version": "v1", "resource": "secrets", "name": secret
            },
        },
    }  # fmt: skip


def service_account(skill: Skill) -> Object:
    """Return the ServiceAccount of a Skill."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(skill, name_of(skill), "skill"),
        "automountServiceAccountToken": False,
    }
