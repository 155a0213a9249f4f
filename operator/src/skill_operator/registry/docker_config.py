"""Read and write Docker configurations (`.dockerconfigjson`), which hold the credentials of registries."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class RegistryCredential(NamedTuple):
    """RegistryCredential is a user and a password for HTTP Basic authentication (RFC 7617)."""

    user: str
    password: str

    @property
    def auth(self) -> str:
        """Return the credential in base64, as Docker's field `auth` and RFC 7617 write it."""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def header(self) -> str:
        """Return the value of the Authorization header."""
        return f"Basic {self.auth}"


def render_docker_config(credential: RegistryCredential, registry: str) -> str:
    """Return the Docker configuration with the credential for one registry (`host:port`)."""
    entry = {"username": credential.user, "password": credential.password, "auth": credential.auth}
    return json.dumps({"auths": {registry: entry}}, sort_keys=True)


def parse_auths(text: str | bytes) -> dict[str, Any]:
    """Return the entries of a Docker configuration by registry. Raises ValueError for a text that is none.

    The cause of the error may quote the text, so nobody may log it.
    """
    try:
        return dict(json.loads(text)["auths"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no dockerconfigjson: {type(error).__name__}") from error


def parse_entry(entry: dict[str, str]) -> RegistryCredential:
    """Return the credential of an entry. Raises ValueError for an entry that is none or names no user."""
    try:
        user, password = entry.get("username", ""), entry.get("password", "")
        if entry.get("auth"):
            user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        named = bool(user) and ":" not in user
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"no dockerconfigjson: {type(error).__name__}") from error
    if not named:
        raise ValueError("no dockerconfigjson: an entry names no user")
    return RegistryCredential(user, password)


def find_credential(text: str | bytes, host: str) -> RegistryCredential | None:
    """Return the credential for `host:port`, or None if there is none. Raises ValueError, as `parse_auths` does."""
    for registry, entry in parse_auths(text).items():
        if urlsplit(registry if "//" in registry else f"//{registry}").netloc == host:
            return parse_entry(entry)
    return None
