"""Provide the language model of tests and demo: the scripted server of hack/model, or a real endpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hack import images
from hack.cluster.access import Cluster
from hack.cluster.identity import CHECKOUT, RELEASE

MODEL_NAMESPACE = "skill-model"
VALUES = CHECKOUT / ".cluster" / "models.json"
SERVER = CHECKOUT / "hack" / "model" / "server.py"
RECORDED = CHECKOUT / "hack" / "model" / "recorded.json"
NAME = "model"


def configure(cluster: Cluster) -> tuple[Path, str]:
    """Write the chart's values for a model; return their path, and a sentence on what they mean.

    OPENAI_BASE_URL, OPENAI_API_KEY and SKILL_MODEL name a real endpoint; without them the replies are recorded ones.
    """
    url = os.environ.get("OPENAI_BASE_URL")
    if url:
        endpoint: dict[str, Any] = {
            "name": "default",
            "baseURL": url,
            "model": os.environ.get("SKILL_MODEL", "gpt-5-mini"),
        }
        if key := os.environ.get("OPENAI_API_KEY"):
            endpoint["apiKeySecret"] = {"name": "model-key", "key": "key"}
            cluster.apply(_namespace(RELEASE), _secret(key))
        what = f"The model is {endpoint['model']} at {url}."
    else:
        deploy(cluster, json.loads(RECORDED.read_text()))
        endpoint = {
            "name": "recorded",
            "baseURL": f"http://{NAME}.{MODEL_NAMESPACE}.svc:8000/v1",
            "model": "recorded-replies",
            "timeoutSeconds": 20,
        }
        what = (
            "No model is configured (OPENAI_BASE_URL is not set), so the examples use RECORDED replies, served in the "
            "cluster by hack/model/server.py. One of them is wrong at first."
        )
    VALUES.write_text(json.dumps({"models": [endpoint]}))
    return VALUES, what


def deploy(cluster: Cluster, script: dict[str, Any]) -> None:
    """Run the scripted server in the cluster. It uses the operator's image, which has a Python."""
    image = images.load(cluster, "operator")
    labels = {"app": NAME}
    meta = {"name": NAME, "namespace": MODEL_NAMESPACE, "labels": labels}
    container = {
        "name": NAME,
        "image": image,
        "command": [
            "python3",
            "/model/server.py",
            "--script",
            "/model/script.json",
            "--host",
            "0.0.0.0",
            "--port",
            "8000",
        ],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "model", "mountPath": "/model"}],
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "volumes": [{"name": "model", "configMap": {"name": NAME}}]},
    }
    cluster.apply(
        _namespace(MODEL_NAMESPACE),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta,
            "data": {"server.py": SERVER.read_text(), "script.json": json.dumps(script)},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": 8000, "targetPort": 8000}]},
        },
    )
    cluster.kubectl("-n", MODEL_NAMESPACE, "rollout", "restart", f"deployment/{NAME}")
    cluster.kubectl("-n", MODEL_NAMESPACE, "rollout", "status", f"deployment/{NAME}", "--timeout=120s")


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _secret(key: str) -> dict[str, Any]:
    meta = {"name": "model-key", "namespace": RELEASE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"key": key}}
