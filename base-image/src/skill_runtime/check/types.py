"""mypy: only complaints that tell of a mistake rather than of a habit, and only from a configuration of ours."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skill_runtime.check import tools
from skill_runtime.check.findings import Finding, excerpt
from skill_runtime.check.policy import Available

CODES = frozenset(("name-defined", "attr-defined", "call-arg", "import-not-found"))
"""Complaints about what would crash. Of HumanEval's 164 reference solutions these reject one; `arg-type` and
`return-value` would reject two more, and reject idioms such as `max(counts, key=counts.get)`."""
CONFIGURATION = Path(__file__).with_name("mypy.ini")
_SECONDS, _MEMORY = 60.0, 1 << 29
_WARM_SECONDS, _WARM_MEMORY = 1200.0, 1 << 32


def judge(source: str, types: str, programs: Path, folder: Path) -> Finding | None:
    """The first complaint that counts. mypy runs nothing of the candidate; if it fails itself, the examples decide."""
    (folder / "skill.py").write_text(source, encoding="utf-8")
    (folder / "skill_types.py").write_text(types, encoding="utf-8")
    cache = folder / "mypy"
    if (programs / "cache").is_dir():
        shutil.copytree(programs / "cache", cache)  # mypy writes to its cache, and the image is read-only
    ended = _run(programs, folder, cache, ["--skip-cache-mtime-checks"], _SECONDS, _MEMORY)
    for found in sorted(_complaints(ended.output), key=lambda found: int(found["line"])):
        if found["code"] in CODES and found["severity"] == "error" and found["file"] == "skill.py":
            line = int(found["line"])
            hint = f" ({found['hint']})" if found.get("hint") else ""
            return Finding(
                "mypy", f"line {line}: {found['code']}: {found['message']}{hint}\n{excerpt(source, line)}", line
            )
    return None


def warm(folder: str, manifest: Path = Path("/skill/manifest.json")) -> int:
    """Fill a cache with all that a skill can import; the exit code. For the build of the image."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    source = target / "skill.py"
    modules = sorted(Available.of(json.loads(manifest.read_bytes())).modules)
    source.write_text("".join(f"import {name}\n" for name in modules), encoding="utf-8")
    ended = _run(target.parent, target, target, [], _WARM_SECONDS, _WARM_MEMORY)
    source.unlink()
    sys.stdout.write(f"mypy has read {len(modules)} modules (exit code {ended.code})\n{ended.complaint}")
    return 0 if ended.code in (0, 1) else 1


def _run(programs: Path, folder: Path, cache: Path, options: list[str], seconds: float, memory: int) -> tools.Ended:
    argv = [
        *(str(programs / "bin" / "python3"), "-I", "-m", "mypy", "--config-file", str(CONFIGURATION)),
        *("--cache-dir", str(cache), "--sqlite-cache", "--output", "json", *options, "skill.py"),
    ]
    return tools.run(argv, seconds=seconds, cwd=folder, memory=memory)


def _complaints(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
