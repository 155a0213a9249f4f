"""The API server as the operator sees it: dicts in, dicts out, one error class for each way to react."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

log = logging.getLogger(__name__)
Object = dict[str, Any]
TIMEOUT = 15.0
WATCH_SECONDS = 240
SILENCE = 70  # a live watch brings a bookmark every minute
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
    "Job": ("apis/batch/v1", "jobs"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
    "PriorityClass": ("apis/scheduling.k8s.io/v1", "priorityclasses"),
}


class ClusterError(Exception):
    """The API server did not do what was asked; `message` is its own."""

    retryable = True

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class NotFound(ClusterError):
    retryable = False


class Conflict(ClusterError):
    """It exists already, or somebody else wrote it first."""


class Forbidden(ClusterError):
    retryable = False


class Invalid(ClusterError):
    retryable = False


class TooManyRequests(ClusterError):
    pass


class Unavailable(ClusterError):
    """No answer, or one that is not the API server's fault alone: ask again later."""


class Gone(ClusterError):
    """The resource version is too old: list again."""


_BY_STATUS: dict[int, type[ClusterError]] = {
    400: Invalid, 401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone, 422: Invalid, 429: TooManyRequests
}  # fmt: skip


class Cluster(Protocol):
    """All that any part of the operator does to a cluster."""

    async def apply(self, obj: Object) -> Object:
        """Server-side apply, forced; Conflict if metadata.resourceVersion is given and stale."""

    async def apply_status(self, obj: Object) -> Object: ...

    async def create(self, obj: Object) -> Object:
        """Raises Conflict if it exists."""

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None: ...

    async def list(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Object]:
        """In all namespaces where `namespace` is None. Each item carries its kind."""

    async def replace(self, obj: Object) -> Object:
        """Conflict if metadata.resourceVersion is stale."""

    async def delete(self, kind: str, namespace: str | None, name: str, uid: str | None = None) -> None:
        """In the background; that it is gone already is fine. With `uid`, only that very object."""

    async def scale(self, namespace: str, name: str, replicas: int) -> None: ...

    def watch(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncIterator[tuple[str, Object]]:
        """("ADDED", object) for all there is, ("SYNCED", {}), then every change, for ever."""


class ApiServer:
    """`Cluster` over HTTP."""

    def __init__(self, api: ApiClient, manager: str) -> None:
        self._api = api
        self._manager = manager

    async def apply(self, obj: Object) -> Object:
        return await self._apply(obj, "")

    async def apply_status(self, obj: Object) -> Object:
        return await self._apply(obj, "/status")

    async def _apply(self, obj: Object, subresource: str) -> Object:
        meta = obj["metadata"]
        path = _path(obj["kind"], meta.get("namespace"), meta["name"]) + subresource
        query = {"fieldManager": self._manager, "force": "true", "fieldValidation": "Strict"}
        return await self._call("PATCH", path, query, obj, "application/apply-patch+yaml")

    async def create(self, obj: Object) -> Object:
        query = {"fieldManager": self._manager, "fieldValidation": "Strict"}
        return await self._call("POST", _path(obj["kind"], obj["metadata"].get("namespace")), query, obj)

    async def replace(self, obj: Object) -> Object:
        meta = obj["metadata"]
        query = {"fieldManager": self._manager, "fieldValidation": "Strict"}
        return await self._call("PUT", _path(obj["kind"], meta.get("namespace"), meta["name"]), query, obj)

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        try:
            return await self._call("GET", _path(kind, namespace, name))
        except NotFound:
            return None

    async def list(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Object]:
        return _items(await self._call("GET", _path(kind, namespace), _selector(labels)), kind)

    async def delete(self, kind: str, namespace: str | None, name: str, uid: str | None = None) -> None:
        body: Object = {"propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", _path(kind, namespace, name), {}, body)
        except NotFound:
            pass
        except Conflict:
            if uid is None:
                raise

    async def scale(self, namespace: str, name: str, replicas: int) -> None:
        path = _path("Deployment", namespace, name) + "/scale"
        query = {"fieldManager": self._manager}
        await self._call("PATCH", path, query, {"spec": {"replicas": replicas}}, "application/merge-patch+json")

    async def watch(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncIterator[tuple[str, Object]]:
        known: dict[str, Object] = {}
        failures = 0
        while True:
            try:
                listed = await self._call("GET", _path(kind, namespace), _selector(labels))
                now = {obj["metadata"]["uid"]: obj for obj in _items(listed, kind)}
                for uid in known.keys() - now.keys():
                    yield "DELETED", known[uid]
                for uid, obj in now.items():
                    if uid not in known:
                        yield "ADDED", obj
                    elif known[uid]["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                        yield "MODIFIED", obj
                known = now
                yield "SYNCED", {}
                version = str(listed["metadata"]["resourceVersion"])
                failures = 0
                while True:
                    async for change, obj in self._stream(kind, namespace, labels, version):
                        version = str(obj["metadata"]["resourceVersion"])
                        if change == "BOOKMARK":
                            continue
                        uid = obj["metadata"]["uid"]
                        if change == "DELETED":
                            known.pop(uid, None)
                        else:
                            known[uid] = obj
                        yield change, obj
            except Gone:
                continue
            except ClusterError as error:
                failures += 1
                pause = min(30.0, 0.2 * 2 ** min(failures, 10)) * random.uniform(0.8, 1.2)  # noqa: S311: no secret
                log.warning("watch of %s was cut: %s; again in %.1f s", kind, error.message, pause)
                await asyncio.sleep(pause)

    async def _stream(
        self, kind: str, namespace: str | None, labels: dict[str, str] | None, version: str
    ) -> AsyncIterator[tuple[str, Object]]:
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        query |= {"timeoutSeconds": str(WATCH_SECONDS)} | _selector(labels)
        timeout = aiohttp.ClientTimeout(sock_connect=TIMEOUT, sock_read=SILENCE)
        response = await self._send("GET", _path(kind, namespace), query, None, "application/json", timeout)
        try:
            await _raise_for(response)
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        code = int(event["object"].get("code", 500))
                        raise _BY_STATUS.get(code, Unavailable)(str(event["object"].get("message")), code)
                    yield event["type"], event["object"] | {"kind": kind}
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"{error or type(error).__name__}") from error
        finally:
            response.close()

    async def _call(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            response = await self._send(method, path, query or {}, body, content_type, timeout)
            async with response:
                await _raise_for(response)
                return dict(await response.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"{method} {path}: {error or type(error).__name__}") from error

    async def _send(
        self, method: str, path: str, query: dict[str, str], body: Object | None, content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:  # fmt: skip
        """The client library brings identity and trust; it buffers watches, so the request goes out on its session."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        _, url, headers, sent, _ = await self._api.param_serialize(
            method, "/" + path, query_params=list(query.items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        rest = self._api.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()  # noqa: SLF001: its own requests do just this
        data = None if sent is None else json.dumps(sent)
        try:
            return await rest.pool_manager.request(method, url, headers=headers, data=data, timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the API server does not answer: {error or type(error).__name__}") from error


@asynccontextmanager
async def connect(manager: str) -> AsyncIterator[ApiServer]:
    """In a pod as its service account, elsewhere as KUBECONFIG says. `manager` names the owner of applied fields."""
    settings = Configuration()
    if "KUBERNETES_SERVICE_HOST" in os.environ and Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists():
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    settings.proxy = None
    async with ApiClient(settings) as api:
        yield ApiServer(api, manager)


def _path(kind: str, namespace: str | None, name: str = "") -> str:
    prefix, plural = PATHS[kind]
    where = f"namespaces/{namespace}/" if namespace else ""
    return f"{prefix}/{where}{plural}" + (f"/{name}" if name else "")


def _selector(labels: dict[str, str] | None) -> dict[str, str]:
    return {"labelSelector": ",".join(f"{k}={v}" for k, v in sorted(labels.items()))} if labels else {}


def _items(listed: Object, kind: str) -> list[Object]:
    return [item | {"kind": kind} for item in listed["items"]]


async def _raise_for(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = await response.text(errors="replace")
    try:
        message = str(json.loads(text).get("message") or text)
    except (ValueError, AttributeError):
        message = text
    raise _BY_STATUS.get(response.status, Unavailable)(message[:2000] or f"HTTP {response.status}", response.status)
