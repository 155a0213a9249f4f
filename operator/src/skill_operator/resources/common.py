"""What all builders share: metadata, ownership and the shape of a caged container."""

from __future__ import annotations

from typing import Any

from skill_operator import naming, runtime_contract
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s.interface import Object
from skill_operator.settings import Settings

SANDBOX_USER = runtime_contract.SANDBOX_UID
HTTP_PORT = runtime_contract.HTTP_PORT
SECRETS = runtime_contract.SECRETS_DIRECTORY
SECRET_MODE = 0o400  # with fsGroup the kubelet makes it 0440 of root:65532, which is how the skill can read it at all


def owner(skill: Skill) -> Object:
    """The garbage collector, not the operator, removes what carries this, and nothing waits for it."""
    return {
        "apiVersion": naming.API_VERSION,
        "kind": "Skill",
        "name": skill.metadata.name,
        "uid": skill.metadata.uid,
        "controller": True,
    }


def metadata(skill: Skill, name: str, component: str, rev: str = "") -> Object:
    """Metadata of an object in the Skill's namespace, owned by it."""
    meta = skill.metadata
    return {
        "name": name,
        "namespace": meta.namespace,
        "labels": naming.labels(meta.name, meta.uid, component, rev),
        "ownerReferences": [owner(skill)],
    }


def build_metadata(skill: Skill, settings: Settings, name: str, rev: str) -> Object:
    """Metadata of a build's objects: they live in another namespace, where no Skill can own them."""
    meta = skill.metadata
    return {
        "name": name,
        "namespace": settings.builder_namespace,
        "labels": naming.labels(meta.name, meta.uid, "build", rev) | {naming.NAMESPACE_LABEL: meta.namespace},
    }


def caged_pod(
    settings: Settings, containers: list[Object], *, own_users: bool, runtime_class: str = "", **more: Any
) -> Object:
    """Spec of a pod that runs foreign code: no token, no DNS, no addresses of its neighbours, users of its own if the
    nodes have them."""
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},  # the API wants one; nothing listens there
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": SANDBOX_USER,
            "runAsGroup": SANDBOX_USER,
            "fsGroup": SANDBOX_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": containers,
        **more,
    }
    if own_users:
        spec["hostUsers"] = False
    if chosen := runtime_class or settings.isolation.runtime_class_name:
        spec["runtimeClassName"] = chosen
    if settings.priority_class_name:
        spec["priorityClassName"] = settings.priority_class_name
    if settings.registry.pull_secret:
        spec["imagePullSecrets"] = [{"name": settings.registry.pull_secret}]
    return spec


def caged_container(settings: Settings, **more: Any) -> Object:
    """A container of such a pod: nothing to write to but /tmp, no capability, no way to more rights."""
    env = [*more.pop("env", [])]
    if not settings.isolation.required:
        env.append({"name": runtime_contract.ENV_ISOLATION, "value": runtime_contract.ISOLATION_OPTIONAL})
    if settings.isolation.beacon:
        env.append({"name": runtime_contract.ENV_BEACON, "value": settings.isolation.beacon})
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, *more.pop("volumeMounts", [])]
    return {
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "File",
        "env": env,
        "volumeMounts": mounts,
        **more,
    }


def tmp_volume(size: str) -> Object:
    """In memory, where its size is a wall: on disk it is looked at now and then, and gigabytes are written between."""
    return {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
