"""Series of Skills are bounded, and go with their Skill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from skill_operator.observability import metrics


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    def forget() -> None:
        for who in list(metrics._named):
            metrics.forget(*who)

    forget()
    yield
    forget()


def calls(namespace: str, skill: str, outcome: str = "2xx") -> float | None:
    labels = {"namespace": namespace, "skill": skill, "outcome": outcome}
    return REGISTRY.get_sample_value("skill_gateway_skill_calls_total", labels)


def seconds(namespace: str, skill: str) -> float | None:
    return REGISTRY.get_sample_value("skill_gateway_skill_call_seconds_sum", {"namespace": namespace, "skill": skill})


def test_calls_of_a_skill_are_counted_and_forgotten() -> None:
    for outcome in ("2xx", "2xx", "timeout"):
        metrics.call_ended("finance", "invoice", outcome, 0.5)
    assert (calls("finance", "invoice"), calls("finance", "invoice", "timeout")) == (2, 1)
    assert seconds("finance", "invoice") == 1.5
    metrics.forget("finance", "invoice")
    assert calls("finance", "invoice") is None
    assert seconds("finance", "invoice") is None
    metrics.call_ended("finance", "invoice", "2xx", 0.5)
    assert calls("finance", "invoice") == 1


def test_there_are_no_more_series_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_SKILLS", 3)
    before = calls(*metrics.OTHER) or 0
    for number in range(10):
        metrics.call_ended("crowd", f"s{number}", "2xx", 0)
    assert [calls("crowd", f"s{number}") for number in range(4)] == [1, 1, 1, None]
    assert calls(*metrics.OTHER) == before + 7
    metrics.forget("crowd", "s9")
    metrics.call_ended("crowd", "s9", "2xx", 0)
    assert calls("crowd", "s9") is None
    metrics.forget("crowd", "s0")
    metrics.call_ended("crowd", "s9", "2xx", 0)
    assert calls("crowd", "s9") == 1
