"""Define how the operator sees the API server: the protocol `Cluster`, whose objects are plain dicts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

Object = dict[str, Any]
Items = list[Object]
UNREADABLE = "unreadable"
"""Field of an object that is too much to be read: the reason. The object then has hardly more than its metadata."""


class Cluster(Protocol):
    """Cluster is everything that any part of the operator does to a cluster. All methods may raise ClusterError."""

    async def apply(self, obj: Object) -> Object:
        """Apply by forced server-side apply. Raises Conflict if metadata.resourceVersion is given and stale."""

    async def apply_status(self, obj: Object) -> Object:
        """Apply the status of an object, as `apply` does."""

    async def create(self, obj: Object) -> Object:
        """Create the object. Raises Conflict if it exists."""

    async def review(self, kind: str, spec: Object) -> Object:
        """Return the status of a TokenReview or a SubjectAccessReview. Nothing is stored."""

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """Return the object, or None if there is none of this name."""

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        labels: dict[str, str] | None = None,
        outline: Callable[[Object], Object] | None = None,
    ) -> list[Object]:
        """Return the objects of a kind, of all namespaces where `namespace` is None. Each item carries its kind.

        A Skill comes without description, schemas, examples and source; a NetworkPolicy or ResourceQuota with its
        metadata alone. Metadata that is larger than any of the operator's comes without what others added to it.
        `outline` returns what is kept of each, so that no more than a page is in memory whole.
        """

    def scan(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[Object, None]:
        """Yield the objects of a kind, whole, one after another: for objects that strangers make.

        No more than a page is in memory. Raises TooMuch after all that fits into the bound of bytes.
        """

    async def warnings(self, namespace: str, uid: str) -> Items:
        """Return Warning events about the object of this uid, oldest first; not all, where those are too much.

        An event comes with its reason, its message, which may be cut, and its times.
        """

    async def replace(self, obj: Object) -> Object:
        """Replace the object. Raises Conflict if metadata.resourceVersion is stale."""

    async def delete(
        self, kind: str, namespace: str | None, name: str, uid: str | None = None, version: str | None = None
    ) -> None:
        """Delete the object in the background, if it is there. With `uid`, delete only that very object.

        With `version`, its metadata.resourceVersion, raises Conflict where it is another object, or has changed.
        """

    async def evict(self, namespace: str, name: str, uid: str, grace_seconds: int) -> None:
        """Have this very pod end in `grace_seconds`, if it is there: also one that is ending already, but slower.

        Raises TooManyRequests where a PodDisruptionBudget keeps one that is not ending.
        """

    async def patch(self, kind: str, namespace: str, name: str, operations: Items, subresource: str = "") -> None:
        """Apply a JSON Patch (RFC 6902). Raises Invalid, and changes nothing, where one of its tests fails."""

    def watch(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """Yield ("ADDED", object) for all there is, ("SYNCED", {}), then every change, for ever.

        Where the API server is lost in between, ("CUT", {}) follows, then what changed meanwhile and ("SYNCED", {}).
        """


class CallerCluster(Protocol):
    """CallerCluster is what is done at the API server with a caller's own token. All methods may raise ClusterError.

    `audience` is the one by which the API server takes tokens; empty where it is not known.
    """

    audience: str

    async def get(self, token: str, kind: str, namespace: str, name: str) -> Object | None:
        """Return the object, or None if there is none of this name."""

    async def list(self, token: str, kind: str, namespace: str, labels: dict[str, str]) -> Items:
        """Return the first objects of a kind with these labels."""

    async def patch(self, token: str, kind: str, namespace: str, name: str, changes: Object) -> None:
        """Apply a JSON Merge Patch (RFC 7396)."""

    async def review(self, token: str, kind: str, spec: Object) -> Object:
        """Return the status of a review that the caller makes of itself. Nothing is stored."""
