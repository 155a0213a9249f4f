"""The gates that only look: size, policy, ruff, mypy. The first that fails ends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from skill_runtime.check import findings, mypy_gate, ruff_gate, tools
from skill_runtime.check.findings import Finding
from skill_runtime.check.request import CheckRequest
from skill_runtime.settings import RuntimeSettings

MAX_SOURCE = 1 << 16
_POLICY = "import sys; sys.path.append({root!r}); from skill_runtime.check.policy import main; main()"
_SECONDS, _MEMORY = 10.0, 1 << 28


def judge(bundle: CheckRequest, settings: RuntimeSettings, folder: Path) -> Finding | None:
    """What is wrong with the candidate as a text."""
    return (
        _size(bundle.source)
        or _policy(bundle.source, settings, folder)
        or ruff_gate.judge(bundle.source, settings.tools, folder)
        or mypy_gate.judge(bundle.source, bundle.types, settings.tools, folder)
    )


def _size(source: str) -> Finding | None:
    try:
        count = len(source.encode("utf-8"))
    except UnicodeEncodeError as error:
        line = source.count("\n", 0, error.start) + 1
        return Finding("size", f"line {line}: the file is not text: it holds half of a surrogate pair", line)
    if count > MAX_SOURCE:
        return Finding("size", f"the file has {count} bytes; at most {MAX_SOURCE} are allowed")
    if (at := source.find("\0")) >= 0:
        line = source.count("\n", 0, at) + 1
        return Finding("size", f"line {line}: the file is not text: it holds a NUL character", line)
    return None


def _policy(source: str, settings: RuntimeSettings, folder: Path) -> Finding | None:
    """In a child, since what is parsed here may take all the memory or crash the parser."""
    code = _POLICY.format(root=str(Path(__file__).parents[2]))
    argv = [sys.executable, "-I", "-c", code, str(settings.manifest)]
    ended = tools.run(argv, text=source, seconds=_SECONDS, cwd=folder, memory=_MEMORY)
    if ended.code == tools.CRASHED:
        return Finding("size", "the file cannot be parsed: it takes too much time or memory")
    if ended.code:
        raise findings.BrokenCheckError(f"the policy ended with {ended.code}: {ended.complaint[-500:]}")
    found = json.loads(ended.output)
    if found is None:
        return None
    context = findings.excerpt(source, found["line"])
    return Finding(found["gate"], f"{found['message']}\n{context}" if context else found["message"], found["line"])
