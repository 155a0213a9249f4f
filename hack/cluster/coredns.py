"""Describe CoreDNS as a Deployment with the names and labels that it has in every cluster."""

from __future__ import annotations

import json
from typing import Any

from hack.cluster.identity import Identity
from hack.cluster.node_images import COREDNS

_COREFILE = """.:53 {
    errors
    ready
    kubernetes cluster.local in-addr.arpa {
        pods insecure
    }
    cache 30
}
"""
"""No forward: there is no name server outside."""


def manifests(cluster: Identity) -> str:
    """Return the objects of the cluster's DNS as one JSON list."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named("coredns")}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _named("coredns"), "data": {"Corefile": _COREFILE}}
    items = [account, config, *_permissions(), _deployment(), _service(str(cluster.dns_service))]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}


def _permissions() -> list[dict[str, Any]]:
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    api = "rbac.authorization.k8s.io"
    reference = {"apiGroup": api, "kind": "ClusterRole", "name": "system:coredns"}
    subject = {"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}
    return [
        {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"}, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": reference,
            "subjects": [subject],
        },
    ]


def _deployment() -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": COREDNS,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
    }
    pod = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    template = {"metadata": {"labels": {"k8s-app": "kube-dns"}}, "spec": pod}
    spec = {"selector": {"matchLabels": {"k8s-app": "kube-dns"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _named("coredns"), "spec": spec}


def _service(address: str) -> dict[str, Any]:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    spec = {"selector": {"k8s-app": "kube-dns"}, "clusterIP": address, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _named("kube-dns"), "spec": spec}
