"""Implement `Cluster` over HTTP: dicts in, dicts out, one error class for each way to react."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from skill_operator import naming
from skill_operator.k8s.decoding import MAX_DOCUMENT_BYTES, METADATA_LIST, mark, parse_list, parse_object, parse_whole
from skill_operator.k8s.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    TooManyRequests,
    TooMuch,
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
PAGE_SIZE = 40
SCAN_PAGE_SIZE = 8  # the first, of what strangers store: the API server would read forty of a megabyte for nothing
MAX_WARNINGS = 500
MAX_PAGE_BYTES = MAX_DOCUMENT_BYTES
MAX_SCAN_BYTES = 8 << 20  # of what strangers store, in each reconcile: thousands of usual policies
MAX_EVENT_CHARACTERS = 4096  # of a message: the API server takes no more than 1,024 of new clients
MAX_METADATA_CHARACTERS = 16 << 10  # of labels, or of annotations: the operator's own have far fewer
MAX_REFERENCES = 64  # owners or finalizers that a list keeps of an object
MAX_OBJECT_BYTES = 16 << 20  # a text of etcd's 1.5 MiB, each character of it escaped
MAX_REPORTED = 1000
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
_CONTENT = frozenset({"description", "input", "output", "examples", "source"})
_UNLISTED = {  # what no reader of a list needs: the operator's own policies may be filled by others, too
    "NetworkPolicy": frozenset({"spec"}),
    "ResourceQuota": frozenset({"spec", "status"}),
}
_OWN_PREFIX = f"{naming.GROUP}/"  # admission keeps it for the operator, and no wider one: whoever fills it crowds out
_READ_LABELS = frozenset({naming.MANAGED_BY, naming.COMPONENT, "job-name", "pod-template-hash"})
_EVENT_FIELDS = ("type", "reason", "message", "lastTimestamp", "eventTime")
_STRANGERS_METADATA = frozenset({"annotations", "finalizers", "labels", "managedFields", "ownerReferences"})
"""What whoever may create an object may fill with a megabyte."""
_KEPT_LABELS = (naming.MANAGED_BY, naming.COMPONENT, naming.UID_LABEL)
CLUSTER_WIDE = frozenset({"Namespace", "PriorityClass", "TokenReview", "SubjectAccessReview", "Node", "ServiceCIDR"})


_BY_STATUS: dict[int, type[ClusterError]] = {
    400: Invalid, 401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone, 422: Invalid,
    429: TooManyRequests,
}  # fmt: skip


class ApiServer:
    """ApiServer is a `Cluster` over HTTP. Its public methods are documented there."""

    def __init__(self, api: ApiClient, manager: str, on_unreadable: Callable[[str], None]) -> None:
        self._api = api
        self._on_unreadable = on_unreadable
        self._manager = manager
        self._reported: set[tuple[object, object]] = set()  # specs of objects that cannot be read

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

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        labels: dict[str, str] | None = None,
        outline: Callable[[Object], Object] | None = None,
    ) -> list[Object]:
        """Return the objects of a kind, or what `outline` keeps of each."""
        found: Items = []
        trim = _outline if kind == "Skill" else _trim
        async for page, _ in self._pages(kind, namespace, _selector(labels)):
            trimmed = map(trim, page)
            found += trimmed if outline is None else map(outline, trimmed)
        return found

    async def scan(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[Object, None]:
        """Yield the objects of a kind, page by page. Raises TooMuch after MAX_SCAN_BYTES."""
        async for page, _ in self._pages(kind, namespace, _selector(labels), MAX_SCAN_BYTES):
            for obj in page:
                yield obj

    async def warnings(self, namespace: str, uid: str) -> Items:
        """Return Warning events about the object of this uid, oldest first: all that fit into the bounds."""
        query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning"}
        found: Items = []
        try:
            async for page, _ in self._pages("Event", namespace, query, MAX_SCAN_BYTES):
                found += map(_event_outline, page)
                if len(found) >= MAX_WARNINGS:
                    break
        except TooMuch as error:
            log.warning("not all events about an object are read: %s", error.message, extra={"object": {"uid": uid}})
        return sorted(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))

    async def _pages(
        self, kind: str, namespace: str | None, query: dict[str, str], max_bytes: int | None = None
    ) -> AsyncGenerator[tuple[Items, str], None]:
        """Yield all objects, page by page, each page with the resource version that it is true for.

        A page that is too much is asked for again with fewer objects, down to one. Of an object that is too much by
        itself the metadata alone is asked for. Raises TooMuch where that takes more than `max_bytes` of responses.
        """
        path, query = _path(kind, namespace), dict(query)
        size, whole, read_bytes = PAGE_SIZE if max_bytes is None else SCAN_PAGE_SIZE, True, 0
        while True:
            if max_bytes is not None and read_bytes >= max_bytes:
                raise TooMuch(f"GET {path}: the objects are larger than {max_bytes >> 20} MiB together")
            page, count = await self._page(path, query | {"limit": str(size)}, whole=whole)
            read_bytes += count
            if page is None:
                size, whole = max(1, size // 8), size > 1
                continue
            items = _items(page, kind)
            meta = page["metadata"]
            yield items if whole else [self._skeleton(obj) for obj in items], str(meta["resourceVersion"])
            if not meta.get("continue"):
                return
            query["continue"] = meta["continue"]
            size, whole = min(2 * size, PAGE_SIZE), True

    async def _page(self, path: str, query: dict[str, str], *, whole: bool) -> tuple[Object | None, int]:
        """Return a page of whole objects, or of their metadata, and how many bytes were read.

        The page is None where it is too much to be whole.
        """
        accept = "application/json" if whole else METADATA_LIST
        raw = await self._read("GET", path, query, max_bytes=MAX_PAGE_BYTES if whole else None, accept=accept)
        if raw is None:
            return None, MAX_PAGE_BYTES
        with _as_unavailable(f"GET {path}"):
            page = parse_whole(raw) if whole else await parse_list(raw)
        return None if page is None and whole else _list_of(page, f"GET {path}"), len(raw)

    def _skeleton(self, obj: Object) -> Object:
        """Return the marked skeleton. Each spec is logged and counted once: what follows on it may be a new status."""
        meta = obj["metadata"]
        version = (meta.get("uid"), meta.get("generation") or meta.get("resourceVersion"))
        if version not in self._reported:
            if len(self._reported) >= MAX_REPORTED:
                self._reported.clear()
            self._reported.add(version)
            self._on_unreadable(str(obj.get("kind")))
            where = {"kind": obj.get("kind"), "namespace": meta.get("namespace"), "name": meta.get("name")}
            log.warning("an object is too much to be read, and is skipped", extra={"object": where})
        return mark(obj)

    async def delete(
        self, kind: str, namespace: str | None, name: str, uid: str | None = None, version: str | None = None
    ) -> None:
        """Delete the object in the background, if it is there."""
        body: Object = {"propagationPolicy": "Background"}
        preconditions = {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value is not None}
        if preconditions:
            body["preconditions"] = preconditions
        try:
            await self._call("DELETE", _object_path(kind, namespace, name), {}, body)
        except NotFound:
            pass
        except Conflict:
            if uid is None or version is not None:
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
        version, listed = "", set()
        names = {_name(obj): uid for uid, obj in known.items()}
        async for page, read_at in self._pages(kind, namespace, _selector(labels)):
            version = read_at
            for obj in page:
                uid = obj["metadata"]["uid"]
                listed.add(uid)
                if names.get(_name(obj), uid) != uid and (former := known.pop(names[_name(obj)], None)):
                    yield "DELETED", former
                old = known.get(uid)
                known[uid] = _trace(obj)
                if old is None:
                    yield "ADDED", _slim(obj)
                elif old["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                    yield "MODIFIED", _slim(obj)
        for uid in known.keys() - listed:
            yield "DELETED", known.pop(uid)
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
            await raise_for(response)
            buffer = bytearray()
            async for chunk in response.content.iter_any():
                *lines, rest = chunk.split(b"\n")
                if lines:
                    lines[0] = bytes(buffer) + lines[0]
                    buffer.clear()
                buffer += rest
                if len(buffer) > MAX_OBJECT_BYTES:
                    raise Unavailable("a line of the watch has no end")
                for line in filter(None, lines):
                    change, obj, whole = await _event(line)
                    obj |= {"kind": kind}
                    yield change, obj if whole else self._skeleton(obj)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"{str(error) or type(error).__name__}") from error
        finally:
            response.close()

    async def _call(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Object | Items | None = None,
        content_type: str = "application/json",
    ) -> Object:  # fmt: skip
        raw = await self._read(method, path, query or {}, body, content_type) or b""
        with _as_unavailable(f"{method} {path}"):
            document, whole = await parse_object(raw)
        obj = _object(document, f"{method} {path}")
        return obj if whole or "metadata" not in obj else self._skeleton(obj)

    async def _read(
        self, method: str, path: str, query: dict[str, str], body: Object | Items | None = None,
        content_type: str = "application/json", accept: str = "application/json", max_bytes: int | None = None,
    ) -> bytes | None:  # fmt: skip
        """Return the body of a response; None where it is longer than `max_bytes`."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        raw = bytearray()
        try:
            response = await self._send(method, path, query, body, content_type, timeout, accept)
            async with response:
                await raise_for(response)
                async for chunk in response.content.iter_any():
                    raw += chunk
                    if max_bytes is not None and len(raw) > max_bytes:
                        response.close()
                        return None
                    if len(raw) > MAX_OBJECT_BYTES:
                        raise Unavailable(f"{method} {path}: the response has no end")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"{method} {path}: {str(error) or type(error).__name__}") from error
        return bytes(raw)

    async def _send(
        self, method: str, path: str, query: dict[str, str], body: Object | Items | None, content_type: str,
        limits: aiohttp.ClientTimeout, accept: str = "application/json",
    ) -> aiohttp.ClientResponse:  # fmt: skip
        """Send a request on the client library's own session, which brings identity and trust.

        The library's own way to send would buffer watches.
        """
        headers = {"Accept": accept, "Content-Type": content_type}
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


