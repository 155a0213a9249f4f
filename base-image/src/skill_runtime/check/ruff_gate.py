"""The ruff gate: only rules about what certainly fails when it runs. No correct code was ever rejected by these."""

from __future__ import annotations

import json
from pathlib import Path

from skill_runtime.check import tools
from skill_runtime.check.findings import GateFinding

RULES = "E9,F63,F7,F82"
_TIMEOUT_SECONDS, _MEMORY_BYTES = 10.0, 1 << 29


def check(source: str, programs: Path, folder: Path) -> GateFinding | None:
    """Return the first diagnostic of a source without comments. Configuration files have no effect."""
    argv = [
        *(str(programs / "bin" / "ruff"), "check", "--isolated", "--no-cache", "--quiet"),
        *("--select", RULES, "--target-version", "py313", "--output-format", "json"),
        *("--stdin-filename", "skill.py", "-"),
    ]
    result = tools.run_tool(
        argv, stdin=source, timeout_seconds=_TIMEOUT_SECONDS, cwd=folder, memory_bytes=_MEMORY_BYTES
    )
    if result.code == 0:
        return None
    if result.code != 1:
        return GateFinding("ruff", f"the file cannot be analysed: {result.stderr[:300] or 'ruff ended early'}")
    first = min(json.loads(result.stdout), key=lambda each: (each["location"]["row"], each["location"]["column"]))
    line = int(first["location"]["row"])
    rule = first["code"] or "SyntaxError"
    return GateFinding("ruff", f"line {line}: {rule}: {first['message']}", line)
