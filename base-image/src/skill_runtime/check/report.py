"""The verdict, signed: the candidate may write to the same file, but it never saw the key."""

from __future__ import annotations

import hmac
import json
from typing import Any

from skill_runtime.check.findings import Finding
from skill_runtime.text import printable

TERMINATION_BYTES = 4096
MESSAGE_CHARACTERS = 2500


def signed(key: bytes, finding: Finding | None, passed: int, total: int) -> str:
    """What is left in the termination log: the report's text and its HMAC-SHA256, the message cut so that it fits."""
    message = printable(finding.message, MESSAGE_CHARACTERS) if finding else ""
    while True:
        text = json.dumps(_report(finding, message, passed, total), ensure_ascii=False)
        mac = hmac.new(key, text.encode(), "sha256").hexdigest()
        whole = json.dumps({"report": text, "mac": mac}, ensure_ascii=False)
        excess = len(whole.encode()) - TERMINATION_BYTES
        if excess <= 0:
            return whole
        message = message[: len(message) - max(2, excess // 4)].rstrip("…") + "…"


def _report(finding: Finding | None, message: str, passed: int, total: int) -> dict[str, Any]:
    return {
        "passed": finding is None,
        "gate": finding.gate if finding else None,
        "message": message,
        "line": finding.line if finding else None,
        "passedExamples": passed,
        "totalExamples": total,
    }
