"""Build what all builders share: metadata, ownership and the shape of an isolated pod."""

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
    """Return the owner reference by which the cluster's garbage collector removes an object with its Skill."""
    return {
        "apiVersion": naming.API_VERSION,
        "kind": "Skill",
        "name": skill.metadata.name,
        "uid": skill.metadata.uid,
        "controller": True,
    }


def metadata(skill: Skill, name: str, component: str, rev: str = "") -> Object:
    """Return the metadata of an object in the Skill's namespace that the Skill owns."""
    meta = skill.metadata
    return {
        "name": name,
        "namespace": meta.namespace,
        "labels": naming.labels(meta.name, meta.uid, component, rev),
        "ownerReferences": [owner(skill)],
    }


def build_metadata(skill: Skill, settings: Settings, name: str, rev: str) -> Object:
    """Return the metadata of a build's object, which lives in another namespace, where no Skill can own it."""
    meta = skill.metadata
    return {
        "name": name,
        "namespace": settings.builder_namespace,
        "labels": naming.labels(meta.name, meta.uid, "build", rev) | {naming.NAMESPACE_LABEL: meta.namespace},
    }


def isolated_pod(
    settings: Settings, containers: list[Object], *, user_namespace: bool, runtime_class: str = "", **more: Any
) -> Object:
    """Return the spec of a pod that runs foreign code: no token, no DNS, no addresses of Services in its environment.

    With `user_namespace`, its user ids are its own.
    """
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
    if user_namespace:
        spec["hostUsers"] = False
    if chosen := runtime_class or settings.isolation.runtime_class_name:
        spec["runtimeClassName"] = chosen
    if settings.priority_class_name:
        spec["priorityClassName"] = settings.priority_class_name
    if settings.registry.pull_secret:
        spec["imagePullSecrets"] = [{"name": settings.registry.pull_secret}]
    return spec


def isolated_container(settings: Settings, **more: Any) -> Object:
    """Return a container of an isolated pod: it writes to /tmp alone, and has no way to more rights."""
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


def mount_file(volume: str, directory: str, file: str) -> Object:
    """Return the read-only mount of one file, which does not follow what others write to the ConfigMap later."""
    return {"name": volume, "mountPath": f"{directory}/{file}", "subPath": file, "readOnly": True}


def tmp_volume(size: str) -> Object:
    """Return the volume for /tmp, in memory, where its size is a hard limit.

    On disk the kubelet checks the size now and then, and gigabytes are written in between.
    """
    return {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
