"""When a failed Job is made again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from skill_operator import naming
from skill_operator.reconcile.job_retry import MAX_BACKOFF_SECONDS, JobRetry
from tests.unit.reconcile.samples import NOW


def retry(text: str) -> JobRetry:
    return JobRetry.of({"metadata": {"annotations": {naming.FAILURES_ANNOTATION: text}}}, NOW, 5.0)


@pytest.mark.parametrize(("text", "seconds"), [("0", 5), ("1", 10), ("5", 160), ("6", 300), ("999", 300)])
def test_each_failure_doubles_the_wait(text: str, seconds: float) -> None:
    assert retry(text).at == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "x", "-1", "1e9", "9" * 12, "9" * 5000, "²", "1_0", " 1", "\ud800"])
def test_a_count_that_others_wrote_costs_nothing(text: str) -> None:
    """Two to the power of twelve nines would hold the controller for ever."""
    found = retry(text)
    assert found.failures == 0
    assert found.at <= NOW + timedelta(seconds=MAX_BACKOFF_SECONDS)