async def _load_configuration() -> Configuration:
    """Return how to reach the API server: as the pod's service account, or outside a pod as KUBECONFIG says."""
    settings = Configuration()
    if "KUBERNETES_SERVICE_HOST" in os.environ and TOKEN.exists():  # noqa: ASYNC240 - nothing runs yet
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(config_file=os.environ.get("KUBECONFIG"), client_configuration=settings)  # type: ignore[no-untyped-call]
    return settings


async def api_server_address() -> tuple[str, ssl.SSLContext | bool]:
    """Return the API server's URL and what trusts it; of this process's own identity there is nothing in either."""
    settings = await _load_configuration()
    if not settings.verify_ssl:
        return str(settings.host), False
    return str(settings.host), ssl.create_default_context(cafile=settings.ssl_ca_cert or None)


@asynccontextmanager
async def connect(manager: str, on_unreadable: Callable[[str], None] = lambda _: None) -> AsyncIterator[ApiServer]:
    """Connect as the pod's service account, or outside a pod as KUBECONFIG says.

    `manager` names the owner of applied fields. `on_unreadable` gets the kind of each object that is skipped.
    """
    settings = await _load_configuration()
    settings.proxy = None
    settings.client_session_kwargs = {"trust_env": False}  # a proxy is for models[].proxy, never for the API server
    async with ApiClient(settings) as api:
        api.user_agent = manager
        yield ApiServer(api, manager, on_unreadable)


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
    """Return the items of a list with their type, which a list leaves out, and a list of metadata has its own for."""
    version = PATHS[kind][0].removeprefix("apis/").removeprefix("api/")
    return [item | {"apiVersion": version, "kind": kind} for item in listed["items"]]


