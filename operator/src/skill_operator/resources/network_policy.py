"""Who may talk to whom: nobody, but the gateway to the skill, and the skill to what its spec grants."""

from __future__ import annotations

from ipaddress import ip_network

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.resources.common import HTTP_PORT, Object, metadata
from skill_operator.settings import Settings

METADATA = ip_network("169.254.0.0/16")  # credentials of the node live there on every cloud


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


def skill_policy(skill: Skill, settings: Settings) -> Object:
    gateway = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}},
        "podSelector": {"matchLabels": dict(settings.gatewayLabels)},
    }
    egress = [
        {
            "to": [{"ipBlock": _block(grant.cidr)}],
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


def _block(cidr: str) -> Object:
    """However wide the grant, the metadata service is not in it."""
    network = ip_network(cidr, strict=False)
    inside = network.version == METADATA.version and METADATA.subnet_of(network)  # type: ignore[arg-type]
    return {"cidr": cidr} | ({"except": [str(METADATA)]} if inside else {})
