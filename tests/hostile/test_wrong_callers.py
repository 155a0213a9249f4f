"""R23, R21 and policies of the namespace's owner: who gets in, and what gets out while a skill ends."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from hack.install import NAMESPACE
from tests.hostile.canary import ADDRESS, Canary, free_pod, host, spy
from tests.integration.installed import Operator, until

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("internet"), pytest.mark.timeout(600)]
GATEWAY = {"app.kubernetes.io/name": "skill-operator", "app.kubernetes.io/instance": NAMESPACE}
GATEWAY |= {"app.kubernetes.io/component": "gateway"}


def test_r23_only_the_gateway_s_own_pods_get_in(operator: Operator, namespace: str) -> None:
    """The gateway's labels, worn in another namespace and in the skill's own; then a policy that opens more."""
    cluster = operator.cluster
    cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(spy("visited")))
    image = operator.ready(namespace, "visited")["status"]["image"]

    def pod() -> dict[str, Any]:
        selector = "skill-operator.dev/skill=visited,app.kubernetes.io/component=skill"
        found = cluster.get("-n", namespace, "pods", "-l", selector)["items"]
        return next(p for p in found if "deletionTimestamp" not in p["metadata"])

    at = [[pod()["status"]["podIP"], 8080], [pod()["status"]["podIP"], 10250]]
    with cluster.namespace("elsewhere") as elsewhere, free_pod(cluster, elsewhere, image, GATEWAY) as dressed:
        assert dressed.says(f"reached({at!r}, 2)") == []
        with free_pod(cluster, namespace, image, GATEWAY) as inside:
            assert inside.says(f"reached({at!r}, 2)") == []
    assert operator.call(namespace, "visited", {"what": "hello"}).body == {"said": ["hello"]}

    def policy(name: str, peer: dict[str, Any]) -> None:
        spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [peer]}
        meta = {"name": name, "namespace": namespace}
        cluster.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec})
        cluster.kubectl("-n", namespace, "label", "skill", "visited", f"look={name}", "--overwrite")

    policy("theirs", {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]})
    told = operator.reason(namespace, "visited", "Isolated", "WidenedByPolicy")
    assert "theirs" in told["message"]
    with host(cluster):  # policies add up, which nobody can prevent: it is said instead
        reached = operator.call(namespace, "visited", {"what": "connect", "targets": [[ADDRESS, 8080]]})
        assert reached.body == {"said": [f"{ADDRESS}:8080"]}

    policy("theirs", {})  # everything: the skill's own PID 1 notices that, and ends it
    operator.reason(namespace, "visited", "Isolated", "EgressNotBlocked", 60)
    assert operator.condition(namespace, "visited", "Stalled")["status"] == "True"
    assert operator.call(namespace, "visited", {"what": "hello"}).status >= 500
    cluster.kubectl("-n", namespace, "delete", "networkpolicy", "theirs")
    until("it serves again", 90, lambda: operator.condition(namespace, "visited", "Ready").get("status") == "True")


def test_r21_nothing_gets_out_while_a_skill_ends(operator: Operator, namespace: str) -> None:
    """Its policies are deleted with it, perhaps before its pods: the namespace's own is not."""
    cluster = operator.cluster
    cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(spy("insistent")))
    operator.ready(namespace, "insistent")
    call = threading.Thread(
        target=operator.call, args=(namespace, "insistent", {"what": "insist", "host": ADDRESS, "seconds": 12})
    )
    selector = "app.kubernetes.io/component=skill"
    with Canary(cluster) as canary:
        call.start()
        cluster.kubectl("-n", namespace, "delete", "skill", "insistent")
        until(
            "its own policy is gone", 60,
            lambda: "skill-insistent" not in cluster.kubectl("-n", namespace, "get", "networkpolicies", "-o", "name"),
        )  # fmt: skip
        until("its pods are gone", 60, lambda: not cluster.get("-n", namespace, "pods", "-l", selector)["items"])
        call.join()
        assert canary.packets == 0
