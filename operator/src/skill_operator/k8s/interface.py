"""The API server as the operator sees it: `Cluster`, whose objects are plain dicts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

Object = dict[str, Any]
Items = list[Object]


class Cluster(Protocol):
    """All that any part of the operator does to a cluster."""

    async def apply(self, obj: Object) -> Object:
        """Server-side apply, forced; Conflict if metadata.resourceVersion is given and stale."""

    async def apply_status(self, obj: Object) -> Object: ...

    async def create(self, obj: Object) -> Object:
        """Raises Conflict if it exists."""

    async def review(self, kind: str, spec: Object) -> Object:
        """Ask what a TokenReview or a SubjectAccessReview asks; its status. Nothing is stored."""

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None: ...

    async def list(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Object]:
        """In all namespaces where `namespace` is None. Each item carries its kind."""

    async def warnings(self, namespace: str, uid: str) -> Items:
        """Events about the object of this uid that say something is wrong, oldest first."""

    async def replace(self, obj: Object) -> Object:
        """Conflict if metadata.resourceVersion is stale."""

    async def delete(self, kind: str, namespace: str | None, name: str, uid: str | None = None) -> None:
        """In the background; that it is gone already is fine. With `uid`, only that very object."""

    async def patch(self, kind: str, namespace: str, name: str, operations: Items, subresource: str = "") -> None:
        """JSON Patch: all of it or, where one of its tests fails, nothing and Invalid."""

    def watch(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """("ADDED", object) for all there is, ("SYNCED", {}), then every change, for ever. Where the API server is lost
        in between: ("CUT", {}), then what has changed meanwhile and ("SYNCED", {})."""
