"""The report of a check, signed: the candidate may write to the same file, but it never had the key."""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skill_runtime import operator_contract as oc
from skill_runtime.check.findings import GateFinding
from skill_runtime.check.questions import OpenQuestion
from skill_runtime.check.request import CheckRequest
from skill_runtime.text import printable

MAX_MESSAGE_CHARACTERS = 2500


@dataclass(frozen=True)
class MutantCount:
    """MutantCount says how many variants of the accepted code the examples tell from it, or why none was tried."""

    killed: int = 0
    total: int = 0
    skipped: str | None = None
    """One of MUTANTS_SKIPPED_REASONS, or None."""


@dataclass(frozen=True)
class CheckEvidence:
    """CheckEvidence says what was tried on a candidate, and what stays open although it passed."""

    passed_examples: int = 0
    promises: int = 0
    """Generated inputs that were answered as the schemas promise."""
    mutants: MutantCount = MutantCount()
    questions: Sequence[OpenQuestion] = ()


def sign_report(key: bytes, request: CheckRequest, finding: GateFinding | None, evidence: CheckEvidence) -> str:
    """Return the termination message: the report and its HMAC-SHA256, the messages cut so that all of it fits."""
    report: dict[str, Any] = {
        oc.REPORT_SUBJECT: request.digest,
        oc.REPORT_PASSED: finding is None,
        oc.REPORT_GATE: finding.gate if finding else None,
        oc.REPORT_MESSAGE: printable(finding.message, MAX_MESSAGE_CHARACTERS) if finding else "",
        oc.REPORT_PRIVATE: printable(finding.private, MAX_MESSAGE_CHARACTERS) if finding else "",
        oc.REPORT_LINE: finding.line if finding else None,
        oc.REPORT_PASSED_EXAMPLES: evidence.passed_examples,
        oc.REPORT_TOTAL_EXAMPLES: len(request.examples),
        oc.REPORT_PROMISES: evidence.promises,
        oc.REPORT_MUTANTS: evidence.mutants.total,
        oc.REPORT_MUTANTS_KILLED: evidence.mutants.killed,
        oc.REPORT_MUTANTS_SKIPPED: evidence.mutants.skipped,
        oc.REPORT_QUESTIONS: [
            question.document() for question in evidence.questions[: oc.MAX_QUESTIONS] if finding is None
        ],
    }
    while True:
        text = json.dumps(report, ensure_ascii=False)
        mac = hmac.new(key, text.encode(), "sha256").hexdigest()
        envelope = json.dumps({oc.ENVELOPE_REPORT: text, oc.ENVELOPE_MAC: mac}, ensure_ascii=False)
        excess = len(envelope.encode()) - oc.TERMINATION_MESSAGE_BYTES
        if excess <= 0:
            return envelope
        if report[oc.REPORT_QUESTIONS]:  # the first one says the most
            report[oc.REPORT_QUESTIONS].pop()
            continue
        longest = max((oc.REPORT_MESSAGE, oc.REPORT_PRIVATE), key=lambda name: len(str(report[name])))
        words = str(report[longest])
        report[longest] = words[: len(words) - max(2, excess // 4)].rstrip("…") + "…"
