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
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

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


def run_pytest(title: str, cluster: str, *arguments: str, log: Path | None = None) -> bool:
    """Run pytest and return whether a test failed. `log` gets its output, so that two runs do not mingle theirs."""
    began = time.monotonic()
    command = [str(CHECKOUT / ".venv" / "bin" / "pytest"), "-q", "--durations", "20", *arguments]
    environment = os.environ | {"CLUSTER": cluster}
    with log.open("w") if log else nullcontext() as output:
        done = subprocess.run(command, check=False, cwd=CHECKOUT, env=environment, stdout=output, stderr=output)
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
    mine, log = cluster_name(), CHECKOUT / ".cluster" / "serial-tests.log"
    with second_cluster() as other, ThreadPoolExecutor(1) as background:
        serial: Future[bool] | None = None
        if other != mine:
            say(f"serial tests run meanwhile: see {log.relative_to(CHECKOUT)}")
            serial = background.submit(run_pytest, "serial tests", other, *SERIAL, log=log)
        failed = [run_pytest("tests without a cluster", mine, *UNIT)] if "unit" in arguments else []
        failed.append(run_pytest("tests that share a cluster", mine, *SHARED))
        failed.append(serial.result() if serial else run_pytest("serial tests", mine, *SERIAL))
        if serial:
            say(log.read_text())
        os.environ["SUITE_CLUSTERS"] = f"{mine} {other}"
        failed.append(run_pytest("tests that measure", mine, *QUIET))
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
