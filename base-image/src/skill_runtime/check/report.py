"""The report of a check, signed: the candidate may write to the same file, but it never had the key."""

from __future__ import annotations

import hmac
import json

from skill_runtime import operator_contract as oc
from skill_runtime.check.findings import GateFinding
from skill_runtime.check.request import CheckRequest
from skill_runtime.text import printable

MAX_MESSAGE_CHARACTERS = 2500


def sign_report(key: bytes, request: CheckRequest, finding: GateFinding | None, passed: int) -> str:
    """Return the termination message: the report and its HMAC-SHA256, the messages cut so that all of it fits."""
    report = {
        oc.REPORT_SUBJECT: request.digest,
        oc.REPORT_PASSED: finding is None,
        oc.REPORT_GATE: finding.gate if finding else None,
        oc.REPORT_MESSAGE: printable(finding.message, MAX_MESSAGE_CHARACTERS) if finding else "",
        oc.REPORT_PRIVATE: printable(finding.private, MAX_MESSAGE_CHARACTERS) if finding else "",
        oc.REPORT_LINE: finding.line if finding else None,
        oc.REPORT_PASSED_EXAMPLES: passed,
        oc.REPORT_TOTAL_EXAMPLES: len(request.examples),
    }
    while True:
        text = json.dumps(report, ensure_ascii=False)
        mac = hmac.new(key, text.encode(), "sha256").hexdigest()
        envelope = json.dumps({oc.ENVELOPE_REPORT: text, oc.ENVELOPE_MAC: mac}, ensure_ascii=False)
        excess = len(envelope.encode()) - oc.TERMINATION_MESSAGE_BYTES
        if excess <= 0:
            return envelope
        longest = max((oc.REPORT_MESSAGE, oc.REPORT_PRIVATE), key=lambda name: len(str(report[name])))
        words = str(report[longest])
        report[longest] = words[: len(words) - max(2, excess // 4)].rstrip("…") + "…"
