"""Names, times, and an API server in memory that holds what the rotator writes."""

from __future__ import annotations

import base64
import copy
from datetime import UTC, datetime
from typing import Any

from skill_operator.certificates.rotator import CertificateRotator
from skill_operator.k8s.errors import Conflict, Invalid, Unavailable
from skill_operator.settings import GatewaySettings, SelfSignedSettings, Settings
from tests.unit.reconcile.samples import SETTINGS as PLAIN

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
SERVICE, NAMESPACE = "skill-operator-gateway", "skill-operator"
NAMES = (SERVICE, f"{SERVICE}.{NAMESPACE}", f"{SERVICE}.{NAMESPACE}.svc", f"{SERVICE}.{NAMESPACE}.svc.cluster.local")
MORE_NAMES = (*NAMES, "10.1.2.3", "fd00::1", "skills.example")
AUTHORITY = ("Secret", f"{SERVICE}-ca-key")
TRUST = ("ConfigMap", f"{SERVICE}-ca")
SERVING = ("Secret", f"{SERVICE}-certificate")
OURS = (AUTHORITY, TRUST, SERVING)
SETTINGS: Settings = PLAIN.model_copy(
    update={"gateway": GatewaySettings(self_signed=SelfSignedSettings(enabled=True, service=SERVICE))}
)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


class Stored:
    """An API server that stores objects and has resource versions, as the real one."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.writes: list[tuple[str, str]] = []
        self.version = 0
        self.writes_left = -1  # until the API server is away

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        assert namespace == NAMESPACE
        return copy.deepcopy(self.objects.get((kind, name)))

    async def create(self, obj: dict[str, Any]) -> None:
        if (obj["kind"], obj["metadata"]["name"]) in self.objects:
            raise Conflict("it exists", 409)
        self._store(obj)

    async def replace(self, obj: dict[str, Any]) -> None:
        live = self.objects[obj["kind"], obj["metadata"]["name"]]
        if obj["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            raise Conflict("it has changed", 409)
        if live.get("immutable") or obj.get("type") != live.get("type"):
            raise Invalid("field is immutable", 422)
        self._store(obj)

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        assert (namespace, self.objects[kind, name]["metadata"]["uid"]) == (NAMESPACE, uid)
        del self.objects[kind, name]

    def _store(self, obj: dict[str, Any]) -> None:
        if not self.writes_left:
            raise Unavailable("the API server does not answer")
        self.writes_left -= 1
        key = obj["kind"], obj["metadata"]["name"]
        assert all(isinstance(value, str) for value in obj["data"].values())
        self.version += 1
        self.writes.append(key)
        self.objects[key] = copy.deepcopy(obj)
        meta = self.objects[key]["metadata"]
        meta |= {"resourceVersion": str(self.version), "uid": meta.get("uid", str(self.version))}

    def data(self, key: tuple[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = self.objects[key]["data"]
        return found

    @property
    def bundle(self) -> bytes:
        """What callers trust."""
        text: str = self.data(TRUST)["ca.crt"]
        return text.encode()


class Clock:
    """The time, as the test says."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def rotator(cluster: Stored, clock: Clock, names: tuple[str, ...] = NAMES) -> CertificateRotator:
    return CertificateRotator(cluster, SETTINGS, clock, names)  # type: ignore[arg-type]
