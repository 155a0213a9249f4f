"""Declare every Prometheus metric of both processes, and record into them.

Names follow Prometheus' naming practice: a unit as suffix, `_total` for counters. Labels are few and bounded: no texts
of errors, and names of Skills up to a number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from math import inf
from typing import Literal

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, that nobody reads

# The controller.

_WORKQUEUE_DEPTH = Gauge("skill_operator_workqueue_depth", "Number of Skills that wait for a reconcile.")
_WORKQUEUE_WAIT = Histogram(
    "skill_operator_workqueue_wait_seconds", "Time that a Skill waited in the work queue before its reconcile began."
)
_RECONCILE_DURATION = Histogram("skill_operator_reconcile_duration_seconds", "Duration of one reconcile of one Skill.")
_RECONCILES = Counter(
    "skill_operator_reconcile_total", "Number of reconciles, by the stage that ended them.", ["stage", "result"]
)
_UNREADABLE_OBJECTS = Counter(
    "skill_operator_unreadable_objects_total",
    "Number of specs of objects that were skipped because they are too large or nested too deeply.",
    ["kind"],
)
_RECONCILE_ERRORS = Counter(
    "skill_operator_reconcile_errors_total", "Number of reconciles that ended with an exception.", ["cause"]
)
_MODEL_REQUESTS = Counter(
    "skill_operator_model_requests_total", "Number of requests to a model's endpoint.", ["endpoint", "outcome"]
)
_MODEL_TOKENS = Counter(
    "skill_operator_model_tokens_total", "Number of tokens that a model's endpoint charged.", ["endpoint"]
)
_MODEL_REASONING_TOKENS = Counter(
    "skill_operator_model_reasoning_tokens_total",
    "Number of those tokens that a model spent on reasoning, where its endpoint reports it.",
    ["endpoint"],
)
_MODEL_CIRCUIT = Gauge(
    "skill_operator_model_circuit_state",
    "State of the circuit breaker of a model's endpoint: 0 closed, 1 half-open, 2 open.",
    ["endpoint"],
)
_CIRCUIT_STATES = {"closed": 0, "half-open": 1, "open": 2}
_SKILLS = Gauge(
    "skill_operator_skills", "Number of Skills that have a condition, as of the last sweep.", ["condition", "status"]
)
_BUILDS = Counter("skill_operator_builds_total", "Number of builds that ended.", ["result"])
_BUILD_DURATION = Histogram(
    "skill_operator_build_duration_seconds",
    "Duration of successful builds, from the start of the Job to the pushed image.",
    buckets=(1, 2, 3, 4, 5, 7.5, 10, 15, 30, 60, 120, 180),
)
_BUILDS_WAITING = Gauge("skill_operator_builds_waiting", "Number of Skills that wait until a build may start.")
_CHECKS_WAITING = Gauge("skill_operator_checks_waiting", "Number of Skills that wait until a check may start.")
_SCALE_TO_ZERO = Counter("skill_operator_scale_to_zero_total", "Number of times that an idle Skill was scaled to zero.")
_ARCHIVED_SKILLS = Gauge("skill_operator_archived_skills", "Number of Skills that are archived, as of the last sweep.")
_ARCHIVES = Counter("skill_operator_archives_total", "Number of times that a Skill nobody called was archived.")
_RESTORES = Counter("skill_operator_restores_total", "Number of times that a Skill came back from the archive.")
_CERTIFICATE_EXPIRY = Gauge(
    "skill_operator_certificate_expiry_timestamp_seconds",
    "Unix time at which the gateway's own certificate (serving) or its CA (authority) expires.",
    ["certificate"],
)


def record_queue_wait(seconds: float, depth: int) -> None:
    """Record how long a key waited in the work queue, and how many keys are left in it."""
    _WORKQUEUE_WAIT.observe(seconds)
    _WORKQUEUE_DEPTH.set(depth)


def observe_reconcile_duration(seconds: float) -> None:
    """Record the duration of a reconcile, however it ended."""
    _RECONCILE_DURATION.observe(seconds)


def record_reconcile(stage: str, result: str) -> None:
    """Count a reconcile by the stage that ended it and that stage's result."""
    _RECONCILES.labels(stage, result).inc()


def record_unreadable_object(kind: str) -> None:
    """Count a version of an object that is skipped."""
    _UNREADABLE_OBJECTS.labels(kind).inc()


def record_reconcile_error(cause: str) -> None:
    """Count a reconcile that raised."""
    _RECONCILE_ERRORS.labels(cause).inc()


