"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from hack.cluster.bare import Bare
from hack.cluster.cli import current
from tests.integration.installed import cluster, namespace, operator

__all__ = ["cluster", "namespace", "operator"]  # fixtures: one cluster and one installed operator for all tests


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    if not isinstance(current(), Bare):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("bare")])
        items[:] = [item for item in items if not item.get_closest_marker("bare")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With NO_SKIPS, as `make test` sets it: a test that did not run has not passed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {call_reason(report)}"
    return report


def call_reason(report: pytest.TestReport) -> str:
    """What the skip said."""
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
