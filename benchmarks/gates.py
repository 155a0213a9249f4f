"""Measure how often the gates are wrong: HumanEval's own solutions must pass, and mutants of them must not.

    make bench-gates      # PROBLEMS=0:164 EACH=2 JOBS=2 EXAMPLES=64 SCHEMAS=bounds

Every candidate goes through `skill_runtime check` as a Job runs it: PID 1, request in the environment, signed report. A
third of the examples is held out, as for any Skill. The examples do not decide whether a mutant is wrong: it is called
with inputs made from all inputs of HumanEval, and where it never differs from the original it counts as equal to it.
"""

from __future__ import annotations

import copy
import json
import os
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.humaneval import MAX_EXAMPLES, HumanEvalProblem, TooSlowError, call_run, load_run, problems, time_limit
from benchmarks.mutants import Mutant, make_mutants
from skill_operator import runtime_contract
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.typed_dicts import types_module
from skill_operator.resources.check import bundle
from skill_runtime.contract import Schema
from tests.unit.runtime import harness

JOBS = int(os.environ.get("JOBS", "2"))
EACH = int(os.environ.get("EACH", "2"))
"""Mutants of each of the three kinds, for every problem."""
FIRST, LAST = (int(number) for number in os.environ.get("PROBLEMS", "0:164").split(":"))
EXAMPLES = int(os.environ.get("EXAMPLES", str(MAX_EXAMPLES)))
"""Examples of a Skill, at most; a third of them is held out."""
TYPES_ONLY = os.environ.get("SCHEMAS", "bounds") == "types"
"""Schemas say types alone, as most people write them."""
MAX_INPUTS = 400
"""Inputs on which a mutant is compared with its original."""
Json = dict[str, Any]


@dataclass(frozen=True)
class CandidateResult:
    """CandidateResult is the result of the gates for one candidate."""

    name: str
    kind: str
    gate: str
    """Empty: it passed."""
    message: str
    questions: tuple[str, ...]
    """What a person is asked although it passed."""
    static_seconds: float
    cpu_seconds: float
    """CPU time of the static gates."""
    mutant_seconds: float
    """Time for mutants of accepted code."""
    total_seconds: float


def run_check(name: str, kind: str, problem: HumanEvalProblem, source: str) -> CandidateResult:
    """Run the check of one candidate."""
    spec = problem.skill.spec
    visible, hidden = split_examples(spec.examples[:EXAMPLES])
    request = bundle(problem.skill, source, types_module(spec.input, spec.output), visible, hidden)
    with tempfile.TemporaryDirectory() as folder:
        checked = harness.check(Path(folder), **request)
    if checked.code not in {runtime_contract.EXIT_OK, runtime_contract.EXIT_REFUSED}:
        raise RuntimeError(f"{name}: the check ended with {checked.code}: {checked.log[-2000:]}")
    report, verdict = checked.report, json.loads(checked.log.splitlines()[-1])
    seconds = (verdict["staticSeconds"], verdict["staticCPU"], verdict["mutantSeconds"], verdict["seconds"])
    return CandidateResult(name, kind, report["gate"] or "", report["message"], _questions(report), *seconds)


