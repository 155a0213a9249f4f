"""Build the network policies: only the gateway reaches a skill, and a skill reaches only what its spec grants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Self

from skill_operator import naming
from skill_operator.api.egress_networks import BlockedNetwork, Network, contains, exceptions
from skill_operator.api.granted_hosts import annotation_of, deployed_hosts, granted_hosts, hosts_annotation
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s.interface import Object
from skill_operator.resources.common import HTTP_PORT, metadata
from skill_operator.settings import Settings


def default_deny(namespace: str) -> Object:
    """Return the policy that denies all traffic of the operator's pods in this namespace.

    No Skill owns it: it must outlive the last pod.
    """
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


def skill_policy(
    skill: Skill, settings: Settings, blocked_networks: Iterable[BlockedNetwork], outdated_pods: Iterable[str] = ()
) -> Object:
    """Return the policy that allows what one Skill's spec grants. `outdated_pods` are uids, as below."""
    egress = [_network_rule(cidr, ports, blocked_networks) for _, cidr, ports in skill.spec.networks]
    annotations = hosts_annotation(skill.spec) | _outdated_annotation(outdated_pods)
    return _skill_policy(skill, settings, egress + _proxy_rules(skill, settings), annotations)


def narrowed_policy(
    live: Object,
    skill: Skill,
    settings: Settings,
    blocked_networks: Iterable[BlockedNetwork],
    outdated_pods: Iterable[str] = (),
) -> Object | None:
    """Return the policy that allows what both `live` and the spec grant, or None where `live` allows no more than that.

    A grant that is none, since it is in a blocked network or no network at all, allows nothing. `outdated_pods` are the
    uids of pods that may hold connections which only `live` opens: a network plugin lets go on what is open.
    """
    rules: list[Object] = live["spec"].get("egress") or []
    granted = _proxy_rules(skill, settings) if rules else []
    for _, cidr, ports in skill.spec.networks if rules else ():
        with contextlib.suppress(ValueError):  # NeverGranted is one
            granted.append(_network_rule(cidr, ports, blocked_networks))
    narrowed = [piece for rule in rules for piece in _intersect(rule, granted)]
    before = deployed_hosts(live["metadata"])
    hosts = before & granted_hosts(skill.spec)
    if narrowed == rules and hosts == before:
        return None
    return _skill_policy(skill, settings, narrowed, annotation_of(hosts) | _outdated_annotation(outdated_pods))


def outdated_pods(policy: Object) -> frozenset[str]:
    """Return the uids of the pods to which a policy opened more than it does now."""
    return frozenset(str(policy["metadata"].get("annotations", {}).get(naming.OUTDATED_PODS_ANNOTATION, "")).split())


def _outdated_annotation(pods: Iterable[str]) -> dict[str, str]:
    return {naming.OUTDATED_PODS_ANNOTATION: text} if (text := " ".join(sorted(pods))) else {}


def _intersect(rule: Object, granted: list[Object]) -> list[Object]:
    """Return the parts of a live rule that some granted rule covers: the rule itself, where one covers all of it.

    A rule that the operator would not write is none of them.
    """
    if rule in granted:
        return [rule]
    live = _NetworkRule.parse(rule)
    parts = [live.intersect(other) for other in map(_NetworkRule.parse, granted) if live and other]
    if live in parts:
        return [rule]
    return [part.rule() for part in dict.fromkeys(parts) if part is not None]


