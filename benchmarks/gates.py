"""How often the gates are wrong: HumanEval's own solutions, which must pass, and mutants of them, which must not.

    make bench-gates      # PROBLEMS=0:164 EACH=2 JOBS=2

Every candidate goes through `skill_runtime check` as a Job runs it: PID 1, order in the environment, signed report. A
third of the examples is held out, as for any Skill. Whether a mutant is wrong is not for the examples to say: it is
asked inputs made from all that HumanEval asks, and where it never differs from the original it counts as equal to it.
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

from benchmarks.humaneval import Problem, TooSlowError, answer, function, problems, within
from benchmarks.mutants import Mutant, mutants
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.typed_dicts import types_module
from skill_operator.resources.check import bundle
from skill_runtime.contract import Schema
from tests.unit.runtime import harness

JOBS = int(os.environ.get("JOBS", "2"))
EACH = int(os.environ.get("EACH", "2"))
"""Mutants of each of the three kinds, for every problem."""
FIRST, LAST = (int(number) for number in os.environ.get("PROBLEMS", "0:164").split(":"))
ASKED = 400
"""Inputs that a mutant is compared with its original on."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """What the gates said of a candidate."""

    name: str
    kind: str
    gate: str
    """Empty: it passed."""
    message: str
    static: float
    cpu: float
    """Seconds that the gates took which only look; and seconds of CPU of these."""
    whole: float


def judge(name: str, kind: str, problem: Problem, source: str) -> Judged:
    spec = problem.skill.spec
    visible, hidden = split_examples(spec.examples)
    order = bundle(problem.skill, source, types_module(spec.input, spec.output), visible, hidden)
    with tempfile.TemporaryDirectory() as folder:
        ended = harness.check(Path(folder), **order)
    if ended.code:
        raise RuntimeError(f"{name}: the check ended with {ended.code}: {ended.log[-2000:]}")
    report, verdict = ended.report, json.loads(ended.log.splitlines()[-1])
    seconds = (verdict["staticSeconds"], verdict["staticCPU"], verdict["seconds"])
    return Judged(name, kind, report["gate"] or "", report["message"], *seconds)


def of(problem: Problem) -> tuple[list[Judged], int]:
    """The reference and those of its mutants that are wrong; and how many are equal to it, as far as can be told."""
    judged, equal = [judge(problem.name, "reference", problem, problem.source)], 0
    asked = _inputs(problem)
    for number, mutant in enumerate(mutants(problem.source, EACH)):
        if _differs(problem, mutant, asked):
            name = f"{problem.name} #{number}, line {mutant.line}"
            judged.append(judge(name, mutant.kind, problem, mutant.source))
        else:
            equal += 1
    return judged, equal


def _differs(problem: Problem, mutant: Mutant, asked: list[tuple[Json, str]]) -> bool:
    try:
        with within(5):
            run = function(mutant.source)
        for value, expected in asked:
            with within(1):
                if answer(run, value) != expected:
                    return True
    except (TooSlowError, RecursionError, MemoryError):
        return True
    except Exception:  # noqa: BLE001 - it cannot even be loaded
        return True
    return False


def _inputs(problem: Problem) -> list[tuple[Json, str]]:
    """Inputs that fit the schema, with what the original makes of them: recorded ones, and others near these."""
    fits = Schema(problem.skill.spec.input, "input")
    run, chance = function(problem.source), random.Random(problem.name)
    found: dict[str, tuple[Json, str]] = {}
    for value in _near(problem.recorded, chance):
        text = json.dumps(value, sort_keys=True)
        if text in found or fits.problem(value) is not None:
            continue
        try:
            with within(0.5):
                expected = answer(run, value)
        except TooSlowError:
            continue
        if not expected.startswith("raises"):  # what the original cannot do, nobody can say a mutant does wrong
            found[text] = (value, expected)
        if len(found) == ASKED:
            break
    return list(found.values())


def _near(recorded: tuple[Json, ...], chance: random.Random) -> Iterator[Json]:
    yield from recorded[:ASKED]
    for _ in range(4 * ASKED):
        value = copy.deepcopy(chance.choice(recorded))
        for _ in range(chance.randint(1, 2)):
            name = chance.choice(sorted(value)) if value else ""
            value = value and {**value, name: _moved(value[name], chance)}
        yield value


def _moved(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value + chance.choice((-2, -1, 1, 2, 10))
    if isinstance(value, float):
        return chance.choice((value + 1, value - 0.5, -value, float(round(value))))
    if not value:
        return value
    at = chance.randrange(len(value))
    if isinstance(value, dict):
        name = sorted(value)[at]
        return {**value, name: _moved(value[name], chance)}
    match chance.randrange(4):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return value[:at] + value[at : at + 1] + value[at:]
        case 2:
            return value[at:] + value[:at]
        case _:
            new = [_moved(value[at], chance)] if isinstance(value, list) else value[chance.randrange(len(value))]
            return value[:at] + new + value[at + 1 :]


def main() -> int:
    harness.tools()  # once, before processes share it
    chosen = list(problems())[FIRST:LAST]
    judged, equal = [], 0
    with ProcessPoolExecutor(JOBS) as pool:
        for number, (found, same) in enumerate(pool.map(of, chosen), 1):
            judged += found
            equal += same
            print(f"{number}/{len(chosen)}", end="\r", file=sys.stderr, flush=True)
    references = [one for one in judged if one.kind == "reference"]
    wrong = [one for one in judged if one.kind != "reference"]
    rejected, accepted = [one for one in references if one.gate], [one for one in wrong if not one.gate]
    for one in rejected:
        print(f"rejected: {one.name}: {one.gate}: {one.message}\n")
    for one in accepted:
        print(f"accepted: {one.name}: {one.kind}")
    print(f"reference solutions                     {len(references)}")
    print(f"  false rejects                         {share(rejected, references)}   (goal: 1 %)")
    print(f"mutants                                 {len(wrong) + equal}, of which {equal} equal the original")
    print(f"  false accepts                         {share(accepted, wrong)}   (goal: 10 %)")
    for kind in sorted({one.kind for one in wrong}):
        of_kind = [one for one in wrong if one.kind == kind]
        print(f"    {kind:<36}{share([one for one in of_kind if not one.gate], of_kind)}")
    print(f"  refused by                            {dict(Counter(one.gate for one in wrong if one.gate))}")
    for name, values in (
        ("static gates, seconds (goal: 1 at p95)", [one.static for one in judged]),
        ("  of CPU", [one.cpu for one in judged]),
        ("whole check, seconds", [one.whole for one in references]),
    ):
        ranked = sorted(values)
        print(f"{name:<40}median {statistics.median(ranked):.2f}  p95 {ranked[int(len(ranked) * 0.95)]:.2f}")
    return 0


def share(some: list[Judged], whole: list[Judged]) -> str:
    return f"{len(some)} of {len(whole)}, {100 * len(some) / max(1, len(whole)):.1f} %"


if __name__ == "__main__":
    sys.exit(main())
