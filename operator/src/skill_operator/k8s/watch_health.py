"""Detect a dead watch: compare what the watches delivered with what reads of the API server show.

A watch can be dead without an error: cut by a firewall, wedged in a library, starved. Nothing is written to find out:
whatever a reconcile or a list reads anyway must have been delivered by the watch too, within a minute. It counts once
the object is read again after that minute: what is gone or has lost its labels meanwhile is no fault of the watch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from skill_operator.k8s.interface import Object
from skill_operator.naming import UID_LABEL

MAX_DELAY_SECONDS = 60.0
"""A watch that delivers an object later than this after a read showed it is reported as dead."""
DELETION_MEMORY_SECONDS = 600.0
"""A read may be older than a deletion that the watch delivered, by at most this.

What was read, and is not read again for so long, is forgotten.
"""
MAX_DELETIONS = 1000
"""So many of the latest deletions are remembered."""


@dataclass(frozen=True)
class _MissingEvent:
    """A version of an object that was read and that no watch has delivered yet."""

    kind: str
    name: str
    skill_uid: str
    version: int
    first_read: float
    last_read: float


class WatchHealth:
    """WatchHealth keeps, by uid, what the watches delivered and what they should have delivered by now."""

    def __init__(
        self, max_delay_seconds: float = MAX_DELAY_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_delay_seconds = max_delay_seconds
        self._clock = clock
        self._delivered: dict[str, int] = {}
        self._deleted: dict[str, float] = {}
        self._missing: dict[str, _MissingEvent] = {}

    def observe_event(self, metadata: Mapping[str, Any], *, deleted: bool = False) -> None:
        """Record that a watch delivered the object of this metadata."""
        uid = str(metadata.get("uid"))
        if deleted:
            self._delivered.pop(uid, None)
            self._missing.pop(uid, None)
            self._deleted.pop(uid, None)
            self._deleted[uid] = self._clock()
            if len(self._deleted) > MAX_DELETIONS:
                del self._deleted[next(iter(self._deleted))]
            return
        version = self._delivered[uid] = _version(metadata)
        if uid in self._missing and self._missing[uid].version <= version:
            del self._missing[uid]

    def observe_read(self, objects: Iterable[Object]) -> list[Object]:
        """Record objects that were read from the API server; return those that no watch has delivered yet."""
        now = self._clock()
        for uid in [uid for uid, at in self._deleted.items() if now - at > DELETION_MEMORY_SECONDS]:
            del self._deleted[uid]
        for uid in [uid for uid, event in self._missing.items() if now - event.last_read > DELETION_MEMORY_SECONDS]:
            del self._missing[uid]
        news = []
        for obj in objects:
            meta = obj["metadata"]
            uid, version = str(meta["uid"]), _version(meta)
            if uid not in self._deleted and self._delivered.get(uid, -1) < version:
                name = f"{meta.get('namespace', '')}/{meta['name']}"
                skill_uid = uid if obj["kind"] == "Skill" else meta.get("labels", {}).get(UID_LABEL, "")
                event = _MissingEvent(str(obj["kind"]), name, skill_uid, version, now, now)
                self._missing[uid] = replace(self._missing.get(uid, event), last_read=now)
                news.append(obj)
        return news

    def overdue_skills(self) -> set[str]:
        """Return the uids of the Skills to read again, since only that tells a dead watch from a deleted object."""
        now = self._clock()
        return {e.skill_uid for e in self._missing.values() if now - e.first_read > self._max_delay_seconds}

    def find_problem(self) -> str | None:
        """Return a sentence about the watch that is overdue longest, or None while all are in time."""
        overdue = [e for e in self._missing.values() if e.last_read - e.first_read > self._max_delay_seconds]
        oldest = min(overdue, key=lambda event: event.first_read, default=None)
        if oldest is None:
            return None
        delay = self._clock() - oldest.first_read
        return f"the watch of {oldest.kind}s has not delivered {oldest.name} for {delay:.0f} s"


def _version(metadata: Mapping[str, Any]) -> int:
    """Return the resource version as a number, as Kubernetes lets versions of one resource be compared.

    What is no number becomes -1, and so is never news.
    """
    text = str(metadata.get("resourceVersion", ""))
    return int(text) if text.isdecimal() else -1
