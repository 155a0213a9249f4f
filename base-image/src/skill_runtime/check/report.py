"""The verdict, signed: the candidate may write to the same file, but it never saw the key."""

from __future__ import annotations

import hmac
import json

from skill_runtime.check.findings import Finding
from skill_runtime.check.request import CheckRequest
from skill_runtime.text import printable

TERMINATION_BYTES = 4096
MESSAGE_CHARACTERS = 2500


def signed(key: bytes, bundle: CheckRequest, finding: Finding | None, passed: int) -> str:
    """What is left in the termination log: the report's text and its HMAC-SHA256, the messages cut so that it fits."""
    report = {
        "subject": bundle.digest,
        "passed": finding is None,
        "gate": finding.gate if finding else None,
        "message": printable(finding.message, MESSAGE_CHARACTERS) if finding else "",
        "private": printable(finding.private, MESSAGE_CHARACTERS) if finding else "",
        "line": finding.line if finding else None,
        "passedExamples": passed,
        "totalExamples": len(bundle.examples),
    }
    while True:
        text = json.dumps(report, ensure_ascii=False)
        mac = hmac.new(key, text.encode(), "sha256").hexdigest()
        whole = json.dumps({"report": text, "mac": mac}, ensure_ascii=False)
        excess = len(whole.encode()) - TERMINATION_BYTES
        if excess <= 0:
            return whole
        longer = max(("message", "private"), key=lambda name: len(str(report[name])))
        words = str(report[longer])
        report[longer] = words[: len(words) - max(2, excess // 4)].rstrip("…") + "…"