def _questions(report: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{each['kind']}: {each['input']}: {each['answers'][0]}" for each in report["questions"])


def check_problem(problem: HumanEvalProblem) -> tuple[list[CandidateResult], int]:
    """Check the reference and those of its mutants that are wrong; count the others, which seem equal to it."""
    results, equal = [run_check(problem.name, "reference", problem, problem.source)], 0
    inputs = find_inputs(problem)
    for number, mutant in enumerate(make_mutants(problem.source, EACH)):
        if is_different(mutant, inputs):
            name = f"{problem.name} #{number}, line {mutant.line}"
            results.append(run_check(name, mutant.kind, problem, mutant.source))
        else:
            equal += 1
    return results, equal


def is_different(mutant: Mutant, inputs: list[tuple[Json, str]]) -> bool:
    try:
        with time_limit(5):
            run = load_run(mutant.source)
        for value, expected in inputs:
            with time_limit(1):
                if call_run(run, value) != expected:
                    return True
    except (TooSlowError, RecursionError, MemoryError):
        return True
    except Exception:  # noqa: BLE001 - it cannot even be loaded
        return True
    return False


def find_inputs(problem: HumanEvalProblem) -> list[tuple[Json, str]]:
    """Return inputs that fit the schema, with the original's outputs: recorded inputs, and others near these."""
    schema = Schema(problem.skill.spec.input, "input")
    run, rng = load_run(problem.source), random.Random(problem.name)
    inputs: dict[str, tuple[Json, str]] = {}
    for value in _variations(problem.inputs, rng):
        text = json.dumps(value, sort_keys=True)
        if text in inputs or schema.violation(value) is not None:
            continue
        try:
            with time_limit(0.5):
                expected = call_run(run, value)
        except TooSlowError:
            continue
        if not expected.startswith("raises"):  # what the original cannot do, nobody can say a mutant does wrong
            inputs[text] = (value, expected)
        if len(inputs) == MAX_INPUTS:
            break
    return list(inputs.values())


def _variations(recorded: tuple[Json, ...], rng: random.Random) -> Iterator[Json]:
    yield from recorded[:MAX_INPUTS]
    for _ in range(4 * MAX_INPUTS):
        value = copy.deepcopy(rng.choice(recorded))
        for _ in range(rng.randint(1, 2)):
            name = rng.choice(sorted(value)) if value else ""
            value = value and {**value, name: _vary(value[name], rng)}
        yield value


def _vary(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value + rng.choice((-2, -1, 1, 2, 10))
    if isinstance(value, float):
        return rng.choice((value + 1, value - 0.5, -value, float(round(value))))
    if not value:
        return value
    at = rng.randrange(len(value))
    if isinstance(value, dict):
        name = sorted(value)[at]
        return {**value, name: _vary(value[name], rng)}
    match rng.randrange(4):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return value[:at] + value[at : at + 1] + value[at:]
        case 2:
            return value[at:] + value[:at]
        case _:
            new = [_vary(value[at], rng)] if isinstance(value, list) else value[rng.randrange(len(value))]
            return value[:at] + new + value[at + 1 :]


def main() -> int:
    """Check all candidates and print the rates of wrong results."""
    harness.tools()  # once, before processes share it
    chosen = list(problems(EXAMPLES, types_only=TYPES_ONLY))[FIRST:LAST]
    results, equal = [], 0
    with ProcessPoolExecutor(JOBS) as pool:
        for number, (more, same) in enumerate(pool.map(check_problem, chosen), 1):
            results += more
            equal += same
            print(f"{number}/{len(chosen)}", end="\r", file=sys.stderr, flush=True)
    references = [one for one in results if one.kind == "reference"]
    wrong = [one for one in results if one.kind != "reference"]
    rejected, accepted = [one for one in references if one.gate], [one for one in wrong if not one.gate]
    for one in rejected:
        print(f"rejected: {one.name}: {one.gate}: {one.message}\n")
    for one in accepted:
        print(f"accepted: {one.name}: {one.kind}", *one.questions, sep="\n    ")
    for one in references:
        print("".join(f"asked: {one.name}: {question}\n" for question in one.questions), end="")
    print(f"schemas that say {'types alone' if TYPES_ONLY else 'bounds, too'}; at most {EXAMPLES} examples")
    print(f"reference solutions                     {len(references)}")
    print(f"  false rejects                         {share(rejected, references)}   (goal: 1 %)")
    print(f"  accepted with a question              {share([one for one in references if one.questions], references)}")
    print(f"mutants                                 {len(wrong) + equal}, of which {equal} equal the original")
    print(f"  false accepts                         {share(accepted, wrong)}   (goal: 10 %)")
    silent = [one for one in accepted if not one.questions]
    print(f"    without a question                  {share(silent, wrong)}   (goal: 8 %)")
    for kind in sorted({one.kind for one in wrong}):
        of_kind = [one for one in wrong if one.kind == kind]
        print(f"    {kind:<36}{share([one for one in of_kind if not one.gate], of_kind)}")
    print(f"  rejected by                           {dict(Counter(one.gate for one in wrong if one.gate))}")
    for name, values in (
        ("static gates, seconds (goal: 1 at p95)", [one.static_seconds for one in results]),
        ("  of CPU", [one.cpu_seconds for one in results]),
        ("mutants of accepted code, seconds", [one.mutant_seconds for one in results if not one.gate]),
        ("whole check, seconds", [one.total_seconds for one in references]),
    ):
        ranked = sorted(values)
        print(f"{name:<40}median {statistics.median(ranked):.2f}  p95 {ranked[int(len(ranked) * 0.95)]:.2f}")
    return 0


def share(some: list[CandidateResult], whole: list[CandidateResult]) -> str:
    """Return a count and its percentage as text."""
    return f"{len(some)} of {len(whole)}, {100 * len(some) / max(1, len(whole)):.1f} %"


if __name__ == "__main__":
    sys.exit(main())
