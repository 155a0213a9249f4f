"""Watch the registry for all Skills: one prober tells them when the registry goes away, and when it is back.

No reconcile waits for the registry, and none polls it. What a reconcile wants to know of it is in RegistryState, and
whether the registry still has an image is asked once while it stays, since only a registry that was away loses images.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from skill_operator.k8s.errors import ClusterError
from skill_operator.registry import client
from skill_operator.registry.client import BaseImage, BaseImageMissing, RegistryStarting, RegistryUnavailable
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 4.0  # whoever waits for the registry goes on within five seconds
MAX_LASTING_BACKOFF_SECONDS = 60.0  # where a person must help, and failed logins elsewhere may lock an account
STARTING = timedelta(minutes=2)  # in which the embedded registry of a new installation may come up
EMBEDDED_PERIOD_SECONDS = 3.0  # its restart takes longer, so that none goes unnoticed
PERIOD_SECONDS = 30.0  # of a registry elsewhere, which counts requests
EMBEDDED_TIMEOUT_SECONDS, TIMEOUT_SECONDS = 4.0, 30.0
STORED_SECONDS = 600.0  # for which an image that the registry had is believed to be there
MAX_KNOWN_IMAGES = 10_000


@dataclass(frozen=True)
class RegistryState:
    """RegistryState says what is known of the registry.

    `base` is the base image as it was read last, also while the registry is away. `problem` says why it is, or is None.
    `back_since` is when it came back last, if it was ever away.
    """

    base: BaseImage | None = None
    problem: RegistryUnavailable | None = None
    back_since: datetime | None = None


class RegistryMonitor:
    """RegistryMonitor probes the registry, ever later while it is away, and calls `on_change` when that changes."""

    def __init__(
        self,
        settings: Settings,
        on_change: Callable[[], Awaitable[None]],
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._on_change = on_change
        self._now = now
        self._is_embedded = bool(settings.registry.mirror_namespace)
        self._state = RegistryState()
        self._known = asyncio.Event()
        self._started_at = now()
        self._failures = 0
        self._notified = True
        self._stored: dict[str, float] = {}  # images that the registry had, and until when that is believed

    async def run(self) -> None:
        """Probe until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock()
            await self.update()
            await asyncio.sleep(max(0.0, due + self._pause_seconds() - clock()))

    async def read(self) -> RegistryState:
        """Return the state, once the first probe has ended."""
        await self._known.wait()
        return self._state

    async def is_lost(self, image: str, *, ask_again: bool) -> bool:
        """Return whether the registry answers and has not this image (`<pull address>/<repository>@<digest>`).

        Where `ask_again` is false, an image that was there since the registry came back is believed to be there.
        """
        now = asyncio.get_running_loop().time()
        if self._state.problem is not None or (not ask_again and self._stored.get(image, 0.0) > now):
            return False
        stored = await client.is_stored(self._settings, image)
        if stored:
            if len(self._stored) >= MAX_KNOWN_IMAGES:
                self._stored.clear()
            self._stored[image] = now + STORED_SECONDS
        return stored is False

    async def update(self) -> None:
        """Probe once, and tell the Skills of a change: also later, where the API server cannot list them now."""
        base, problem = await self._probe()
        before = self._state
        self._failures = 0 if problem is None else self._failures + 1
        if problem is not None:
            self._stored.clear()
        if type(problem) is not type(before.problem):
            self._log_change(problem)
            back_since = self._now() if before.problem is not None and problem is None else before.back_since
            self._state = RegistryState(base, problem, back_since)
            self._notified = False
        elif base is not before.base:
            self._state = RegistryState(base, before.problem, before.back_since)
        self._known.set()
        if not self._notified:
            try:
                await self._on_change()
            except ClusterError:  # whoever lists Skills reports it
                return
            self._notified = True

    def _log_change(self, problem: RegistryUnavailable | None) -> None:
        if problem is not None:
            log.warning("the registry is away: %s", problem)
        elif self._state.problem is not None:
            log.info("the registry is back")

    def _is_starting(self, problem: RegistryUnavailable | None) -> bool:
        """Return whether this is the registry of an installation that has only begun: no fault yet."""
        is_young = self._now() - self._started_at < STARTING
        awaited = type(problem) in {RegistryUnavailable, BaseImageMissing}
        return self._is_embedded and self._state.base is None and is_young and awaited

    async def _probe(self) -> tuple[BaseImage | None, RegistryUnavailable | None]:
        base, problem = await self._read()
        if self._is_starting(problem):
            return base, RegistryStarting(f"the registry of this installation is starting: {problem}")
        return base, problem

    async def _read(self) -> tuple[BaseImage | None, RegistryUnavailable | None]:
        """Return the base image, and what is wrong. After a failure it is read anew: the registry may have moved."""
        seconds = EMBEDDED_TIMEOUT_SECONDS if self._is_embedded else TIMEOUT_SECONDS
        try:
            async with asyncio.timeout(seconds):
                if self._state.base is None or self._failures:
                    return await client.read_base(self._settings), None
                await client.check_base(self._settings)
        except RegistryUnavailable as error:
            return self._state.base, error
        except TimeoutError:
            message = f"the registry {self._settings.registry.read} does not answer within {seconds:g} s"
            return self._state.base, RegistryUnavailable(message)
        return self._state.base, None

    def _pause_seconds(self) -> float:
        """Return the seconds from the beginning of one probe to that of the next."""
        if self._state.problem is None:
            return EMBEDDED_PERIOD_SECONDS if self._is_embedded else PERIOD_SECONDS
        in_no_hurry = self._state.problem.lasting and not self._is_embedded
        limit = MAX_LASTING_BACKOFF_SECONDS if in_no_hurry else MAX_BACKOFF_SECONDS
        return min(limit, FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 10))