def record_model_request(endpoint: str, outcome: str, tokens: int, reasoning_tokens: int = 0) -> None:
    """Count a request to a model's endpoint, the tokens that it charged, and those of them that were for reasoning."""
    _MODEL_REQUESTS.labels(endpoint, outcome).inc()
    _MODEL_TOKENS.labels(endpoint).inc(tokens)
    _MODEL_REASONING_TOKENS.labels(endpoint).inc(reasoning_tokens)


def set_circuit_state(endpoint: str, state: str) -> None:
    """Publish the state of an endpoint's circuit breaker: `closed`, `half-open` or `open`."""
    _MODEL_CIRCUIT.labels(endpoint).set(_CIRCUIT_STATES[state])


def set_skill_conditions(conditions: Mapping[tuple[str, str], int]) -> None:
    """Publish the number of Skills by type and status of a condition; pairs that are absent have no series."""
    _SKILLS.clear()
    for (type_, status), number in conditions.items():
        _SKILLS.labels(type_, status).set(number)


def record_build(result: Literal["built", "failed"]) -> None:
    """Count a build that ended."""
    _BUILDS.labels(result).inc()


def observe_build_duration(seconds: float) -> None:
    """Record the duration of a successful build."""
    _BUILD_DURATION.observe(seconds)


def set_builds_waiting(number: int) -> None:
    """Publish how many Skills wait until a build may start."""
    _BUILDS_WAITING.set(number)


def set_checks_waiting(number: int) -> None:
    """Publish how many Skills wait until a check may start."""
    _CHECKS_WAITING.set(number)


def record_scale_to_zero() -> None:
    """Count a Skill that was scaled to zero because it was idle."""
    _SCALE_TO_ZERO.inc()


def set_archived_skills(number: int) -> None:
    """Publish how many Skills are archived."""
    _ARCHIVED_SKILLS.set(number)


def record_archive() -> None:
    """Count a Skill that was archived because nobody called it."""
    _ARCHIVES.inc()


def record_restore() -> None:
    """Count a Skill that leaves the archive."""
    _RESTORES.inc()


# The gateway.

MAX_SKILLS = 200  # that have series of their own in one replica; those that come later are "other" together
OTHER = ("other", "other")

