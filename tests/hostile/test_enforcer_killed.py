"""R20: the node's policy enforcer dies. What runs stays isolated, what starts runs nothing, and the Skill says so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster.bare import Bare
from tests.hostile.canary import RUN, SPY, Canary, spy
from tests.hostile.test_first_millisecond import FIRST
from tests.integration.installed import Operator, until

# kindnetd is restarted by its kubelet before anybody could look
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.serial("kills the enforcer of network policies"),
    pytest.mark.bare,
    pytest.mark.timeout(600),
]
BARE = "fenced-but-not-gated"


@pytest.fixture
def node(operator: Operator) -> Iterator[Bare]:
    """What can kill the enforcer; it lives again afterwards, and every Skill is believed again."""
    engine = operator.cluster.engine
    assert isinstance(engine, Bare)
    yield engine
    if engine.status()["components"]["netpol"] == "dead":
        engine.start("netpol")


def bare_pod(image: str) -> list[dict[str, Any]]:
    """The same code behind the same kind of policy, with nothing that looks before it loads."""
    labels = {"app": BARE}
    policy = {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"]}
    load = "import sys; sys.path.insert(0, '/skill'); import skill"
    container = {"name": "skill", "image": image, "command": ["python3", "-c", load]}
    return [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": BARE}, "spec": policy},
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": BARE, "labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [container], "automountServiceAccountToken": False},
        },
    ]  # fmt: skip


def test_r20_a_dead_enforcer_is_noticed(operator: Operator, namespace: str, node: Bare) -> None:
    cluster = operator.cluster

    def apply(*objects: dict[str, Any]) -> None:
        everything = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(everything))

    def isolated(name: str) -> str:
        return str(operator.condition(namespace, name, "Isolated").get("status"))

    apply(spy("early", SPY + FIRST + RUN))
    image = operator.ready(namespace, "early")["status"]["image"]
    assert isolated("early") == "True"

    node.kill("netpol")
    died = time.monotonic()
    with Canary(cluster) as canary:
        cluster.kubectl("-n", namespace, "delete", "pods", "-l", "skill-operator.dev/skill=early", "--wait=false")
        until("Isolated is not True any more", 60, lambda: isolated("early") in {"Unknown", "False"})
        noticed = time.monotonic() - died
        apply(spy("late", SPY + FIRST + RUN + "\n"))
        operator.reason(namespace, "late", "Verified", "IsolationUnproven", 60)
        assert canary.packets == 0
        apply(*bare_pod(image))
        until("what has no gate gets out", 60, lambda: canary.packets > 0)

    node.start("netpol")
    cluster.kubectl("-n", namespace, "delete", "pod", BARE, "--wait=false")
    began = time.monotonic()
    until("Isolated is True again", 120, lambda: isolated("early") == "True")
    print(f"noticed after {noticed:.0f} s, believed again {time.monotonic() - began:.0f} s after its return")
    operator.ready(namespace, "late", 180)
    operator.ready(namespace, "early", 180)
    assert operator.call(namespace, "early", {"what": "hello"}).body == {"said": ["hello"]}
