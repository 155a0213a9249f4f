"""Metrics. Labels are few and bounded: no texts of errors, and names of Skills up to a number."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from math import inf
from typing import Literal

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, that nobody reads

_DEPTH = Gauge("skill_operator_queue_depth", "Skills that wait for a pass")
_WAIT = Histogram("skill_operator_queue_wait_seconds", "How long a Skill waited for its pass")
_WORK = Histogram("skill_operator_pass_seconds", "How long a pass took")
_PASSES = Counter("skill_operator_passes_total", "Passes by the stage that ended them", ["stage", "result"])
_FAILURES = Counter("skill_operator_pass_failures_total", "Passes that raised", ["cause"])
_CALLS = Counter("skill_operator_model_calls_total", "Calls of a model by outcome", ["endpoint", "outcome"])
_TOKENS = Counter("skill_operator_model_tokens_total", "Tokens that models charged", ["endpoint"])
_CIRCUIT = Gauge(
    "skill_operator_model_circuit", "Calls to an endpoint: 0 go out, 1 one tries, 2 none go out", ["endpoint"]
)
_CIRCUITS = {"closed": 0, "half-open": 1, "open": 2}

_SKILLS = Gauge("skill_operator_skills", "Skills by condition, as of the last sweep", ["condition", "status"])
_BUILDS = Counter("skill_operator_builds_total", "Builds that ended, by result", ["result"])
_BUILD = Histogram(
    "skill_operator_build_seconds",
    "How long builds took that worked, from their Job to their image",
    buckets=(1, 2, 3, 4, 5, 7.5, 10, 15, 30, 60, 120, 180),
)
_BUILDS_WAITING = Gauge("skill_operator_builds_waiting", "Skills that wait for a build")


def taken(waited: float, depth: int) -> None:
    _WAIT.observe(waited)
    _DEPTH.set(depth)


def worked(seconds: float) -> None:
    _WORK.observe(seconds)


def reconciled(stage: str, result: str) -> None:
    _PASSES.labels(stage, result).inc()


def failed(cause: str) -> None:
    _FAILURES.labels(cause).inc()


def called(endpoint: str, outcome: str, tokens: int) -> None:
    _CALLS.labels(endpoint, outcome).inc()
    _TOKENS.labels(endpoint).inc(tokens)


def circuit(endpoint: str, state: str) -> None:
    _CIRCUIT.labels(endpoint).set(_CIRCUITS[state])


def skills(conditions: Mapping[tuple[str, str], int]) -> None:
    """Numbers of Skills by type and status of a condition; what is not named is none."""
    _SKILLS.clear()
    for (type_, status), number in conditions.items():
        _SKILLS.labels(type_, status).set(number)


def built(result: Literal["built", "failed"]) -> None:
    _BUILDS.labels(result).inc()


def build_took(seconds: float) -> None:
    _BUILD.observe(seconds)


def builds_waiting(number: int) -> None:
    _BUILDS_WAITING.set(number)


# The gateway.

MOST_SKILLS = 200  # that have series of their own in one replica; those that come later are "other" together
OTHER = ("other", "other")

_WAITING = Gauge("skill_gateway_calls_waiting", "Calls that wait for a Skill to wake")
_WAKES = Counter("skill_gateway_wakes_total", "Skills that were woken, by outcome", ["outcome"])
_COLD = Histogram(
    "skill_gateway_cold_start_seconds",
    "Phases of a wake: patch (the scale), pod (an address), answer (it takes calls), total",
    ["phase"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60),
)
_REFUSED = Counter(
    "skill_gateway_refused_total", "Requests that the gateway itself refused, by type of problem", ["type"]
)
_REVIEWS = Histogram(
    "skill_gateway_review_seconds", "Questions to the API server about callers", ["kind", "outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)  # fmt: skip
_STREAMS = Gauge("skill_gateway_mcp_streams", "Agents that wait for changes of the list of tools")
_CERTIFICATE = Counter(
    "skill_gateway_certificate_loads_total", "Certificates that were loaded, by outcome", ["outcome"]
)
_SLEEPS = Counter("skill_operator_sleeps_total", "Skills that were put to sleep")


class _OfSkill:
    __slots__ = ("outcomes", "seconds")

    def __init__(self) -> None:
        self.outcomes = Tally[str]()
        self.seconds = 0.0


class Relayed(Collector):
    """What is counted at every call, in plain numbers, and made into series when somebody asks for them: the library
    takes a lock for each number. One thread alone counts and tells."""

    BUCKETS = (*Histogram.DEFAULT_BUCKETS[:-1], inf)

    def __init__(self) -> None:
        self.in_flight = 0
        self._taken: dict[str, list[int]] = {}  # by outcome, how many calls took so long: one number for each bucket
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._skills: dict[tuple[str, str], _OfSkill] = {}

    def request(self, outcome: str, seconds: float) -> None:
        taken = self._taken.get(outcome)
        if taken is None:
            taken = self._taken[outcome] = [0] * len(self.BUCKETS)
        taken[bisect_left(self.BUCKETS, seconds)] += 1
        self._seconds[outcome] += seconds

    def call(self, who: tuple[str, str], outcome: str, seconds: float) -> None:
        skill = self._skills.get(who)
        if skill is None:
            if len(self._skills) - (OTHER in self._skills) >= MOST_SKILLS:
                who = OTHER
            skill = self._skills.setdefault(who, _OfSkill())
        skill.outcomes[outcome] += 1
        skill.seconds += seconds

    def forget(self, who: tuple[str, str]) -> None:
        self._skills.pop(who, None)

    def collect(self) -> Iterator[Metric]:
        of = ["namespace", "skill"]
        requests = HistogramMetricFamily(
            "skill_gateway_call_seconds", "Requests to the gateway by outcome", labels=["outcome"]
        )
        calls = CounterMetricFamily("skill_gateway_skill_calls", "Calls of Skills by outcome", labels=[*of, "outcome"])
        times = SummaryMetricFamily("skill_gateway_skill_call_seconds", "How long calls of Skills took", labels=of)
        for outcome, taken in self._taken.items():
            buckets = zip(map(floatToGoString, self.BUCKETS), accumulate(taken), strict=True)
            requests.add_metric([outcome], list(buckets), self._seconds[outcome])
        for who, skill in self._skills.items():
            times.add_metric(who, skill.outcomes.total(), skill.seconds)
            for outcome, number in skill.outcomes.items():
                calls.add_metric([*who, outcome], number)
        yield from (requests, calls, times)
        yield GaugeMetricFamily(
            "skill_gateway_calls_in_flight", "Calls that the gateway has taken and not answered", self.in_flight
        )


_RELAYED = Relayed()
REGISTRY.register(_RELAYED)


def relayed(outcome: str, seconds: float) -> None:
    """`outcome` is the slug of a problem, the class of a skill's own status, or `caller-left`."""
    _RELAYED.request(outcome, seconds)


def call_ended(namespace: str, skill: str, outcome: str, seconds: float) -> None:
    """Of a Skill that exists."""
    _RELAYED.call((namespace, skill), outcome, seconds)


def forget(namespace: str, skill: str) -> None:
    """A Skill is gone: so are its series, and there is room for another one's."""
    _RELAYED.forget((namespace, skill))


def refused(type_: str) -> None:
    """`type_` is the slug of a problem."""
    _REFUSED.labels(type_).inc()


def in_flight(calls: int) -> None:
    _RELAYED.in_flight = calls


def waiting(calls: int) -> None:
    _WAITING.set(calls)


def woken(outcome: str) -> None:
    """`outcome` is `awake`, or the slug of the problem."""
    _WAKES.labels(outcome).inc()


def cold_start(phase: str, seconds: float) -> None:
    _COLD.labels(phase).observe(seconds)


def slept() -> None:
    _SLEEPS.inc()


def reviewed(kind: str, outcome: str, seconds: float) -> None:
    _REVIEWS.labels(kind, outcome).observe(seconds)


def streams(open_: int) -> None:
    _STREAMS.set(open_)


def certificate(outcome: str) -> None:
    _CERTIFICATE.labels(outcome).inc()
