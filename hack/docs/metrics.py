"""The reference of the metrics, from the collectors that the two processes register."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry

from hack.docs.markdown import code, page, sentence, table

INTRODUCTION = """\
`/metrics` on port 8081 of each pod serves the Prometheus text format. The chart brings pod monitors
(`metrics.podMonitor`), alerts (`metrics.rules`) and a Grafana dashboard (`metrics.dashboard`). Labels name Skills, so a
policy closes the port to every pod until `metrics.networkPolicy.from` names the scraper's namespace.
"""
PROCESSES = {"skill_operator_": "Controller", "skill_gateway_": "Gateway"}


@dataclass(frozen=True, order=True)
class MetricFamily:
    """MetricFamily describes one metric: what a scrape shows of it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def read_families(module: Mapping[str, object]) -> list[MetricFamily]:
    """Return the metrics whose collectors are globals of a module, sorted by name."""
    return sorted(family for value in module.values() for family in _families(value))


def _families(value: object) -> Iterator[MetricFamily]:
    """Yield what a collector collects, and nothing of what is none."""
    if isinstance(value, MetricWrapperBase):
        # The library has no public way to the labels of a metric without samples.
        name, kind = str(value._name), str(value._type)  # noqa: SLF001
        labels, text = tuple(value._labelnames), str(value._documentation)  # noqa: SLF001
        yield MetricFamily(_exposed(name, kind), kind, labels, text)
    elif callable(collect := getattr(value, "collect", None)) and not isinstance(value, type | CollectorRegistry):
        for metric in collect():
            if isinstance(metric, Metric):
                labels = tuple(getattr(metric, "_labelnames", ()))
                yield MetricFamily(_exposed(metric.name, metric.type), metric.type, labels, metric.documentation)


def _exposed(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" and not name.endswith("_total") else name


def render(families: list[MetricFamily]) -> str:
    """Return the page. A metric of neither process is an error, since nobody would find it."""
    strangers = [family.name for family in families if not family.name.startswith(tuple(PROCESSES))]
    if strangers:
        raise ValueError(f"metrics of no process: {', '.join(strangers)}")
    blocks = []
    for prefix, process in PROCESSES.items():
        rows = [
            (code(family.name), family.kind, ", ".join(map(code, family.labels)), sentence(family.help))
            for family in families
            if family.name.startswith(prefix)
        ]
        blocks += [f"## {process}", table(("Metric", "Type", "Labels", "Description"), rows)]
    return page("Metrics", INTRODUCTION, *blocks)
