"""Run the tests that need a cluster, in three parts, and other tests beside one of them.

    python3 -m hack.integration WORKERS [COMMAND ...]

Most tests touch a namespace of their own alone: WORKERS of them run side by side. Those that are marked `serial` change
or stop what all others share, and follow one by one. Those that are marked `last` need a quiet machine, or look at what
all others did.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hack.cluster.identity import CHECKOUT

SUITES = ("tests/chart", "tests/hostile", "tests/integration")
SIDE_BY_SIDE = "cluster and not serial and not last"
ONE_BY_ONE = "cluster and serial"
AT_THE_END = "cluster and last and not serial"
"""The marks of the tests of each part; each test of the cluster is in one of them."""
LEAST_PRIORITY = ("nice", "-n", "19")
AFTER_ALL_OTHERS = "AFTER_ALL_OTHERS"
"""Environment of the last part."""


def passes(marks: str, *options: str, **environment: str) -> bool:
    """Run the tests with these marks, and return whether none failed."""
    command = (sys.executable, "-m", "pytest", "-q", "--durations", "20", *options, "-m", marks, *SUITES)
    return subprocess.run(command, cwd=CHECKOUT, env=os.environ | environment, check=False).returncode == 0


@contextmanager
def beside(command: Sequence[str], outcomes: list[bool]) -> Iterator[None]:
    """Run a command meanwhile, if there is one. At its end print its output, and append whether it went well."""
    if not command:
        yield
        return
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen((*LEAST_PRIORITY, *command), cwd=CHECKOUT, stdout=output, stderr=output)
        try:
            yield
        finally:
            outcomes.append(process.wait() == 0)
            output.seek(0)
            sys.stdout.flush()
            shutil.copyfileobj(output, sys.stdout.buffer)
            sys.stdout.flush()


def main(workers: str, *command: str) -> int:
    """Run all tests. Return 0 if none failed."""
    parts = [passes(SIDE_BY_SIDE, "-n", workers, "--dist", "loadgroup")]
    with beside(command, parts):
        parts.append(passes(ONE_BY_ONE))
    parts.append(passes(AT_THE_END, **{AFTER_ALL_OTHERS: "1"}))
    return int(not all(parts))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