async def _event(line: bytes) -> tuple[str, Object, bool]:
    """Return the event of one line of a watch, and whether its object is whole.

    Raises Unavailable for a line that no API server sends.
    """
    try:
        event, whole = await parse_object(line, outer_levels=1)
        change, obj = str(event["type"]), dict(event["object"])
        code, message = int(obj.get("code", 500)), str(obj.get("message"))
        meta = {"uid": "", "resourceVersion": "", **obj.get("metadata", {})}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Unavailable(f"a line of the watch is no event: {type(error).__name__}: {error}") from error
    if change == "ERROR":
        raise _BY_STATUS.get(code, Unavailable)(message, code)
    if not meta["resourceVersion"] or (change != "BOOKMARK" and not meta["uid"]):
        raise Unavailable("a line of the watch is no event: its object has no identity")
    return change, obj, whole


@contextmanager
def _as_unavailable(request: str) -> Iterator[None]:
    """Raise Unavailable for a response that is no JSON."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        raise Unavailable(f"{request}: {str(error) or type(error).__name__}") from error


def _object(document: object, request: str) -> Object:
    if not isinstance(document, dict):
        raise Unavailable(f"{request}: the response is no JSON object")
    return document


def _list_of(document: object, request: str) -> Object:
    """Return a list with the two fields that every list has. What lacks one is no empty list: objects may exist."""
    listed = _object(document, request)
    if not isinstance(listed.get("items"), list) or "resourceVersion" not in (listed.get("metadata") or {}):
        raise Unavailable(f"{request}: the response is no list")
    return listed


def _name(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _outline(skill: Object) -> Object:
    """Return a Skill without what only its own reconcile and the gateway read, which is most of it."""
    spec = {key: value for key, value in (skill.get("spec") or {}).items() if key not in _CONTENT}
    meta = {key: value for key, value in skill["metadata"].items() if key not in _STRANGERS_METADATA}
    return skill | {"metadata": meta, "spec": spec}


def _trim(obj: Object) -> Object:
    """Return an object of a list without what only strangers put there, and without what no list is read for."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    for field in ("labels", "annotations"):
        if field in meta:
            meta[field] = _bounded(meta[field])
    if "finalizers" in meta:
        meta["finalizers"] = meta["finalizers"][:MAX_REFERENCES]
    if "ownerReferences" in meta:  # the controller comes first: it makes a pod anew
        owners = sorted(meta["ownerReferences"], key=lambda owner: not owner.get("controller"))
        meta["ownerReferences"] = owners[:MAX_REFERENCES]
    unlisted = _UNLISTED.get(obj["kind"], frozenset())
    return {key: value for key, value in obj.items() if key not in unlisted} | {"metadata": meta}