@dataclass(frozen=True)
class _NetworkRule:
    """_NetworkRule is a rule of egress to the ports of one network, without some networks in it."""

    network: Network
    excluded: frozenset[Network]
    ports: frozenset[int]

    @classmethod
    def parse(cls, rule: Object) -> Self | None:
        """Return what a rule of this form opens; None for any other rule."""
        try:
            (peer,) = rule["to"]
            block, ports = peer["ipBlock"], [port["port"] for port in rule["ports"]]
            excluded = frozenset(map(ip_network, block.get("except", ())))
            parsed = cls(ip_network(block["cidr"], strict=False), excluded, frozenset(ports))
        except (LookupError, TypeError, ValueError):
            return None
        plain = [{"protocol": "TCP", "port": port} for port in ports if isinstance(port, int)]
        return parsed if rule["ports"] == plain else None

    def intersect(self, other: _NetworkRule) -> _NetworkRule | None:
        """Return what both open, or None if that is nothing."""
        if contains(other.network, self.network):
            network = self.network
        elif contains(self.network, other.network):
            network = other.network
        else:
            return None
        excluded = self.excluded | other.excluded
        ports = self.ports & other.ports
        if not ports or any(contains(one, network) for one in excluded):
            return None
        return _NetworkRule(network, frozenset(one for one in excluded if contains(network, one)), ports)

    def rule(self) -> Object:
        """Return the rule as the API server has it."""
        excluded = sorted(map(str, self.excluded))
        block = {"cidr": str(self.network)} | ({"except": excluded} if excluded else {})
        return {
            "to": [{"ipBlock": block}],
            "ports": [{"protocol": "TCP", "port": port} for port in sorted(self.ports)],
        }


def _network_rule(cidr: str, ports: Iterable[int], blocked_networks: Iterable[BlockedNetwork]) -> Object:
    return {
        "to": [{"ipBlock": _block(cidr, blocked_networks)}],
        "ports": [{"protocol": "TCP", "port": port} for port in ports],
    }


def _proxy_rules(skill: Skill, settings: Settings) -> list[Object]:
    """Return the rule that opens the way to the egress proxy, which decides about names, if both are granted."""
    proxy = settings.egress_proxy
    ports = [{"protocol": "TCP", "port": proxy.port}]
    is_open = proxy.address and skill.spec.hosts
    return [{"to": [_pods(settings.namespace, proxy.labels)], "ports": ports}] if is_open else []


def _skill_policy(skill: Skill, settings: Settings, egress: list[Object], annotations: dict[str, str]) -> Object:
    gateway = _pods(settings.namespace, settings.gateway_labels)
    meta = metadata(skill, naming.child(skill.metadata.name), "skill")
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta | ({"annotations": annotations} if annotations else {}),
        "spec": {
            "podSelector": {"matchLabels": naming.selector(skill.metadata.uid)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [gateway], "ports": [{"protocol": "TCP", "port": HTTP_PORT}]}],
            "egress": egress,
        },
    }


def proxy_policy(settings: Settings, blocked_networks: Iterable[BlockedNetwork], owner: Object) -> Object:
    """Return the policy that opens the internet to the egress proxy, and nothing of the cluster.

    It holds whatever a name resolves to. The chart's policy of the same pods opens name service and gateway
    alone. `owner` is their Deployment.
    """
    blocked = tuple(blocked_networks)
    blocks = [{"ipBlock": _block(everything, blocked)} for everything in ("0.0.0.0/0", "::/0")]
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
    """Return the peer for pods of the operator, with their namespace: anybody may use their labels elsewhere."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def _block(cidr: str, blocked_networks: Iterable[BlockedNetwork]) -> Object:
    excluded = exceptions(cidr, blocked_networks)
    return {"cidr": cidr} | ({"except": excluded} if excluded else {})


def own_policy_names(skill: Skill) -> set[str]:
    """Return the names of the operator's policies that select a Skill's pods; all others are foreign."""
    return {naming.SHARED_POLICY, naming.child(skill.metadata.name)}


def widens(policy: Object, skill: Skill) -> bool:
    """Return whether a foreign policy allows something to this Skill's pods: policies only ever add up."""
    meta, spec = skill.metadata, policy["spec"]
    labels = naming.labels(meta.name, meta.uid, "skill")
    return bool(spec.get("ingress") or spec.get("egress")) and selects(spec.get("podSelector") or {}, labels)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a LabelSelector selects these labels; terms on labels that change with a revision are true."""
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
