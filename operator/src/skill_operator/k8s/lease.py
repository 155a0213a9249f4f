"""Elect one active controller at a time, by a Lease of the coordination API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from datetime import UTC, datetime
from typing import Any, Self

from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.interface import Cluster

log = logging.getLogger(__name__)
RELEASE_SECONDS = 5


class Lease:
    """Lease is held by one process: the holder renews it, and others wait until its whole duration passes unrenewed.

    A waiter measures that span on its own monotonic clock, from when it observed the record change: clocks of different
    nodes are never compared. A holder counts from before it sent its last renewal that succeeded, and gives up (`lost`)
    after two thirds of the span, before anyone else may take over.
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str, identity: str, seconds: int) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._seconds = seconds
        self._observed: tuple[Any, float] = (None, 0.0)
        self._until = 0.0
        self._renewals: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()

    @property
    def is_held(self) -> bool:
        """Return whether this process leads.

        The clock decides, not a flag: a process that was paused must not believe that it still leads.
        """
        return time.monotonic() < self._until and not self.lost.is_set()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()

    async def acquire(self) -> None:
        """Wait until this process holds the lease, and renew it from then on."""
        self.lost.clear()
        while not self.is_held:
            try:
                async with asyncio.timeout(self._seconds):
                    if await self._try():
                        continue
            except (ClusterError, TimeoutError) as error:
                log.warning("the lease could not be acquired: %s", str(error) or "no answer")
            await asyncio.sleep(self._pause())
        self._renewals = asyncio.create_task(self._renew())
        log.info("leading", extra={"identity": self._identity})

    async def release(self) -> None:
        """Let the next process lead at once. This is safe to call in any state."""
        if self._renewals is not None:
            self._renewals.cancel()
            await asyncio.gather(self._renewals, return_exceptions=True)
        self._until = 0.0
        with contextlib.suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                live = await self._cluster.get("Lease", self._namespace, self._name)
                if live is not None and live["spec"].get("holderIdentity") == self._identity:
                    await self._cluster.replace(live | {"spec": live["spec"] | {"holderIdentity": ""}})

    async def _renew(self) -> None:
        while self.is_held:
            await asyncio.sleep(self._pause())
            try:
                async with asyncio.timeout(self._until - time.monotonic()):
                    if not await self._try():
                        break  # somebody else has it: our renewals came too late
            except (ClusterError, TimeoutError) as error:
                log.warning("the lease could not be renewed: %s", str(error) or "no answer in time")
        log.error("another process may lead now: the lease is lost")
        self.lost.set()

    def _pause(self) -> float:
        return self._seconds / 5 * random.uniform(0.8, 1.2)

    async def _try(self) -> bool:
        """Take or renew the lease; return False while somebody else has it.

        A Conflict means that somebody else changed it between our read and our write.
        """
        sent, now = time.monotonic(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        live = await self._cluster.get("Lease", self._namespace, self._name)
        old: dict[str, Any] = live.get("spec", {}) if live is not None else {}
        if self._is_valid(live is None, old):
            return False
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": self._seconds, "renewTime": now}
        if old.get("holderIdentity") != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(old.get("leaseTransitions") or 0) + 1}
        if live is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            fresh = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._cluster.create(fresh)
        else:
            await self._cluster.replace(live | {"spec": old | spec})
        self._until = sent + self._seconds * 2 / 3
        return True

    def _is_valid(self, missing: bool, record: dict[str, Any]) -> bool:
        """Return whether somebody else may still believe that they hold it. A deleted Lease had a holder, too."""
        holder = record.get("holderIdentity")
        if holder == self._identity or (not holder and not missing):
            return False
        now = time.monotonic()
        observed = (holder, record.get("renewTime"))
        if not missing and observed != self._observed[0]:
            self._observed = (observed, now)
        if self._observed[0] is None:
            return False
        return now - self._observed[1] < int(record.get("leaseDurationSeconds") or self._seconds)
