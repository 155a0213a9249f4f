"""Keep the gateway's CA and certificate in the cluster: the leading controller alone makes and renews them.

The Secret of the CA is the truth. It holds the key, which nobody mounts, and the certificates of former CAs. Callers
read the ConfigMap, which follows from it; gateways mount the Secret of the serving certificate.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from skill_operator import naming
from skill_operator.certificates.issuing import (
    Certificate,
    KeyPair,
    encode_certificates,
    is_issued_by,
    is_serving_for,
    is_valid,
    issue_authority,
    issue_serving,
    parse_certificates,
    read_certificates,
    read_key_pair,
)
from skill_operator.certificates.renewal import Found, needed_former, why_new_authority, why_new_serving
from skill_operator.k8s.errors import ClusterError, Conflict
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.observability import metrics
from skill_operator.settings import Settings, is_host_name

log = logging.getLogger(__name__)
CHECK_SECONDS = 10.0
RESOLV_CONF = Path("/etc/resolv.conf")
DEFAULT_CLUSTER_DOMAIN = "cluster.local"
CA_FILE = "ca.crt"
FORMER_KEY = "former.crt"
TLS_TYPE = "kubernetes.io/tls"


class NotOurs(Exception):
    """NotOurs says that an object of somebody else has a name that the gateway's certificate needs."""


@dataclass(frozen=True)
class Objects:
    """Objects are those of the cluster that hold the gateway's certificate; None where there is none."""

    authority: Object | None
    config_map: Object | None
    serving: Object | None


def server_names(settings: Settings, resolv_conf: str) -> tuple[str, ...]:
    """Return the names that the gateway's certificate is for: its Service's, and those of gateway.tls.extraNames."""
    service = f"{settings.gateway.self_signed.service}.{settings.namespace}"
    own = settings.gateway.self_signed.service, service, f"{service}.svc"
    full = f"{service}.svc.{cluster_domain(resolv_conf, settings.namespace)}"
    extra = sorted(map(_canonical, settings.gateway.self_signed.extra_names))
    return tuple(dict.fromkeys((*own, full, *extra)))


def cluster_domain(resolv_conf: str, namespace: str) -> str:
    """Return the cluster's domain, from the search list that the kubelet gives to pods of the namespace."""
    prefix = f"{namespace}.svc."
    for line in resolv_conf.splitlines():
        keyword, *domains = line.split() or [""]
        found = [domain.removeprefix(prefix).removesuffix(".") for domain in domains if domain.startswith(prefix)]
        if keyword == "search" and found and is_host_name(found[0]):
            return found[0]
    return DEFAULT_CLUSTER_DOMAIN


def read_resolv_conf() -> str:
    """Return the resolver's configuration of this pod; empty where there is none."""
    try:
        return RESOLV_CONF.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


async def read_objects(cluster: Cluster, settings: Settings) -> Objects:
    """Read the three objects. Raises ClusterError, and NotOurs where one of them is somebody else's."""
    service, namespace = settings.gateway.self_signed.service, settings.namespace
    wanted = [
        ("Secret", naming.gateway_authority(service)),
        ("ConfigMap", naming.gateway_trust(service)),
        ("Secret", naming.gateway_certificate(service)),
    ]
    found = [await cluster.get(kind, namespace, name) for kind, name in wanted]
    for (kind, name), live in zip(wanted, found, strict=True):
        if live is not None and (live["metadata"].get("labels") or {}).get(naming.MANAGED_BY) != naming.MANAGER:
            raise NotOurs(
                f"{kind} {namespace}/{name} is not the operator's: delete or rename it, or set gateway.tls.secretName"
            )
    return Objects(*found)


def find(objects: Objects) -> Found:
    """Return what of the objects can be used, whatever bytes they hold."""
    authority, serving = read_key_pair(_data(objects.authority)), read_key_pair(_data(objects.serving))
    former = list(read_certificates(_data(objects.authority).get(FORMER_KEY)))
    if serving is not None:  # where the CA's Secret is lost, callers still know the CA of what the gateway shows
        former += [c for c in _published(objects.config_map) if is_issued_by(serving.certificate, c)]
    present = None if authority is None else authority.certificate
    return Found(authority, serving, tuple(dict.fromkeys(c for c in former if c != present)))


def find_problem(objects: Objects, now: datetime, names: tuple[str, ...]) -> str:
    """Return why callers who trust the ConfigMap would refuse the gateway at one of these names, or nothing."""
    serving = read_key_pair(_data(objects.serving))
    if serving is None:
        return "there is no certificate that can be used"
    if not is_valid(serving.certificate, now):
        return f"the certificate is valid until {serving.certificate.not_valid_after_utc:%Y-%m-%d}"
    issuers = [ca for ca in _published(objects.config_map) if is_issued_by(serving.certificate, ca)]
    if not issuers or not is_valid(issuers[0], now):
        return "callers do not get the CA of the certificate"
    if not is_serving_for(serving.certificate, names, issuers[0]):
        return "the certificate is for other names than gateway.tls.extraNames and the Service's"
    return ""


