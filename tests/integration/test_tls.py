"""The gateway with a certificate of the controller's: callers are served over TLS, whatever is deleted or spoilt."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import urllib.error
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import pytest

from hack.cluster.access import Cluster
from hack.gateway import SERVICE, read_gateway
from hack.install import NAMESPACE, rollout
from skill_operator import naming
from skill_operator.certificates.issuing import is_issued_by, parse_certificates, read_key_pair
from tests.integration.installed import Operator, http, install_for_tests, installed, until
from tests.integration.test_availability import calling
from tests.integration.test_doctor import examine
from tests.integration.test_skill import apply, skill
from tests.integration.test_sleep import SLOW

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.serial("installs the chart with TLS"),
    pytest.mark.timeout(900),
]
CERTIFICATE = ("secret", naming.gateway_certificate(SERVICE))
CA_KEY = ("secret", naming.gateway_authority(SERVICE))
TRUST = ("configmap", naming.gateway_trust(SERVICE))
REPAIR_SECONDS = 60.0
KUBELET_SECONDS = 180.0
"""Within which a kubelet brings a changed Secret into a pod, and the gateway loads it."""


@pytest.fixture(scope="module")
def encrypted(cluster: Cluster) -> Iterator[Operator]:
    """The operator with `gateway.tls.selfSigned`. Afterwards all is as other tests want it."""
    try:
        tls = {"selfSigned": True, "extraNames": ["skills.example", "127.0.0.1"]}
        # Another test's CA is for other names; callers would be given time to learn of a new one.
        left = [f"secret/{NAMESPACE}-gateway-{each}" for each in ("ca-key", "certificate")]
        left.append(f"configmap/{NAMESPACE}-gateway-ca")
        cluster.kubectl("-n", NAMESPACE, "delete", "--ignore-not-found", *left)
        with installed(cluster, gateway={"tls": tls}) as made:
            yield made
    finally:
        install_for_tests(cluster)


@pytest.fixture(scope="module")
def space(encrypted: Operator) -> Iterator[str]:
    with encrypted.cluster.namespace("tls") as name:
        apply(encrypted, name, skill("awake", source=SLOW, idleTimeoutSeconds=0, callTimeoutSeconds=20))
        encrypted.ready(name, "awake")
        yield name


def live(operator: Operator, what: tuple[str, str]) -> dict[str, Any]:
    """The object, empty where there is none."""
    text = operator.cluster.kubectl("-n", NAMESPACE, "get", *what, "--ignore-not-found", "-o", "json")
    found: dict[str, Any] = json.loads(text or "{}")
    return found


def changed(operator: Operator, what: tuple[str, str], before: dict[str, Any]) -> dict[str, Any]:
    """The object, once its data is there and another."""

    def look() -> dict[str, Any]:
        found = live(operator, what)
        return found if found.get("data") and found["data"] != before.get("data") else {}

    return until(f"{'/'.join(what)} is made anew", REPAIR_SECONDS, look)


def recreated(operator: Operator, what: tuple[str, str]) -> dict[str, Any]:
    """Delete the object; return it once the controller has made it again."""
    before = live(operator, what)
    operator.cluster.kubectl("-n", NAMESPACE, "delete", *what)

    def look() -> dict[str, Any]:
        found = live(operator, what)
        return found if found and found["metadata"]["uid"] != before["metadata"]["uid"] else {}

    return until(f"{'/'.join(what)} is back", REPAIR_SECONDS, look)


def shown(operator: Operator) -> str:
    """The digest of the certificate that the gateway shows; empty if none is believed, or the way to it is made anew."""
    context = operator.service.forwarded_context
    assert context is not None
    try:
        with (
            socket.create_connection(("127.0.0.1", operator.gateway), timeout=5) as plain,
            context.wrap_socket(plain) as connection,
        ):
            return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
    except OSError:
        return ""


def digest_of(secret: dict[str, Any]) -> str:
    pem = base64.b64decode(secret["data"]["tls.crt"]).decode()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def test_callers_who_trust_the_published_ca_are_served(encrypted: Operator, space: str) -> None:
    assert encrypted.service.scheme == "https"
    assert encrypted.call(space, "awake", {"what": "hi"}).body == {"said": "hi"}
    strict = ssl.create_default_context(cadata=encrypted.service.authorities)  # 127.0.0.1 is one of the extraNames
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    assert http("GET", f"{encrypted.url}/v1/skills", None, token=encrypted.token, context=strict).status == 200
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        http("GET", f"{encrypted.url}/v1/skills", None, context=ssl.create_default_context())
    with pytest.raises((OSError, HTTPException)):  # nothing is answered in plain text
        http("GET", encrypted.url.replace("https", "http") + "/v1/skills", None)
    url = encrypted.skill(space, "awake")["status"]["url"]
    assert url.startswith(encrypted.service.url)


def test_pods_call_by_the_service_s_name(encrypted: Operator, space: str) -> None:
    calls = calling(encrypted, space, f"{space}/awake:0:3:0.2", during=lambda: None)
    assert calls
    assert [call for call in calls if call["status"] != 200] == []


def test_the_doctor_says_so(encrypted: Operator) -> None:
    states, text = examine(encrypted)
    assert states["TLS, gateway"] == "ok", text
    assert states["TLS, registry"] == "plain", text


def test_no_key_is_where_callers_or_gateways_read(encrypted: Operator) -> None:
    assert set(live(encrypted, TRUST)["data"]) == {"ca.crt"}
    assert "PRIVATE KEY" not in live(encrypted, TRUST)["data"]["ca.crt"]
    assert live(encrypted, CA_KEY)["data"]["tls.key"] != live(encrypted, CERTIFICATE)["data"]["tls.key"]
    pods = encrypted.cluster.get("-n", NAMESPACE, "pods")
    assert CERTIFICATE[1] in json.dumps(pods)
    assert CA_KEY[1] not in json.dumps(pods)


def test_what_is_deleted_comes_back_and_no_call_is_lost(encrypted: Operator, space: str) -> None:
    """The caller trusts what was published before, and goes on while each of the three objects is deleted."""

    known = parse_certificates(encrypted.service.authorities.encode())

    def deleted() -> None:
        certificate = recreated(encrypted, CERTIFICATE)
        until("the gateway shows the new one", KUBELET_SECONDS, lambda: shown(encrypted) == digest_of(certificate))
        published = recreated(encrypted, TRUST)
        assert parse_certificates(published["data"]["ca.crt"].encode()) == known
        recreated(encrypted, CA_KEY)
        bundle = parse_certificates(changed(encrypted, TRUST, published)["data"]["ca.crt"].encode())
        assert len(bundle) == 2
        assert bundle[1:] == known[:1], "the former CA, whose certificate still serves"

    calls = calling(encrypted, space, f"{space}/awake:0:600:0.2", during=deleted, until_then=True)
    assert len(calls) > 50
    assert [call for call in calls if call["status"] != 200] == []


def test_hostile_bytes_are_replaced(encrypted: Operator, space: str) -> None:
    for what, key in ((CERTIFICATE, "tls.key"), (CERTIFICATE, "tls.crt"), (CA_KEY, "former.crt"), (CA_KEY, "tls.crt")):
        patch = json.dumps({"data": {key: base64.b64encode(b"\0rubbish" * 100).decode(), "junk": "AA=="}})
        encrypted.cluster.kubectl("-n", NAMESPACE, "patch", *what, "--type=merge", "-p", patch)
        spoilt = live(encrypted, what)
        assert "junk" not in changed(encrypted, what, spoilt)["data"]

    def believed() -> bool:
        pair = read_key_pair(live(encrypted, CERTIFICATE)["data"])
        known = parse_certificates(live(encrypted, TRUST)["data"]["ca.crt"].encode())
        return pair is not None and any(is_issued_by(pair.certificate, ca) for ca in known)

    until("callers know the CA of the certificate", REPAIR_SECONDS, believed)
    encrypted.service = read_gateway(encrypted.cluster)  # of two new CAs, since both Secrets were spoilt
    repaired = digest_of(live(encrypted, CERTIFICATE))
    until("the gateway shows the repaired one", KUBELET_SECONDS, lambda: shown(encrypted) == repaired)
    assert encrypted.call(space, "awake", {"what": "hi"}).status == 200


def test_a_gateway_without_a_certificate_waits_and_serves_nothing(encrypted: Operator, space: str) -> None:
    """The controller is away, and the Secret is gone: the pod does not start, and the one before it serves on."""
    cluster, name = encrypted.cluster, f"deployment/{NAMESPACE}-gateway"
    encrypted.scale("controller", 0)
    try:
        cluster.kubectl("-n", NAMESPACE, "delete", *CERTIFICATE)
        cluster.kubectl("-n", NAMESPACE, "rollout", "restart", name)

        def waits() -> bool:
            pods = cluster.get("-n", NAMESPACE, "pods", "-l", "app.kubernetes.io/component=gateway")["items"]
            events = cluster.kubectl("-n", NAMESPACE, "get", "events", "-o", "json")
            return len(pods) == 2 and "FailedMount" in events and CERTIFICATE[1] in events

        until("the new pod waits for the Secret", 90, waits)
        pods = cluster.get("-n", NAMESPACE, "pods", "-l", "app.kubernetes.io/component=gateway")["items"]
        states = [s["state"] for pod in pods for s in pod["status"].get("containerStatuses", [])]
        assert sum("running" in state for state in states) == 1
        assert encrypted.call(space, "awake", {"what": "hi"}).status == 200
    finally:
        encrypted.scale("controller", 1)
    rollout(cluster, "gateway", 300)
    assert live(encrypted, CERTIFICATE)["data"]["tls.key"]
