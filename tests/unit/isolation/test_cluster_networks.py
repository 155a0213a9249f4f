"""What the cluster says of its own networks."""

from __future__ import annotations

from typing import Any

import pytest

from skill_operator.api.egress_networks import block
from skill_operator.isolation.cluster_networks import ClusterNetworks, ClusterNetworksUnknown
from skill_operator.k8s.errors import Forbidden, NotFound
from tests.unit.reconcile.samples import SETTINGS

NODE = {
    "metadata": {"name": "one"},
    "spec": {"podCIDRs": ["10.244.0.0/24", "fd00:244::/64"]},
    "status": {
        "addresses": [
            {"type": "InternalIP", "address": "10.250.0.2"},
            {"type": "ExternalIP", "address": "203.0.113.77"},
            {"type": "Hostname", "address": "one"},
        ]
    },
}
SERVICES = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}}
ENDPOINTS = {"metadata": {"name": "kubernetes"}, "endpoints": [{"addresses": ["192.0.2.1"]}]}
POD = {"POD_IP": "10.244.0.5", "KUBERNETES_SERVICE_HOST": "10.96.0.1"}


class FakeApiServer:
    """An API server that says these things."""

    def __init__(self, **responses: Any) -> None:
        self.responses: dict[str, Any] = {
            "Node": [NODE],
            "ServiceCIDR": [SERVICES],
            "EndpointSlice": ENDPOINTS,
        } | responses
        self.requests = 0

    async def list(self, kind: str) -> Any:
        self.requests += 1
        answer = self.responses[kind]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def get(self, kind: str, namespace: str, name: str) -> Any:
        assert (namespace, name) == ("default", "kubernetes")
        return self.responses[kind]


def networks(
    server: FakeApiServer, environment: dict[str, str] | None = None, *cidrs: str, **more: Any
) -> ClusterNetworks:
    isolation = SETTINGS.isolation.model_validate(SETTINGS.isolation.model_dump() | {"cluster_cidrs": list(cidrs)})
    settings = SETTINGS.model_copy(update={"isolation": isolation, "registry_cidrs": ["198.51.100.9/32"]})
    return ClusterNetworks(server, settings, POD if environment is None else environment, **more)  # type: ignore[arg-type]


async def test_everything_that_is_the_cluster_s() -> None:
    found = {str(one.network) for one in await networks(FakeApiServer()).read()}
    assert found == {
        "198.51.100.9/32", "10.244.0.0/24", "fd00:244::/64", "10.250.0.2/32", "203.0.113.77/32", "10.96.0.0/16",
        "192.0.2.1/32",
    }  # fmt: skip


async def test_no_endpoints_are_no_reason_to_stop() -> None:
    for answer in (None, {"endpoints": None}):
        assert len(await networks(FakeApiServer(EndpointSlice=answer)).read()) == 6


@pytest.mark.parametrize("error", [Forbidden("nodes is forbidden", 403), NotFound("no such resource", 404)])
@pytest.mark.parametrize("kind", ["Node", "ServiceCIDR"])
async def test_who_may_not_ask_must_be_configured(kind: str, error: Exception) -> None:
    with pytest.raises(ClusterNetworksUnknown, match=r"set isolation\.clusterCIDRs"):
        await networks(FakeApiServer(**{kind: error})).read()
    known = networks(FakeApiServer(**{kind: error}), None, "10.244.0.0/16", "10.96.0.0/16")
    assert block("the cluster's own (isolation.clusterCIDRs)", "10.96.0.0/16")[0] in await known.read()


@pytest.mark.parametrize(
    "environment", [POD | {"POD_IP": "172.16.0.9"}, POD | {"KUBERNETES_SERVICE_HOST": "172.16.0.1"}]
)
async def test_a_network_plugin_with_addresses_of_its_own_is_noticed(environment: dict[str, str]) -> None:
    """Node.spec.podCIDRs is not where every plugin takes addresses from."""
    with pytest.raises(ClusterNetworksUnknown, match=r"172\.16\.0\.\d, which is in none of the blocked networks"):
        await networks(FakeApiServer(), environment).read()
    assert await networks(FakeApiServer(), environment, "172.16.0.0/16").read()


async def test_it_is_read_once_a_minute() -> None:
    now = [0.0]
    server = FakeApiServer()
    known = networks(server, clock=lambda: now[0])
    await known.read()
    now[0] = 59.0
    await known.read()
    assert server.requests == 2
    now[0] = 61.0
    await known.read()
    assert server.requests == 4


async def test_what_failed_is_asked_again_at_once() -> None:
    server = FakeApiServer(Node=Forbidden("not yet", 403))
    known = networks(server)
    with pytest.raises(ClusterNetworksUnknown):
        await known.read()
    server.responses["Node"] = [NODE]
    assert await known.read()
