"""The hosts and ports that a pod was granted as it was deployed, which the controller tells the gateway.

A spec may change without being deployed, while it awaits an approval or is invalid. So a pod carries its own grants, as
`api.example.com:443,8443 www.example.com:443`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from skill_operator import naming
from skill_operator.api.v1alpha1 import SkillSpec, is_host

MAX_CHARACTERS: Final = 8192
"""A spec grants 16 hosts of 253 characters, each with 16 ports. Nothing is read of a longer text."""
HostPort = tuple[str, str]


def granted_hosts(spec: SkillSpec) -> frozenset[HostPort]:
    """Return the hosts that the spec grants, each with a port in decimal."""
    return frozenset((host, str(port)) for _, host, ports in spec.hosts if is_host(host) for port in ports)


def hosts_annotation(spec: SkillSpec) -> dict[str, str]:
    """Return the annotation for the pods of this spec: none where it grants no host. The order of grants is no matter.

    So a Skill without hosts keeps its pods when the operator is upgraded.
    """
    return annotation_of(granted_hosts(spec))


def annotation_of(hosts: Iterable[HostPort]) -> dict[str, str]:
    """Return the annotation that says these hosts: none for no host."""
    ports: dict[str, list[str]] = {}
    for host, port in sorted(hosts):
        ports.setdefault(host, []).append(port)
    return {naming.HOSTS_ANNOTATION: " ".join(f"{host}:{','.join(ports[host])}" for host in ports)} if ports else {}


def deployed_hosts(metadata: Mapping[str, object]) -> frozenset[HostPort]:
    """Return what was granted to a pod, or by a policy, with this metadata. Another form grants nothing."""
    annotations = metadata.get("annotations")
    text = annotations.get(naming.HOSTS_ANNOTATION) if isinstance(annotations, dict) else None
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return frozenset()
    parts = (part.partition(":") for part in text.split())
    return frozenset((host, port) for host, _, ports in parts for port in ports.split(","))
