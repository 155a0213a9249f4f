"""Series of Skills are bounded, and go with their Skill."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import inf

import pytest
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    generate_latest,
)

from skill_operator.observability import metrics


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Nothing was counted yet."""
    fresh = metrics.Relayed()
    REGISTRY.unregister(metrics._RELAYED)
    former, metrics._RELAYED = metrics._RELAYED, fresh
    REGISTRY.register(fresh)
    yield
    REGISTRY.unregister(fresh)
    metrics._RELAYED = former
    REGISTRY.register(former)


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


def test_what_is_told_is_what_the_library_would_tell() -> None:
    """The same observations, once in our numbers and once in the library's own metrics."""
    theirs = CollectorRegistry()
    requests = Histogram(
        "skill_gateway_call_seconds", "Requests to the gateway by outcome", ["outcome"], registry=theirs
    )
    names = ["namespace", "skill"]
    calls = Counter("skill_gateway_skill_calls", "Calls of Skills by outcome", [*names, "outcome"], registry=theirs)
    times = Summary("skill_gateway_skill_call_seconds", "How long calls of Skills took", names, registry=theirs)
    flying = Gauge(
        "skill_gateway_calls_in_flight", "Calls that the gateway has taken and not answered", registry=theirs
    )
    lucky = random.Random(7)
    bounds = [bound for bound in Histogram.DEFAULT_BUCKETS if bound < inf]
    for _ in range(2000):
        outcome = lucky.choice(["2xx", "timeout", 'a"b\n'])
        seconds = lucky.choice([*bounds, 0.0, 1e6, lucky.expovariate(5)])
        who = ("ns", lucky.choice("abc"))
        metrics.relayed(outcome, seconds)
        requests.labels(outcome).observe(seconds)
        metrics.call_ended(*who, outcome, seconds)
        calls.labels(*who, outcome).inc()
        times.labels(*who).observe(seconds)
    metrics.in_flight(7)
    flying.set(7)
    ours = CollectorRegistry()
    ours.register(metrics._RELAYED)
    assert sorted(generate_latest(ours).splitlines()) == sorted(generate_latest(theirs).splitlines())
