"""Run the tests that need a cluster, on two of them.

    python3 -m hack.integration WORKERS

Most tests touch a namespace of their own alone: WORKERS of them run side by side, on the checkout's cluster. Those that
are marked `serial` change or stop what all others share. They run one by one meanwhile, on a second cluster, which is
taken down at the end. Those that are marked `last` need a quiet machine, or look at what all others did.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from hack.cluster.identity import CHECKOUT, cluster_name
from hack.cluster.shell import say

SUITES = ("tests/chart", "tests/hostile", "tests/integration")
SIDE_BY_SIDE = "cluster and not serial and not last"
ONE_BY_ONE = "cluster and serial"
AT_THE_END = "cluster and last and not serial"
"""The marks of the tests of each part; each test of the cluster is in one of them."""
SUFFIX = "-apart"
MAX_NAME = 26
OTHER_CLUSTER = "OTHER_CLUSTER"
"""Environment of the last tests: the name of the cluster on which the serial ones ran."""
DOWN = (sys.executable, "-m", "hack.cluster", "down")


def second_name(first: str) -> str:
    """Return the name of the cluster that stands beside the first."""
    return first[: MAX_NAME - len(SUFFIX)] + SUFFIX


def pytest(marks: str, *options: str) -> tuple[str, ...]:
    """Return the command that runs the tests with these marks."""
    return (sys.executable, "-m", "pytest", "-q", "--durations", "20", *options, "-m", marks, *SUITES)


@contextmanager
def serial_tests(environment: Mapping[str, str], output: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the second cluster, install the operator in it and run the tests; all of it ends with the context."""
    prepare = f"{sys.executable} -m hack.cluster up && {sys.executable} -m hack.install"
    steps = ("sh", "-c", f'{prepare} && exec "$@"', "sh", *pytest(ONE_BY_ONE))
    process = subprocess.Popen(
        steps, cwd=CHECKOUT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
        subprocess.run(DOWN, cwd=CHECKOUT, env=environment, check=False)


def passes(*command: str, **environment: str) -> bool:
    """Run tests, and return whether none failed."""
    return subprocess.run(command, cwd=CHECKOUT, env=os.environ | environment, check=False).returncode == 0


def main(workers: str) -> int:
    """Run all tests. Return 0 if none failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the second cluster does not stay
    other = second_name(cluster_name())
    with tempfile.TemporaryFile() as output, serial_tests({**os.environ, "CLUSTER": other}, output) as serial:
        shared = passes(*pytest(SIDE_BY_SIDE, "-n", workers, "--dist", "loadgroup"))
        apart = serial.wait() == 0
        output.seek(0)
        say(f"one by one, on the cluster {other}:\n{output.read().decode(errors='replace')}")
        last = passes(*pytest(AT_THE_END), **{OTHER_CLUSTER: other})
    return int(not (shared and apart and last))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
