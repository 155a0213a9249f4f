"""What is taken away goes within a minute, whatever the Skill's writer does to keep it; and others' objects stay."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from hack.cluster.shell import ClusterError
from hack.install import NAMESPACE
from tests.hostile.canary import ADDRESS, Canary, host, spy
from tests.hostile.test_secrets import MARKER, reader, secret, write
from tests.integration.installed import Operator, until
from tests.integration.test_skill import apply, skill

pytestmark = pytest.mark.cluster
PODS = ("pods", "-l", "app.kubernetes.io/component=skill")
BAD = {"inline": "def run(input: dict) -> dict:\n    return nope\n"}
FINALIZER = "example.com/mine"


def patch(operator: Operator, namespace: str, body: dict[str, Any]) -> None:
    operator.cluster.kubectl("-n", namespace, "patch", "skill", "keeper", "--type=merge", "-p", json.dumps(body))


def delete_with_a_finalizer(operator: Operator, namespace: str) -> None:
    patch(operator, namespace, {"metadata": {"finalizers": [FINALIZER]}})
    operator.cluster.kubectl("-n", namespace, "delete", "skill", "keeper", "--wait=false")


WAYS: dict[str, Callable[[Operator, str], None]] = {
    "suspended": lambda operator, namespace: patch(operator, namespace, {"spec": {"suspend": True}}),
    "invalid": lambda operator, namespace: patch(operator, namespace, {"spec": {"description": "   "}}),
    "refused": lambda operator, namespace: patch(operator, namespace, {"spec": {"source": BAD}}),
    "taken out": lambda operator, namespace: patch(operator, namespace, {"spec": {"source": BAD, "secrets": []}}),
    "deleted": delete_with_a_finalizer,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_revoked_secret_is_kept_by_nothing(
    operator: Operator, namespace: str, way: Callable[[Operator, str], None]
) -> None:
    kubectl = operator.cluster.kubectl
    write(operator, namespace, secret(MARKER))
    kubectl("-n", namespace, "create", "role", "r", "--verb=get", "--resource=secrets", "--resource-name=billing")
    kubectl("-n", namespace, "create", "rolebinding", "r", "--role=r", f"--serviceaccount={namespace}:skill-keeper")
    apply(operator, namespace, reader("keeper"))
    operator.ready(namespace, "keeper", 150)
    try:
        way(operator, namespace)
        kubectl("-n", namespace, "delete", "rolebinding", "r")
        until("no pod is left", 75, lambda: not operator.cluster.get("-n", namespace, *PODS)["items"])
    finally:
        kubectl("-n", namespace, "patch", "skill", "keeper", "--type=merge", "-p",
                json.dumps({"metadata": {"finalizers": None}}), check=False)  # fmt: skip


def test_a_way_out_closes_before_new_code_is_accepted(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("keeper", egress=[{"cidr": "203.0.113.0/24", "ports": [443]}]))
    operator.ready(namespace, "keeper", 150)

    def ways() -> Any:
        return operator.cluster.get("-n", namespace, "networkpolicy", "skill-keeper")["spec"].get("egress", [])

    assert ways()
    patch(operator, namespace, {"spec": {"egress": [], "source": BAD}})
    until("the way is closed", 30, lambda: not ways())


HOLD = """
import socket
import threading
import time


def send(host: str) -> None:
    with socket.create_connection((host, 8080), 5) as connection:
        for _ in range(3000):
            connection.sendall(b"x")
            time.sleep(0.1)


def run(input: dict) -> dict:
    if input["what"] == "hold":
        threading.Thread(target=send, args=(input["host"],), daemon=True).start()
    return {"said": [input["what"]]}
"""


@pytest.mark.xdist_group("internet")
@pytest.mark.parametrize("change", [{"egress": []}, {"egress": [], "source": BAD}], ids=["deployed", "refused"])
def test_a_connection_that_was_open_ends_with_its_grant(
    operator: Operator, namespace: str, change: dict[str, Any]
) -> None:
    """The network plugin lets go on what is open, so the pods that hold it are replaced."""
    apply(operator, namespace, spy("keeper", HOLD, egress=[{"cidr": "203.0.113.0/24", "ports": [8080]}]))
    operator.ready(namespace, "keeper", 150)
    with host(operator.cluster), Canary(operator.cluster) as canary:
        assert operator.call(namespace, "keeper", {"what": "hold", "host": ADDRESS}).status == 200
        until("it sends", 30, lambda: canary.packets > 20)
        patch(operator, namespace, {"spec": change})

        def is_silent() -> bool:
            before = canary.packets
            time.sleep(2)  # of silence, where ten packets came in each second
            return canary.packets == before

        until("nothing comes any more", 60, is_silent)
    assert operator.call(namespace, "keeper", {"what": "hello"}).body == {"said": ["hello"]}


def test_a_skill_that_a_finalizer_holds_is_not_ready(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("keeper"))
    operator.ready(namespace, "keeper", 150)
    delete_with_a_finalizer(operator, namespace)
    try:
        assert FINALIZER in operator.reason(namespace, "keeper", "Ready", "Deleting")["message"]
    finally:
        patch(operator, namespace, {"metadata": {"finalizers": None}})


def test_objects_of_others_are_neither_written_over_nor_deleted(operator: Operator, namespace: str) -> None:
    kubectl = operator.cluster.kubectl
    kubectl("-n", namespace, "create", "configmap", "keeper-source", "--from-literal=config.yaml=of-another-team")
    before = operator.cluster.get("-n", namespace, "configmap", "keeper-source")
    apply(operator, namespace, skill("keeper"))
    told = operator.reason(namespace, "keeper", "Ready", "NameTaken", 90)
    assert f"ConfigMap {namespace}/keeper-source is not this Skill's" in told["message"]
    kubectl("-n", namespace, "delete", "skill", "keeper", "--wait=true")
    assert operator.cluster.get("-n", namespace, "configmap", "keeper-source") == before


def test_what_a_quota_refuses_is_told(operator: Operator, namespace: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tenant"}}
    write(operator, namespace, quota | {"spec": {"hard": {"count/jobs.batch": "0"}}})
    apply(operator, namespace, skill("keeper"))
    told = operator.reason(namespace, "keeper", "Ready", "ObjectRefused", 60)
    assert "exceeded quota: tenant" in told["message"]
    operator.cluster.kubectl("-n", namespace, "delete", "resourcequota", "tenant")
    operator.ready(namespace, "keeper", 180)


def test_an_orphaned_deployment_of_a_former_skill_is_replaced(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("keeper"))
    operator.ready(namespace, "keeper", 150)
    left = operator.cluster.get("-n", namespace, "deployment", "skill-keeper")["metadata"]["uid"]
    operator.cluster.kubectl("-n", namespace, "delete", "skill", "keeper", "--cascade=orphan")
    apply(operator, namespace, skill("keeper"))
    operator.ready(namespace, "keeper", 150)
    assert operator.cluster.get("-n", namespace, "deployment", "skill-keeper")["metadata"]["uid"] != left


def test_no_skill_is_taken_in_the_operators_own_namespace(operator: Operator) -> None:
    with pytest.raises(ClusterError, match="the operator keeps this namespace for itself"):
        apply(operator, NAMESPACE, skill("operator-gateway"))
