"""Implement `Cluster` over HTTP: dicts in, dicts out, one error class for each way to react."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from skill_operator.k8s.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from skill_operator.k8s.interface import Items, Object

log = logging.getLogger(__name__)
TIMEOUT_SECONDS = 15.0
WATCH_SECONDS = 240
MIN_WATCH_SECONDS = 1.0
MAX_PAUSE_SECONDS = 5.0  # until a watch starts again: so long no skill wakes once the API server is back
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
SILENCE_SECONDS = 70  # a live watch brings a bookmark every minute
PAGE_SIZE = 500
_SEGMENT = re.compile(r"[a-z0-9]([-.:a-z0-9]*[a-z0-9])?")
PATHS = {
    "Skill": ("apis/skill-operator.dev/v1alpha1", "skills"),
    "Pod": ("api/v1", "pods"),
    "Service": ("api/v1", "services"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "ConfigMap": ("api/v1", "configmaps"),
    "Secret": ("api/v1", "secrets"),
    "ResourceQuota": ("api/v1", "resourcequotas"),
    "Event": ("api/v1", "events"),
    "Namespace": ("api/v1", "namespaces"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
    "Job": ("apis/batch/v1", "jobs"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
    "LocalSubjectAccessReview": ("apis/authorization.k8s.io/v1", "localsubjectaccessreviews"),
    "PriorityClass": ("apis/scheduling.k8s.io/v1", "priorityclasses"),
    "TokenReview": ("apis/authentication.k8s.io/v1", "tokenreviews"),
    "SubjectAccessReview": ("apis/authorization.k8s.io/v1", "subjectaccessreviews"),
    "Node": ("api/v1", "nodes"),
    "ServiceCIDR": ("apis/networking.k8s.io/v1", "servicecidrs"),
    "EndpointSlice": ("apis/discovery.k8s.io/v1", "endpointslices"),
}
CLUSTER_WIDE = frozenset({"Namespace", "PriorityClass", "TokenReview", "SubjectAccessReview", "Node", "ServiceCIDR"})


_BY_STATUS: dict[int, type[ClusterError]] = {
    400: Invalid, 401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone, 422: Invalid,
    429: TooManyRequests,
}  # fmt: skip


class ApiServer:
    """ApiServer is a `Cluster` over HTTP. Its public methods are documented there."""

    def __init__(self, api: ApiClient, manager: str) -> None:
        self._api = api
        self._manager = manager

    async def apply(self, obj: Object) -> Object:
        """Apply by forced server-side apply."""
        return await self._apply(obj, "")

    async def apply_status(self, obj: Object) -> Object:
        """Apply the status of an object."""
        return await self._apply(obj, "/status")

    async def _apply(self, obj: Object, subresource: str) -> Object:
        meta = obj["metadata"]
        path = _object_path(obj["kind"], meta.get("namespace"), meta["name"]) + subresource
        query = {"fieldManager": self._manager, "force": "true", "fieldValidation": "Strict"}
        return await self._call("PATCH", path, query, obj, "application/apply-patch+yaml")

    async def create(self, obj: Object) -> Object:
        """Create the object. Raises Conflict if it exists."""
        query = {"fieldManager": self._manager, "fieldValidation": "Strict"}
        return await self._call("POST", _path(obj["kind"], obj["metadata"].get("namespace")), query, obj)

    async def review(self, kind: str, spec: Object) -> Object:
        """Return the status of a review."""
        prefix, plural = PATHS[kind]
        request = {"apiVersion": prefix.removeprefix("apis/"), "kind": kind, "metadata": {}, "spec": spec}
        status = (await self._call("POST", f"{prefix}/{plural}", {}, request)).get("status")
        if not isinstance(status, dict):
            raise Unavailable(f"the API server returned the {kind} without a status")
        return status

    async def replace(self, obj: Object) -> Object:
        """Replace the object. Raises Conflict if its resource version is stale."""
        meta = obj["metadata"]
        query = {"fieldManager": self._manager, "fieldValidation": "Strict"}
        return await self._call("PUT", _object_path(obj["kind"], meta.get("namespace"), meta["name"]), query, obj)

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """Return the object, or None if there is none."""
        try:
            return await self._call("GET", _object_path(kind, namespace, name))
        except NotFound:
            return None

    async def list(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Object]:
        """Return the objects of a kind."""
        return (await self._list(kind, namespace, labels))[0]

    async def warnings(self, namespace: str, uid: str) -> Items:
        """Return the Warning events about the object of this uid, oldest first."""
        query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning", "limit": str(PAGE_SIZE)}
        found = _items(await self._call("GET", _path("Event", namespace), query), "Event")
        return sorted(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))

    async def _list(self, kind: str, namespace: str | None, labels: dict[str, str] | None) -> tuple[Items, str]:
        """Return all objects, read page by page, and the resource version that they are true for."""
        query = {"limit": str(PAGE_SIZE)} | _selector(labels)
        found: Items = []
        while True:
            page = await self._call("GET", _path(kind, namespace), query)
            found += _items(page, kind)
            meta = page["metadata"]
            if not meta.get("continue"):
                return found, str(meta["resourceVersion"])
            query["continue"] = meta["continue"]

    async def delete(self, kind: str, namespace: str | None, name: str, uid: str | None = None) -> None:
        """Delete the object in the background, if it is there."""
        body: Object = {"propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", _object_path(kind, namespace, name), {}, body)
        except NotFound:
            pass
        except Conflict:
            if uid is None:
                raise

    async def evict(self, namespace: str, name: str, uid: str, grace_seconds: int) -> None:
        """Have this very pod end in `grace_seconds`, if it is there."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"gracePeriodSeconds": grace_seconds, "preconditions": {"uid": uid}},
        }
        with contextlib.suppress(NotFound, Conflict):
            await self._call("POST", _object_path("Pod", namespace, name) + "/eviction", {}, body)

    async def patch(self, kind: str, namespace: str, name: str, operations: Items, subresource: str = "") -> None:
        """Apply a JSON Patch (RFC 6902)."""
        path = _object_path(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        query = {"fieldManager": self._manager}
        await self._call("PATCH", path, query, operations, "application/json-patch+json")

    async def watch(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """Yield every change for ever, as `Cluster.watch` says."""
        known: dict[str, Object] = {}
        failures = 0
        while True:
            began = time.monotonic()
            try:
                async for change, obj in self._list_and_follow(kind, namespace, labels, known):
                    yield change, obj
            except ClusterError as error:
                yield "CUT", {}
                failures = failures + 1 if time.monotonic() - began < MAX_PAUSE_SECONDS else 1
                pause = min(MAX_PAUSE_SECONDS, 0.2 * 2 ** min(failures, 10)) * random.uniform(0.8, 1.2)
                log.warning("the watch of %s broke: %s; it starts again in %.1f s", kind, error.message, pause)
                await asyncio.sleep(pause)

    async def _list_and_follow(
        self, kind: str, namespace: str | None, labels: dict[str, str] | None, known: dict[str, Object]
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """Yield what changed since `known`, which is kept up to date, then what changes, until a ClusterError."""
        listed, version = await self._list(kind, namespace, labels)
        for uid in known.keys() - {obj["metadata"]["uid"] for obj in listed}:
            yield "DELETED", known.pop(uid)
        for obj in listed:
            old = known.get(obj["metadata"]["uid"])
            known[obj["metadata"]["uid"]] = _trace(obj)
            if old is None:
                yield "ADDED", _slim(obj)
            elif old["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                yield "MODIFIED", _slim(obj)
        del listed
        yield "SYNCED", {}
        while True:
            began = time.monotonic()
            async for change, obj in self._stream(kind, namespace, labels, version):
                version = str(obj["metadata"]["resourceVersion"])
                if change == "BOOKMARK":
                    continue
                if change == "DELETED":
                    known.pop(obj["metadata"]["uid"], None)
                else:
                    known[obj["metadata"]["uid"]] = _trace(obj)
                yield change, _slim(obj)
            if time.monotonic() - began < MIN_WATCH_SECONDS:  # a server that hangs up at once is not hammered
                await asyncio.sleep(MIN_WATCH_SECONDS)

    async def _stream(
        self, kind: str, namespace: str | None, labels: dict[str, str] | None, version: str
    ) -> AsyncGenerator[tuple[str, Object], None]:
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        query |= {"timeoutSeconds": str(WATCH_SECONDS)} | _selector(labels)
        timeout = aiohttp.ClientTimeout(sock_connect=TIMEOUT_SECONDS, sock_read=SILENCE_SECONDS)
        response = await self._send("GET", _path(kind, namespace), query, None, "application/json", timeout)
        try:
            await _raise_for(response)
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in filter(None, lines):
                    change, obj = _event(line)
                    yield change, obj | {"kind": kind}
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"{str(error) or type(error).__name__}") from error
        finally:
            response.close()

    async def _call(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Object | Items | None = None,
        content_type: str = "application/json",
    ) -> Object:  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        try:
            response = await self._send(method, path, query or {}, body, content_type, timeout)
            async with response:
                await _raise_for(response)
                document = json.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unavailable(f"{method} {path}: {str(error) or type(error).__name__}") from error
        if not isinstance(document, dict):
            raise Unavailable(f"{method} {path}: the response is no JSON object")
        return document

    async def _send(
        self, method: str, path: str, query: dict[str, str], body: Object | Items | None, content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:  # fmt: skip
        """Send a request on the client library's own session, which brings identity and trust.

        The library's own way to send would buffer watches.
        """
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            _, url, headers, _, _ = await self._api.param_serialize(
                method, "/" + path, query_params=list(query.items()), header_params=headers,
                auth_settings=["BearerToken"],
            )  # fmt: skip
        except (OSError, config.ConfigException) as error:
            raise Unavailable(f"the token of the service account cannot be read: {error}") from error
        rest = self._api.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()  # noqa: SLF001 - its own requests do just this
        data = None if body is None else json.dumps(body)  # as it is: the library would drop every null
        try:
            return await rest.pool_manager.request(
                method, url, headers=headers, data=data, timeout=limits, allow_redirects=False,
                server_hostname=self._api.configuration.tls_server_name,
            )  # fmt: skip
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the API server does not answer: {str(error) or type(error).__name__}") from error


@asynccontextmanager
async def connect(manager: str) -> AsyncIterator[ApiServer]:
    """Connect as the pod's service account, or outside a pod as KUBECONFIG says.

    `manager` names the owner of applied fields.
    """
    settings = Configuration()
    if "KUBERNETES_SERVICE_HOST" in os.environ and TOKEN.exists():  # noqa: ASYNC240 - nothing runs yet
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(config_file=os.environ.get("KUBECONFIG"), client_configuration=settings)  # type: ignore[no-untyped-call]
    settings.proxy = None
    settings.client_session_kwargs = {"trust_env": False}  # HTTPS_PROXY is for the model, never for the API server
    async with ApiClient(settings) as api:
        api.user_agent = manager
        yield ApiServer(api, manager)


def _path(kind: str, namespace: str | None, name: str = "") -> str:
    """Return the path of a resource. Raises Invalid for a name that is none.

    An empty or crooked name must never become another request, such as the deletion of a whole collection.
    """
    prefix, plural = PATHS[kind]
    for part in (namespace, name):
        if part and not _SEGMENT.fullmatch(part):
            raise Invalid(f"{part!r} is no valid name of a {kind} or of its namespace")
    where = f"namespaces/{namespace}/" if namespace else ""
    return f"{prefix}/{where}{plural}" + (f"/{name}" if name else "")


def _object_path(kind: str, namespace: str | None, name: str) -> str:
    if not name:
        raise Invalid(f"a {kind} needs a name")
    if not namespace and kind not in CLUSTER_WIDE:
        raise Invalid(f"a {kind} needs a namespace")
    return _path(kind, namespace, name)


def _selector(labels: dict[str, str] | None) -> dict[str, str]:
    return {"labelSelector": ",".join(f"{k}={v}" for k, v in sorted(labels.items()))} if labels else {}


def _items(listed: Object, kind: str) -> list[Object]:
    """Return the items of a list with their kind, which the API server leaves out."""
    return [{"apiVersion": listed.get("apiVersion"), **item, "kind": kind} for item in listed["items"]]


def _event(line: bytes) -> tuple[str, Object]:
    """Return the event of one line of a watch. Raises Unavailable for a line that no API server sends."""
    try:
        event = json.loads(line)
        change, obj = str(event["type"]), dict(event["object"])
        code, message = int(obj.get("code", 500)), str(obj.get("message"))
        meta = {"uid": "", "resourceVersion": "", **obj.get("metadata", {})}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unavailable(f"a line of the watch is no event: {type(error).__name__}: {error}") from error
    if change == "ERROR":
        raise _BY_STATUS.get(code, Unavailable)(message, code)
    if not meta["resourceVersion"] or (change != "BOOKMARK" and not meta["uid"]):
        raise Unavailable("a line of the watch is no event: its object has no identity")
    return change, obj


def _slim(obj: Object) -> Object:
    """Remove managedFields, a quarter of most objects, which no watcher reads."""
    obj["metadata"].pop("managedFields", None)
    return obj


def _trace(obj: Object) -> Object:
    """Return what is kept of an object, to report later that it was deleted.

    A watch must not hold the whole cluster in memory.
    """
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences")
    return {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj["kind"],
        "metadata": {k: meta[k] for k in kept if k in meta},
    }


async def _raise_for(response: aiohttp.ClientResponse) -> None:
    if response.status < 300:
        return
    text = await response.text(errors="replace")
    try:
        message = str(json.loads(text).get("message") or text)
    except (ValueError, AttributeError):
        message = text
    error = _class_of(response.status, message)(message[:2000] or f"HTTP {response.status}", response.status)
    wait = response.headers.get("Retry-After", "")
    error.retry_after = float(wait) if wait.isdecimal() else None
    raise error


def _class_of(status: int, message: str) -> type[ClusterError]:
    """Return the error class for a status.

    Server-side apply rejects a field that the schema does not have with 500: that is still our fault.
    """
    if status == 500 and "field not declared in schema" in message:
        return Invalid
    return _BY_STATUS.get(status, Invalid if 400 <= status < 500 and status != 408 else Unavailable)
