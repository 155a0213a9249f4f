"""Who may talk to whom: nobody, but the gateway to the skill, and the skill to what its spec grants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skill_operator import naming
from skill_operator.api.egress_networks import BlockedNetwork, exceptions
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s.interface import Object
from skill_operator.resources.common import HTTP_PORT, metadata
from skill_operator.settings import Settings


def default_deny(namespace: str) -> Object:
    """All pods of the operator in this namespace, both ways. No Skill owns it: it must outlive the last pod."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": naming.SHARED_POLICY,
            "namespace": namespace,
            "labels": dict(naming.MANAGED),
        },
        "spec": {
            "podSelector": {"matchLabels": dict(naming.MANAGED)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [],
            "egress": [],
        },
    }


def skill_policy(skill: Skill, settings: Settings, blocked_networks: Iterable[BlockedNetwork]) -> Object:
    gateway = _pods(settings.namespace, settings.gateway_labels)
    egress = [
        {
            "to": [{"ipBlock": _block(cidr, blocked_networks)}],
            "ports": [{"protocol": "TCP", "port": port} for port in ports],
        }
        for _, cidr, ports in skill.spec.networks
    ]
    if skill.spec.hosts:  # names are the proxy's to judge
        proxy = settings.egress_proxy
        egress.append(
            {"to": [_pods(settings.namespace, proxy.labels)], "ports": [{"protocol": "TCP", "port": proxy.port}]}
        )
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


def proxy_policy(settings: Settings, blocked_networks: Iterable[BlockedNetwork], owner: Object) -> Object:
    """The internet for the egress proxy, and of the cluster nothing: whatever a name resolves to, and when.

    Beside the chart's policy of the same pods, which opens name service and gateway alone. `owner` is their Deployment.
    """
    shut = tuple(blocked_networks)
    blocks = [{"ipBlock": _block(everything, shut)} for everything in ("0.0.0.0/0", "::/0")]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": f"{owner['metadata']['name']}-internet",
            "namespace": settings.namespace,
            "labels": dict(naming.MANAGED),
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                }
            ],
        },
        "spec": {
            "podSelector": {"matchLabels": dict(settings.egress_proxy.labels)},
            "policyTypes": ["Egress"],
            "egress": [{"to": blocks, "ports": [{"protocol": "TCP", "port": 1, "endPort": 65535}]}],
        },
    }


def _pods(namespace: str, labels: Mapping[str, str]) -> Object:
    """Pods of ours, selected in one peer with their namespace: nobody can wear their labels elsewhere."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def _block(cidr: str, blocked_networks: Iterable[BlockedNetwork]) -> Object:
    left_out = exceptions(cidr, blocked_networks)
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
