"""Explain why a pod or a Job does not work, in words for the person who has to fix it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from skill_operator import naming, runtime_contract
from skill_operator.k8s.interface import Object

PULL_FAILED = "ImagePullFailed"
# Of a container that runs, though the pod does not say so yet.
PROBE_WARNINGS = frozenset({"Unhealthy", "ProbeWarning"})
PULL_REASONS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
ENFORCE = (
    "the cluster's network plugin must enforce NetworkPolicies for ingress and egress, towards the API server and the "
    "node too (Calico, Cilium, Antrea, kind from 0.32 on)"
)
INCIDENT_MEMORY_SECONDS = 600.0  # for which the condition of a skill that works again reports its last incident
CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


@dataclass(frozen=True)
class PodProblem:
    """PodProblem has the reason and message of a condition; a `lasting` one needs a person to fix it."""

    reason: str
    message: str
    lasting: bool = False


def find_termination(pod: Object) -> Object | None:
    """Return the terminated state of the container that the pod ended with, or None. A Job ends 2 s after it.

    What a webhook injected into the pod neither ends it nor goes on for it.
    """
    for container in _own(_containers(pod.get("status", {}))):
        end: Object | None = container.get("state", {}).get("terminated")
        if end is not None:
            return end
    return None


def _containers(status: Object) -> list[Object]:
    """Return the states of the pod's containers, but for those that ended well before the last one started."""
    first = status.get("initContainerStatuses", [])
    going_on = [c for c in first if c.get("state", {}).get("terminated", {}).get("exitCode") != 0]
    return [*going_on, *status.get("containerStatuses", [])]


def _own(containers: Sequence[Object]) -> Sequence[Object]:
    """Return those that the operator asked for; all of a pod that has none of them."""
    return [container for container in containers if not _is_injected(container)] or containers


def _is_injected(container: Object) -> bool:
    return container.get("name") not in naming.CONTAINERS


def find_container(pod_spec: Object, name: str) -> Object:
    """Return the container of that name in the spec of a pod, or the only one. A webhook may put others before it."""
    containers: list[Object] = pod_spec["containers"]
    return next((each for each in containers if each.get("name") == name or len(containers) == 1), {})


def find_variable(job: Object, container: str, name: str) -> str:
    """Return a variable of this container of a Job's pods as the Job says it; empty where there is none."""
    env = find_container(job["spec"]["template"]["spec"], container).get("env", [])
    return next((str(entry.get("value", "")) for entry in env if entry["name"] == name), "")


class JobOutcome(NamedTuple):
    """JobOutcome is the end of a Job by its conditions, for Jobs whose pods do not show it."""

    reason: str
    message: str
    since: datetime


def job_outcome(job: Object) -> JobOutcome | None:
    """Return how the Job ended, or None while it runs.

    A Job that is complete and has no pod left lost it: to preemption, a drain of the node, or whoever deletes pods. The
    pod's result is lost with it.
    """
    if (condition := _finish_condition(job)) is None:
        return None
    lost = condition["type"] == "Complete"
    message = "its pod was deleted before its result could be read" if lost else condition.get("message", "")
    return JobOutcome("" if lost else condition.get("reason", ""), message, parse_time(condition["lastTransitionTime"]))


def job_finished(job: Object) -> bool:
    """Tell whether the Job's pod has ended."""
    return _finish_condition(job) is not None


def _finish_condition(job: Object) -> Object | None:
    conditions: list[Object] = job.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] in {"Complete", "Failed"} and c["status"] == "True"), None)


