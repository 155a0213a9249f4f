"""What a grant opens, however wide it is."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from skill_operator.api.egress_networks import NeverGranted, block, exceptions

CLUSTER = (
    *block("the cluster's services", "10.96.0.0/16", "fd00:96::/112"),
    *block("the pods of node one", "10.244.0.0/24", "fd00:244::/64"),
    *block("the node one", "10.250.0.2", "203.0.113.77", "2001:db8::77"),
)


def opened(cidr: str, address: str) -> bool:
    """Whether an enforcer of the policy would let a packet to this address out."""
    at = ip_address(address)
    left_out = exceptions(cidr, CLUSTER)
    return at in ip_network(cidr) and not any(at in ip_network(one) for one in left_out)


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "0.0.0.0/1", "8.0.0.0/5"])
@pytest.mark.parametrize(
    "address",
    ["10.96.0.1", "10.244.0.9", "10.250.0.2", "10.1.2.3", "127.0.0.1", "169.254.169.254", "192.168.1.1", "172.20.0.1",
     "100.64.0.1", "100.100.100.200", "168.63.129.16", "203.0.113.77", "255.255.255.255", "224.0.0.1", "0.0.0.0"],
)  # fmt: skip
def test_a_wide_grant_means_the_internet(cidr: str, address: str) -> None:
    assert not opened(cidr, address)


@pytest.mark.parametrize(
    "address",
    ["fd00:96::1", "fd00:244::9", "2001:db8::77", "fe80::1", "::1", "::", "fd00:ec2::254", "ff02::1", "fc00::1",
     "64:ff9b::a00:1", "2002:a00:1::1"],
)  # fmt: skip
def test_a_wide_grant_of_ipv6_too(address: str) -> None:
    assert not opened("::/0", address)


def test_what_is_granted_is_open() -> None:
    for cidr, address in (
        ("0.0.0.0/0", "203.0.113.10"), ("203.0.113.0/24", "203.0.113.78"), ("10.1.0.0/16", "10.1.2.3"),
        ("10.0.0.0/8", "10.1.2.3"), ("::/0", "2001:db8::78"), ("fd12::/16", "fd12::1"),
    ):  # fmt: skip
        assert opened(cidr, address), (cidr, address)
    assert exceptions("203.0.113.0/25", CLUSTER) == ["203.0.113.77/32"]


def test_a_private_grant_leaves_the_cluster_out() -> None:
    assert exceptions("10.0.0.0/8", CLUSTER) == ["10.96.0.0/16", "10.244.0.0/24", "10.250.0.2/32"]


@pytest.mark.parametrize(
    ("cidr", "what"),
    [
        ("10.96.0.0/16", "the cluster's services"), ("10.96.0.10/32", "the cluster's services"),
        ("10.244.0.7/32", "the pods of node one"), ("203.0.113.77/32", "the node one"),
        ("169.254.169.254/32", "metadata"), ("fd00:ec2::254/128", "metadata"), ("127.0.0.0/8", "the node itself"),
        ("fd00:96::a/128", "the cluster's services"), ("::1/128", "the node itself"),
    ],
)  # fmt: skip
def test_what_is_never_granted_is_said(cidr: str, what: str) -> None:
    with pytest.raises(NeverGranted, match="it is never granted") as refused:
        exceptions(cidr, CLUSTER)
    assert what in str(refused.value)


def test_halves_that_are_shut_are_a_whole() -> None:
    """The API server takes no exception that is as wide as its network."""
    halves = block("a half", "10.8.0.0/17", "10.8.128.0/17")
    with pytest.raises(NeverGranted, match="holds nothing but"):
        exceptions("10.8.0.0/16", halves)


def test_exceptions_are_strictly_inside_and_few() -> None:
    many = block("a node", *(f"198.51.100.{n}" for n in range(256)))
    for cidr in ("0.0.0.0/0", "::/0", "198.0.0.0/8"):
        left_out = exceptions(cidr, many)
        for one in map(ip_network, left_out):
            assert one.version == ip_network(cidr).version
            assert one.subnet_of(ip_network(cidr))  # type: ignore[arg-type]
            assert one != ip_network(cidr)
        assert len(left_out) < 25
