"""mypy: only complaints that tell of a mistake rather than of a habit, and only from a configuration of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skill_runtime.check import tools
from skill_runtime.check.findings import Finding, excerpt

CODES = frozenset(("name-defined", "attr-defined", "call-arg", "import-not-found"))
"""Complaints about what would crash. Of HumanEval's 164 reference solutions these reject none; `arg-type` and
`return-value` would reject some, and idioms such as `max(counts, key=counts.get)`."""
CONFIGURATION = Path(__file__).with_name("mypy.ini")
_NO_KEY = "has no key"
"""The one complaint about a TypedDict that is no matter of habit: there is no such field in the schema."""
_SECONDS, _MEMORY = 20.0, 1 << 29


def judge(source: str, types: str, programs: Path, folder: Path) -> Finding | None:
    """The first complaint that counts. mypy runs nothing of the candidate; if it fails itself, the examples decide."""
    (folder / "skill.py").write_text(source, encoding="utf-8")
    (folder / "skill_types.py").write_text(types, encoding="utf-8")
    cache = folder / "mypy"
    if (programs / "cache").is_dir():
        shutil.copytree(programs / "cache", cache)  # mypy writes to its cache, and the image is read-only
    ended = _run(programs, folder, cache)
    for found in sorted(_complaints(ended.output), key=lambda found: int(found["line"])):
        if _counts(found):
            line = int(found["line"])
            hint = f" ({found['hint']})" if found.get("hint") else ""
            return Finding(
                "mypy", f"line {line}: {found['code']}: {found['message']}{hint}\n{excerpt(source, line)}", line
            )
    return None


def _counts(found: dict[str, Any]) -> bool:
    if found["severity"] != "error" or found["file"] != "skill.py":
        return False
    return found["code"] in CODES or (found["code"] == "typeddict-item" and _NO_KEY in found["message"])


def _run(programs: Path, folder: Path, cache: Path) -> tools.Ended:
    argv = [
        *(str(programs / "bin" / "python3"), "-I", "-m", "mypy", "--config-file", str(CONFIGURATION)),
        *("--cache-dir", str(cache), "--sqlite-cache", "--skip-cache-mtime-checks", "--output", "json", "skill.py"),
    ]
    return tools.run(argv, seconds=_SECONDS, cwd=folder, memory=_MEMORY)


def _complaints(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
