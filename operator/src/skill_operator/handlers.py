"""The informer: kopf watches, and the operator queues what changed.

It never writes, so that kopf leaves no annotation and no finalizer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import aiohttp
import kopf
from aiohttp.connector import Connection

from skill_operator import naming
from skill_operator.k8s.decoding import METADATA, METADATA_LIST, parse_list, small_object
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.naming import SkillKey
from skill_operator.settings import Settings

REQUEST_TIMEOUT_SECONDS = 30
CONNECT_TIMEOUT_SECONDS = 10
ERROR_DELAY_SECONDS = 1.0  # for which kopf drops the events of an object whose event failed
NO_FINALIZER = "none of kopf"  # the API server stores no such finalizer, so that nobody has kopf remove one
PAGE_SIZE = 16  # of Skills of any size
CHILDREN = (("apps", "v1", "deployments"), ("batch", "v1", "jobs"), ("", "v1", "pods"))


class Informer:
    """Informer watches Skills and what the operator makes for them.

    It gives each Skill that an event concerns to `enqueue`, and every event to `watch_health`.
    """

    def __init__(self, settings: Settings, enqueue: Callable[[SkillKey], None], watch_health: WatchHealth) -> None:
        self._settings = settings
        self._enqueue = enqueue
        self._watch_health = watch_health
        self._skills: dict[str, SkillKey] = {}  # by uid
        self._registry = kopf.OperatorRegistry()
        self._register()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop` is set."""
        namespaces = [*self._settings.watch_namespaces]
        if namespaces:
            namespaces.append(self._settings.builder_namespace)
        await kopf.operator(
            registry=self._registry,
            settings=operator_settings(),
            identity=cast("Any", naming.MANAGER),  # else kopf asks for a user's name, and the image has no users
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=stop,
        )

    def _register(self) -> None:
        kopf.on.login(registry=self._registry)(_login)
        kopf.on.event(naming.GROUP, naming.VERSION, "skills", registry=self._registry)(self._on_skill)
        labels: dict[str, Any] = naming.MANAGED | {naming.UID_LABEL: kopf.PRESENT}
        for group, version, plural in CHILDREN:
            kopf.on.event(group, version, plural, labels=labels, registry=self._registry, id=plural)(self._on_child)

    async def _on_skill(self, *, name: str, namespace: str | None, meta: Any, event: Any, **_: Any) -> None:
        key, deleted = SkillKey(namespace or "", name), event["type"] == "DELETED"
        self._watch_health.observe_event(meta, deleted=deleted)
        if deleted:
            self._skills.pop(meta["uid"], None)
        else:
            self._skills[meta["uid"]] = key
        self._enqueue(key)

    async def _on_child(self, *, namespace: str | None, meta: Any, event: Any, **_: Any) -> None:
        """Queue the Skill that the object belongs to."""
        self._watch_health.observe_event(meta, deleted=event["type"] == "DELETED")
        if (key := self._find_skill(namespace or "", meta.get("labels", {}))) is not None:
            self._enqueue(key)

    def _find_skill(self, namespace: str, labels: Mapping[str, str]) -> SkillKey | None:
        """Return the Skill of this namespace that has the uid in the labels.

        Others may write labels, but not in the builder namespace: there they name the Skill of a build, even a deleted
        one, whose place in the queue of builds is free then.
        """
        key = self._skills.get(labels.get(naming.UID_LABEL, ""))
        if namespace != self._settings.builder_namespace:
            return key if key is not None and key.namespace == namespace else None
        former = SkillKey(labels.get(naming.NAMESPACE_LABEL, namespace), labels.get(naming.SKILL_LABEL, ""))
        return key or (former if all(map(naming.is_label, former)) else None)


class NoState(kopf.DiffBaseStorage):
    """NoState keeps nothing in objects.

    kopf would parse and copy what people wrote there for each event, and deliver none for what it cannot read.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Return what changes are looked for in: nothing, since every event counts."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Return the former state, which is nowhere."""
        return None

    def store(self, **_: Any) -> None:
        """Store nothing."""


def operator_settings() -> kopf.OperatorSettings:
    """Return settings by which kopf does nothing but watch."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoState()
    settings.persistence.finalizer = NO_FINALIZER
    settings.queueing.error_delays = [ERROR_DELAY_SECONDS]
    settings.networking.request_timeout = REQUEST_TIMEOUT_SECONDS
    settings.networking.connect_timeout = CONNECT_TIMEOUT_SECONDS
    settings.watching.chunk_size = PAGE_SIZE
    for child in CHILDREN:  # else every pod of the cluster would come here
        settings.watching.label_selectors[child] = naming.WATCH_SELECTOR
    return settings


async def _login(**kwargs: Any) -> kopf.AiohttpSession | None:
    """Log in as the service account of a pod, or by KUBECONFIG elsewhere; nothing is probed."""
    found = kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
    if found is None:
        return None
    return kopf.AiohttpSession(
        aiohttp_session=_session(found), server=found.server, default_namespace=found.default_namespace,
        expiration=found.expiration,
    )  # fmt: skip


def _session(found: kopf.ConnectionInfo) -> aiohttp.ClientSession:
    """Return a session as kopf makes its own, whose responses kopf can always parse."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=found.as_ssl_context()),
        headers=found.as_http_headers(),
        proxy=found.proxy_url,
        trust_env=found.trust_env,
        response_class=_Response,
        middlewares=(_ask_for_metadata,),
    )


async def _ask_for_metadata(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Have lists and watches hold the metadata of objects alone: this module reads no more, and strangers write it."""
    if "watch" in request.url.query:
        request.headers["Accept"] = METADATA
    elif "limit" in request.url.query:
        request.headers["Accept"] = METADATA_LIST
    return await send(request)


class _Response(aiohttp.ClientResponse):
    """_Response cuts objects that are too much to be parsed: kopf needs their metadata alone."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Start to read; a watch is read line by line."""
        await super().start(connection)
        if "watch" in self.url.query:
            self.content = cast("Any", _Lines(self.content))
        return self

    async def json(self, **_: Any) -> Any:
        """Return the value of the body, in whose objects nothing is missing that this module reads."""
        return await parse_list(await self.read())


class _Lines:
    """_Lines is the stream of a watch, in whose lines nothing is missing that this module reads."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield one line after another."""
        rest: list[bytes] = []
        async for chunk in self._content.iter_chunked(size):
            *lines, last = chunk.split(b"\n")
            for line in lines:
                yield await small_object(b"".join([*rest, line]), outer_levels=1) + b"\n"
                rest.clear()
            rest.append(last)
