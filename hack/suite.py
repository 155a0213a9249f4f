"""Run the tests side by side, as far as they do not disturb each other.

    python3 -m hack.suite [unit]

Those that change what all tests of a cluster share run one by one on a cluster of their own, from the beginning.
Beside them run first the tests that need no cluster (with `unit`), then those that share the checkout's cluster. What
measures comes last, alone on the machine. kind, whose clusters may share one engine's limits, gets one after the other.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hack.cluster.bare import Bare
from hack.cluster.cli import current
from hack.cluster.identity import CHECKOUT, cluster_name
from hack.cluster.shell import say

WORKERS = os.environ.get("WORKERS", "4")
ON_CLUSTER = ("tests/chart", "tests/hostile", "tests/integration")
UNIT = ("-m", "not cluster", "--numprocesses", "auto", "tests")
SHARED = ("-m", "cluster and not serial and not quiet", "--numprocesses", WORKERS, "--dist", "loadgroup", *ON_CLUSTER)
SERIAL = ("-m", "cluster and serial", *ON_CLUSTER)
QUIET = ("-m", "cluster and quiet", *ON_CLUSTER)


class Part:
    """Part is one run of pytest in the background. Its output is kept until `join`, so that parts do not mingle."""

    def __init__(self, title: str, cluster: str, *arguments: str) -> None:
        self._title, self._failed = title, True
        self._environment = os.environ | {"CLUSTER": cluster}
        self._arguments = arguments
        self._log = CHECKOUT / ".cluster" / f"{title.replace(' ', '-')}.log"
        self._thread = threading.Thread(target=self._run)
        say(f"{title}: see {self._log.relative_to(CHECKOUT)}")
        self._thread.start()

    def _run(self) -> None:
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("w") as log:
            self._failed = run_pytest(self._title, self._environment, *self._arguments, stdout=log)

    def join(self) -> bool:
        """Wait for the end, print the output, and return whether a test failed."""
        self._thread.join()
        say(f"\n{self._title}:\n{self._log.read_text()}")
        return self._failed


def run_pytest(title: str, environment: dict[str, str], *arguments: str, stdout: object = None) -> bool:
    """Run pytest and return whether a test failed."""
    began = time.monotonic()
    command = [str(CHECKOUT / ".venv" / "bin" / "pytest"), "-q", "--durations", "20", *arguments]
    done = subprocess.run(command, check=False, cwd=CHECKOUT, env=environment, stdout=stdout, stderr=stdout)  # type: ignore[call-overload]
    say(f"{time.monotonic() - began:6.1f} s  {title}")
    return bool(done.returncode)


@contextmanager
def second_cluster() -> Iterator[str]:
    """Yield the name of the cluster for serial tests, and take it down afterwards."""
    if not isinstance(current(), Bare):
        yield cluster_name()
        return
    name = f"{cluster_name()[:20]}-serial"
    try:
        yield name
    finally:
        Bare(name).down()


def main(arguments: list[str]) -> int:
    """Run the suite. Return 1 if a test failed."""
    mine = cluster_name()
    with second_cluster() as other:
        environment = os.environ | {"SUITE_CLUSTERS": f"{mine} {other}"}
        serial = Part("serial tests", other, *SERIAL) if other != mine else None
        failed = [run_pytest("tests without a cluster", environment, *UNIT)] if "unit" in arguments else []
        failed.append(run_pytest("tests that share a cluster", environment, *SHARED))
        failed.append(serial.join() if serial else run_pytest("serial tests", environment, *SERIAL))
        failed.append(run_pytest("tests that measure", environment, *QUIET))
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
