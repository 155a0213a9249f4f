"""Compute which networks a grant of egress opens, and which stay blocked however wide the grant is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Final

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class BlockedNetwork:
    """BlockedNetwork is a network that no grant opens, and what it is, in a person's words."""

    network: Network
    what: str


class NeverGranted(ValueError):
    """NeverGranted says that the grant lies in a blocked network; the message says in which."""


def block(what: str, *networks: str) -> tuple[BlockedNetwork, ...]:
    """Return blocked networks of one description."""
    return tuple(BlockedNetwork(ip_network(network, strict=False), what) for network in networks)


METADATA: Final = block(
    "credentials of the node: a cloud's metadata service",
    "169.254.0.0/16",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.0/24",
    "fe80::/10",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
)
ALWAYS: Final = (
    *METADATA,
    *block("the node itself", "0.0.0.0/8", "127.0.0.0/8", "::/127"),
    *block("no host of the internet: multicast or reserved", "224.0.0.0/3", "ff00::/8", "fec0::/10"),
    *block("another name of IPv4: grant the IPv4 network", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16"),
)
PRIVATE: Final = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "fc00::/7"))
)
"""Networks that a grant opens only if it names them or a part of them: `0.0.0.0/0` means the internet."""


def exceptions(cidr: str, blocked_networks: Iterable[BlockedNetwork]) -> list[str]:
    """Return the parts of a grant that stay blocked.

    Raises NeverGranted if all of it stays blocked, ValueError if it is no network.
    """
    granted = ip_network(cidr, strict=False)
    everything = [*ALWAYS, *blocked_networks]
    for one in everything:
        if contains(one.network, granted):
            raise NeverGranted(f"{cidr} is in {one.network}, {one.what}: it is never granted")
    inside = [one.network for one in everything if contains(granted, one.network)]
    inside += [network for network in PRIVATE if network != granted and contains(granted, network)]
    blocked = _collapse(inside)
    if granted in blocked:
        raise NeverGranted(
            f"{cidr} holds nothing but networks that are never granted: the cluster's own and the node's"
        )
    return [str(network) for network in blocked]


def contains(network: Network, other: Network) -> bool:
    """Return whether all of `other` is in `network`."""
    return network.version == other.version and other.subnet_of(network)  # type: ignore[arg-type]


def _collapse(networks: list[Network]) -> list[Network]:
    four = [network for network in networks if isinstance(network, IPv4Network)]
    six = [network for network in networks if isinstance(network, IPv6Network)]
    return [*collapse_addresses(four), *collapse_addresses(six)]
