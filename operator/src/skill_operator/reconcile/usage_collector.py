"""The usage of skills, as the gateways report it. A Skill sleeps only after all of them have answered."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from skill_operator.api.usage_report import PATH, CallEvent, CallFailure, ExceededLimit, RestoreRequest, UsageReport
from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.k8s.pod_status import INCIDENT_MEMORY_SECONDS
from skill_operator.naming import SkillKey, format_host_port
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
REQUEST_TIMEOUT_SECONDS = 2.0
POLL_SECONDS = 5.0
RESTORE_POLLS = 5  # between two polls while a Skill is archived, for which a call may wait: these list no pods
RESTORE_RETRY_SECONDS = 5.0  # until a Skill is looked at again that could not be restored
MAX_GAP_SECONDS = 20.0  # a gateway that came and went within a longer gap between two polls would not be noticed
WAKE_INTERVAL_SECONDS = 60.0
MAX_REPORT_BYTES = 1 << 24
FetchReport = Callable[[str], Awaitable[UsageReport]]


class NoReportError(Exception):
    """A gateway sent no usage report."""


@dataclass(frozen=True)
class UsageSnapshot:
    """All that is known about usage at one moment of the clock.

    `at` and `certain_since` are seconds of that clock; a call before the latter may be unknown. `complete` tells
    whether every gateway answered.
    """

    at: float
    certain_since: float
    complete: bool
    reports: tuple[UsageReport, ...] = ()

    def idle(self, uid: str) -> float:
        """Return the seconds for which certainly nobody called the Skill."""
        ages = [r.skills[uid].idle if uid in r.skills else r.age for r in self.reports]
        return min([self.at - self.certain_since, *ages])

    def seconds_since_call(self, uid: str) -> float | None:
        """Return the seconds since the last call of the Skill that a gateway knows; None where none knows one."""
        return min((report.skills[uid].idle for report in self.reports if uid in report.skills), default=None)

    def failures(self) -> dict[str, CallFailure]:
        """Return the last call of each Skill, by UID, that used more than it may."""
        failures = (
            (uid, usage.failure) for report in self.reports for uid, usage in report.skills.items() if usage.failure
        )
        return dict(sorted(failures, key=lambda each: -each[1].seconds_ago))

    def waiting(self, uid: str) -> int:
        """Return how many calls wait for the Skill to take calls again."""
        return sum(r.skills[uid].waiting for r in self.reports if uid in r.skills)

    def drained(self, uid: str, drain_token: str) -> bool:
        """Tell whether every gateway knows of the drain and has no call in flight: from now on none will have one."""
        idle = all(uid not in r.skills or not r.skills[uid].open for r in self.reports)
        return self.complete and idle and all(r.draining.get(uid) == drain_token for r in self.reports)


class UsageCollector:
    """UsageCollector asks this operator's gateways. What a lost gateway knew, and did not report, counts as use."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        fetch: FetchReport,
        wake: Callable[[SkillKey], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` gets the report of the gateway at an address. `wake` requests a reconcile of a Skill with news."""
        self._wake = wake
        self._cluster = cluster
        self._settings = settings
        self._fetch = fetch
        self._clock = clock
        self._certain_since = 0.0
        self._addresses: tuple[str, ...] = ()
        self._needed: set[tuple[str, str]] = set()  # uid, and token of the archive that a call needs it back from
        self._archived: dict[SkillKey, tuple[str, str]] = {}  # uid and token of the archive
        self._restores: dict[SkillKey, tuple[str, float]] = {}  # token of the archive, and when the Skill was woken
        self._announced: dict[str, tuple[str, float]] = {}  # by UID: kind and time of the failure
        self._logged: set[tuple[str, str, str, str]] = set()
        self._gateways: set[str] = set()  # UIDs
        self._lock = asyncio.Lock()
        self._last: tuple[float, UsageSnapshot] | None = None

    async def run(self) -> None:
        """Poll the gateways forever, often enough to notice each one that goes, and with it what it alone knew."""
        while True:
            try:
                await self.snapshot(POLL_SECONDS / 2)
            except ClusterError as error:
                log.warning("gateways cannot be listed: %s", error.message)
            for _ in range(RESTORE_POLLS):
                await asyncio.sleep(POLL_SECONDS / RESTORE_POLLS)
                if self._archived:
                    self._wake_archived(await self._fetch_reports(self._addresses))

    def set_archived(self, key: SkillKey, uid: str = "", archive: str = "") -> None:
        """Take note of the archive that a Skill is in, so that a call which needs it back wakes it; empty: in none."""
        if archive:
            self._archived[key] = (uid, archive)
        else:
            self._archived.pop(key, None)
            self._restores.pop(key, None)

    def asks_to_restore(self, uid: str, archive: str) -> bool:
        """Tell whether a call needs the Skill back from this archive, as of the last poll."""
        return (uid, archive) in self._needed

    def exceeded_limit(self, uid: str) -> tuple[ExceededLimit, float] | None:
        """Return what a Skill's last failed call used too much of, and how many seconds ago, as of the last poll."""
        if self._last is None or (last := self._last[1].failures().get(uid)) is None:
            return None
        return last.kind, last.seconds_ago + self._clock() - self._last[1].at

    async def snapshot(self, max_age_seconds: float) -> UsageSnapshot:
        """Return a snapshot whose requests were sent no longer ago than `max_age_seconds`. Raises ClusterError."""
        oldest = self._clock() - max_age_seconds
        async with self._lock:
            if self._last is None or self._last[0] <= oldest:
                self._last = (self._clock(), await self._collect())
            return self._last[1]

    async def _collect(self) -> UsageSnapshot:
        pods = await self._cluster.list("Pod", self._settings.namespace, self._settings.gateway_labels)
        addresses = {pod["metadata"]["uid"]: pod["status"]["podIP"] for pod in pods if _runs(pod)}
        self._addresses = tuple(addresses.values())
        reports = await self._fetch_reports(self._addresses)
        complete = len(reports) == len(addresses)
        gap = self._last is None or self._clock() - self._last[0] > MAX_GAP_SECONDS
        if not complete or gap or self._gateways - addresses.keys():
            self._certain_since = self._clock()
        self._gateways = set(addresses)
        snapshot = UsageSnapshot(self._clock(), self._certain_since, complete, reports)
        self._announce(snapshot)
        self._wake_archived(reports)
        self._log_events(snapshot)
        return snapshot

    def _announce(self, snapshot: UsageSnapshot) -> None:
        """Wake Skills with new failures, but seldom, however many calls fail: each reconcile may be a write."""
        for uid, failure in snapshot.failures().items():
            kind, announced_at = self._announced.get(uid, ("", -math.inf))
            failed_at = snapshot.at - failure.seconds_ago
            is_new = kind != failure.kind or failed_at - announced_at > WAKE_INTERVAL_SECONDS
            if failure.seconds_ago < INCIDENT_MEMORY_SECONDS and is_new:
                self._announced[uid] = (failure.kind, failed_at)
                self._wake(SkillKey(failure.namespace, failure.name))
        self._announced = {
            uid: (kind, at) for uid, (kind, at) in self._announced.items() if snapshot.at - at < INCIDENT_MEMORY_SECONDS
        }

    async def _fetch_reports(self, addresses: tuple[str, ...]) -> tuple[UsageReport, ...]:
        """Return the reports of the gateways at these addresses, without those that do not answer."""
        responses = await asyncio.gather(*(self._report(address) for address in addresses))
        return tuple(report for report in responses if report is not None)

    def _wake_archived(self, reports: tuple[UsageReport, ...]) -> None:
        """Wake the Skills that calls need back, and again after a while where they are still in the archive."""
        usages = (each for report in reports for each in report.skills.items())
        self._needed = {(uid, usage.restore.archive) for uid, usage in usages if usage.restore is not None}
        for key, (uid, archive) in self._archived.items():
            woken, at = self._restores.get(key, ("", -math.inf))
            is_due = woken != archive or self._clock() - at > RESTORE_RETRY_SECONDS
            if is_due and (uid, archive) in self._needed:
                self._restores[key] = (archive, self._clock())
                self._wake(key)

    def _log_events(self, snapshot: UsageSnapshot) -> None:
        """Log each call that woke a Skill or used more than it may; its request id is in all logs."""
        usages = [usage for report in snapshot.reports for usage in report.skills.values()]
        events = [
            event
            for usage in usages
            for event in (usage.activation, usage.failure, usage.restore)
            if event and event.seconds_ago < MAX_GAP_SECONDS
        ]
        current = {(_text(event), event.namespace, event.name, event.request) for event in events}
        for text, namespace, name, request in current - self._logged:
            log.info(text, extra={"namespace": namespace, "skill": name, "request": request})
        self._logged = current

    async def _report(self, address: str) -> UsageReport | None:
        try:
            return await self._fetch(address)
        except NoReportError as error:
            log.info("gateway %s sent no usage report: %s", address, error)
            return None


def _text(event: CallEvent) -> str:
    if isinstance(event, CallFailure):
        return f"a call ended by its limits: {event.kind}"
    return "a call needs it back from the archive" if isinstance(event, RestoreRequest) else "woken by a call"


def _runs(pod: Object) -> bool:
    """Tell whether a gateway may have calls. One that is about to end may, too."""
    status = pod.get("status", {})
    return bool(status.get("podIP")) and status.get("phase") not in {"Succeeded", "Failed"}


def over_http(session: aiohttp.ClientSession, port: int) -> FetchReport:
    """Return what fetches a gateway's report from its usage port."""

    async def fetch(address: str) -> UsageReport:
        try:
            async with (
                asyncio.timeout(REQUEST_TIMEOUT_SECONDS),
                session.get(f"http://{format_host_port(address, port)}{PATH}", allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise NoReportError(f"HTTP {response.status}")
                return UsageReport.model_validate_json(await response.content.read(MAX_REPORT_BYTES))
        except (aiohttp.ClientError, OSError, TimeoutError, ValidationError) as error:
            raise NoReportError(str(error) or type(error).__name__) from error

    return fetch
