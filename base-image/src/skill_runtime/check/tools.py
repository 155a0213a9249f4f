"""Running a program of ours on a candidate's text, with limits."""

from __future__ import annotations

import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

from skill_runtime.spawn import ENVIRONMENT

CRASHED = -1


@dataclass(frozen=True)
class ToolResult:
    """ToolResult is the exit code of a program and what it printed."""

    code: int
    """CRASHED for a signal or for a timeout."""
    stdout: str
    stderr: str


def run_tool(argv: list[str], *, stdin: str = "", timeout_seconds: float, cwd: Path, memory_bytes: int) -> ToolResult:
    """Run a child with constants for an environment, and limits. Raises OSError where there is no such program."""
    limits = {
        resource.RLIMIT_CPU: int(timeout_seconds) + 1,
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_CORE: 0,
    }
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
                stdout, stderr = child.communicate(stdin.encode(), timeout=timeout_seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                return ToolResult(CRASHED, "", f"took more than {timeout_seconds:.0f} s")
    except BrokenPipeError:
        return ToolResult(CRASHED, "", "stopped reading")
    code = child.returncode if child.returncode >= 0 else CRASHED
    return ToolResult(code, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"))