def replica_failure(deployment: Object | None) -> str | None:
    """Return why the Deployment's pods may not be made, in the words of the API server; else None."""
    conditions: list[Object] = (deployment or {}).get("status", {}).get("conditions", [])
    failure = next((c for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True"), None)
    return None if failure is None else str(failure.get("message", ""))


def is_ready(pod: Object) -> bool:
    """Return whether the pod has the condition Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def is_creating(pod: Object) -> bool:
    """Return whether the pod is on a node and no container has started. Only events say what delays it."""
    status = pod.get("status", {})
    if status.get("phase") != "Pending" or not pod.get("spec", {}).get("nodeName"):
        return False
    states = [container.get("state", {}) for container in _containers(status)]
    if any("running" in state for state in states):
        return False
    waiting = [state.get("waiting", {}).get("reason", "") for state in states]
    return all(reason in {"", "ContainerCreating", "PodInitializing"} for reason in waiting)


def pod_problem(pod: Object, warnings: Sequence[Object] = ()) -> PodProblem | None:
    """Return why this pod does not run, if that is known. `warnings` are the events about it, oldest first."""
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return PodProblem("Unschedulable", f"pod {name} finds no node: {condition.get('message', '')}")
    if status.get("reason") == "Evicted":
        return _evicted(pod)
    containers = _containers(status)
    own = _own(containers)
    injected = [container for container in containers if container not in own]
    problems = [
        *(_container_problem(name, each) for each in own),
        *(_injected_problem(name, each) for each in injected),
    ]
    if (problem := next(filter(None, problems), None)) is not None:
        return problem
    delays = [warning for warning in warnings if warning.get("reason") not in PROBE_WARNINGS]
    return _stuck(name, delays[-1]) if delays and is_creating(pod) else None


def _container_problem(pod: str, container: Object) -> PodProblem | None:
    """Return why a container of the pod does not run, if that is known."""
    state, last = container.get("state", {}), container.get("lastState", {}).get("terminated")
    waiting = state.get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in PULL_REASONS:
        return PodProblem(PULL_FAILED, f"the node cannot pull {container['image']}: {message}")
    if reason in CONFIG_REASONS:
        return PodProblem("PodConfigInvalid", f"pod {pod} cannot start: {message}")
    end = state.get("terminated") or last
    return None if end is None else explain_termination(end)


def _injected_problem(pod: str, container: Object) -> PodProblem | None:
    """Return why a container does not run that a webhook of the cluster put into the pod. It may end, with success."""
    end = container.get("state", {}).get("terminated")
    problem = None if end is not None and end.get("exitCode") == 0 else _container_problem(pod, container)
    if problem is None:
        return None
    reason = problem.reason if problem.reason in {PULL_FAILED, "PodConfigInvalid"} else "InjectedContainerFailed"
    name = container.get("name")
    return PodProblem(reason, f"container {name}, which a webhook of the cluster injects: {problem.message}")


def incidents(pods: Sequence[Object]) -> list[tuple[datetime, PodProblem]]:
    """Return when and why containers ended, of pods of a skill that works again."""
    found: list[tuple[datetime, PodProblem]] = []
    for pod in pods:
        status = pod.get("status", {})
        if status.get("reason") == "Evicted":
            found.append((parse_time(status.get("startTime") or pod["metadata"]["creationTimestamp"]), _evicted(pod)))
        for container in _own(status.get("containerStatuses", [])):
            end = container.get("lastState", {}).get("terminated")
            if end is not None and end.get("finishedAt"):
                problem = explain_termination(end)
                count = container.get("restartCount", 1)
                message = (
                    f"it works again, after {count} restart(s); the last, at {end['finishedAt']}: {problem.message}"
                )
                found.append((parse_time(end["finishedAt"]), PodProblem(problem.reason, message)))
    return found


def _evicted(pod: Object) -> PodProblem:
    message = str(pod["status"].get("message", ""))
    reason = "DiskFull" if "EmptyDir" in message or "ephemeral" in message else "Evicted"
    return PodProblem(reason, f"pod {pod['metadata']['name']} was evicted: {message}")


def explain_refusal(message: str) -> PodProblem:
    """Return why the API server refuses to create a pod; `message` is its own."""
    reason = next((reason for text, reason in _REFUSALS.items() if text in message), "PodsRefused")
    return PodProblem(reason, f"the API server refuses the pod: {message}")


_REFUSALS = {"exceeded quota": "QuotaExceeded", "RuntimeClass": "RuntimeClassMissing"}


def _stuck(pod: str, warning: Object) -> PodProblem:
    message = str(warning.get("message", ""))
    match warning.get("reason"):
        case "FailedMount" if 'volume "secrets"' in message:
            return PodProblem("SecretMissing", f"pod {pod} waits for a secret of spec.secrets: {message}")
        case "FailedCreatePodSandBox":
            hint = next((hint for word, hint in _SANDBOX.items() if word in message.lower()), "")
            return PodProblem("SandboxFailed", f"the node cannot make the sandbox of pod {pod}{hint}: {message}")
        case reason:
            return PodProblem("PodStuck", f"pod {pod} cannot start: {reason}: {message}")


_UNKNOWN = " (its container runtime does not have what the runtime class names)"
_SANDBOX = {  # the first match counts
    "is not known": _UNKNOWN,
    "user namespace": " (it has no user namespaces: see isolation.userNamespaces of the chart)",
    "idmap": " (it has no user namespaces: see isolation.userNamespaces of the chart)",
    "handler": _UNKNOWN,
}


def explain_termination(end: Object) -> PodProblem:
    """Return why a container ended that should have run for ever."""
    message = str(end.get("message", "")).strip()
    if end.get("reason") == "OOMKilled":
        return PodProblem(
            "OOMKilled", "it used more memory than spec.resources.limits.memory: raise the limit, or use less memory"
        )
    if end.get("exitCode") == runtime_contract.EXIT_EGRESS_NOT_BLOCKED:
        return PodProblem(
            "EgressNotBlocked",
            f"the pod's egress was not blocked, so the skill did not run: {ENFORCE}. Only isolation.required: "
            f"false in the chart's values would run it all the same. {message}",
            lasting=True,
        )
    if end.get("exitCode") == runtime_contract.EXIT_UNUSABLE and not message:
        return PodProblem("Crashed", "its settings or its contract cannot be used: the pod's log says why")
    return PodProblem("Crashed", message or f"it ended with exit code {end.get('exitCode')}")


def age(obj: Object, now: datetime) -> float:
    """Return the seconds since the object was created; 0 for an object without a creation time."""
    created = obj["metadata"].get("creationTimestamp")
    return (now - parse_time(created)).total_seconds() if created else 0.0


def parse_time(text: str) -> datetime:
    """Return a time that Kubernetes wrote (RFC 3339)."""
    return datetime.fromisoformat(text)
