"""Hold the rules and fixtures that all tests share."""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from collections.abc import Generator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from hack.cluster.access import Cluster
from hack.cluster.bare import Bare
from hack.cluster.cli import current
from tests.integration.failure_report import describe, namespaces_of
from tests.integration.installed import cluster, namespace, operator, reached

__all__ = [
    "cluster",
    "namespace",
    "operator",
    "reached",
]  # fixtures: one cluster and one installed operator for all tests
hypothesis.settings.register_profile("untimed", deadline=None)  # a machine that does something else fails no test
hypothesis.settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect all tests without looking for garbage, and never look for it among them: they stay to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests, leave out those that this cluster cannot run, and group those that share something."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    if not isinstance(current(), Bare):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("bare")])
        items[:] = [item for item in items if not item.get_closest_marker("bare")]
    for item in items:
        for name in ("serial", "last"):
            mark = item.get_closest_marker(name)
            if mark and not mark.args:
                raise pytest.UsageError(f"{item.nodeid}: {name} needs a reason")
        if item.get_closest_marker("cluster") and not item.get_closest_marker("xdist_group") and _shares_fixture(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    if hasattr(config, "workerinput"):
        _write_groups(Path(config.workerinput["groups"]), items)


def _shares_fixture(item: pytest.Item) -> bool:
    """Return whether a fixture of the test's own module serves several tests, which one worker then runs."""
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009 - private, yet there is no other way
    return any(definitions[-1].scope == "module" for definitions in fixtures)


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """GroupScheduling gives the tests of one xdist_group to one worker, and every other test to whoever is free.

    xdist's own `--dist loadgroup` puts the group into a test's id, which pytest 9 does not let it change. Here each
    worker writes the groups into a file, since the process that schedules collects nothing itself.
    """

    def _split_scope(self, nodeid: str) -> str:
        groups = json.loads(self.config.stash[_GROUPS].read_text()) if not self._groups else self._groups
        self._groups = groups
        return str(groups.get(nodeid, nodeid))

    _groups: dict[str, str] = {}  # noqa: RUF012 - replaced once, by a worker's


def pytest_configure_node(node: Any) -> None:
    """Tell a worker where to write its groups."""
    stash = node.config.stash
    stash[_GROUPS] = stash.get(_GROUPS, None) or Path(mkdtemp(prefix="pytest-groups-"), "groups.json")
    node.workerinput["groups"] = str(stash[_GROUPS])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the file of the groups, which the scheduling process alone has made."""
    if groups := config.stash.get(_GROUPS, None):
        shutil.rmtree(groups.parent, ignore_errors=True)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Schedule by group where `--dist loadgroup` asks for that."""
    return GroupScheduling(config, log) if config.getoption("dist") == "loadgroup" else None


def _write_groups(file: Path, items: list[pytest.Item]) -> None:
    marks = ((item.nodeid, item.get_closest_marker("xdist_group")) for item in items)
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({nodeid: mark.args[0] for nodeid, mark in marks if mark}))
    draft.rename(file)


_GROUPS = pytest.StashKey[Path]()


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
