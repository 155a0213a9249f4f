"""The reference of the metrics has every metric of both processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from hack.docs import metrics
from hack.docs.metrics import MetricFamily
from skill_operator.observability import metrics as registered


class Plain:
    """Plain collects what it counts by itself."""

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily("skill_gateway_plain", "plain things", labels=["kind"])


def test_collectors_of_every_sort_are_found_with_their_labels() -> None:
    registry = CollectorRegistry()
    module = {
        "REGISTRY": registry,
        "Plain": Plain,
        "depth": Gauge("skill_operator_depth", "how deep", registry=registry),
        "_calls": Counter("skill_gateway_calls_total", "Calls.", ["a", "b"], registry=registry),
        "_seconds": Histogram("skill_operator_seconds", "Time", registry=registry),
        "_plain": Plain(),
        "MAX": 3,
    }
    assert metrics.read_families(module) == [
        MetricFamily("skill_gateway_calls_total", "counter", ("a", "b"), "Calls."),
        MetricFamily("skill_gateway_plain_total", "counter", ("kind",), "plain things"),
        MetricFamily("skill_operator_depth", "gauge", (), "how deep"),
        MetricFamily("skill_operator_seconds", "histogram", (), "Time"),
    ]


def test_the_page_has_a_table_for_each_process() -> None:
    families = [
        MetricFamily("skill_gateway_calls_total", "counter", ("a", "b"), "Calls."),
        MetricFamily("skill_operator_depth", "gauge", (), "how deep"),
    ]
    controller, gateway = metrics.render(families).split("## Controller")[1].split("## Gateway")
    assert "| `skill_operator_depth` | gauge | How deep. |" in controller
    assert "| `skill_gateway_calls_total` | counter | `a`, `b` | Calls. |" in gateway


def test_a_metric_of_no_process_is_an_error() -> None:
    with pytest.raises(ValueError, match="strange_total"):
        metrics.render([MetricFamily("strange_total", "counter", (), "Strange.")])


def test_all_that_is_registered_is_on_the_page() -> None:
    page = metrics.render(metrics.read_families(vars(registered)))
    ours = [family for family in registered.REGISTRY.collect() if family.name.startswith("skill_")]
    assert len(ours) > 20
    for family in ours:
        assert f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} |" in page
