"""Whether the watches still tell what reads show.

A watch can be dead without an error: cut by a firewall, wedged in a library, starved. Nothing is written to find out:
whatever a pass or a list reads anyway must have been told by the watch too, within a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PATIENCE = 60.0
REMEMBERED = 600.0  # for how long a read may be older than a deletion that the watch told
Object = dict[str, Any]


@dataclass(frozen=True)
class _Doubt:
    """A version that was read and has not been told of."""

    kind: str
    name: str
    version: int
    since: float


class WatchHealth:
    """What the watches told, by uid, and what they should have told by now."""

    def __init__(self, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._told: dict[str, int] = {}
        self._gone: dict[str, float] = {}
        self._doubts: dict[str, _Doubt] = {}

    def told(self, metadata: Mapping[str, Any], *, deleted: bool = False) -> None:
        """A watch brought this object."""
        uid = str(metadata.get("uid"))
        if deleted:
            self._told.pop(uid, None)
            self._doubts.pop(uid, None)
            self._gone[uid] = self._clock()
            return
        version = self._told[uid] = _version(metadata)
        if uid in self._doubts and self._doubts[uid].version <= version:
            del self._doubts[uid]

    def read(self, objects: Iterable[Object]) -> list[Object]:
        """These were read from the API server. Returns those that the watches have not told of yet."""
        now = self._clock()
        for uid in [uid for uid, at in self._gone.items() if now - at > REMEMBERED]:
            del self._gone[uid]
        news = []
        for obj in objects:
            meta = obj["metadata"]
            uid, version = str(meta["uid"]), _version(meta)
            if uid not in self._gone and self._told.get(uid, -1) < version:
                name = f"{meta.get('namespace', '')}/{meta['name']}"
                self._doubts.setdefault(uid, _Doubt(str(obj["kind"]), name, version, now))
                news.append(obj)
        return news

    def problem(self) -> str | None:
        """For the health check."""
        oldest = min(self._doubts.values(), key=lambda doubt: doubt.since, default=None)
        if oldest is None or (silence := self._clock() - oldest.since) <= self._patience:
            return None
        return f"the watch of {oldest.kind}s has not told of {oldest.name} for {silence:.0f} s"


def _version(metadata: Mapping[str, Any]) -> int:
    """Kubernetes lets versions of one resource be compared as numbers; what is none is never news."""
    text = str(metadata.get("resourceVersion", ""))
    return int(text) if text.isdecimal() else -1
