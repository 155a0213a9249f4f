"""An upgrade that takes a runtime class away: what runs by it ends within a minute, in every state of its Skill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster.access import Cluster
from tests.integration.installed import RUNTIME_CLASS, Operator, install_for_tests, until
from tests.integration.test_skill import SOURCE, apply, skill

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.serial("takes a runtime class off the chart's values"),
    pytest.mark.timeout(900),
]
NEWER = {"inline": SOURCE + "# newer\n"}
STATES: dict[str, dict[str, Any]] = {
    "awake": {},
    "suspended": {"suspend": True},
    "invalid": {"description": "   "},
    "unapproved": {"review": "Manual", "source": NEWER},
}


@pytest.fixture
def runtime_class(cluster: Cluster) -> Iterator[None]:
    cluster.apply(
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": RUNTIME_CLASS},
            "handler": "runc",
        }
    )
    yield
    cluster.kubectl("delete", "runtimeclass", RUNTIME_CLASS, "--ignore-not-found")


def of_the_class(cluster: Cluster, namespace: str) -> set[str]:
    """Return the names of the Deployments and pods of Skills that have the class."""
    pods = cluster.get("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")["items"]
    deployments = cluster.get("-n", namespace, "deployments")["items"]
    specs = {each["metadata"]["name"]: each["spec"] for each in pods}
    specs |= {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in deployments}
    return {name for name, spec in specs.items() if spec.get("runtimeClassName") == RUNTIME_CLASS}


def test_what_runs_by_a_class_that_is_taken_away_ends_in_every_state(
    operator: Operator, cluster: Cluster, namespace: str, runtime_class: None
) -> None:
    for name in STATES:
        apply(operator, namespace, skill(name, runtimeClassName=RUNTIME_CLASS, idleTimeoutSeconds=0))
    apply(operator, namespace, skill("plain", idleTimeoutSeconds=0))
    for name in (*STATES, "plain"):
        operator.ready(namespace, name, 240)
    for name, change in STATES.items():
        patch = json.dumps({"spec": change})
        cluster.kubectl("-n", namespace, "patch", "skill", name, "--type=merge", "-p", patch)
    operator.reason(namespace, "suspended", "Ready", "Suspended")
    operator.reason(namespace, "invalid", "Ready", "SpecInvalid")
    operator.reason(namespace, "unapproved", "Built", "AwaitingApproval")
    assert len(of_the_class(cluster, namespace)) == 2 * len(STATES)
    plain = cluster.get("-n", namespace, "deployment", "skill-plain")["metadata"]["uid"]
    try:
        install_for_tests(cluster, isolation={"runtimeClassNames": []})
        until("nothing has the class", 75, lambda: not of_the_class(cluster, namespace))
        for name in STATES:
            ended = operator.reason(namespace, name, "Deployed", "RuntimeClassNotAllowed", 30)
            assert RUNTIME_CLASS in ended["message"]
            assert "isolation.runtimeClassNames" in ended["message"]
        assert cluster.get("-n", namespace, "deployment", "skill-plain")["metadata"]["uid"] == plain
    finally:
        install_for_tests(cluster)
    operator.ready(namespace, "awake", 240)
    assert of_the_class(cluster, namespace), "what is granted again comes back"
