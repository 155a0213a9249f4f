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
    fresh = metrics.GatewayCollector()
    REGISTRY.unregister(metrics._GATEWAY)
    former, metrics._GATEWAY = metrics._GATEWAY, fresh
    REGISTRY.register(fresh)
    yield
    REGISTRY.unregister(fresh)
    metrics._GATEWAY = former
    REGISTRY.register(former)


def calls(namespace: str, skill: str, outcome: str = "2xx") -> float | None:
    labels = {"namespace": namespace, "skill": skill, "outcome": outcome}
    return REGISTRY.get_sample_value("skill_gateway_skill_calls_total", labels)


def seconds(namespace: str, skill: str) -> float | None:
    return REGISTRY.get_sample_value(
        "skill_gateway_skill_call_duration_seconds_sum", {"namespace": namespace, "skill": skill}
    )


def test_calls_of_a_skill_are_counted_and_forgotten() -> None:
    for outcome in ("2xx", "2xx", "timeout"):
        metrics.record_skill_call("finance", "invoice", outcome, 0.5)
    assert (calls("finance", "invoice"), calls("finance", "invoice", "timeout")) == (2, 1)
    assert seconds("finance", "invoice") == 1.5
    metrics.forget_skill("finance", "invoice")
    assert calls("finance", "invoice") is None
    assert seconds("finance", "invoice") is None
    metrics.record_skill_call("finance", "invoice", "2xx", 0.5)
    assert calls("finance", "invoice") == 1


def test_there_are_no_more_series_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_SKILLS", 3)
    before = calls(*metrics.OTHER) or 0
    for number in range(10):
        metrics.record_skill_call("crowd", f"s{number}", "2xx", 0)
    assert [calls("crowd", f"s{number}") for number in range(4)] == [1, 1, 1, None]
    assert calls(*metrics.OTHER) == before + 7
    metrics.forget_skill("crowd", "s9")
    metrics.record_skill_call("crowd", "s9", "2xx", 0)
    assert calls("crowd", "s9") is None
    metrics.forget_skill("crowd", "s0")
    metrics.record_skill_call("crowd", "s9", "2xx", 0)
    assert calls("crowd", "s9") == 1


def test_what_is_told_is_what_the_library_would_tell() -> None:
    """The same observations, once in our numbers and once in the library's own metrics."""
    theirs = CollectorRegistry()
    requests = Histogram(
        "skill_gateway_request_duration_seconds",
        "Duration of requests to the gateway, by outcome.",
        ["outcome"],
        registry=theirs,
    )
    names = ["namespace", "skill"]
    calls = Counter(
        "skill_gateway_skill_calls", "Number of calls of a Skill, by outcome.", [*names, "outcome"], registry=theirs
    )
    times = Summary(
        "skill_gateway_skill_call_duration_seconds", "Duration of calls of a Skill.", names, registry=theirs
    )
    flying = Gauge(
        "skill_gateway_calls_in_flight",
        "Number of calls that the gateway has admitted and not yet answered.",
        registry=theirs,
    )
    lucky = random.Random(7)
    bounds = [bound for bound in Histogram.DEFAULT_BUCKETS if bound < inf]
    for _ in range(2000):
        outcome = lucky.choice(["2xx", "timeout", 'a"b\n'])
        seconds = lucky.choice([*bounds, 0.0, 1e6, lucky.expovariate(5)])
        who = ("ns", lucky.choice("abc"))
        metrics.record_request(outcome, seconds)
        requests.labels(outcome).observe(seconds)
        metrics.record_skill_call(*who, outcome, seconds)
        calls.labels(*who, outcome).inc()
        times.labels(*who).observe(seconds)
    metrics.set_calls_in_flight(7)
    flying.set(7)
    ours = CollectorRegistry()
    ours.register(metrics._GATEWAY)
    assert sorted(generate_latest(ours).splitlines()) == sorted(generate_latest(theirs).splitlines())