_CALLS_WAITING = Gauge(
    "skill_gateway_calls_waiting", "Number of calls that wait for a pod of their Skill, or for a place in one."
)
_ACTIVATIONS = Counter(
    "skill_gateway_activations_total", "Number of times that a Skill was scaled from zero.", ["outcome"]
)
_COLD_START = Histogram(
    "skill_gateway_cold_start_duration_seconds",
    "Duration of a cold start by phase: patch (scale), pod (address), answer (pod accepts), total.",
    ["phase"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60),
)
_REJECTIONS = Counter(
    "skill_gateway_rejections_total", "Number of requests that the gateway itself rejected, by problem type.", ["type"]
)
_AUTHORIZATION = Histogram(
    "skill_gateway_authorization_duration_seconds",
    "Duration of a TokenReview or SubjectAccessReview at the API server.",
    ["kind", "outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
_MCP_STREAMS = Gauge("skill_gateway_mcp_streams", "Number of open MCP streams that wait for tool list changes.")
_CREATIONS = Counter(
    "skill_gateway_skills_created_total", "Number of Skills that the gateway wrote for agents.", ["namespace"]
)
_CERTIFICATE_LOADS = Counter(
    "skill_gateway_certificate_loads_total", "Number of attempts to load the TLS certificate.", ["outcome"]
)


class _SkillSeries:
    __slots__ = ("outcomes", "seconds")

    def __init__(self) -> None:
        self.outcomes = Tally[str]()
        self.seconds = 0.0


class GatewayCollector(Collector):
    """GatewayCollector counts what happens at every call in plain numbers, and makes series of them at each scrape.

    The library takes a lock for each number. One thread alone counts and collects.
    """

    BUCKETS = (*Histogram.DEFAULT_BUCKETS[:-1], inf)

    def __init__(self) -> None:
        self.in_flight = 0
        self._durations: dict[str, list[int]] = {}  # by outcome, how many took so long: one number for each bucket
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._skills: dict[tuple[str, str], _SkillSeries] = {}

    def record_request(self, outcome: str, seconds: float) -> None:
        """Count a request to the gateway by its outcome."""
        counts = self._durations.get(outcome)
        if counts is None:
            counts = self._durations[outcome] = [0] * len(self.BUCKETS)
        counts[bisect_left(self.BUCKETS, seconds)] += 1
        self._seconds[outcome] += seconds

    def record_skill_call(self, key: tuple[str, str], outcome: str, seconds: float) -> None:
        """Count a call of the Skill with this namespace and name."""
        skill = self._skills.get(key)
        if skill is None:
            if len(self._skills) - (OTHER in self._skills) >= MAX_SKILLS:
                key = OTHER
            skill = self._skills.setdefault(key, _SkillSeries())
        skill.outcomes[outcome] += 1
        skill.seconds += seconds

    def skill_calls(self, key: tuple[str, str]) -> tuple[dict[str, int], float]:
        """Return how many calls of a Skill had which outcome, and how many seconds they took together."""
        skill = self._skills.get(key)
        return (dict(skill.outcomes), skill.seconds) if skill is not None else ({}, 0.0)

    def forget_skill(self, key: tuple[str, str]) -> None:
        """Drop the series of a Skill."""
        self._skills.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        """Yield the families of metrics with the numbers of now."""
        labels = ["namespace", "skill"]
        requests = HistogramMetricFamily(
            "skill_gateway_request_duration_seconds",
            "Duration of requests to the gateway, by outcome.",
            labels=["outcome"],
        )
        calls = CounterMetricFamily(
            "skill_gateway_skill_calls", "Number of calls of a Skill, by outcome.", labels=[*labels, "outcome"]
        )
        times = SummaryMetricFamily(
            "skill_gateway_skill_call_duration_seconds", "Duration of calls of a Skill.", labels=labels
        )
        for outcome, counts in self._durations.items():
            buckets = zip(map(floatToGoString, self.BUCKETS), accumulate(counts), strict=True)
            requests.add_metric([outcome], list(buckets), self._seconds[outcome])
        for key, skill in self._skills.items():
            times.add_metric(key, skill.outcomes.total(), skill.seconds)
            for outcome, number in skill.outcomes.items():
                calls.add_metric([*key, outcome], number)
        yield from (requests, calls, times)
        yield GaugeMetricFamily(
            "skill_gateway_calls_in_flight",
            "Number of calls that the gateway has admitted and not yet answered.",
            self.in_flight,
        )


_GATEWAY = GatewayCollector()
REGISTRY.register(_GATEWAY)


def record_request(outcome: str, seconds: float) -> None:
    """Record a request; `outcome` is a problem's slug, the class of the skill's status, or `client-disconnected`."""
    _GATEWAY.record_request(outcome, seconds)


def record_skill_call(namespace: str, skill: str, outcome: str, seconds: float) -> None:
    """Record a call of a Skill that exists; `outcome` is as in `record_request`."""
    _GATEWAY.record_skill_call((namespace, skill), outcome, seconds)


def skill_calls(namespace: str, skill: str) -> tuple[dict[str, int], float]:
    """Return the calls of a Skill by outcome since this process started, and the seconds that they took together."""
    return _GATEWAY.skill_calls((namespace, skill))


def forget_skill(namespace: str, skill: str) -> None:
    """Drop the series of a Skill that is gone, which makes room for another one's."""
    _GATEWAY.forget_skill((namespace, skill))


def record_rejection(type_: str) -> None:
    """Count a request that the gateway itself rejected; `type_` is the slug of the problem."""
    _REJECTIONS.labels(type_).inc()


def set_calls_in_flight(calls: int) -> None:
    """Publish how many calls are admitted and not yet answered."""
    _GATEWAY.in_flight = calls


def set_calls_waiting(calls: int) -> None:
    """Publish how many calls wait for a pod."""
    _CALLS_WAITING.set(calls)


def record_activation(outcome: str) -> None:
    """Count a scale from zero; `outcome` is `awake`, or the slug of the problem."""
    _ACTIVATIONS.labels(outcome).inc()


def observe_cold_start(phase: str, seconds: float) -> None:
    """Record the duration of one phase of a cold start."""
    _COLD_START.labels(phase).observe(seconds)


def record_authorization(kind: str, outcome: str, seconds: float) -> None:
    """Record a review of the API server; `kind` is the review's."""
    _AUTHORIZATION.labels(kind, outcome).observe(seconds)


def set_mcp_streams(number: int) -> None:
    """Publish how many MCP streams are open."""
    _MCP_STREAMS.set(number)


def record_creation(namespace: str) -> None:
    """Count a Skill that was written for an agent."""
    _CREATIONS.labels(namespace).inc()


def record_certificate_load(outcome: str) -> None:
    """Count an attempt to load the TLS certificate; `outcome` is `loaded` or `failed`."""
    _CERTIFICATE_LOADS.labels(outcome).inc()


def set_certificate_expiry(certificate: str, expiry: datetime) -> None:
    """Publish when the gateway's own certificate expires; `certificate` is `serving` or `authority`."""
    _CERTIFICATE_EXPIRY.labels(certificate).set(expiry.timestamp())
