"""The retry of a failed Job: it cannot change once it exists, so another takes its place after an ever longer wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from skill_operator import naming
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.reconcile.result import ConditionUpdate, Ref, Result

MAX_BACKOFF_SECONDS = 300.0
MAX_FAILURES = 100


@dataclass(frozen=True)
class JobRetry:
    """When a failed Job is made again. `failures` counts those before it."""

    job: Object
    failures: int
    at: datetime

    @classmethod
    def of(cls, job: Object, failed_at: datetime, first_backoff_seconds: float) -> JobRetry:
        """Return the retry of `job`: each failure doubles the wait."""
        failures = _count(job["metadata"].get("annotations", {}).get(naming.FAILURES_ANNOTATION, "0"))
        backoff = min(MAX_BACKOFF_SECONDS, first_backoff_seconds * 2**failures)
        return cls(job, failures, failed_at + timedelta(seconds=backoff))

    def result(
        self,
        condition: ConditionUpdate,
        now: datetime,
        make: Callable[[int], tuple[Object, Object]],
        after: float | None = None,
    ) -> Result:
        """Return a wait until it is time, then the replacement.

        `make` returns ConfigMap and Job for a number of failures; `after` are the seconds until the next reconcile
        once they are made.
        """
        if now < self.at:
            return Result.failed(condition, retry_after=(self.at - now).total_seconds())
        meta = self.job["metadata"]
        config_map, job = make(self.failures + 1)
        failed = Ref("Job", meta["namespace"], meta["name"])
        return Result.failed(condition, retry_after=after, delete=(failed,), apply=(config_map,), create=(job,))


def _count(text: str) -> int:
    """Return the number in an annotation, which others may have written."""
    return min(MAX_FAILURES, int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def finished_at(terminated: Object, fallback: datetime) -> datetime:
    """Return when a container ended, or `fallback` where it does not say so."""
    text = terminated.get("finishedAt")
    return pod_status.parse_time(text) if isinstance(text, str) else fallback