def _bounded(entries: dict[str, str]) -> dict[str, str]:
    """Return labels or annotations; where those are larger than usual, those alone by which the operator goes."""
    if sum(len(key) + len(value) for key, value in entries.items()) <= MAX_METADATA_CHARACTERS:
        return entries
    kept, left = {}, MAX_METADATA_CHARACTERS
    for key, value in entries.items():
        if (key in _READ_LABELS or key.startswith(_OWN_PREFIX)) and len(key) + len(value) <= left:
            kept[key] = value
            left -= len(key) + len(value)
    return kept


def _event_outline(event: Object) -> Object:
    """Return of an event what explains why something does not start."""
    found = {key: event[key] for key in _EVENT_FIELDS if key in event}
    return {key: value[:MAX_EVENT_CHARACTERS] for key, value in found.items() if isinstance(value, str)}


def _slim(obj: Object) -> Object:
    """Remove managedFields, a quarter of most objects, which no watcher reads."""
    obj["metadata"].pop("managedFields", None)
    return obj


def _trace(obj: Object) -> Object:
    """Return what is kept of an object, to report later that it was deleted.

    A watch must not hold the whole cluster in memory.
    """
    meta = obj["metadata"]
    trace = {key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in meta}
    found = meta.get("labels") or {}
    if labels := {label: found[label] for label in _KEPT_LABELS if label in found}:
        trace["labels"] = labels
    return {"apiVersion": obj.get("apiVersion"), "kind": obj["kind"], "metadata": trace}


async def raise_for(response: aiohttp.ClientResponse) -> None:
    """Raise the error for a response of the API server that is none of success."""
    if response.status < 300:
        return
    text = await response.text(errors="replace")
    try:
        message = str(json.loads(text).get("message") or text)
    except (ValueError, AttributeError, RecursionError):
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
