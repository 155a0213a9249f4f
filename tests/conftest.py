"""Hold the rules and fixtures that all tests share."""

from __future__ import annotations

import os
import time
from collections.abc import Generator

import pytest

from hack.cluster.access import Cluster
from hack.cluster.bare import Bare
from hack.cluster.cli import current
from tests.integration.failure_report import describe, namespaces_of
from tests.integration.installed import cluster, namespace, operator

__all__ = ["cluster", "namespace", "operator"]  # fixtures: one cluster and one installed operator for all tests


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests, leave out those that this cluster cannot run, and group those that share something."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    if not isinstance(current(), Bare):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("bare")])
        items[:] = [item for item in items if not item.get_closest_marker("bare")]
    for item in items:
        serial = item.get_closest_marker("serial")
        if serial and not serial.args:
            raise pytest.UsageError(f"{item.nodeid}: serial needs a reason")
        if item.get_closest_marker("cluster") and not item.get_closest_marker("xdist_group") and _shares_fixture(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _shares_fixture(item: pytest.Item) -> bool:
    """Return whether a fixture of the test's own module serves several tests, which one worker then runs."""
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009 - private, yet there is no other way
    return any(definitions[-1].scope == "module" for definitions in fixtures)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Note when a test begins."""
    item.stash[_BEGAN] = time.time()
    return (yield)


_BEGAN = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what was skipped where NO_SKIPS is set, as `make test` sets it; describe the cluster where a test failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {skip_reason(report)}"
    elif report.failed and item.get_closest_marker("cluster"):
        fixtures = getattr(item, "funcargs", {})
        used = getattr(fixtures.get("operator"), "cluster", fixtures.get("cluster"))
        if isinstance(used, Cluster):
            report.sections += describe(used, namespaces_of(fixtures), item.stash[_BEGAN])
    return report


def skip_reason(report: pytest.TestReport) -> str:
    """Return the reason that a skipped test gave."""
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
