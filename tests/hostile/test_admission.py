"""Nobody poses as the operator: not by pods, not by workloads, not by labels on a Skill."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hack.cluster.shell import ClusterError
from tests.integration.installed import Operator, until
from tests.integration.test_skill import apply, skill

pytestmark = pytest.mark.cluster
MALLORY = ("--as=mallory", "--as-group=system:masters")  # may do anything, but is not trusted by the policies
IMAGE = "localhost/pause:1"
WORKLOADS = {
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
}


@pytest.fixture(scope="module")
def guarded(operator: Operator) -> Operator:
    """A policy takes a moment to be active after it was applied."""

    def refused() -> bool:
        try:
            create(operator, "default", pod({"skill-operator.dev/skill": "x"}), "--dry-run=server")
        except ClusterError as error:
            return "skill-operator.dev" in str(error)
        return False

    until("the policies are active", 30, refused)
    return operator


def create(operator: Operator, namespace: str, body: dict[str, Any], *more: str) -> None:
    operator.cluster.kubectl(*MALLORY, "-n", namespace, "create", *more, "-f", "-", stdin=json.dumps(body))


def pod(labels: dict[str, str], image: str = IMAGE) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "skill", "image": image}], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "impostor", "labels": labels}, "spec": spec}


def workload(kind: str, of_template: dict[str, str], own: dict[str, str]) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "x"} | of_template}, "spec": pod({})["spec"]}
    spec: dict[str, Any] = {"template": template}
    if kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
    else:
        spec["selector"] = {"matchLabels": {"app": "x"}}
    if kind == "StatefulSet":
        spec["serviceName"] = "x"
    return {"apiVersion": WORKLOADS[kind], "kind": kind, "metadata": {"name": "impostor", "labels": own}, "spec": spec}


def mine(uid: str) -> dict[str, str]:
    """Labels by which the gateway knows the pods of a Skill."""
    return {
        "app.kubernetes.io/managed-by": "skill-operator",
        "app.kubernetes.io/component": "skill",
        "skill-operator.dev/skill-uid": uid,
    }


def test_a_pod_in_a_skill_s_clothes_is_refused(guarded: Operator, namespace: str) -> None:
    for labels in (
        mine("some-uid"),
        {"skill-operator.dev/anything": ""},
        {"app.kubernetes.io/managed-by": "skill-operator"},
    ):
        with pytest.raises(ClusterError, match="by the operator alone, not by"):
            create(guarded, namespace, pod(labels))
    create(guarded, namespace, pod({"app.kubernetes.io/managed-by": "somebody"}), "--dry-run=server")


@pytest.mark.parametrize("kind", WORKLOADS)
def test_a_workload_in_a_skill_s_clothes_is_refused(guarded: Operator, namespace: str, kind: str) -> None:
    for body in (workload(kind, mine("some-uid"), {}), workload(kind, {}, {"skill-operator.dev/skill": "x"})):
        with pytest.raises(ClusterError, match="by the operator alone, not by"):
            create(guarded, namespace, body)
    create(guarded, namespace, workload(kind, {}, {}), "--dry-run=server")


@pytest.mark.parametrize("what", ["labels", "annotations"])
def test_what_is_the_operator_s_own_on_a_skill_is_refused_to_people(
    guarded: Operator, namespace: str, what: str
) -> None:
    body = skill("forged")
    body["metadata"][what] = {"skill-operator.dev/skill-uid": "x", "example.com/mine": "y"}
    with pytest.raises(ClusterError, match=r"take away skill-operator\.dev/skill-uid"):
        create(guarded, namespace, body)
    body["metadata"][what] = {"example.com/mine": "y"}
    body["metadata"].setdefault("annotations", {}).update(
        {"skill-operator.dev/retry": "1", "skill-operator.dev/approve": "abc"}
    )
    create(guarded, namespace, body, "--dry-run=server")


def test_people_may_scale_and_annotate_but_not_change_what_runs(guarded: Operator, namespace: str) -> None:
    kubectl = guarded.cluster.kubectl
    apply(guarded, namespace, skill("scaled"))
    guarded.ready(namespace, "scaled")
    (live,) = guarded.cluster.get("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")["items"]
    name = live["metadata"]["name"]
    here, deployment = ("-n", namespace), "deployment/skill-scaled"
    for attack in (
        ("set", "image", deployment, f"skill={IMAGE}"),
        ("set", "env", deployment, "A=b"),
        ("set", "image", f"pod/{name}", f"skill={IMAGE}"),
        ("label", "pod", name, "app.kubernetes.io/managed-by-"),  # out of the namespace's default-deny policy
        ("label", "--overwrite", "pod", name, "skill-operator.dev/skill-uid=another"),
        ("label", "--overwrite", "pod", name, "app.kubernetes.io/component=gateway"),
    ):
        with pytest.raises(ClusterError, match="by the operator alone, not by"):
            kubectl(*MALLORY, *here, *attack)
    kubectl(*MALLORY, *here, "annotate", "pod", name, "example.com/note=seen")
    kubectl(*MALLORY, *here, "label", "pod", name, "example.com/team=a")
    kubectl(*MALLORY, *here, "scale", deployment, "--replicas=2")
    kubectl(*here, "rollout", "status", deployment, "--timeout=60s")
    kubectl(*MALLORY, *here, "delete", "pod", name, "--wait=false")
    guarded.ready(namespace, "scaled")


def test_an_image_of_a_skill_runs_as_that_skill_alone(guarded: Operator, namespace: str) -> None:
    """R14. Nodes pull without a credential, so what holds is who may make such a pod."""
    apply(guarded, namespace, skill("private"))
    guarded.ready(namespace, "private")
    (live,) = guarded.cluster.get("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")["items"]
    (status,) = live["status"]["containerStatuses"]
    image = live["spec"]["containers"][0]["image"]
    repository, _, digest = image.partition("@")
    host, _, path = repository.partition("/")
    port = host.rpartition(":")[2]
    spellings = (image, f"{repository}:latest", f"127.0.0.1:{port}/{path}@{digest}", status["imageID"], digest)
    for spelling in spellings:
        for where in (namespace, "default"):
            with pytest.raises(ClusterError, match="runs as that skill alone"):
                create(guarded, where, pod({}, spelling))
        first = pod({})
        first["spec"]["initContainers"] = [{"name": "first", "image": spelling}]
        with pytest.raises(ClusterError, match="runs as that skill alone"):
            create(guarded, namespace, first)
    create(guarded, namespace, pod({}))
    debugger = {"spec": {"ephemeralContainers": [{"name": "look", "image": image}]}}
    for attack in (
        ("patch", "pod/impostor", "--subresource=ephemeralcontainers", "-p", json.dumps(debugger)),
        ("set", "image", "pod/impostor", f"skill={image}"),
    ):
        with pytest.raises(ClusterError, match="runs as that skill alone"):
            guarded.cluster.kubectl(*MALLORY, "-n", namespace, *attack)
    indirect = workload("Deployment", {}, {})
    indirect["spec"]["template"]["spec"] = pod({}, image)["spec"]
    create(guarded, namespace, indirect)
    guarded.cluster.kubectl(
        "-n", namespace, "wait", "deployment/impostor", "--for=condition=ReplicaFailure", "--timeout=60s"
    )
    told = json.dumps(guarded.cluster.get("-n", namespace, "deployment/impostor")["status"]["conditions"])
    assert "runs as that skill alone" in told
    guarded.cluster.kubectl(*MALLORY, "-n", namespace, "annotate", "pod", live["metadata"]["name"], "a=b")
