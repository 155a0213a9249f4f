"""Ledgers in every state, made by the entries that lead to it, and the step that the decision takes next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from skill_operator.generation import ledger_entries
from skill_operator.generation.decision import Call, GenerationLimits, ReadyCandidate, Stop, Wait, decide
from skill_operator.generation.ledger import Ledger
from skill_operator.naming import digest
from skill_runtime.check.examples import FailedExample, report_visible
from skill_runtime.check.request import CheckExample

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = GenerationLimits(
    max_attempts=3, token_budget=20_000, max_reply_tokens=4096, max_faults=5, deadline=timedelta(seconds=900)
)
PROMPT = 1000
WRONG = CheckExample("one", {"a": 1}, hidden=False, output=3, has_output=True, error="")


def opened() -> Ledger:
    return Ledger(input_hash="h")


def limits(**values: Any) -> GenerationLimits:
    return LIMITS.model_copy(update=values)


def step(ledger: Ledger, now: datetime = NOW, **values: Any) -> Call | ReadyCandidate | Stop | Wait:
    return decide(ledger, limits(**values), PROMPT, now)


def reserved(ledger: Ledger, tokens: int = 2000) -> Ledger:
    return ledger_entries.reserve(ledger, "main", tokens, f"call {ledger.tokens}", NOW)


def replied(
    ledger: Ledger, source: str = "code", tokens: int = 1500, problem: str = "", flaw: str = "", now: datetime = NOW
) -> Ledger:
    known = source and digest(source)
    return ledger_entries.settle(
        reserved(ledger), tokens, now, estimated=False, source=source, fingerprint=known, flaw=flaw, problem=problem
    )


def refused(
    ledger: Ledger,
    source: str,
    gate: str = "examples",
    message: str = "wrong",
    line: int | None = None,
    private: str = "",
) -> Ledger:
    return ledger_entries.record_verdict(
        replied(ledger, source), passed=False, gate=gate, message=message, line=line, private=private
    )


def refused_in_turn(*messages: str, **verdict: Any) -> Ledger:
    """Return a ledger with a different program for each message."""
    ledger = opened()
    for number, message in enumerate(messages):
        ledger = refused(ledger, f"program {number}", message=message, **verdict)
    return ledger


def report(passed: int, total: int, got: str = "4") -> str:
    """As the checker words it."""
    return report_visible([FailedExample(WRONG, got)], passed, total, "").message


def reason(found: Call | ReadyCandidate | Stop | Wait) -> str:
    return found.reason if isinstance(found, Stop | Wait) else getattr(found, "kind", type(found).__name__)
