"""Events on Skills, as `kubectl describe` shows them."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Literal

from skill_operator.k8s.client import Cluster, ClusterError, Object
from skill_operator.naming import API_VERSION, digest

log = logging.getLogger(__name__)
REMEMBERED = 2000
WAITING = 500


class Recorder:
    """Never in the way of a pass: events are written in the background, repeated ones are counted, and when the API
    server is slower than we are, they are dropped."""

    def __init__(self, cluster: Cluster, component: str) -> None:
        self._cluster = cluster
        self._component = component
        self._queue: asyncio.Queue[tuple[str, Object]] = asyncio.Queue(WAITING)
        self._written: OrderedDict[str, Object] = OrderedDict()
        self.dropped = 0

    def event(self, obj: Object, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        meta = obj["metadata"]
        key = digest(meta["uid"], type_, reason, message)[:16]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name'][:200]}.{key}", "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": "Skill",
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "type": type_,
            "reason": reason,
            "message": message[:1000],
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self._queue.put_nowait((key, body))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Write what was recorded, until cancelled."""
        while True:
            key, body = await self._queue.get()
            old = self._written.pop(key, None)
            if old is not None:
                body |= {"firstTimestamp": old["firstTimestamp"], "count": old["count"] + 1}
            self._written[key] = body
            if len(self._written) > REMEMBERED:
                self._written.popitem(last=False)
            try:
                await self._cluster.apply(body)
            except ClusterError as error:
                log.debug("an event was not written: %s", error.message)
