"""Dashboard and alerts ask for what the processes say, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from skill_operator.observability import metrics
from tests.chart.render import CHART, NAMESPACE, Refused, labels, pod, render, setting

DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
RULES = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
NAME = re.compile(r"\b(skill_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)(?:=~|!~|!=|=)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
PROMETHEUS = ("monitoring.coreos.com/v1",)
DASHED = setting("metrics.dashboard.enabled", True)
WATCHED = (setting("metrics.podMonitor.enabled", True), setting("metrics.rules.enabled", True))


def series() -> dict[str, set[str]]:
    """Every series that the processes have, and its labels."""
    found: dict[str, set[str]] = {}
    for family, labelled in families():
        own = set(labelled)
        names = {
            "counter": [f"{family.name}_total"],
            "gauge": [family.name],
            "summary": [f"{family.name}_sum", f"{family.name}_count"],
            "histogram": [f"{family.name}_sum", f"{family.name}_count", f"{family.name}_bucket"],
        }[family.type]
        found |= {name: own | ({"le"} if name.endswith("_bucket") else set()) for name in names}
    return found


def families() -> Iterator[tuple[Metric, Sequence[str]]]:
    """All that the processes count, and by what."""
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            yield family, metric._labelnames
        elif isinstance(metric, metrics.GatewayCollector):
            yield from ((family, family._labelnames) for family in metric.collect())  # type: ignore[attr-defined]


def questions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    for group in RULES["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


@pytest.mark.parametrize("question", sorted(set(questions())))
def test_what_is_asked_exists(question: str) -> None:
    known = series()
    asked = NAME.findall(question)
    assert asked
    for name, matchers in asked:
        assert name in known, name
        assert set(MATCHER.findall(matchers or "")) <= known[name]
    common = set.intersection(*(known[name] for name, _ in asked))
    for grouped in GROUPED.findall(question):
        assert {label.strip() for label in grouped.split(",")} <= common


def test_what_the_gateway_says_is_shown() -> None:
    """A metric that nobody looks at is work for nothing."""
    shown = {name for question in questions() for name, _ in NAME.findall(question)}
    for family, _ in families():
        assert any(name.startswith(family.name) for name in shown), family.name


def test_legends_use_labels_that_the_answer_has() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            kept = {label.strip() for grouped in GROUPED.findall(target["expr"]) for label in grouped.split(",")}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept - {"le"}, panel["title"]


def test_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_is_there_when_it_is_wanted() -> None:
    assert "dashboard" not in {labels(o).get("app.kubernetes.io/component") for o in render().objects}
    found = render("default", DASHED).component("ConfigMap", "dashboard")
    assert labels(found)["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["skill-operator.json"]) == DASHBOARD


def test_the_prometheus_operator_finds_both_processes() -> None:
    rendered = render("default", *WATCHED, setting("metrics.podMonitor.labels", {"release": "prom"}), apis=PROMETHEUS)
    for component in ("controller", "gateway"):
        monitor = rendered.component("PodMonitor", component)
        template = pod(rendered.workload(component))
        assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert ports[endpoint["port"]] == 8081
        assert labels(monitor)["release"] == "prom"
        assert monitor["metadata"]["namespace"] == NAMESPACE
    assert rendered.component("PrometheusRule", "rules")["spec"] == RULES


@pytest.mark.parametrize("wanted", WATCHED)
def test_without_the_prometheus_operator_it_is_said(wanted: str) -> None:
    with pytest.raises(Refused, match=r"need the Prometheus operator"):
        render("default", wanted)


def test_the_registry_has_all_of_them() -> None:
    """What is counted is what /metrics says."""
    collected = {family.name for family in REGISTRY.collect()}
    assert {family.name for family, _ in families()} <= collected
