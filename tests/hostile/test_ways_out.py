"""A skill calls everything in reach: R15, R16, R18, and all of it again under the widest grants there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hack.install import NAMESPACE, NODES
from hack.model.deploy import MODEL_NAMESPACE
from hack.model.deploy import NAME as MODEL
from tests.hostile.canary import ADDRESS, Canary, FreePod, free_pod, host, spy
from tests.integration.installed import Operator, until

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("internet")]
METADATA = "169.254.169.254"
OUTSIDE = [[ADDRESS, 8080]]


@dataclass
class Prison:
    """Two spies, one with every grant that the API takes, and a pod that nobody fences."""

    operator: Operator
    namespace: str
    free: FreePod
    inside: list[list[Any]]
    dns: str
    pods: dict[str, str]

    def neighbour(self, name: str) -> list[list[Any]]:
        """The other one's pod."""
        return [[at, 8080] for other, at in self.pods.items() if other != name]

    def ask(self, name: str, **body: Any) -> Any:
        answer = self.operator.call(self.namespace, name, body)
        assert answer.status == 200, answer
        return answer.body["said"]


def names(targets: list[list[Any]]) -> list[str]:
    return sorted(f"{host}:{port}" for host, port in targets)


def addresses(operator: Operator) -> tuple[list[list[Any]], str]:
    """The parts of the system, by all the addresses they have."""
    cluster = operator.cluster

    def service(namespace: str, name: str) -> str:
        return str(cluster.get("-n", namespace, "service", name)["spec"]["clusterIP"])

    def pod(component: str) -> str:
        selector = f"app.kubernetes.io/component={component}"
        found = cluster.get("-n", NAMESPACE, "pods", "-l", selector)["items"]
        (alive,) = (p for p in found if "deletionTimestamp" not in p["metadata"])
        return str(alive["status"]["podIP"])

    node = cluster.get("node")["items"][0]
    (internal,) = (a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    dns = service("kube-system", "kube-dns")
    inside: list[list[Any]] = [
        [service("default", "kubernetes"), 443],
        [internal, 6443],
        [internal, 10250],
        [internal, 30500],
        [service(NAMESPACE, f"{NAMESPACE}-registry"), 5000],
        [pod("registry"), 5000],
        [pod("registry"), 5001],
        [service(NODES, f"{NAMESPACE}-registry-mirror"), 5002],
        [service(NAMESPACE, f"{NAMESPACE}-gateway"), 80],
        [pod("gateway"), 8080],
        [pod("gateway"), 8084],
        [service(NAMESPACE, f"{NAMESPACE}-beacon"), 8082],
        [pod("controller"), 8081],
        [service(MODEL_NAMESPACE, MODEL), 8000],
        [dns, 53],
    ]
    return inside, dns


@pytest.fixture(scope="module")
def prison(operator: Operator) -> Iterator[Prison]:
    cluster = operator.cluster
    inside, dns = addresses(operator)
    ports = sorted({port for _, port in inside} | {8080, 9})
    every = [{"cidr": cidr, "ports": ports} for cidr in ("0.0.0.0/0", "10.0.0.0/8", "::/0", "128.0.0.0/1")]
    with cluster.namespace("prison") as namespace, cluster.namespace("free") as outside:
        for skill in (spy("spy"), spy("granted", egress=every)):
            cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(skill))
        image = operator.ready(namespace, "spy")["status"]["image"]
        operator.ready(namespace, "granted")
        found = cluster.get("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")["items"]
        pods = {p["metadata"]["labels"]["skill-operator.dev/skill"]: p["status"]["podIP"] for p in found}
        with free_pod(cluster, outside, image) as free:
            yield Prison(operator, namespace, free, inside, dns, pods)


