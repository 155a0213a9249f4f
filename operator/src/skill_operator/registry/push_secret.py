"""Make the credentials of the embedded registry: in the cluster, so that no values file and no release ever holds one.

The registry's init container runs this. Builds push by a Secret in the builder namespace, and the mirrors of the nodes
read by one in a namespace of their own. The Secrets are the truth; the htpasswd files that the registry checks against
are derived from them each time the registry starts.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import NamedTuple

import bcrypt

from skill_operator.k8s.errors import Conflict
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.naming import MANAGED
from skill_operator.registry.docker_config import RegistryCredential, parse_auths, parse_entry, render_docker_config
from skill_operator.settings import Settings

DATA_KEY = ".dockerconfigjson"
TYPE = "kubernetes.io/dockerconfigjson"
USER = "builder"
MIRROR_CONFIG = "registry-read"
READER = "mirror"
BCRYPT_ROUNDS = (
    4  # the password has 256 random bits: a slow hash protects nothing, and each request of a build would pay it
)
ATTEMPTS = 3
_USER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PASSWORD = re.compile(r"[!-~]{32,72}")  # printable, too long to guess; bcrypt reads no further than 72 bytes


class _Place(NamedTuple):
    """_Place is where a Secret is."""

    namespace: str
    name: str


def generate_credential(user: str = USER) -> RegistryCredential:
    """Return a new credential with a random password."""
    return RegistryCredential(user, secrets.token_urlsafe(32))


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
    place = _Place(settings.builder_namespace, settings.registry.push_secret)
    credential = await _read_or_create(cluster, place, registry_host(settings.registry.push), USER)
    _write(htpasswd, htpasswd_line(credential))


async def ensure_read_secret(cluster: Cluster, settings: Settings, htpasswd: Path) -> None:
    """Make the Secret of the mirrors and the file `htpasswd` agree, as `ensure_push_secret` does."""
    place = _Place(settings.registry.mirror_namespace, MIRROR_CONFIG)
    credential = await _read_or_create(cluster, place, registry_host(settings.registry.push), READER)
    _write(htpasswd, htpasswd_line(credential))


async def _read_or_create(cluster: Cluster, place: _Place, registry: str, user: str) -> RegistryCredential:
    """Return the credential that the cluster holds in the end. Another writer that was faster wins."""
    namespace, name = place
    for _ in range(ATTEMPTS):
        live = await cluster.get("Secret", namespace, name)
        if live is not None and (found := usable_credential(live, registry)) is not None:
            return found
        fresh = generate_credential(user)
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
