"""What is wrong with a pod, in the words of a person who has to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from skill_operator import runtime_contract
from skill_operator.k8s.interface import Object

PULL_FAILED = "ImagePullFailed"
PULL = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
ENFORCE = (
    "the cluster's network plugin must enforce NetworkPolicies for ingress and egress, towards the API server and the "
    "node too (Calico, Cilium, Antrea, kind from 0.32 on)"
)
NEWS_SECONDS = 600.0  # for which a skill that answers again tells what it went through
CONFIG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


@dataclass(frozen=True)
class PodProblem:
    """`reason` is a condition's; `lasting` is what a person has to mend."""

    reason: str
    message: str
    lasting: bool = False


def terminated(pod: Object) -> Object | None:
    """The end of its (only) container, known 2 s before its Job says so."""
    for container in pod.get("status", {}).get("containerStatuses", []):
        end: Object | None = container.get("state", {}).get("terminated")
        if end is not None:
            return end
    return None


class JobOutcome(NamedTuple):
    """The end of a Job of whose pods none tells it."""

    reason: str
    message: str
    since: datetime


def job_outcome(job: Object) -> JobOutcome | None:
    """None while it is not. One that is complete, and has no pod left, was robbed of it: by preemption, a drain of the
    node, whoever deletes pods. What the pod had to tell is lost with it."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in {"Failed", "Complete"} and condition["status"] == "True":
            lost = condition["type"] == "Complete"
            message = "its pod was deleted before its result could be read" if lost else condition.get("message", "")
            return JobOutcome(
                "" if lost else condition.get("reason", ""), message, moment(condition["lastTransitionTime"])
            )
    return None


def ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def creating(pod: Object) -> bool:
    """On a node, and not begun: what keeps it so is told in events alone."""
    status = pod.get("status", {})
    if status.get("phase") != "Pending" or not pod.get("spec", {}).get("nodeName"):
        return False
    waiting = [c.get("state", {}).get("waiting", {}).get("reason", "") for c in status.get("containerStatuses", [])]
    return all(reason in {"", "ContainerCreating", "PodInitializing"} for reason in waiting)


def pod_problem(pod: Object, warnings: Sequence[Object] = ()) -> PodProblem | None:
    """Why this pod does not run, if that is known. `warnings`: the events about it, oldest first."""
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return PodProblem("Unschedulable", f"pod {name} finds no node: {condition.get('message', '')}")
    if status.get("reason") == "Evicted":
        return _evicted(pod)
    for container in status.get("containerStatuses", []):
        state, last = container.get("state", {}), container.get("lastState", {}).get("terminated")
        waiting = state.get("waiting", {})
        reason = waiting.get("reason", "")
        if reason in PULL:
            return PodProblem(PULL_FAILED, f"the node cannot pull {container['image']}: {waiting.get('message', '')}")
        if reason in CONFIG:
            return PodProblem("PodConfigInvalid", f"pod {name} cannot start: {waiting.get('message', '')}")
        end = state.get("terminated") or last
        if end is not None and (reason == "CrashLoopBackOff" or state.get("terminated") or last):
            return ended(end)
    return _stuck(name, warnings[-1]) if warnings and creating(pod) else None


def incidents(pods: Sequence[Object]) -> list[tuple[datetime, PodProblem]]:
    """What ended containers of a skill that answers again, and when."""
    told: list[tuple[datetime, PodProblem]] = []
    for pod in pods:
        status = pod.get("status", {})
        if status.get("reason") == "Evicted":
            told.append((moment(status.get("startTime") or pod["metadata"]["creationTimestamp"]), _evicted(pod)))
        for container in status.get("containerStatuses", []):
            end = container.get("lastState", {}).get("terminated")
            if end is not None and end.get("finishedAt"):
                what = ended(end)
                count = container.get("restartCount", 1)
                message = (
                    f"it answers again, after {count} restart(s); the last, at {end['finishedAt']}: {what.message}"
                )
                told.append((moment(end["finishedAt"]), PodProblem(what.reason, message)))
    return told


def _evicted(pod: Object) -> PodProblem:
    message = str(pod["status"].get("message", ""))
    reason = "DiskFull" if "EmptyDir" in message or "ephemeral" in message else "Evicted"
    return PodProblem(reason, f"pod {pod['metadata']['name']} was evicted: {message}")


def refused(message: str) -> PodProblem:
    """Why no pod may be made, in the words of the API server."""
    reason = next((reason for sign, reason in _REFUSALS.items() if sign in message), "PodsRefused")
    return PodProblem(reason, f"no pod may be made: {message}")


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
_SANDBOX = {  # the first sign counts
    "is not known": _UNKNOWN,
    "user namespace": " (it has no user namespaces: see isolation.userNamespaces of the chart)",
    "idmap": " (it has no user namespaces: see isolation.userNamespaces of the chart)",
    "handler": _UNKNOWN,
}


def ended(end: Object) -> PodProblem:
    """Why a container of a skill that should run for ever is no more."""
    message = str(end.get("message", "")).strip()
    if end.get("reason") == "OOMKilled":
        return PodProblem("OOMKilled", "it used more memory than spec.resources.limits.memory: raise it, or use less")
    if end.get("exitCode") == runtime_contract.EXIT_EGRESS_NOT_BLOCKED:
        return PodProblem(
            "EgressNotBlocked",
            f"the pod's way out was open, so the skill was not run any further: {ENFORCE}. Only isolation.required: "
            f"false in the chart's values would run it all the same. {message}",
            lasting=True,
        )
    return PodProblem("Crashed", message or f"it ended with exit code {end.get('exitCode')}")


def age(obj: Object, now: datetime) -> float:
    """Seconds since it was made; 0 for what does not say when."""
    made = obj["metadata"].get("creationTimestamp")
    return (now - moment(made)).total_seconds() if made else 0.0


def moment(text: str) -> datetime:
    """A time as Kubernetes writes it."""
    return datetime.fromisoformat(text)
