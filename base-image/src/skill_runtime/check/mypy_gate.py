"""The mypy gate: only errors that show a mistake rather than a habit, and only from a configuration of ours."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skill_runtime import operator_contract as oc
from skill_runtime.check import tools
from skill_runtime.check.findings import GateFinding

CODES = frozenset(("name-defined", "attr-defined", "call-arg", "import-not-found"))
"""Errors about what would crash. Of HumanEval's 164 reference solutions these reject none; `arg-type` and
`return-value` would reject some, and idioms such as `max(counts, key=counts.get)`."""
CONFIGURATION = Path(__file__).with_name("mypy.ini")
_NO_KEY = "has no key"
"""The one error about a TypedDict that is no matter of habit: there is no such field in the schema."""
_TOP_MODULE = re.compile(r'named "\w+"')
"""A module that the policy has judged: it may be absent where the code catches ImportError."""
_INLINE_CONFIGURATION = "# mypy:"
"""mypy reads its inline configuration from every line that starts so, inside of strings as well."""
_TIMEOUT_SECONDS, _MEMORY_BYTES = 20.0, 1 << 29


def check(source: str, types: str, programs: Path, folder: Path) -> GateFinding | None:
    """Return the first error that counts in a source without comments.

    mypy runs nothing of the candidate; if mypy fails, the examples decide.
    """
    text = source.replace(_INLINE_CONFIGURATION, "#_mypy:")
    (folder / oc.SKILL_FILE).write_text(text, encoding="utf-8")
    (folder / f"{oc.TYPES_MODULE}.py").write_text(types, encoding="utf-8")
    cache = folder / "mypy"
    if (programs / "cache").is_dir():
        shutil.copytree(programs / "cache", cache)  # mypy writes to its cache, and the image is read-only
    result = _run(programs, folder, cache)
    for error in sorted(_errors(result.stdout), key=lambda error: int(error["line"])):
        if _counts(error):
            line = int(error["line"])
            hint = f" ({error['hint']})" if error.get("hint") else ""
            return GateFinding("mypy", f"line {line}: {error['code']}: {error['message']}{hint}", line)
    return None


def _counts(error: dict[str, Any]) -> bool:
    if error["severity"] != "error" or error["file"] != "skill.py":
        return False
    if error["code"] == "import-not-found" and _TOP_MODULE.search(error["message"]):
        return False
    return error["code"] in CODES or (error["code"] == "typeddict-item" and _NO_KEY in error["message"])


def _run(programs: Path, folder: Path, cache: Path) -> tools.ToolResult:
    argv = [
        *(str(programs / "bin" / "python3"), "-I", "-m", "mypy", "--config-file", str(CONFIGURATION)),
        *("--cache-dir", str(cache), "--sqlite-cache", "--skip-cache-mtime-checks", "--output", "json", "skill.py"),
    ]
    return tools.run_tool(argv, timeout_seconds=_TIMEOUT_SECONDS, cwd=folder, memory_bytes=_MEMORY_BYTES)


def _errors(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
