"""Where a registry may send the controller."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.registry.hosts import GlobalResolver, is_global, is_same_site, split_url


@pytest.mark.parametrize(
    ("host", "registry"),
    [
        ("auth.docker.io", "registry-1.docker.io"),
        ("quay.io", "quay.io"),
        ("gitlab.com", "registry.gitlab.com"),
        ("auth.corp.example", "registry.corp.example"),
        ("AUTH.corp.example", "registry.corp.example."),
        ("auth.registry.co.uk", "registry.co.uk"),
        ("auth.example.co.uk", "registry.example.co.uk"),
    ],
)
def test_hosts_of_one_domain_are_one_site(host: str, registry: str) -> None:
    assert is_same_site(host, registry)


@pytest.mark.parametrize(
    ("host", "registry"),
    [
        ("evil.io", "quay.io"),
        ("io", "quay.io"),
        ("evildocker.io", "registry-1.docker.io"),
        ("docker.io.evil.example", "registry-1.docker.io"),
        ("evil.co.uk", "registry.co.uk"),
        ("10.0.0.2", "10.0.0.1"),
        ("1.0.0.1", "registry.0.0.1"),
        ("::1", "::2"),
        ("registry", "localhost"),
        ("", "registry"),
        ("", "registry.example"),
    ],
)
def test_other_hosts_are_not(host: str, registry: str) -> None:
    assert not is_same_site(host, registry)


@given(st.ip_addresses())
def test_what_is_private_is_not_global(address: object) -> None:
    found = is_global(str(address))
    private = any(getattr(address, f"is_{kind}") for kind in ("private", "loopback", "link_local", "multicast"))
    assert not (found and private)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "100.64.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1%eth0",
     "fd00:ec2::254", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"],
)  # fmt: skip
def test_addresses_of_the_inside(address: str) -> None:
    assert not is_global(address)


async def test_a_name_that_leads_inside_is_not_resolved() -> None:
    resolver = GlobalResolver()
    for name in ("localhost", "127.1", "0x7f000001", "2130706433"):
        with pytest.raises(OSError, match=r"not of the internet|Name|resol|address|service"):
            await resolver.resolve(name, 443)
    await resolver.close()


@pytest.mark.parametrize(
    "url", ["", "token", "ftp://a/", "http://", "https://u@a/", "https://u:p@a/", "https://a:0/", "https://a:99999/",
            "https://[::1/", "javascript:1", "//a/b"],
)  # fmt: skip
def test_what_is_no_plain_web_address(url: str) -> None:
    assert split_url(url) is None
