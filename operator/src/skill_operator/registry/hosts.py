"""Decide where a registry may send the controller: to its token realm, and to the storage of its blobs.

A registry's word is foreign. Its own host and those of the setting are trusted, whatever their addresses. Any other
host must be reached by https at addresses of the internet, so that nothing inside the cluster or beside it is called.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

# Names below which strangers register theirs, so that two of them are two sites: co.uk, com.au and the like.
_PUBLIC_LABELS: Final = frozenset({"ac", "co", "com", "edu", "gov", "net", "org"})
# Addresses that Python calls global although they lead into IPv4 networks: NAT64 (RFC 6052) and 6to4 (RFC 3056).
_TRANSLATED_NETWORKS: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"))


def split_url(url: str) -> SplitResult | None:
    """Return the parts of an absolute http or https URL without a login, or None for anything else."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return None
    is_web = parts.scheme in {"http", "https"} and bool(parts.hostname) and has_port
    return parts if is_web and parts.username is None and parts.password is None else None


def is_trusted(host: str, registry_host: str, hosts: Sequence[str]) -> bool:
    """Return whether a host is the registry's own, or one of the setting."""
    return host.lower() in {registry_host.lower(), *(each.lower() for each in hosts)}


def is_same_site(host: str, registry_host: str) -> bool:
    """Return whether a name is in the domain of the registry's name, as auth.docker.io is in that of hub.docker.io."""
    if is_address(host) or is_address(registry_host):
        return host == registry_host
    host, registry_host = host.lower().rstrip("."), registry_host.lower().rstrip(".")
    parent = registry_host.partition(".")[2]
    labels = parent.split(".")
    is_public = len(labels) < 2 or (len(labels) == 2 and len(labels[1]) == 2 and labels[0] in _PUBLIC_LABELS)
    site = registry_host if is_public else parent
    return host == site or host.endswith(f".{site}")


def is_global(address: str) -> bool:
    """Return whether an IP address belongs to the internet, and to no network of one's own."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.is_global and not found.is_multicast and not any(found in network for network in _TRANSLATED_NETWORKS)


def is_address(host: str) -> bool:
    """Return whether a host is written as an IP address."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class GlobalResolver(ThreadedResolver):
    """GlobalResolver resolves names to addresses of the internet alone. aiohttp connects to what it returns."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises OSError if one of them is not of the internet."""
        found = await super().resolve(host, port, family)
        if not all(is_global(each["host"]) for each in found):
            raise OSError(f"{host} has an address that is not of the internet")
        return found
