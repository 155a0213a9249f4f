"""Run programs and wait for their effects."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class ClusterError(Exception):
    """ClusterError explains a failure to the person who ran the command."""


def run(
    *command: str | Path,
    stdin: str | None = None,
    check: bool = True,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """Run a program and return what it printed. Raises ClusterError with its standard error."""
    argv = [str(part) for part in command]
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False, cwd=cwd, env=env)
    if check and done.returncode:
        complaint = (done.stderr or done.stdout).strip()[-1000:]
        raise ClusterError(f"{' '.join(argv[:8])} (exit {done.returncode}): {complaint}")
    return done.stdout


def succeeds(*command: str | Path) -> bool:
    """Return whether the program can be run and exits 0."""
    try:
        return subprocess.run([str(part) for part in command], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def wait(what: str, seconds: float, ready: Callable[[], bool]) -> None:
    """Poll `ready` until it is true. Raises ClusterError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)


def say(text: str) -> None:
    """Print progress to standard error; standard output is for what a program may read."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Report a step and the seconds it took."""
    began = time.monotonic()
    yield
    say(f"{time.monotonic() - began:6.1f} s  {what}")
