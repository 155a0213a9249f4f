"""ruff: only what is certain to fail when it runs. Nothing correct was ever rejected by these rules."""

from __future__ import annotations

import json
from pathlib import Path

from skill_runtime.check import tools
from skill_runtime.check.findings import Finding, excerpt

RULES = "E9,F63,F7,F82"
_SECONDS, _MEMORY = 10.0, 1 << 29


def judge(source: str, programs: Path, folder: Path) -> Finding | None:
    """The first complaint. Configuration files and `noqa` comments have no say."""
    argv = [
        *(str(programs / "bin" / "ruff"), "check", "--isolated", "--no-cache", "--ignore-noqa", "--quiet"),
        *(
            "--select",
            RULES,
            "--target-version",
            "py313",
            "--output-format",
            "json",
            "--stdin-filename",
            "skill.py",
            "-",
        ),
    ]
    ended = tools.run(argv, text=source, seconds=_SECONDS, cwd=folder, memory=_MEMORY)
    if ended.code == 0:
        return None
    if ended.code != 1:
        return Finding("ruff", f"the file cannot be analysed: {ended.complaint[:300] or 'ruff ended early'}")
    first = min(json.loads(ended.output), key=lambda found: (found["location"]["row"], found["location"]["column"]))
    line = int(first["location"]["row"])
    rule = first["code"] or "SyntaxError"
    return Finding("ruff", f"line {line}: {rule}: {first['message']}\n{excerpt(source, line)}", line)
