"""Measure what a second opinion finds: wrong programs that three examples let pass, compared with a right one.

    make bench-opinions      # PROBLEMS=0:164 EACH=3 JOBS=2

The wrong programs are mutants of HumanEval's solutions that pass the visible and the hidden examples. Each is the
accepted program, and the solution is the second one: the best opinion there can be. The comparison is the real one, a
process of `skill_runtime check`. Solutions compared with themselves in other words must raise no question.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gates import find_inputs, is_different
from benchmarks.humaneval import HumanEvalProblem, TooSlowError, call_run, load_run, problems, time_limit
from benchmarks.mutants import make_mutants
from skill_operator.api.v1alpha1 import Example
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.typed_dicts import types_module
from skill_operator.resources.check import bundle
from tests.unit.runtime import harness

JOBS = int(os.environ.get("JOBS", "2"))
EACH = int(os.environ.get("EACH", "3"))
"""Mutants of each of the three kinds, for every problem."""
FIRST, LAST = (int(number) for number in os.environ.get("PROBLEMS", "0:164").split(":"))
EXAMPLES = 3


@dataclass(frozen=True)
class Comparison:
    """Comparison says what became of one wrong program, or of a right one (`kind` is reference)."""

    name: str
    kind: str
    question: str
    """The first question; empty: none was raised."""
    seconds: float


def compare(name: str, kind: str, problem: HumanEvalProblem, accepted: str, other: str) -> Comparison:
    """Compare two programs as a check Job does."""
    spec = problem.skill.spec
    visible, hidden = split_examples(spec.examples[:EXAMPLES])
    request = bundle(problem.skill, other, types_module(spec.input, spec.output), visible, hidden, accepted)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = harness.check(Path(folder), **request).report
    first = next(iter(report["questions"]), None)
    question = f"{first['input']}: {first['answers'][0]} or {first['answers'][1]}" if first else ""
    return Comparison(name, kind, question, time.monotonic() - began)


def compare_problem(problem: HumanEvalProblem) -> list[Comparison]:
    """Compare the solution with itself, and with those of its mutants that are wrong and pass all examples."""
    again = problem.source.replace("def run(input", "def unused() -> None:\n    return None\n\n\ndef run(input")
    results = [compare(problem.name, "reference", problem, problem.source, again)]
    inputs, examples = find_inputs(problem), problem.skill.spec.examples[:EXAMPLES]
    for number, mutant in enumerate(make_mutants(problem.source, EACH)):
        if is_different(mutant, inputs) and _passes(mutant.source, examples):
            name = f"{problem.name} #{number}, line {mutant.line}"
            results.append(compare(name, mutant.kind, problem, mutant.source, problem.source))
    return results


def _passes(source: str, examples: list[Example]) -> bool:
    try:
        with time_limit(5):
            run = load_run(source)
            return all(call_run(run, each.input) == json.dumps(each.output, sort_keys=True) for each in examples)
    except (TooSlowError, RecursionError, MemoryError):
        return False
    except Exception:  # noqa: BLE001 - it cannot even be loaded
        return False


def main() -> int:
    """Compare all of them and print how many are found."""
    harness.tools()  # once, before processes share it
    chosen = [one for one in list(problems())[FIRST:LAST] if len(one.skill.spec.examples) >= EXAMPLES]
    results: list[Comparison] = []
    with ProcessPoolExecutor(JOBS) as pool:
        for number, more in enumerate(pool.map(compare_problem, chosen), 1):
            results += more
            print(f"{number}/{len(chosen)}", end="\r", file=sys.stderr, flush=True)
    right, wrong = ([one for one in results if (one.kind == "reference") == is_right] for is_right in (True, False))
    for one in wrong:
        print(f"{'asked' if one.question else 'silent'}: {one.name}: {one.kind} {one.question[:100]}")
    found = sum(bool(one.question) for one in wrong)
    print(f"wrong programs that {EXAMPLES} examples let pass       {len(wrong)}")
    print(f"  shown by a question                     {found}, {100 * found / max(1, len(wrong)):.0f} %")
    print(f"right programs with a question            {sum(bool(one.question) for one in right)} of {len(right)}")
    print(f"whole comparison, seconds                 median {statistics.median(one.seconds for one in results):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
