"""Running a program of ours on a candidate's text."""

from __future__ import annotations

import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

from skill_runtime.spawn import ENVIRONMENT

CRASHED = -1


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    """CRASHED for a signal or for taking too long."""
    output: str
    complaint: str


def run(argv: list[str], *, text: str = "", seconds: float, cwd: Path, memory: int) -> Ended:
    """A child with constants for an environment, text for input, and limits. Raises OSError without such a program."""
    limits = {resource.RLIMIT_CPU: int(seconds) + 1, resource.RLIMIT_DATA: memory, resource.RLIMIT_CORE: 0}
    try:
        with subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd=cwd,
            start_new_session=True,
        ) as child:
            for number, value in limits.items():
                resource.prlimit(child.pid, number, (value, value))
            try:
                output, complaint = child.communicate(text.encode(), timeout=seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                return Ended(CRASHED, "", f"took more than {seconds:.0f} s")
    except BrokenPipeError:
        return Ended(CRASHED, "", "stopped reading")
    code = child.returncode if child.returncode >= 0 else CRASHED
    return Ended(code, output.decode("utf-8", "replace"), complaint.decode("utf-8", "replace"))
