"""The gateway as a protected resource of OAuth 2.0 (RFC 9728): clients learn from its metadata where to sign in.

The gateway issues no token. What the named authorization servers issue is reviewed by the API server, as any token is.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from skill_operator.gateway import mcp_endpoint
from skill_operator.gateway.problems import Problem
from skill_operator.k8s.interface import Object
from skill_operator.settings import Settings

WELL_KNOWN_PATH = "/.well-known/oauth-protected-resource"
_RESOURCE_NAME = "Skills"


class ProtectedResource:
    """ProtectedResource says where callers sign in, where `gateway.oauth` names authorization servers.

    Every URL starts with the one of the settings: what a request says of its host is never repeated. A namespace's
    endpoint is a resource whether the namespace exists or not.
    """

    def __init__(self, settings: Settings) -> None:
        self._oauth = settings.gateway.oauth
        self._url = settings.gateway_url.rstrip("/")
        parts = urlsplit(self._url)
        self._base, self._prefix = f"{parts.scheme}://{parts.netloc}", parts.path

    @property
    def enabled(self) -> bool:
        """Return whether there is metadata."""
        return bool(self._oauth.authorization_servers)

    @property
    def well_known_paths(self) -> tuple[str, ...]:
        """Return the paths of the metadata of the whole gateway, with and without the path of the gateway's own URL.

        The RFC puts that path behind the well-known one. A proxy in front may take it away.
        """
        return tuple(dict.fromkeys((WELL_KNOWN_PATH, WELL_KNOWN_PATH + self._prefix)))

    def metadata(self, well_known_path: str) -> Object:
        """Return the metadata that is at a path, of those that the routes let through."""
        known = next((path for path in self.well_known_paths[::-1] if well_known_path.startswith(path)), "")
        path = well_known_path.removeprefix(known)
        document: Object = {
            "resource": self._url + path,
            "authorization_servers": list(self._oauth.authorization_servers),
            "bearer_methods_supported": ["header"],
            "resource_name": _RESOURCE_NAME,
        }
        if self._oauth.scopes:
            document["scopes_supported"] = list(self._oauth.scopes)
        return document

    def with_challenge(self, problem: Problem, path: str = "") -> Problem:
        """Return the problem; where it asks for a token, its challenge (RFC 6750) says where to get one for a path."""
        challenge = problem.headers.get("WWW-Authenticate")
        if challenge is None or not self.enabled:
            return problem
        resource = path if mcp_endpoint.is_endpoint(path) else ""
        challenge += f', resource_metadata="{self._base}{WELL_KNOWN_PATH}{self._prefix}{resource}"'
        if self._oauth.scopes:
            challenge += f', scope="{" ".join(self._oauth.scopes)}"'
        problem.headers["WWW-Authenticate"] = challenge
        return problem
