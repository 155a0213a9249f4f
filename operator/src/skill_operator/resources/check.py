"""Build the objects of one check: an isolated Job, and the ConfigMap that holds its input and later its report."""

from __future__ import annotations

import json
from typing import Any

from skill_operator import naming, runtime_contract
from skill_operator.api import check_request
from skill_operator.api.v1alpha1 import Example, Skill
from skill_operator.k8s.interface import Object
from skill_operator.registry.references import pull_reference
from skill_operator.resources import contract
from skill_operator.resources.common import (
    SECRET_MODE,
    SECRETS,
    isolated_container,
    isolated_pod,
    metadata,
    mount_file,
    tmp_volume,
)
from skill_operator.settings import Settings

TooLarge = check_request.TooLarge
subject = check_request.subject
pack = check_request.pack
REPORT = "report.json"
MAX_DATA_BYTES = 1_000_000  # of the MiB that a ConfigMap holds, with its report


def bundle(
    skill: Skill, source: str, types: str, visible: list[Example], hidden: list[Example], reference: str = ""
) -> Object:
    """Return what the checker needs to know about a candidate, as a JSON object.

    `reference` is the accepted program that the candidate is to be compared with, or empty.
    """
    return check_request.make_content(skill.spec, source, types, visible, hidden, reference)


def key(settings: Settings, content: Object) -> str:
    """Return the key of a check: checks with equal keys have the same verdict."""
    return naming.digest(content, settings.images.checker)


def config_map(skill: Skill, name: str, content: Object, report: Object | None = None) -> Object:
    """Return the ConfigMap of a check, with its report once there is one. Raises TooLarge.

    The report stays beside the input, so that no check runs twice.
    """
    parts = pack(content)
    data = {f"part{number}": part for number, part in enumerate(parts)}
    data[runtime_contract.SKILL_FILE] = content[runtime_contract.CHECK_SOURCE].encode("utf-8", "replace").decode()
    if reference := content.get(runtime_contract.CHECK_REFERENCE, ""):
        data[runtime_contract.REFERENCE_FILE] = reference.encode("utf-8", "replace").decode()
    data[runtime_contract.CONTRACT_FILE] = contract.text(skill)
    if (size := sum(len(value.encode("utf-8", "replace")) for value in data.values())) > MAX_DATA_BYTES:
        raise TooLarge(f"source, schemas and examples take {size} bytes; {MAX_DATA_BYTES} is the most: shorten them")
    if report is not None:
        data[REPORT] = json.dumps(report, sort_keys=True)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(skill, name, "check"), "data": data}


def _placeholders(skill: Skill) -> list[Object]:
    """Return a volume with a placeholder for each secret, the pod's uid: a candidate never receives a value.

    It looks as in production, and nobody can write to it: that would be a way to tell the code something while it is
    judged.
    """
    items = [{"path": grant.name, "fieldRef": {"fieldPath": "metadata.uid"}} for grant in skill.spec.secrets]
    projected: Object = {"defaultMode": SECRET_MODE, "sources": [{"downwardAPI": {"items": items}}]}
    return [{"name": "secrets", "projected": projected}] if items else []


def _files(name: str, *, has_reference: bool) -> tuple[list[Object], list[Object]]:
    """Return volumes and mounts of the code and its contract, read-only, where production has them.

    An accepted program to compare with lies beside the code.
    """
    code = {"skill": runtime_contract.SKILL_FILE}
    if has_reference:
        code["reference"] = runtime_contract.REFERENCE_FILE
    volumes: list[Object] = [
        {"name": volume, "configMap": {"name": name, "items": [{"key": file, "path": file}]}}
        for volume, file in {**code, "contract": runtime_contract.CONTRACT_FILE}.items()
    ]
    mounts = [mount_file(volume, runtime_contract.SKILL_DIRECTORY, file) for volume, file in code.items()]
    mounts.append(mount_file("contract", runtime_contract.CONTRACT_DIRECTORY, runtime_contract.CONTRACT_FILE))
    return volumes, mounts


def job(
    skill: Skill,
    settings: Settings,
    name: str,
    parts: int,
    report_key: str,
    failures: int = 0,
    *,
    user_namespace: bool,
    has_reference: bool = False,
    skip_mutants: bool = False,
) -> Object:
    """Return the Job of a check. Mutants of accepted code are skipped after they have exhausted the memory.

    Its first container has the tools and reads the code. The second runs it, on the image that production builds on.
    The examples arrive in the environment of PID 1, which no other process of the pod can read.
    """
    env: list[dict[str, Any]] = [
        {
            "name": runtime_contract.ENV_CHECK_PART.format(number=n),
            "valueFrom": {"configMapKeyRef": {"name": name, "key": f"part{n}"}},
        }
        for n in range(parts)
    ]
    volumes, mounts = _files(name, has_reference=has_reference)
    if skill.spec.secrets:
        mounts.append({"name": "secrets", "mountPath": SECRETS, "readOnly": True})
    images = {
        runtime_contract.PHASE_READ: settings.images.checker,
        runtime_contract.PHASE_RUN: settings.images.runtime,
    }
    reading, running = (
        isolated_container(
            settings,
            name=container,
            image=pull_reference(settings, image),
            command=[*runtime_contract.RUNTIME_COMMAND, runtime_contract.COMMAND_CHECK],
            env=[
                *env,
                {"name": runtime_contract.ENV_REPORT_KEY, "value": report_key},
                {"name": runtime_contract.ENV_CHECK_PHASE, "value": phase},
                *([{"name": runtime_contract.ENV_SKIP_MUTANTS, "value": "Memory"}] if skip_mutants else []),
            ],
            resources=settings.check.resources.model_dump(),
            volumeMounts=mounts if phase == runtime_contract.PHASE_RUN else [],
        )
        for container, (phase, image) in zip(naming.CHECK_CONTAINERS, images.items(), strict=True)
    )
    pod = isolated_pod(
        settings,
        [running],
        initContainers=[reading],
        user_namespace=user_namespace,
        runtime_class=skill.spec.runtime_class_name,
        restartPolicy="Never",
        volumes=[tmp_volume("128Mi"), *volumes, *_placeholders(skill)],
        terminationGracePeriodSeconds=1,
    )
    meta = metadata(skill, name, "check")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta | ({"annotations": {naming.FAILURES_ANNOTATION: str(failures)}} if failures else {}),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": settings.check.deadline_seconds,
            "ttlSecondsAfterFinished": 3600,
            "template": {"metadata": {"labels": meta["labels"]}, "spec": pod},
        },
    }
