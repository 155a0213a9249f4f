"""One active controller at a time, by a Lease of the coordination API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from datetime import UTC, datetime
from typing import Any

from skill_operator.k8s.client import Cluster, ClusterError, Conflict

log = logging.getLogger(__name__)


class Lease:
    """Whoever holds it renews it; whoever wants it waits until it was not renewed for its whole duration.

    That span is measured on the waiter's own monotonic clock, from when it saw the record change: clocks of different
    nodes are never compared. A holder that could not renew for two thirds of the span gives up (`lost`), before
    anyone else may take over.
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str, identity: str, seconds: int) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._seconds = seconds
        self._seen: tuple[Any, float] = (None, 0.0)
        self._renewals: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()
        self.held = False

    async def acquire(self) -> None:
        """Returns once it is held; renews it from then on."""
        while True:
            with contextlib.suppress(ClusterError):
                if await self._try():
                    break
            await asyncio.sleep(self._seconds / 5 * random.uniform(0.8, 1.2))  # noqa: S311: no secret
        self.held = True
        self._renewals = asyncio.create_task(self._renew())
        log.info("leading", extra={"identity": self._identity})

    async def release(self) -> None:
        """Let the next one lead at once."""
        if self._renewals is not None:
            self._renewals.cancel()
            await asyncio.gather(self._renewals, return_exceptions=True)
        if self.held and not self.lost.is_set():
            with contextlib.suppress(ClusterError):
                live = await self._cluster.get("Lease", self._namespace, self._name)
                if live is not None and live["spec"].get("holderIdentity") == self._identity:
                    await self._cluster.replace(live | {"spec": live["spec"] | {"holderIdentity": ""}})
        self.held = False

    async def _renew(self) -> None:
        last = time.monotonic()
        while time.monotonic() - last < self._seconds * 2 / 3:
            await asyncio.sleep(self._seconds / 5)
            try:
                sent = time.monotonic()
                if not await self._try():
                    break  # somebody else has it: our renewals came too late
                last = sent
            except ClusterError as error:
                log.warning("the lease could not be renewed: %s", error.message)
        log.error("the lease is lost")
        self.lost.set()

    async def _try(self) -> bool:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        live = await self._cluster.get("Lease", self._namespace, self._name)
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": self._seconds, "renewTime": now}
        if live is None:
            fresh = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": spec | {"acquireTime": now, "leaseTransitions": 0},
            }
            try:
                await self._cluster.create(fresh)
            except Conflict:
                return False
            return True
        old = live["spec"]
        holder = old.get("holderIdentity")
        if holder and holder != self._identity:
            record = (holder, old.get("renewTime"))
            if record != self._seen[0]:
                self._seen = (record, time.monotonic())
                return False
            if time.monotonic() - self._seen[1] < int(old.get("leaseDurationSeconds") or self._seconds):
                return False
        if holder != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(old.get("leaseTransitions") or 0) + 1}
        try:
            await self._cluster.replace(
                live | {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "spec": old | spec}
            )
        except Conflict:
            return False
        return True
