"""The credential that only builds push with: made in the cluster, so that no values file and no release ever holds it.

The registry's init container runs this. The Secret in the builder namespace is the truth; the htpasswd file that the
registry checks against is derived from it each time the registry starts.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import Any

import bcrypt

from skill_operator.k8s.errors import Conflict
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.naming import MANAGED
from skill_operator.registry.auth import Credential
from skill_operator.settings import Settings

KEY = ".dockerconfigjson"
TYPE = "kubernetes.io/dockerconfigjson"
USER = "builder"
ROUNDS = 4  # the password has 256 random bits: a slow hash protects nothing, and each request of a build would pay it
TRIES = 3
_USER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PASSWORD = re.compile(r"[!-~]{32,72}")  # printable, too long to guess; bcrypt reads no further than 72 bytes


def mint() -> Credential:
    return Credential(USER, secrets.token_urlsafe(32))


def host(push: str) -> str:
    """What clients look a credential up by: the registry's host and port, without a path."""
    return push.partition("/")[0]


def document(credential: Credential, registry: str) -> str:
    """The Docker configuration that Kaniko reads."""
    entry = {"username": credential.user, "password": credential.password, "auth": credential.basic()}
    return json.dumps({"auths": {registry: entry}}, sort_keys=True)


def usable(secret: Object, registry: str) -> Credential | None:
    """The credential for this registry, or None if the Secret holds none that a client and the registry agree on."""
    try:
        entry = json.loads(base64.b64decode(secret["data"][KEY], validate=True))["auths"][registry]
        user, _, password = base64.b64decode(entry["auth"], validate=True).decode("ascii").partition(":")
        same = entry.get("username", user) == user and entry.get("password", password) == password
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None
    return Credential(user, password) if same and _USER.fullmatch(user) and _PASSWORD.fullmatch(password) else None


def htpasswd_line(credential: Credential) -> str:
    digest = bcrypt.hashpw(credential.password.encode(), bcrypt.gensalt(ROUNDS)).decode()
    return f"{credential.user}:{digest}\n"


async def ensure(cluster: Cluster, settings: Settings, htpasswd: Path) -> None:
    """Make sure that the push Secret and `htpasswd` agree. A good Secret is never changed: builds may be using it.

    Raises ValueError where the settings name no push Secret, and ClusterError where the API server refuses.
    """
    if not settings.registry.push_secret:
        raise ValueError("registry.pushSecret is empty: there is no Secret to keep the push credential in")
    credential = await _agreed(cluster, settings)
    _write(htpasswd, htpasswd_line(credential))


async def _agreed(cluster: Cluster, settings: Settings) -> Credential:
    """What is in the cluster at the end. Whoever was faster wins, and we take theirs."""
    namespace, name = settings.builder_namespace, settings.registry.push_secret
    registry = host(settings.registry.push)
    for _ in range(TRIES):
        live = await cluster.get("Secret", namespace, name)
        if live is not None and (found := usable(live, registry)) is not None:
            return found
        fresh = mint()
        secret = _secret(namespace, name, document(fresh, registry))
        try:
            if live is None:
                await cluster.create(secret)
            else:
                # The type of a Secret cannot change; nobody mounts it by type.
                secret["type"] = live.get("type", TYPE)
                secret["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
                await cluster.apply(secret)
        except Conflict:
            continue
        return fresh
    raise Conflict(f"Secret {namespace}/{name} changes faster than it can be read")


def _secret(namespace: str, name: str, text: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(MANAGED)},
        "type": TYPE,
        "data": {KEY: base64.b64encode(text.encode()).decode()},
    }


def _write(path: Path, text: str) -> None:
    """All or nothing, and for the group of the pod at most."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o640)
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
