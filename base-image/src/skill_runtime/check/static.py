"""The gates that only read the candidate, from its size to what it knows of examples. The first that fails ends it."""

from __future__ import annotations

import json
import sys
import tokenize
from dataclasses import replace
from pathlib import Path

from skill_runtime import operator_contract as oc
from skill_runtime.check import comments, findings, mypy_gate, ruff_gate, tools
from skill_runtime.check.findings import GateFinding
from skill_runtime.check.request import CheckRequest
from skill_runtime.settings import RuntimeSettings

_PROGRAM = "import sys; sys.path.append({root!r}); from skill_runtime.check.{module} import main; main()"
_TIMEOUT_SECONDS, _MEMORY_BYTES = 10.0, 1 << 28


def run_gates(request: CheckRequest, settings: RuntimeSettings, folder: Path) -> GateFinding | None:
    """Return what is wrong with the candidate as a text."""
    if finding := _check_size(request.source) or _check_policy(request.source, settings, folder):
        return finding
    try:
        bare = comments.blank_comments(request.source)
    except (SyntaxError, tokenize.TokenError) as error:
        return GateFinding("ruff", f"the file cannot be analysed: {error}")
    finding = ruff_gate.check(bare, settings.tools, folder)
    finding = finding or mypy_gate.check(bare, request.types, settings.tools, folder)
    finding = finding or _check_special_cases(request, folder)
    return finding and _with_excerpt(finding, request.source)


def _check_size(source: str) -> GateFinding | None:
    try:
        count = len(source.encode("utf-8"))
    except UnicodeEncodeError as error:
        line = source.count("\n", 0, error.start) + 1
        return GateFinding("size", f"line {line}: the file is not text: it holds half of a surrogate pair", line)
    if count > oc.MAX_SOURCE_BYTES:
        return GateFinding("size", f"the file has {count} bytes; at most {oc.MAX_SOURCE_BYTES} are allowed")
    if (at := source.find("\0")) >= 0:
        line = source.count("\n", 0, at) + 1
        return GateFinding("size", f"line {line}: the file is not text: it holds a NUL character", line)
    return None


def _check_policy(source: str, settings: RuntimeSettings, folder: Path) -> GateFinding | None:
    """Run the policy in a child, since what it parses may take all the memory or crash the parser."""
    result = _run_program("policy", source, folder, str(settings.manifest))
    if result.code == tools.CRASHED:
        return GateFinding("size", "the file cannot be parsed: it takes too much time or memory")
    if result.code:
        raise findings.BrokenCheckError(f"the policy ended with {result.code}: {result.stderr[-500:]}")
    finding = json.loads(result.stdout)
    if finding is None:
        return None
    return _with_excerpt(GateFinding(finding["gate"], finding["message"], finding["line"]), source)


def _check_special_cases(request: CheckRequest, folder: Path) -> GateFinding | None:
    """Look for code that knows a visible example, in a child: where that takes too much, the other gates decide."""
    inputs = [(example.name, example.input) for example in request.examples if not example.hidden]
    schema = request.contract.input.document
    text = json.dumps({"source": request.source, "inputs": inputs, "schema": schema})
    result = _run_program("special_cases", text, folder)
    finding = json.loads(result.stdout) if result.code == 0 else None
    return finding and GateFinding(finding["gate"], finding["message"], finding["line"])


def _run_program(module: str, text: str, folder: Path, *arguments: str) -> tools.ToolResult:
    """Run a gate of ours as a child, with limits."""
    code = _PROGRAM.format(root=str(Path(__file__).parents[2]), module=module)
    argv = [sys.executable, "-I", "-c", code, *arguments]
    return tools.run_tool(argv, stdin=text, timeout_seconds=_TIMEOUT_SECONDS, cwd=folder, memory_bytes=_MEMORY_BYTES)


def _with_excerpt(finding: GateFinding, source: str) -> GateFinding:
    context = findings.excerpt(source, finding.line)
    return replace(finding, message=f"{finding.message}\n{context}") if context else finding
