"""Run the tests that need a cluster, in three parts.

    python3 -m hack.integration WORKERS

Most tests touch a namespace of their own alone: WORKERS of them run side by side. Those that are marked `serial` change
or stop what all others share, and follow one by one. Those that are marked `last` need a quiet machine, or look at what
all others did.
"""

from __future__ import annotations

import os
import subprocess
import sys

from hack.cluster.identity import CHECKOUT

SUITES = ("tests/chart", "tests/hostile", "tests/integration")
SIDE_BY_SIDE = "cluster and not serial and not last"
ONE_BY_ONE = "cluster and serial"
AT_THE_END = "cluster and last and not serial"
"""The marks of the tests of each part; each test of the cluster is in one of them."""
AFTER_ALL_OTHERS = "AFTER_ALL_OTHERS"
"""Environment of the last part."""


def passes(marks: str, *options: str, **environment: str) -> bool:
    """Run the tests with these marks, and return whether none failed."""
    command = (sys.executable, "-m", "pytest", "-q", "--durations", "20", *options, "-m", marks, *SUITES)
    return subprocess.run(command, cwd=CHECKOUT, env=os.environ | environment, check=False).returncode == 0


def main(workers: str) -> int:
    """Run all tests. Return 0 if none failed."""
    parts = [
        passes(SIDE_BY_SIDE, "-n", workers, "--dist", "loadgroup"),
        passes(ONE_BY_ONE),
        passes(AT_THE_END, **{AFTER_ALL_OTHERS: "1"}),
    ]
    return int(not all(parts))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
