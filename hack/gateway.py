"""Reach the installed gateway as its callers do: over plain HTTP, or over TLS with the CA that it publishes."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from hack.cluster.access import Cluster
from hack.install import NAMESPACE, forward

SERVICE = f"{NAMESPACE}-gateway"


@dataclass(frozen=True)
class GatewayService:
    """GatewayService says how the gateway's Service is spoken to.

    `authorities` are the published CAs as PEM; empty where the gateway is plain or has a certificate of others.
    """

    scheme: str
    port: int
    authorities: str

    @property
    def url(self) -> str:
        """Return its address within the cluster."""
        return f"{self.scheme}://{SERVICE}.{NAMESPACE}.svc"

    def curl(self, local: int) -> str:
        """Return the start of a command line, up to the path, for a port that is forwarded by hand."""
        if self.scheme == "http":
            return f"curl http://127.0.0.1:{local}"
        return f"curl --cacert gateway-ca.crt --connect-to ::127.0.0.1:{local} {self.url}"

    @cached_property
    def forwarded_context(self) -> ssl.SSLContext | None:
        """Return what a client of a forwarded port trusts. That port is at 127.0.0.1, which no certificate names."""
        if self.scheme == "http":
            return None
        context = ssl.create_default_context(cadata=self.authorities or None)
        context.check_hostname = False
        return context


def read_gateway(cluster: Cluster) -> GatewayService:
    """Read from the cluster how the gateway is spoken to."""
    (port,) = cluster.get("-n", NAMESPACE, "service", SERVICE)["spec"]["ports"]
    path = "jsonpath={.data.ca\\.crt}"
    published = cluster.kubectl("-n", NAMESPACE, "get", "configmap", f"{SERVICE}-ca", "--ignore-not-found", "-o", path)
    return GatewayService(port["name"], port["port"], published if port["name"] == "https" else "")


@contextmanager
def forwarded_gateway(cluster: Cluster) -> Iterator[tuple[GatewayService, int]]:
    """Forward a local port to the gateway, and yield it with how the gateway is spoken to."""
    service = read_gateway(cluster)
    with forward(cluster, f"service/{SERVICE}", service.port) as port:
        yield service, port
