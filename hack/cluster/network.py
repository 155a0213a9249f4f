"""Connect host, node and internet: three network namespaces, without a way from the node off this machine."""

from __future__ import annotations

from collections.abc import Callable

from hack.cluster.identity import OUTSIDE, Identity
from hack.cluster.node import Node
from hack.cluster.shell import run

INTERNET = "internet"
_GATEWAY, _NODE = "198.18.0.2", "198.18.0.1"
_LAST_RESORT = "4096"


def connect(cluster: Identity, node: Node, init: int) -> None:
    """Wire the node to the host.

    The host may call pods and services, as a developer's port-forward would. Should the node vanish, its addresses
    lead nowhere instead of out of this machine.
    """
    for network in (cluster.wire, cluster.pods, cluster.services):
        run("ip", "route", "replace", "blackhole", str(network), "metric", _LAST_RESORT)
    run("ip", "link", "add", cluster.veth, "type", "veth", "peer", "name", "eth0", "netns", str(init))
    run("ip", "addr", "add", f"{cluster.host}/24", "dev", cluster.veth)
    run("ip", "link", "set", cluster.veth, "up")
    node.run("ip", "link", "set", "lo", "up")
    node.run("ip", "addr", "add", f"{cluster.node}/24", "dev", "eth0")
    node.run("ip", "link", "set", "eth0", "up")
    node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for network in (cluster.pods, cluster.services):
        run("ip", "route", "add", str(network), "via", str(cluster.node))


def internet(on_node: Callable[..., str], *, route_all: bool) -> None:
    """Make the namespace that plays the internet; tests put their canaries on its addresses.

    With `route_all` it is the only way out of the node; otherwise just the way to its own addresses.
    """
    inside = ("ip", "-n", INTERNET)
    on_node("ip", "netns", "add", INTERNET)
    on_node("ip", "link", "add", INTERNET, "type", "veth", "peer", "name", "eth0", "netns", INTERNET)
    on_node("ip", "addr", "add", f"{_NODE}/30", "dev", INTERNET)
    on_node("ip", "link", "set", INTERNET, "up")
    on_node(*inside, "addr", "add", f"{_GATEWAY}/30", "dev", "eth0")
    on_node(*inside, "link", "set", "lo", "up")
    on_node(*inside, "link", "set", "eth0", "up")
    for address in OUTSIDE:
        on_node(*inside, "addr", "add", f"{address}/32", "dev", "lo")
    for destination in ["default"] if route_all else OUTSIDE:
        on_node("ip", "route", "add", destination, "via", _GATEWAY)


def disconnect(cluster: Identity) -> None:
    """Take the wire away. Its addresses still lead nowhere, for clients that have not noticed."""
    run("ip", "link", "del", cluster.veth, check=False)


def forget(cluster: Identity) -> None:
    """Make its addresses as unknown to the host as they were."""
    for network in (cluster.wire, cluster.pods, cluster.services):
        run("ip", "route", "del", "blackhole", str(network), "metric", _LAST_RESORT, check=False)
