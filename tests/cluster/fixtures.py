"""`pytest_plugins = ["tests.cluster.fixtures"]` in a module of tests gives it the fixture `cluster`."""

from __future__ import annotations

import pytest

from tests.cluster.access import Cluster
from tests.cluster.cli import current


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The checkout's cluster: the one that runs, or one started now. It stays, for the next run."""
    mine = current()
    mine.up()
    return Cluster(mine, mine.status())
