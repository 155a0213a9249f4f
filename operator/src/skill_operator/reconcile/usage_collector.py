"""What is in use, as the gateways tell it: asked when a Skill might sleep, believed when all of them have answered."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from skill_operator.api.usage_report import PATH, CallEvent, CallFailure, ExceededLimit, UsageReport
from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.k8s.pod_status import NEWS_SECONDS
from skill_operator.naming import SkillKey, format_host_port
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
ASK_SECONDS = 2.0
LOOK_SECONDS = 5.0
DARK_SECONDS = 20.0  # a gateway that came and went in a longer time without a look would not be noticed
TELL_SECONDS = 60.0
LARGEST_REPORT = 1 << 24
Ask = Callable[[str], Awaitable[UsageReport]]


class NoReportError(Exception):
    """A gateway did not say what is in use."""


@dataclass(frozen=True)
class UsageSnapshot:
    """All that is known at one moment of the clock."""

    at: float
    certain_since: float  # who called before that, nobody knows any more
    complete: bool
    reports: tuple[UsageReport, ...] = ()

    def idle(self, uid: str) -> float:
        """Seconds for which certainly nobody called it."""
        ages = [r.skills[uid].idle if uid in r.skills else r.age for r in self.reports]
        return min([self.at - self.certain_since, *ages])

    def failures(self) -> dict[str, CallFailure]:
        """By uid, the last call of each that used more than it may."""
        found = ((uid, use.failure) for report in self.reports for uid, use in report.skills.items() if use.failure)
        return dict(sorted(found, key=lambda each: -each[1].ago))

    def held(self, uid: str) -> int:
        """Calls that wait for it to take calls again."""
        return sum(r.skills[uid].held for r in self.reports if uid in r.skills)

    def quiet(self, uid: str, mark: str) -> bool:
        """Whether every gateway knows of the drain and has no call of it in flight: from now on none will."""
        idle = all(uid not in r.skills or not r.skills[uid].open for r in self.reports)
        return self.complete and idle and all(r.draining.get(uid) == mark for r in self.reports)


class UsageCollector:
    """The gateways of this operator. What one of them knew, and what it does not tell, counts as use."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        ask: Ask,
        wake: Callable[[SkillKey], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wake` asks for a pass over a Skill of which there is news."""
        self._wake = wake
        self._cluster = cluster
        self._settings = settings
        self._ask = ask
        self._clock = clock
        self._certain_since = 0.0
        self._told: dict[str, tuple[str, float]] = {}
        self._traced: set[tuple[str, str, str, str]] = set()
        self._known: set[str] = set()
        self._asking = asyncio.Lock()
        self._last: tuple[float, UsageSnapshot] | None = None

    async def run(self) -> None:
        """Never ends. Whoever looks often enough notices each gateway that goes, and with it what it alone knew."""
        while True:
            try:
                await self.look(LOOK_SECONDS / 2)
            except ClusterError as error:
                log.warning("gateways cannot be listed: %s", error.message)
            await asyncio.sleep(LOOK_SECONDS)

    def failure(self, uid: str) -> tuple[ExceededLimit, float] | None:
        """What the last such call of a Skill used too much of, and how many seconds ago, as of the last look."""
        if self._last is None or (last := self._last[1].failures().get(uid)) is None:
            return None
        return last.kind, last.ago + self._clock() - self._last[1].at

    async def look(self, age: float) -> UsageSnapshot:
        """A picture whose questions were asked no longer ago than `age` seconds."""
        wanted = self._clock() - age
        async with self._asking:
            if self._last is None or self._last[0] <= wanted:
                self._last = (self._clock(), await self._look())
            return self._last[1]

    async def _look(self) -> UsageSnapshot:
        pods = await self._cluster.list("Pod", self._settings.namespace, self._settings.gateway_labels)
        alive = {pod["metadata"]["uid"]: pod["status"]["podIP"] for pod in pods if _runs(pod)}
        told = await asyncio.gather(*(self._report(address) for address in alive.values()))
        reports = tuple(report for report in told if report is not None)
        complete = len(reports) == len(alive)
        dark = self._last is None or self._clock() - self._last[0] > DARK_SECONDS
        if not complete or dark or self._known - alive.keys():
            self._certain_since = self._clock()
        self._known = set(alive)
        picture = UsageSnapshot(self._clock(), self._certain_since, complete, reports)
        self._tell(picture)
        return picture

    def _tell(self, picture: UsageSnapshot) -> None:
        """Of what is new, once in a while, however many calls fail: each pass may be a write."""
        for uid, failure in picture.failures().items():
            kind, when = self._told.get(uid, ("", -math.inf))
            happened = picture.at - failure.ago
            if failure.ago < NEWS_SECONDS and (kind != failure.kind or happened - when > TELL_SECONDS):
                self._told[uid] = (failure.kind, happened)
                self._wake(SkillKey(failure.namespace, failure.name))
        self._told = {uid: told for uid, told in self._told.items() if picture.at - told[1] < NEWS_SECONDS}
        self._trace(picture)

    def _trace(self, picture: UsageSnapshot) -> None:
        """In the log, each call that woke a Skill or used more than it may: by its id all logs tell of it."""
        uses = [use for report in picture.reports for use in report.skills.values()]
        events = [event for use in uses for event in (use.woken, use.failure) if event and event.ago < DARK_SECONDS]
        news = {(_text(event), event.namespace, event.name, event.request) for event in events}
        for text, namespace, name, request in news - self._traced:
            log.info(text, extra={"namespace": namespace, "skill": name, "request": request})
        self._traced = news

    async def _report(self, address: str) -> UsageReport | None:
        try:
            return await self._ask(address)
        except NoReportError as error:
            log.info("gateway %s does not say what is in use: %s", address, error)
            return None


def _text(event: CallEvent) -> str:
    return f"a call ended by its limits: {event.kind}" if isinstance(event, CallFailure) else "woken by a call"


def _runs(pod: Object) -> bool:
    """Also one that is about to end: it may still have calls."""
    status = pod.get("status", {})
    return bool(status.get("podIP")) and status.get("phase") not in {"Succeeded", "Failed"}


def over_http(session: aiohttp.ClientSession, port: int) -> Ask:
    async def ask(address: str) -> UsageReport:
        try:
            async with (
                asyncio.timeout(ASK_SECONDS),
                session.get(f"http://{format_host_port(address, port)}{PATH}", allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    raise NoReportError(f"HTTP {answer.status}")
                return UsageReport.model_validate_json(await answer.content.read(LARGEST_REPORT))
        except (aiohttp.ClientError, OSError, TimeoutError, ValidationError) as error:
            raise NoReportError(str(error) or type(error).__name__) from error

    return ask
