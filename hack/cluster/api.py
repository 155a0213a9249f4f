"""Send requests to the API server without starting a process for each."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from hack.cluster.pki import Pki


@dataclass(frozen=True)
class Api:
    """Api sends requests to the API server as its administrator."""

    url: str
    pki: Pki

    def get(self, path: str) -> dict[str, Any] | None:
        """Return an object, or None where it does not exist or nobody answers."""
        body = self._read(path)
        return json.loads(body) if body else None

    def ready(self) -> bool:
        """Return whether the API server reports that it is ready."""
        return self._read("/readyz") == b"ok"

    def node_ready(self, name: str) -> bool:
        """Return whether the node is ready for pods."""
        return _condition(self.get(f"/api/v1/nodes/{name}"), "Ready")

    def available(self, namespace: str, deployment: str) -> bool:
        """Return whether a Deployment is available."""
        return _condition(self.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}"), "Available")

    def _read(self, path: str) -> bytes | None:
        try:
            context = ssl.create_default_context(cafile=str(self.pki.crt("ca")))
            context.load_cert_chain(self.pki.crt("admin"), self.pki.key("admin"))
            direct = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            with direct.open(self.url + path, timeout=3) as answer:
                return bytes(answer.read())
        except (OSError, urllib.error.URLError):
            return None


def _condition(document: dict[str, Any] | None, kind: str) -> bool:
    conditions = (document or {}).get("status", {}).get("conditions", [])
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)
