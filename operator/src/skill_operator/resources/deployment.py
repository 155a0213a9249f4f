"""Build the Deployment of a Skill."""

from __future__ import annotations

from skill_operator import naming, runtime_contract
from skill_operator.api.granted_hosts import hosts_annotation
from skill_operator.api.v1alpha1 import Skill, SkillSpec
from skill_operator.k8s.interface import Object
from skill_operator.resources import contract
from skill_operator.resources.common import (
    HTTP_PORT,
    SECRET_MODE,
    SECRETS,
    isolated_container,
    isolated_pod,
    metadata,
    mount_file,
    tmp_volume,
)
from skill_operator.settings import Settings

PRE_STOP_SECONDS = 2


def deployment(
    skill: Skill, settings: Settings, rev: str, image: str, *, replicas: int | None, user_namespace: bool
) -> Object:
    """Return the Deployment of a revision.

    `replicas` is for a Deployment that does not exist yet: afterwards scale to zero, wake and people own the number.
    """
    meta, spec = skill.metadata, skill.spec
    name = naming.child(meta.name)
    mounts = [mount_file("contract", runtime_contract.CONTRACT_DIRECTORY, runtime_contract.CONTRACT_FILE)]
    volumes: list[Object] = [
        tmp_volume(spec.resources.limits.ephemeral_storage),
        {"name": "contract", "configMap": {"name": contract.name(skill)}},
    ]
    if spec.secrets:
        mounts.append({"name": "secrets", "mountPath": SECRETS, "readOnly": True})
        volumes.append({"name": "secrets", "projected": {"defaultMode": SECRET_MODE, "sources": _secrets(skill)}})
    container = isolated_container(
        settings,
        name=naming.SKILL_CONTAINER,
        image=image,
        command=[*runtime_contract.RUNTIME_COMMAND, runtime_contract.COMMAND_SERVE],
        ports=[{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        resources={"requests": spec.resources.requests.quantities(), "limits": spec.resources.limits.quantities()},
        startupProbe=_probe(failureThreshold=60),
        readinessProbe=_probe(failureThreshold=3),
        volumeMounts=mounts,
        # Waits until every gateway knows that the pod ends; then the calls in flight are answered.
        lifecycle={"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        env=[
            {"name": runtime_contract.ENV_GRACE, "value": str(spec.call_timeout_seconds + 1)},
            {"name": runtime_contract.ENV_SKILL_UID, "value": meta.uid},
            {"name": runtime_contract.ENV_CONTRACT_DIGEST, "value": contract.file_digest(skill)},
            *_proxy_env(skill, settings),
        ],
    )
    labels = naming.labels(meta.name, meta.uid, "skill", rev)
    template = {
        "metadata": {
            "labels": labels,
            "annotations": {
                naming.CONTRACT_HASH: contract.fingerprint(skill),
                naming.REVISION_DIGEST: rev,
                **hosts_annotation(spec),
                **_open_secrets_annotation(spec),
                **_runtime_class_annotation(spec.runtime_class_name or settings.isolation.runtime_class_name),
            },
        },
        "spec": isolated_pod(
            settings,
            [container],
            user_namespace=user_namespace,
            runtime_class=spec.runtime_class_name,
            serviceAccountName=name,
            volumes=volumes,
            terminationGracePeriodSeconds=PRE_STOP_SECONDS + spec.call_timeout_seconds + 5,
        ),
    }
    body: Object = {
        "selector": {"matchLabels": naming.selector(meta.uid)},
        "revisionHistoryLimit": spec.revision_history_limit,
        "progressDeadlineSeconds": 300,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": template,
    }
    if replicas is not None:
        body["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(skill, name, "skill", rev),
        "spec": body,
    }


def _open_secrets_annotation(spec: SkillSpec) -> dict[str, str]:
    """Return the annotation that names the Secrets whose values answers may carry: none where all are redacted."""
    refs = (grant.secret_key_ref for grant in spec.secrets if grant.disclosure == "Allowed")
    found = " ".join(sorted({f"{ref.name}/{ref.key}" for ref in refs}))
    return {naming.OPEN_SECRETS_ANNOTATION: found} if found else {}


def _runtime_class_annotation(chosen: str) -> dict[str, str]:
    """Return the annotation that names the class that the operator chose; a webhook may put another into the pods."""
    return {naming.RUNTIME_CLASS_ANNOTATION: chosen} if chosen else {}


def served_revision(live: Object | None) -> str:
    """Return the digest of the revision that the pods of a Deployment run; empty where nothing tells."""
    template = ((live or {}).get("spec") or {}).get("template") or {}
    return str((template.get("metadata") or {}).get("annotations", {}).get(naming.REVISION_DIGEST, ""))


def open_secrets(pod: Object) -> set[tuple[str, str]]:
    """Return the Secrets whose values the answers of a pod (or a template's pods) may carry, each with its key."""
    text = pod.get("metadata", {}).get("annotations", {}).get(naming.OPEN_SECRETS_ANNOTATION, "")
    return {(name, key) for name, _, key in (part.partition("/") for part in text.split())}


def replica_sets(skill: Skill, pod: Object) -> list[Object]:
    """Return what makes this pod anew, by kind, name and uid: a ReplicaSet of a Deployment that may be gone.

    Whoever may write pods may add owners, so that one of another name is left alone.
    """
    prefix = f"{naming.child(skill.metadata.name)}-"
    namespace = pod["metadata"]["namespace"]
    return [
        {"kind": "ReplicaSet", "metadata": {"namespace": namespace, "name": owner["name"], "uid": owner["uid"]}}
        for owner in pod["metadata"].get("ownerReferences", ())
        if owner["kind"] == "ReplicaSet" and owner.get("controller") and owner["name"].startswith(prefix)
    ]


def _proxy_env(skill: Skill, settings: Settings) -> list[Object]:
    """Return the environment that points HTTP clients to the egress proxy, by address, since the pod has no DNS.

    Every HTTP library of Python reads it, and curl. What is granted as a network is called directly.
    """
    if not skill.spec.hosts:
        return []
    values = {
        runtime_contract.ENV_HTTP_PROXY: f"http://{settings.egress_proxy.address}",
        runtime_contract.ENV_HTTPS_PROXY: f"http://{settings.egress_proxy.address}",
    }
    if networks := [cidr for _, cidr, _ in skill.spec.networks]:
        values[runtime_contract.ENV_NO_PROXY] = ",".join(networks)
    return [{"name": name, "value": value} for key, value in values.items() for name in (key, key.lower())]


def _probe(**more: int) -> Object:
    return {
        "httpGet": {"path": runtime_contract.HEALTH_PATH, "port": HTTP_PORT},
        "periodSeconds": 1,
        "timeoutSeconds": 2,
        **more,
    }


def _secrets(skill: Skill) -> list[Object]:
    return [
        {"secret": {"name": s.secret_key_ref.name, "items": [{"key": s.secret_key_ref.key, "path": s.name}]}}
        for s in skill.spec.secrets
    ]
