"""Objects as the API server stores them."""

from __future__ import annotations

from typing import Any

from skill_operator import naming

UID = "11111111-2222-3333-4444-555555555555"


def skill(
    name: str = "invoice",
    namespace: str = "finance",
    generation: int = 1,
    ready: tuple[str, str, str] | None = ("True", "Ready", ""),
    **spec: Any,
) -> dict[str, Any]:
    """A Skill that was found to be Ready at its first generation."""
    lines = {"type": "object", "properties": {"lines": {"type": "array"}}, "required": ["lines"]}
    conditions = []
    if ready is not None:
        status, reason, message = ready
        moment = "2026-01-01T00:00:00Z"
        conditions = [
            {"type": "Ready", "status": status, "reason": reason, "message": message, "observedGeneration": 1}
            | {"lastTransitionTime": moment}
        ]
    return {
        "apiVersion": naming.API_VERSION,
        "kind": "Skill",
        "metadata": {"name": name, "namespace": namespace, "uid": UID, "generation": generation},
        "spec": {
            "description": "Sum an invoice.",
            "input": lines,
            "output": {"type": "object"},
            "examples": [{"name": "plain", "input": {"lines": []}, "output": {"total": 0}}],
            **spec,
        },
        "status": {"conditions": conditions},
    }


ARCHIVE = {"time": "2026-01-02T00:00:00Z", "uid": UID, "generation": 1}


def in_archive(
    body: dict[str, Any], reason: str = "Archived", ready: tuple[str, str, str] = ("True", "Archived", "")
) -> dict[str, Any]:
    """Return the Skill as it is while it is archived, or comes back from there."""
    archive = {"archive": ARCHIVE} if reason == "Archived" else {}
    moment = {"lastTransitionTime": "2026-01-02T00:00:00Z", "observedGeneration": 1}
    conditions = [
        {"type": "Ready", "status": ready[0], "reason": ready[1], "message": ready[2], **moment},
        {"type": "Active", "status": "False", "reason": reason, "message": "", **moment},
    ]
    return body | {"status": body["status"] | {"conditions": conditions} | archive}


def pod(name: str, address: str, *, namespace: str = "finance", ready: bool = True, uid: str = UID) -> dict[str, Any]:
    """A pod of that Skill."""
    status = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": naming.labels("invoice", uid, "skill")},
        "status": {"phase": "Running", "podIP": address, "conditions": [status]},
    }


def deployment(
    replicas: int, *, drain_token: str = "", creation_error: str = "", name: str = "skill-invoice"
) -> dict[str, Any]:
    """The Deployment of that Skill."""
    conditions = [{"type": "ReplicaFailure", "status": "True", "message": creation_error}] if creation_error else []
    return {
        "metadata": {
            "name": name,
            "namespace": "finance",
            "generation": 1,
            "labels": naming.labels("invoice", UID, "skill"),
            "ownerReferences": [{"kind": "Skill", "name": "invoice", "uid": UID, "controller": True}],
            "annotations": {naming.DRAIN_ANNOTATION: drain_token} if drain_token else {},
        },
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1, "conditions": conditions},
    }
