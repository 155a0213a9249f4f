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
from skill_operator.resources.common import SECRET_MODE, SECRETS, isolated_container, isolated_pod, metadata, tmp_volume
from skill_operator.settings import Settings

TooLarge = check_request.TooLarge
subject = check_request.subject
pack = check_request.pack
REPORT = "report.json"
PLACEHOLDER = "placeholder"
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
    if skill.spec.secrets:
        data[PLACEHOLDER] = "a placeholder of the check, not the secret"
    if (size := sum(len(value.encode("utf-8", "replace")) for value in data.values())) > MAX_DATA_BYTES:
        raise TooLarge(f"source, schemas and examples take {size} bytes; {MAX_DATA_BYTES} is the most: shorten them")
    if report is not None:
        data[REPORT] = json.dumps(report, sort_keys=True)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(skill, name, "check"), "data": data}


def _placeholders(skill: Skill, name: str) -> list[Object]:
    """Return a volume with a placeholder for each secret: a candidate never receives a value."""
    items = [{"key": PLACEHOLDER, "path": grant.name} for grant in skill.spec.secrets]
    volume: Object = {"name": "secrets", "configMap": {"name": name, "defaultMode": SECRET_MODE, "items": items}}
    return [volume] if items else []


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
    mounts: list[Object] = [
        {"name": volume, "mountPath": f"{runtime_contract.SKILL_DIRECTORY}/{file}", "subPath": file, "readOnly": True}
        for volume, file in code.items()
    ]
    mounts.append({"name": "contract", "mountPath": runtime_contract.CONTRACT_DIRECTORY, "readOnly": True})
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
) -> Object:
    """Return the Job of a check.

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
        volumes=[tmp_volume("128Mi"), *volumes, *_placeholders(skill, name)],
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