class CertificateRotator:
    """CertificateRotator looks at the objects every ten seconds, and writes what is missing, broken or due."""

    def __init__(
        self, cluster: Cluster, settings: Settings, now: Callable[[], datetime], names: tuple[str, ...]
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._now = now
        self._names = names
        self._problem = ""
        self._unstored: KeyPair | None = None  # a CA that is published already, and whose Secret could not be written

    async def run(self) -> None:
        """Rotate until cancelled. A problem is logged once, and tried again."""
        while True:
            try:
                await self.rotate()
            except (ClusterError, NotOurs) as error:
                if str(error) != self._problem and not isinstance(error, Conflict):
                    log.error("the gateway's certificate cannot be kept: %s", error)  # noqa: TRY400 - it says enough
                self._problem = str(error)
            except Exception:  # a surprise in the bytes of others must not end the controller
                log.exception("a look at the gateway's certificate failed")
            else:
                self._problem = ""
            await asyncio.sleep(CHECK_SECONDS)

    async def rotate(self) -> None:
        """Do what is due now. Raises ClusterError and NotOurs; what was written until then is consistent.

        A CA is published before it is stored, and stored before it signs: whatever ends this process in between, no
        caller meets a certificate whose CA it cannot know.
        """
        objects = await read_objects(self._cluster, self._settings)
        found, now, service = find(objects), self._now(), self._settings.gateway.self_signed.service
        if reason := why_new_authority(now, found, self._names):
            former = () if found.authority is None else (found.authority.certificate,)
            found = replace(found, authority=self._next_authority(now), former=former + found.former)
            log.info("the gateway gets a new CA: %s", reason)
        authority = found.authority
        if authority is None:
            raise AssertionError("a CA was just made")
        found = replace(found, former=needed_former(now, found))
        data = authority.encode()
        if found.former:
            data[FORMER_KEY] = encode_certificates(found.former)
        await self._write_config_map(objects.config_map, encode_certificates([authority.certificate, *found.former]))
        self._unstored = authority
        await self._write_secret(objects.authority, naming.gateway_authority(service), data)
        self._unstored = None
        serving = found.serving
        if reason := why_new_serving(now, found, self._names):
            serving = issue_serving(now, self._names, authority)
            log.info("the gateway gets a new certificate: %s", reason)
        if serving is not None:
            await self._write_secret(objects.serving, naming.gateway_certificate(service), serving.encode())
            metrics.set_certificate_expiry("serving", serving.certificate.not_valid_after_utc)
        metrics.set_certificate_expiry("authority", authority.certificate.not_valid_after_utc)

    def _next_authority(self, now: datetime) -> KeyPair:
        """Return a new CA, but not another one each time that its Secret cannot be written."""
        if self._unstored is not None and not why_new_authority(now, Found(self._unstored, None), self._names):
            return self._unstored
        return issue_authority(now, self._names)

    async def _write_secret(self, live: Object | None, name: str, data: Mapping[str, bytes]) -> None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        await self._write(live, {"kind": "Secret", "type": TLS_TYPE, "data": encoded}, name)

    async def _write_config_map(self, live: Object | None, bundle: bytes) -> None:
        name = naming.gateway_trust(self._settings.gateway.self_signed.service)
        await self._write(live, {"kind": "ConfigMap", "data": {CA_FILE: bundle.decode()}}, name)

    async def _write(self, live: Object | None, wanted: Object, name: str) -> None:
        """Create the object, or replace it where its data differs. Raises Conflict if somebody else was faster.

        Replaced and not applied, so that what others wrote beside our data goes. Metadata of others stays. What cannot
        be changed is deleted first.
        """
        if live is not None and _data(live) == wanted["data"] and not live.get("binaryData"):
            return
        if live is not None and (live.get("immutable") or live.get("type") != wanted.get("type")):
            metadata = live["metadata"]
            await self._cluster.delete(wanted["kind"], metadata["namespace"], name, metadata["uid"])
            live = None
        if live is None:
            labels = naming.MANAGED | {naming.COMPONENT: naming.GATEWAY_CERTIFICATE}
            metadata = {"name": name, "namespace": self._settings.namespace, "labels": labels}
            await self._cluster.create({"apiVersion": "v1", "metadata": metadata, **wanted})
        else:
            await self._cluster.replace({"apiVersion": "v1", "metadata": live["metadata"], **wanted})


def _data(live: Object | None) -> dict[str, object]:
    data = (live or {}).get("data")
    return data if isinstance(data, dict) else {}


def _published(config_map: Object | None) -> tuple[Certificate, ...]:
    text = _data(config_map).get(CA_FILE)
    return parse_certificates(text.encode("utf-8", "replace")) if isinstance(text, str) else ()


def _canonical(name: str) -> str:
    """Return the one spelling of an IP address; a host name as it is."""
    return name if is_host_name(name) else str(ip_address(name))