def test_r15_nothing_answers_a_skill(prison: Prison) -> None:
    """API server, kubelet, registry, gateway, beacon, controller, model, name server, a neighbour, the internet."""
    with host(prison.operator.cluster):
        ports = {5000, 5001, 5002, 30500, 8081, 8084}  # of builds, nodes, scrapers and the controller
        closed = [t for t in prison.inside if t[1] in ports]
        open_to_all = [t for t in prison.inside if t not in closed] + OUTSIDE
        assert prison.free.says(f"reached({closed!r}, 3)") == []
        assert prison.free.says(f"reached({open_to_all!r}, 3)") == names(open_to_all)
        with Canary(prison.operator.cluster) as canary:
            everything = prison.inside + prison.neighbour("spy") + OUTSIDE
            assert prison.ask("spy", what="connect", targets=everything) == []
            assert canary.packets == 0


def test_r15_a_wide_grant_is_the_internet_and_nothing_of_the_cluster(prison: Prison) -> None:
    with host(prison.operator.cluster):
        until("the internet is reached", 60, lambda: prison.ask("granted", what="connect", targets=OUTSIDE))
        inside = prison.inside + prison.neighbour("granted")
        assert prison.ask("granted", what="connect", targets=inside, seconds=3) == []


def test_r16_no_name_is_resolved(prison: Prison) -> None:
    servers = [prison.dns, "127.0.0.1"]
    assert prison.free.says(f"answered({servers!r}, 2)") == [prison.dns]
    for name in ("spy", "granted"):  # a grant is TCP: DNS over TCP is in the tests above
        assert prison.ask(name, what="resolve", servers=servers) == []
        assert prison.ask(name, what="look") == ["nameserver", "127.0.0.1"]


def test_whatever_is_not_tcp_stays_inside(prison: Prison) -> None:
    """UDP, ping, raw sockets, SCTP, UDP-Lite, even towards what is granted for TCP."""
    cluster = prison.operator.cluster
    with Canary(cluster) as canary:
        assert "udp" in prison.free.says(f"shouted({ADDRESS!r})")
        assert canary.packets > 0
    with Canary(cluster) as canary:
        for name in ("spy", "granted"):
            assert "raw" not in prison.ask(name, what="shout", host=ADDRESS)
        assert canary.packets == 0


@pytest.mark.bare  # only where every way leads into a namespace of the test may a packet go to this address
def test_r18_the_metadata_service_stays_shut(prison: Prison) -> None:
    """A machine's credentials, under a grant of everything. The server is one of our own, in our own internet."""
    cluster = prison.operator.cluster
    cluster.node("ip", "-n", "internet", "addr", "add", f"{METADATA}/32", "dev", "lo")
    try:
        with (
            host(cluster, METADATA, 80),
            Canary(cluster, METADATA) as canary,
        ):
            assert prison.free.says(f"reached([[{METADATA!r}, 80]], 3)") == [f"{METADATA}:80"]
            seen = canary.packets
            for name in ("spy", "granted"):
                assert prison.ask(name, what="connect", targets=[[METADATA, 80]]) == []
            assert canary.packets == seen
    finally:
        cluster.node("ip", "-n", "internet", "addr", "del", f"{METADATA}/32", "dev", "lo")


@pytest.mark.parametrize(("part", "what"), [(0, "the cluster's services"), (1, "the node"), (5, "the pods of node")])
def test_r15_a_grant_of_the_cluster_itself_is_refused(prison: Prison, part: int, what: str) -> None:
    """Before anything is written, checked or built."""
    cluster, name = prison.operator.cluster, f"refused-{part}"
    skill = spy(name, egress=[{"cidr": f"{prison.inside[part][0]}/32", "ports": [443]}])
    cluster.kubectl("apply", "--server-side", "-n", prison.namespace, "-f", "-", stdin=json.dumps(skill))
    ready = prison.operator.reason(prison.namespace, name, "Ready", "SpecInvalid")
    assert "spec.egress[0].cidr" in ready["message"]
    assert what in ready["message"]
    assert "never granted" in ready["message"]
