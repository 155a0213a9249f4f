"""The egress proxy is there when it is needed, behind its walls."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from skill_operator import naming
from skill_operator.api.egress_networks import BlockedNetwork, block
from skill_operator.reconcile.egress_proxy import SETTLED, EgressProxy
from skill_operator.resources import check
from skill_operator.resources.network_policy import proxy_policy
from skill_operator.settings import Settings
from tests.unit.reconcile.samples import SETTINGS, observed, skill
from tests.unit.reconcile.stages.test_run import run, work

HOST = {"host": "api.example.com", "ports": [443]}
PROXY = SETTINGS.egress_proxy.model_copy(update={"address": "10.96.7.7:3128"})
LOCATED = SETTINGS.model_copy(update={"egress_proxy": PROXY})
OWN = block("the node one", "203.0.113.77", "2001:db8::77")


def made(kind: str, *egress: dict[str, Any], settings: Settings = LOCATED, **more: Any) -> dict[str, Any]:
    (found,) = (
        o for o in run(observed(skill(egress=list(egress)), **more), work(), settings).apply if o["kind"] == kind
    )
    return found


def environment(deployment: dict[str, Any]) -> dict[str, str]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["value"] for one in container["env"] if "proxy" in one["name"].lower()}


def test_a_grant_of_a_host_opens_the_way_to_the_proxy_alone() -> None:
    (rule,) = made("NetworkPolicy", HOST, {"host": "b.example.com", "ports": [80]})["spec"]["egress"]
    (peer,) = rule["to"]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": SETTINGS.namespace}}
    assert peer["podSelector"] == {"matchLabels": PROXY.labels}
    assert rule["ports"] == [{"protocol": "TCP", "port": 3128}]
    network, proxy = made("NetworkPolicy", HOST, {"cidr": "203.0.113.0/24", "ports": [8443]})["spec"]["egress"]
    assert network["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]
    assert proxy == rule


def test_the_proxy_is_named_by_address_to_who_may_use_it() -> None:
    at = "http://10.96.7.7:3128"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    assert environment(made("Deployment", HOST)) == dict.fromkeys(names, at)
    both = environment(made("Deployment", HOST, {"cidr": "203.0.113.0/24", "ports": [8443]}))
    assert both == dict.fromkeys(names, at) | dict.fromkeys(("NO_PROXY", "no_proxy"), "203.0.113.0/24")
    assert environment(made("Deployment", {"cidr": "203.0.113.0/24", "ports": [443]})) == {}
    assert environment(made("Deployment")) == {}


def test_a_check_has_no_way_out_whatever_is_granted() -> None:
    granted = skill(egress=[HOST])
    job = check.job(granted, LOCATED, "check", 1, "key", own_users=True)
    assert "proxy" not in str(job).lower()
    assert naming.labels("echo", "u-1", "check")[naming.COMPONENT] != PROXY.labels[naming.COMPONENT]


def opened(address: str, blocked_networks: tuple[BlockedNetwork, ...] = OWN) -> bool:
    """Whether the proxy's policy lets a packet out to there."""
    owner = {"metadata": {"name": "proxy", "uid": "u"}}
    (rule,) = proxy_policy(LOCATED, blocked_networks, owner)["spec"]["egress"]
    at = ip_address(address)
    return any(
        at in ip_network(one["ipBlock"]["cidr"]) and not any(at in ip_network(no) for no in one["ipBlock"]["except"])
        for one in rule["to"]
    )


@pytest.mark.parametrize("address", ["203.0.113.10", "8.8.8.8", "2001:db8::1"])
def test_the_internet_is_open_to_the_proxy(address: str) -> None:
    assert opened(address)


@pytest.mark.parametrize(
    "address",
    ["10.96.0.1", "10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.1.1", "172.16.0.1", "100.64.0.1", "224.0.0.1",
     "0.0.0.0", "203.0.113.77", "2001:db8::77", "::1", "fe80::1", "fd00::1", "64:ff9b::a00:1", "2002:a00:1::1"],
)  # fmt: skip
def test_and_nothing_else_is(address: str) -> None:
    assert not opened(address)


