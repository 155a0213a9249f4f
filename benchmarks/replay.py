"""What each rule that ends generation costs and saves, on traces of repairs.

    make bench-replay         # RUNS=2000 SEED=1 PROBLEMS=0:20 EACH=3 JOBS=2; TRACES=file replays recorded ones

Each trace goes through the ledger itself: reserve, settle, record_verdict, decide. A trace cannot say what a model
would have answered to a fresh start, so its next program stands for every answer. What no rule can keep is shown by
the row of the attempts alone: a program that comes after the last call is lost.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple
from unittest.mock import patch

from benchmarks.repair_traces import RepairTrace, make_pools, make_traces, read_traces, write_traces
from skill_operator.generation import decision, ledger_entries
from skill_operator.generation.decision import Call, GenerationLimits, ReadyCandidate, Stop, Wait
from skill_operator.generation.ledger import Ledger

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CALL_TOKENS = 1000
NEVER: Final = 99
RULES: Final[dict[str, dict[str, int]]] = {
    "as shipped": {},
    "attempts alone": {"MAX_REPEATS": NEVER, "MAX_STALLS_IN_A_ROW": NEVER, "MAX_PROGRAMS_IN_DISPUTE": NEVER},
    "end at two stalls in a row": {"MAX_STALLS_IN_A_ROW": 2},
    "end at two programs that agree": {"MAX_PROGRAMS_IN_DISPUTE": 2},
    "end at the first repeat": {"MAX_REPEATS": 1},
    "never end at a repeat": {"MAX_REPEATS": NEVER},
}
"""Rule sets, as constants of the decision that differ from the shipped ones."""
ATTEMPTS = (3, 4, 5)


class ReplayOutcome(NamedTuple):
    """ReplayOutcome is how a trace ended under a rule set: with the reason of a stop, `Accepted`, or `TraceEnded`."""

    reason: str
    candidates: int


@dataclass(frozen=True)
class RuleFigures:
    """RuleFigures are what a rule set comes to over all traces. A repair is a candidate after the first."""

    fixed: int
    """Traces that end with a program that passes."""
    kept: int
    all_repairs: int
    repairs: int
    lost_to: Mapping[str, int]


def replay(trace: RepairTrace, max_attempts: int) -> ReplayOutcome:
    """Put a trace through the ledger, with the rules as they are now."""
    ledger = Ledger(input_hash=trace.task)
    limits = GenerationLimits(max_attempts=max_attempts, token_budget=10**9, max_faults=5, deadline=timedelta(days=1))
    for rounds, candidate in enumerate(trace.candidates):
        step = decision.decide(ledger, limits, CALL_TOKENS, NOW)
        if isinstance(step, Stop):
            return ReplayOutcome(step.reason, rounds)
        assert isinstance(step, Call), step
        ledger = ledger_entries.reserve(ledger, "model", step.reserved_tokens, f"call {rounds}", NOW)
        ledger = ledger_entries.settle(
            ledger,
            CALL_TOKENS,
            NOW,
            estimated=False,
            source="code",
            fingerprint=candidate.fingerprint,
            flaw="",
            problem="",
        )
        if isinstance(decision.decide(ledger, limits, CALL_TOKENS, NOW), ReadyCandidate):
            ledger = ledger_entries.record_verdict(
                ledger,
                passed=candidate.passed,
                gate=candidate.gate,
                message=candidate.message,
                line=candidate.line,
                private=candidate.private,
            )
    end = decision.decide(ledger, limits, CALL_TOKENS, NOW)
    if isinstance(end, ReadyCandidate):
        return ReplayOutcome("Accepted", len(trace.candidates))
    reason = end.reason if isinstance(end, Stop | Wait) else "TraceEnded"
    return ReplayOutcome(reason, len(trace.candidates))


def measure(traces: list[RepairTrace], max_attempts: int, constants: Mapping[str, int]) -> RuleFigures:
    """Replay all traces with these constants of the decision in the place of the shipped ones."""
    with contextlib.ExitStack() as stack:
        for name, value in constants.items():
            stack.enter_context(patch.object(decision, name, value))
        outcomes = [replay(trace, max_attempts) for trace in traces]
    lost = Counter(
        outcome.reason
        for trace, outcome in zip(traces, outcomes, strict=True)
        if trace.is_fixed and outcome.reason != "Accepted"
    )
    return RuleFigures(
        fixed=sum(trace.is_fixed for trace in traces),
        kept=sum(outcome.reason == "Accepted" for outcome in outcomes),
        all_repairs=sum(len(trace.candidates) - 1 for trace in traces),
        repairs=sum(outcome.candidates - 1 for outcome in outcomes),
        lost_to=dict(lost.most_common()),
    )


def load_traces() -> list[RepairTrace]:
    """Return the traces that the environment names, or made ones."""
    if path := os.environ.get("TRACES", ""):
        return list(read_traces(Path(path)))
    from benchmarks.humaneval import problems

    first, last = (int(number) for number in os.environ.get("PROBLEMS", "0:20").split(":"))
    pools = make_pools(list(problems())[first:last], int(os.environ.get("EACH", "3")), int(os.environ.get("JOBS", "2")))
    programs = sum(1 + len(pool.wrong) + len(pool.special_cased) for pool in pools)
    print(f"programs, each with the verdict of a check      {programs} of {len(pools)} problems")
    traces = make_traces(pools, int(os.environ.get("RUNS", "2000")), int(os.environ.get("SEED", "1")))
    if path := os.environ.get("OUT", ""):
        write_traces(Path(path), traces)
    return traces


def report(traces: list[RepairTrace]) -> str:
    """Return the table of all rule sets."""
    lines = [f"traces of repairs                               {len(traces)}"]
    for max_attempts in ATTEMPTS:
        lines.append(f"maxAttempts {max_attempts}")
        for name, constants in RULES.items():
            found = measure(traces, max_attempts, constants)
            kept, repairs = 100 * found.kept / max(1, found.fixed), 100 * found.repairs / max(1, found.all_repairs)
            lost = ", ".join(f"{reason} {count}" for reason, count in found.lost_to.items())
            lines.append(
                f"  {name:<32}fixes kept {found.kept} of {found.fixed}, {kept:.1f} %; "
                f"repairs {found.repairs} of {found.all_repairs}, {repairs:.1f} %; lost to {lost or 'nothing'}"
            )
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    print(report(load_traces()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
