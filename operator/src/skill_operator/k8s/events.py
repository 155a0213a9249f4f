"""Record events on Skills, as `kubectl describe` shows them."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Literal

from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.naming import API_VERSION, digest
from skill_operator.untrusted.text import single_line

log = logging.getLogger(__name__)
MAX_WRITTEN = 2000  # events whose count is kept
MAX_WAITING = 500
MAX_MESSAGE = 1024  # of core/v1


class EventRecorder:
    """EventRecorder writes events in the background, so that no reconcile waits for them.

    Repeated events are counted. When the API server is slower than the operator, events are dropped.
    """

    def __init__(self, cluster: Cluster, component: str) -> None:
        self._cluster = cluster
        self._component = component
        self._waiting: OrderedDict[str, Object] = OrderedDict()
        self._written: OrderedDict[str, Object] = OrderedDict()
        self._added = asyncio.Event()
        self.dropped = 0

    def record(self, obj: Object, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Record an event. The same event once more raises its count, however often it is recorded."""
        meta = obj.get("metadata", {})
        key = digest(meta.get("uid"), type_, reason, message)[:16]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting |= {"count": waiting["count"] + 1, "lastTimestamp": now}
            return
        if len(self._waiting) >= MAX_WAITING or not meta.get("name"):
            self.dropped += 1
            return
        namespace = meta.get("namespace") or "default"  # where events of objects outside namespaces belong
        self._waiting[key] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name'][:200]}.{key}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": obj.get("apiVersion") or API_VERSION,
                "kind": obj.get("kind") or "Skill",
                "name": meta["name"],
                "namespace": meta.get("namespace", ""),
                "uid": meta.get("uid", ""),
            },
            "type": type_,
            "reason": reason[:128],
            "message": single_line(message, MAX_MESSAGE),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._added.set()

    async def run(self) -> None:
        """Write what was recorded, until cancelled."""
        while True:
            await self._added.wait()
            self._added.clear()
            while self._waiting:
                await self._write(*self._waiting.popitem(last=False))

    async def _write(self, key: str, body: Object) -> None:
        old = self._written.pop(key, None)
        if old is not None:
            body |= {"firstTimestamp": old["firstTimestamp"], "count": old["count"] + body["count"]}
        self._written[key] = body
        if len(self._written) > MAX_WRITTEN:
            self._written.popitem(last=False)
        try:
            await self._cluster.apply(body)
        except ClusterError as error:
            self.dropped += 1
            log.debug("an event could not be written: %s", error.message)