class World:
    """A cluster with the chart's Deployment in it, and a clock."""

    def __init__(self, replicas: int | None = None, available: int = 0, there: bool = True) -> None:
        self.spec = {} if replicas is None else {"replicas": replicas}
        self.status = {"availableReplicas": available} if available else {}
        self.there, self.now = there, 1000.0
        self.applied: list[dict[str, Any]] = []
        self.scaled: list[int] = []

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        if kind == "NetworkPolicy":
            return next(iter(reversed(self.applied)), None)
        assert (kind, namespace, name) == ("Deployment", SETTINGS.namespace, PROXY.deployment)
        meta = {"name": name, "uid": "u-proxy", "namespace": namespace}
        return {"metadata": meta, "spec": self.spec, "status": self.status} if self.there else None

    async def apply(self, obj: dict[str, Any]) -> dict[str, Any]:
        self.applied.append(obj)
        return obj

    async def patch(self, kind: str, namespace: str, name: str, operations: Any, subresource: str) -> None:
        assert (kind, namespace, name, subresource) == ("Deployment", SETTINGS.namespace, PROXY.deployment, "scale")
        ((operation, path, replicas),) = (one.values() for one in operations)
        assert (operation, path) == ("add", "/spec/replicas")
        assert self.applied or not replicas, "the walls come first"
        self.scaled.append(replicas)
        self.spec = {"replicas": replicas}

    def proxy(self, settings: Settings = LOCATED) -> EgressProxy:
        return EgressProxy(self, settings, lambda: self.now)  # type: ignore[arg-type]


async def test_it_is_begun_behind_its_walls_and_waited_for() -> None:
    world = World(replicas=0)
    proxy = world.proxy()
    assert not await proxy.serve(OWN)
    assert world.scaled == [1]
    (policy,) = world.applied
    assert policy["metadata"]["ownerReferences"][0]["uid"] == "u-proxy"
    assert policy["spec"]["podSelector"]["matchLabels"] == PROXY.labels
    world.status = {"availableReplicas": 1}
    assert await proxy.serve(OWN)
    assert (world.scaled, world.applied) == ([1], [policy]), "nothing is written twice"


async def test_a_node_that_joins_is_shut_out() -> None:
    world = World(replicas=1, available=1)
    await world.proxy().serve(())
    await world.proxy().serve(OWN)
    first, second = world.applied
    assert first != second
    assert "203.0.113.77/32" in str(second)


async def test_it_runs_as_often_as_the_chart_says() -> None:
    settings = LOCATED.model_copy(update={"egress_proxy": PROXY.model_copy(update={"replicas": 3})})
    world = World(available=1)  # as the chart leaves it: no number is one
    assert await world.proxy(settings).serve(OWN)
    assert world.scaled == [3]


async def test_it_rests_when_nobody_has_asked_for_a_while() -> None:
    world = World()
    proxy = world.proxy()
    await proxy.rest()
    assert world.scaled == [0], "a controller that has just begun knows all Skills by its list"
    await proxy.serve(OWN)
    await proxy.rest()
    assert world.scaled == [0, 1], "the list may be older than the Skill"
    world.now += SETTLED
    await proxy.rest()
    await proxy.rest()
    assert world.scaled == [0, 1, 0]


async def test_where_it_is_not_there() -> None:
    world = World(there=False)
    assert not await world.proxy().serve(OWN)
    await world.proxy().rest()
    off = LOCATED.model_copy(update={"egress_proxy": PROXY.model_copy(update={"address": ""})})
    await World().proxy(off).rest()
    assert (world.applied, world.scaled) == ([], [])


def test_a_skill_is_not_begun_before_its_proxy() -> None:
    result = run(observed(skill(egress=[HOST]), proxied=False), work(), LOCATED)
    (note,) = result.findings
    assert (note.reason, note.status, result.apply) == ("EgressProxyStarting", "Unknown", ())
    assert result.after
