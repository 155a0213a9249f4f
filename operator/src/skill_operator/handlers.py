"""kopf as the informer: it watches, we queue. It never writes, so it leaves no annotation and no finalizer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import kopf

from skill_operator import naming
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.settings import Settings

CHILDREN = (("apps", "v1", "deployments"), ("batch", "v1", "jobs"), ("", "v1", "pods"))


class Informer:
    """Tells `add(namespace, name)` of every Skill that something happened to, and `watch_health` of every event."""

    def __init__(self, settings: Settings, add: Callable[[str, str], None], watch_health: WatchHealth) -> None:
        self._settings = settings
        self._add = add
        self._watch_health = watch_health
        self._registry = kopf.OperatorRegistry()
        self._wire()

    async def run(self, stop: asyncio.Event) -> None:
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True
        settings.peering.standalone = True
        settings.posting.enabled = False
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 10
        for child in CHILDREN:  # else every pod of the cluster would come here
            settings.watching.label_selectors[child] = f"{naming.MANAGED_BY}={naming.MANAGER},{naming.SKILL_LABEL}"
        namespaces = [*self._settings.watch_namespaces]
        if namespaces:
            namespaces.append(self._settings.builder_namespace)
        await kopf.operator(
            registry=self._registry,
            settings=settings,
            identity=cast("Any", naming.MANAGER),  # else kopf asks for a user's name, and the image has no users
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=stop,
        )

    def _wire(self) -> None:
        kopf.on.login(registry=self._registry)(_login)
        kopf.on.event(naming.GROUP, naming.VERSION, "skills", registry=self._registry)(self._skill)
        mine: dict[str, Any] = naming.MANAGED | {naming.SKILL_LABEL: kopf.PRESENT}
        for group, version, plural in CHILDREN:
            kopf.on.event(group, version, plural, labels=mine, registry=self._registry, id=plural)(self._child)

    async def _skill(self, *, name: str, namespace: str | None, meta: Any, event: Any, **_: Any) -> None:
        self._watch_health.observe_event(meta, deleted=event["type"] == "DELETED")
        self._add(namespace or "", name)

    async def _child(self, *, namespace: str | None, meta: Any, event: Any, **_: Any) -> None:
        """Its Skill by owner reference; what has none (a build, a Job's or Deployment's pod) says so by its labels."""
        self._watch_health.observe_event(meta, deleted=event["type"] == "DELETED")
        for owner in meta.get("ownerReferences", ()):
            if owner["kind"] == "Skill":
                return self._add(namespace or "", owner["name"])
        labels = meta.get("labels", {})
        return self._add(labels.get(naming.NAMESPACE_LABEL, namespace or ""), labels[naming.SKILL_LABEL])


async def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """The service account in a pod, KUBECONFIG elsewhere; nothing is probed."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
