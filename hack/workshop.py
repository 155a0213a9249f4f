"""Show how an agent gets the tool that it lacks: hack/demo_agent.py in a pod, with the rights of an agent."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from hack import images
from hack.cluster.access import Cluster
from hack.cluster.identity import CHECKOUT
from hack.gateway import read_gateway

NAMESPACE = "demo-agents"
AGENT = "agent"
VALUES = CHECKOUT / ".cluster" / "workshop.json"
SCRIPT = Path(__file__).with_name("demo_agent.py")
AUDIENCE = "skill-gateway"
TOKEN_SECONDS = 3600
SECONDS = 420


def write_values() -> Path:
    """Write the chart's values that open the workshop, and return their path."""
    VALUES.write_text(json.dumps({"gateway": {"workshop": {"enabled": True}}}))
    return VALUES


def run_agent(cluster: Cluster) -> bool:
    """Run the agent, and print what it prints. Return whether it got its tool, and an answer of it."""
    cluster.apply(*_tenant())
    cluster.kubectl("-n", NAMESPACE, "delete", "pod", AGENT, "--ignore-not-found")
    cluster.kubectl("-n", NAMESPACE, "delete", "skills", "--all")
    cluster.apply(*_pod(cluster))
    started = ("wait", "--for=jsonpath={.status.containerStatuses[0].started}=true", f"pod/{AGENT}", "--timeout=60s")
    cluster.kubectl("-n", NAMESPACE, *started, check=False)  # or it has ended already
    logs = cluster.command("-n", NAMESPACE, "logs", "--follow", f"pod/{AGENT}")
    subprocess.run(logs, check=False, timeout=SECONDS)
    ended = ("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{AGENT}", "--timeout=10s")
    return bool(cluster.kubectl("-n", NAMESPACE, *ended, check=False))


def _tenant() -> tuple[dict[str, Any], ...]:
    """Return a namespace that is open to agents, with a bound on what they make, and an account of one."""
    subject = {"kind": "ServiceAccount", "name": AGENT, "namespace": NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "skill-maker"}
    meta = {"name": AGENT, "namespace": NAMESPACE}
    labels = {"skill-operator.dev/workshop": "enabled"}
    return (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": meta,
            "spec": {"hard": {"count/skills.skill-operator.dev": "10"}},
        },
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": role,
            "subjects": [subject],
        },
    )


def _pod(cluster: Cluster) -> tuple[dict[str, Any], ...]:
    """Return the agent's pod. Its token is for the gateway alone: the API server takes it for nothing."""
    meta = {"name": AGENT, "namespace": NAMESPACE}
    gateway = read_gateway(cluster)
    files = {SCRIPT.name: SCRIPT.read_text()} | ({"ca.crt": gateway.authorities} if gateway.authorities else {})
    token = {"serviceAccountToken": {"path": "token", "audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS}}
    container = {
        "name": AGENT,
        "image": images.load(cluster, "operator"),  # it has the client of MCP
        "imagePullPolicy": "Never",
        "command": ["python3", f"/agent/{SCRIPT.name}", gateway.url, "/token/token"],
        "env": [{"name": "SSL_CERT_FILE", "value": "/agent/ca.crt"}] if gateway.authorities else [],
        "volumeMounts": [{"name": "agent", "mountPath": "/agent"}, {"name": "token", "mountPath": "/token"}],
    }
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": AGENT,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [
            {"name": "agent", "configMap": {"name": AGENT}},
            {"name": "token", "projected": {"sources": [token]}},
        ],
    }
    return (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": files},
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec},
    )
