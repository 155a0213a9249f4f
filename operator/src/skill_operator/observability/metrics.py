"""Metrics. Labels are few and bounded: no names of skills, no texts of errors."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_DEPTH = Gauge("skill_operator_queue_depth", "Skills that wait for a pass")
_WAIT = Histogram("skill_operator_queue_wait_seconds", "How long a Skill waited for its pass")
_WORK = Histogram("skill_operator_pass_seconds", "How long a pass took")
_PASSES = Counter("skill_operator_passes_total", "Passes by the stage that ended them", ["stage", "result"])
_FAILURES = Counter("skill_operator_pass_failures_total", "Passes that raised", ["cause"])
_CALLS = Counter("skill_operator_model_calls_total", "Calls of a model by outcome", ["endpoint", "outcome"])
_TOKENS = Counter("skill_operator_model_tokens_total", "Tokens that models charged", ["endpoint"])


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


_RELAYED = Histogram("skill_gateway_call_seconds", "Requests to the gateway by outcome", ["outcome"])
_IN_FLIGHT = Gauge("skill_gateway_calls_in_flight", "Calls that the gateway has taken and not answered")


def relayed(outcome: str, seconds: float) -> None:
    """`outcome` is the slug of a problem, the class of a skill's own status, or `caller-left`."""
    _RELAYED.labels(outcome).observe(seconds)


def in_flight(calls: int) -> None:
    _IN_FLIGHT.set(calls)
