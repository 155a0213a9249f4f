"""Build the objects of one image build: a Kaniko Job that adds one file to the base image, and its context.

Kaniko stamps its layer with times. So the Job's last container, of the operator's own image, writes that layer without
them (`registry.normalizer`): equal code is an equal layer.
"""

from __future__ import annotations

import base64
import gzip
import io
import tarfile

from skill_operator import __version__, naming
from skill_operator.api.v1alpha1 import Provenance, Skill
from skill_operator.k8s.interface import Object
from skill_operator.registry.references import has_host, pull_reference, push_reference, skill_repository, skill_tag
from skill_operator.resources.common import build_metadata
from skill_operator.settings import Settings
from skill_operator.untrusted.text import single_line

CONTEXT = "context.tar.gz"
MAX_LABEL_CHARACTERS = 1024
DIGEST_FILE = "/built/digest"
"""File by which Kaniko tells the normalizer what it pushed."""


def context(settings: Settings, source: str) -> bytes:
    """Return the build context, a gzipped tar: equal input gives equal bytes.

    The operator packs it itself, so that no archive of foreign origin is ever unpacked.
    """
    base = push_reference(settings, settings.images.runtime)
    dockerfile = f"FROM {base}\nCOPY --chown=0:0 skill.py /skill/skill.py\n"
    files = {"Dockerfile": dockerfile.encode(), "skill.py": source.encode("utf-8", "surrogatepass")}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o444
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def name(skill: Skill, settings: Settings, rev: str) -> str:
    """Return the name of Job and ConfigMap, which stands for the Skill and for every byte of the context.

    Another version of the operator may pack the same source into other bytes.
    """
    meta = skill.metadata
    return naming.build(meta.name, meta.uid, rev, push_reference(settings, settings.images.runtime), __version__)


def labels(settings: Settings, rev: str, provenance: Provenance | None) -> dict[str, str]:
    """Return the labels of a revision's image (OCI image spec): what it is made of, and who wrote its code.

    They are arguments of the build and no part of its name: what runs is the same whatever they say, so that an image
    that is there is never built again for them.
    """
    made = {
        "org.opencontainers.image.revision": rev,
        "org.opencontainers.image.base.name": push_reference(settings, settings.images.runtime),
    }
    if provenance is not None:
        figures = provenance.model_dump(mode="json", exclude_defaults=True)
        made |= {f"{naming.GROUP}/{key.replace('_', '-')}": str(value) for key, value in figures.items()}
    return {key: single_line(value, MAX_LABEL_CHARACTERS) for key, value in made.items()}


def owner(job: Object) -> Object:
    """Return the owner reference by which the context of a build is deleted with its Job."""
    return {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}


def config_map(skill: Skill, settings: Settings, rev: str, source: str) -> Object:
    """Return the ConfigMap that holds the build context. The API server lets nobody write another context over it."""
    made = build_metadata(skill, settings, name(skill, settings, rev), rev)
    data = {CONTEXT: base64.b64encode(context(settings, source)).decode()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": made, "immutable": True, "binaryData": data}


def job(
    skill: Skill,
    settings: Settings,
    rev: str,
    root_entries: list[str],
    registry_address: str,
    failures: int = 0,
    *,
    user_namespace: bool,
    provenance: Provenance | None = None,
) -> Object:
    """Return the Job of a revision's build.

    Kaniko's executor unpacks nothing of the base (`--ignore-path` for each folder of its root), scans no file system (a
    COPY knows its files) and speaks to the registry alone: there is no DNS, `registry_address` comes by hostAliases.
    """
    meta, job_name = skill.metadata, name(skill, settings, rev)
    repository = f"{settings.registry.push}/{skill_repository(settings, meta.namespace, meta.name)}"
    registry = settings.registry.push.partition("/")[0]
    host = registry.partition(":")[0]
    arguments = [
        f"--context=tar:///context/{CONTEXT}",
        "--dockerfile=Dockerfile",
        f"--destination={repository}:{job_name}",
        f"--digest-file={DIGEST_FILE}",
        "--skip-push-permission-check",
        "--skip-default-registry-fallback",
        "--push-retry=2",
        "--image-download-retry=2",
        "--log-format=text",
        "--force",
        *(f"--ignore-path=/{entry}" for entry in root_entries),
        *(f"--label={key}={value}" for key, value in labels(settings, rev, provenance).items()),
    ]
    if settings.registry.insecure:
        arguments.append(f"--insecure-registry={registry}")
    volumes: list[Object] = [
        {"name": "context", "configMap": {"name": job_name}},
        {"name": "built", "emptyDir": {"sizeLimit": "1Mi"}},
    ]
    credential: list[Object] = []
    if settings.registry.push_secret:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        volumes.append({"name": "push", "secret": {"secretName": settings.registry.push_secret, "items": items}})
        credential = [{"name": "push", "mountPath": "/push", "readOnly": True}]
    builder = settings.images.builder
    shared: Object = {
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": settings.build.resources.model_dump(),
    }
    unprivileged: Object = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    kaniko = {
        **shared,
        "name": naming.BUILD_CONTAINER,
        "image": builder if has_host(builder) else pull_reference(settings, builder),
        "args": arguments,
        "env": [{"name": "DOCKER_CONFIG", "value": "/push"}] if settings.registry.push_secret else [],
        "securityContext": unprivileged | {"runAsUser": 0},  # of its user namespace; it does not start as anyone else
        "volumeMounts": [
            {"name": "context", "mountPath": "/context", "readOnly": True},
            {"name": "built", "mountPath": "/built"},
            *credential,
        ],
    }
    user = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "readOnlyRootFilesystem": True}
    normalizer = {
        **shared,
        "name": naming.NORMALIZE_CONTAINER,
        "image": settings.images.operator,
        "command": ["python3", "-m", "skill_operator.registry.normalizer"],
        "args": [
            f"{repository}:{skill_tag(settings, meta.name, rev)}",
            DIGEST_FILE,
            "/push/config.json" if credential else "",
            *(["insecure"] if settings.registry.insecure else []),
        ],
        "securityContext": unprivileged | user,
        "volumeMounts": [{"name": "built", "mountPath": "/built", "readOnly": True}, *credential],
    }
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": "builder",
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "terminationGracePeriodSeconds": 1,
        "initContainers": [kaniko],
        "containers": [normalizer],
        "volumes": volumes,
    }
    if registry_address and registry_address != host:
        pod["hostAliases"] = [{"ip": registry_address, "hostnames": [host]}]
    if user_namespace:
        pod["hostUsers"] = False
    if settings.priority_class_name:  # a build may wait; it must not push a skill out
        pod["priorityClassName"] = settings.priority_class_name
    made = build_metadata(skill, settings, job_name, rev)
    made["annotations"] = {naming.FAILURES_ANNOTATION: str(failures), naming.REVISION_DIGEST: rev}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": made,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": settings.build.deadline_seconds,
            "ttlSecondsAfterFinished": 600,
            "template": {"metadata": {"labels": made["labels"]}, "spec": pod},
        },
    }
