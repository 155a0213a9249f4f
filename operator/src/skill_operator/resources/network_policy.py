"""Who may talk to whom: nobody, but the gateway to the skill, and the skill to what its spec grants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skill_operator import naming
from skill_operator.api.egress import Shut, exceptions
from skill_operator.api.v1alpha1 import Skill
from skill_operator.resources.common import HTTP_PORT, Object, metadata
from skill_operator.settings import Settings


def default_deny(namespace: str) -> Object:
    """All pods of the operator in this namespace, both ways. No Skill owns it: it must outlive the last pod."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": naming.SHARED_POLICY,
            "namespace": namespace,
            "labels": {naming.MANAGED_BY: naming.MANAGER},
        },
        "spec": {
            "podSelector": {"matchLabels": {naming.MANAGED_BY: naming.MANAGER}},
            "policyTypes": ["Ingress", "Egress"],
        },
    }


def skill_policy(skill: Skill, settings: Settings, stays_shut: Iterable[Shut]) -> Object:
    """The gateway's pods are selected in one peer with their namespace: nobody can wear their labels elsewhere."""
    gateway = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}},
        "podSelector": {"matchLabels": dict(settings.gatewayLabels)},
    }
    egress = [
        {
            "to": [{"ipBlock": _block(grant.cidr, stays_shut)}],
            "ports": [{"protocol": "TCP", "port": port} for port in grant.ports],
        }
        for grant in skill.spec.egress
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(skill, naming.child(skill.metadata.name), "skill"),
        "spec": {
            "podSelector": {"matchLabels": naming.selector(skill.metadata.uid)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [gateway], "ports": [{"protocol": "TCP", "port": HTTP_PORT}]}],
            "egress": egress,
        },
    }


def _block(cidr: str, stays_shut: Iterable[Shut]) -> Object:
    left_out = exceptions(cidr, stays_shut)
    return {"cidr": cidr} | ({"except": left_out} if left_out else {})


def widening(policies: Iterable[Object], skill: Skill) -> list[str]:
    """Names of policies of others that select this Skill's pods and allow something: policies only ever add up."""
    meta = skill.metadata
    ours = {naming.SHARED_POLICY, naming.child(meta.name)}
    labels = naming.labels(meta.name, meta.uid, "skill")
    return sorted(
        policy["metadata"]["name"]
        for policy in policies
        if policy["metadata"]["name"] not in ours
        and (policy["spec"].get("ingress") or policy["spec"].get("egress"))
        and selects(policy["spec"].get("podSelector") or {}, labels)
    )


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A LabelSelector at work. What it says of labels that change with each revision is taken to be true."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items() if _known(key)):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or () if _known(one["key"]))


def _known(key: str) -> bool:
    return key not in {naming.REVISION_LABEL, "pod-template-hash"}


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None
