"""Build the objects of one trial: a Job whose pod is like one of the Deployment, and the examples that it answers."""

from __future__ import annotations

from typing import Any

from skill_operator import naming, runtime_contract
from skill_operator.api.v1alpha1 import Example, Skill
from skill_operator.k8s.interface import Object
from skill_operator.resources import check
from skill_operator.resources.common import metadata

START_SECONDS = 60
MAX_DEADLINE_SECONDS = 900
_OF_SERVING = ("startupProbe", "readinessProbe", "lifecycle")


def request(skill: Skill, visible: list[Example]) -> Object:
    """Return what the pod needs to know, in the form of a check's request: its code is in its image."""
    return check.bundle(skill, "", "", visible, [])


def config_map(skill: Skill, name: str, content: Object) -> Object:
    """Return the ConfigMap of a trial's examples. Raises TooLarge."""
    data = {f"part{number}": part for number, part in enumerate(check.pack(content))}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(skill, name, naming.TRIAL), "data": data}


def job(skill: Skill, deployment: Object, config_map: Object, report_key: str, failures: int) -> Object:
    """Return the Job of a trial: a pod of this Deployment that gets its examples, and no calls.

    It has the same image, resources, isolation and contract, and no label by which calls would find it. The examples
    arrive in the environment of PID 1, which no other process of the pod can read.
    """
    template = deployment["spec"]["template"]
    (serving,) = template["spec"]["containers"]
    name = config_map["metadata"]["name"]
    env: list[dict[str, Any]] = [
        {
            "name": runtime_contract.ENV_CHECK_PART.format(number=number),
            "valueFrom": {"configMapKeyRef": {"name": name, "key": key}},
        }
        for number, key in enumerate(config_map["data"])
    ]
    container = {
        **{key: value for key, value in serving.items() if key not in _OF_SERVING},
        "command": [*runtime_contract.RUNTIME_COMMAND, runtime_contract.COMMAND_TRIAL],
        "env": [*serving["env"], *env, {"name": runtime_contract.ENV_REPORT_KEY, "value": report_key}],
    }
    pod = template["spec"] | {
        "containers": [container],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
    }
    serving_annotations = template["metadata"]["annotations"]
    rev = serving_annotations[naming.REVISION_DIGEST]
    chosen_class = {key: value for key, value in serving_annotations.items() if key == naming.RUNTIME_CLASS_ANNOTATION}
    meta = metadata(skill, name, naming.TRIAL, rev)
    annotations = {naming.FAILURES_ANNOTATION: str(failures)} if failures else {}
    longest = START_SECONDS + len(skill.spec.examples) * skill.spec.call_timeout_seconds
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta | {"annotations": annotations},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": min(MAX_DEADLINE_SECONDS, longest),
            "ttlSecondsAfterFinished": 600,
            "template": {"metadata": {"labels": meta["labels"], "annotations": chosen_class}, "spec": pod},
        },
    }
