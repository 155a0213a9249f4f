"""Make the credential by which builds push: in the cluster, so that no values file and no release ever holds it.

The registry's init container runs this. The Secret in the builder namespace is the truth; the htpasswd file that the
registry checks against is derived from it each time the registry starts.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import tempfile
from pathlib import Path

import bcrypt

from skill_operator.k8s.errors import Conflict
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.naming import MANAGED
from skill_operator.registry.docker_config import RegistryCredential, parse_auths, parse_entry, render_docker_config
from skill_operator.settings import Settings

DATA_KEY = ".dockerconfigjson"
TYPE = "kubernetes.io/dockerconfigjson"
USER = "builder"
BCRYPT_ROUNDS = (
    4  # the password has 256 random bits: a slow hash protects nothing, and each request of a build would pay it
)
ATTEMPTS = 3
_USER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PASSWORD = re.compile(r"[!-~]{32,72}")  # printable, too long to guess; bcrypt reads no further than 72 bytes


def generate_credential() -> RegistryCredential:
    """Return a new credential with a random password."""
    return RegistryCredential(USER, secrets.token_urlsafe(32))


def registry_host(push: str) -> str:
    """Return the host and port of a push address, by which clients look up a credential."""
    return push.partition("/")[0]


def usable_credential(secret: Object, registry: str) -> RegistryCredential | None:
    """Return the Secret's credential for this registry, or None if it has none that clients and registry agree on."""
    try:
        entry = parse_auths(base64.b64decode(secret["data"][DATA_KEY], validate=True))[registry]
        credential = parse_entry({"auth": entry["auth"]})
        user, password = credential
        same = entry.get("username", user) == user and entry.get("password", password) == password
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return credential if same and _USER.fullmatch(user) and _PASSWORD.fullmatch(password) else None


def htpasswd_line(credential: RegistryCredential) -> str:
    """Return the line of an htpasswd file for the credential."""
    digest = bcrypt.hashpw(credential.password.encode(), bcrypt.gensalt(BCRYPT_ROUNDS)).decode()
    return f"{credential.user}:{digest}\n"


async def ensure_push_secret(cluster: Cluster, settings: Settings, htpasswd: Path) -> None:
    """Make the push Secret and the file `htpasswd` agree. A good Secret is never changed: builds may be using it.

    Raises ValueError where the settings name no push Secret, and ClusterError where the API server refuses.
    """
    if not settings.registry.push_secret:
        raise ValueError("registry.pushSecret is empty: name the Secret that keeps the push credential")
    credential = await _read_or_create(cluster, settings)
    _write(htpasswd, htpasswd_line(credential))


async def _read_or_create(cluster: Cluster, settings: Settings) -> RegistryCredential:
    """Return the credential that the cluster holds in the end. Another writer that was faster wins."""
    namespace, name = settings.builder_namespace, settings.registry.push_secret
    registry = registry_host(settings.registry.push)
    for _ in range(ATTEMPTS):
        live = await cluster.get("Secret", namespace, name)
        if live is not None and (found := usable_credential(live, registry)) is not None:
            return found
        fresh = generate_credential()
        secret = _secret(namespace, name, render_docker_config(fresh, registry))
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


def _secret(namespace: str, name: str, text: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(MANAGED)},
        "type": TYPE,
        "data": {DATA_KEY: base64.b64encode(text.encode()).decode()},
    }


def _write(path: Path, text: str) -> None:
    """Write the file as a whole or not at all, readable for the pod's group at most."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o640)
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
