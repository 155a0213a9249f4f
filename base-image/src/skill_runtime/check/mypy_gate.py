"""The mypy gate: only errors that mean a crash, and only from a configuration of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from skill_runtime import operator_contract as oc
from skill_runtime.check import tools
from skill_runtime.check.certain_errors import CandidateTree, ImportedMember, MypyError
from skill_runtime.check.findings import GateFinding

CONFIGURATION = Path(__file__).with_name("mypy.ini")
_INLINE_CONFIGURATION = "# mypy:"
"""mypy reads its inline configuration from every line that starts so, inside of strings as well."""
_TIMEOUT_SECONDS, _MEMORY_BYTES = 20.0, 1 << 29
_MAX_MEMBERS = 8
"""Members that are looked for in their modules, each by a program of its own."""
_HAS_MEMBER = """
import importlib, sys
module, *steps = sys.argv[1:]
try:
    thing = importlib.import_module(module)
    for step in steps:
        if not hasattr(thing, step):
            importlib.import_module(f"{thing.__name__}.{step}")
        thing = getattr(thing, step)
except (ImportError, AttributeError):
    sys.exit(1)
"""
"""Ends with 1 where a module, or a member of it, is not there. Submodules may have been imported by others."""


def check(source: str, types: str, programs: Path, folder: Path) -> GateFinding | None:
    """Return the first error that means a crash, in a source without comments that the policy has parsed before.

    mypy runs nothing of the candidate; if mypy fails, the examples decide.
    """
    text = source.replace(_INLINE_CONFIGURATION, "#_mypy:")
    (folder / oc.SKILL_FILE).write_text(text, encoding="utf-8")
    (folder / f"{oc.TYPES_MODULE}.py").write_text(types, encoding="utf-8")
    cache = folder / "mypy"
    if (programs / "cache").is_dir():
        shutil.copytree(programs / "cache", cache)  # mypy writes to its cache, and the image is read-only
    errors = sorted(_errors(_run(programs, folder, cache).stdout), key=lambda error: error.span)
    tree = CandidateTree(text, types) if errors else None
    there: dict[ImportedMember, bool] = {}
    for error in errors:
        certain = tree is not None and tree.is_certain(error)
        if isinstance(certain, ImportedMember):
            if certain not in there:
                there[certain] = len(there) == _MAX_MEMBERS or _may_exist(certain, programs, folder)
            certain = not there[certain]
        if certain:
            line = error.span[0]
            hint = f" ({error.hint})" if error.hint else ""
            return GateFinding("mypy", f"line {line}: {error.code}: {error.message}{hint}", line)
    return None


def _may_exist(member: ImportedMember, programs: Path, folder: Path) -> bool:
    """Return whether the module itself has what its stubs may only lack."""
    argv = [str(programs / "bin" / "python3"), "-I", "-c", _HAS_MEMBER, *member.path]
    result = tools.run_tool(argv, timeout_seconds=_TIMEOUT_SECONDS, cwd=folder, memory_bytes=_MEMORY_BYTES)
    return result.code != 1


def _run(programs: Path, folder: Path, cache: Path) -> tools.ToolResult:
    argv = [
        *(str(programs / "bin" / "python3"), "-I", "-m", "mypy", "--config-file", str(CONFIGURATION)),
        *("--cache-dir", str(cache), "--sqlite-cache", "--skip-cache-mtime-checks", "--output", "json", "skill.py"),
    ]
    return tools.run_tool(argv, timeout_seconds=_TIMEOUT_SECONDS, cwd=folder, memory_bytes=_MEMORY_BYTES)


def _errors(output: str) -> Iterator[MypyError]:
    """Yield the errors of the candidate's file from what mypy printed."""
    for line in output.splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("severity") == "error" and entry["file"] == oc.SKILL_FILE:
            numbers = (entry["line"], entry["column"], entry["end_line"], entry["end_column"])
            yield MypyError(entry["code"] or "", entry["message"], entry["hint"] or "", numbers)
