"""Traces of repairs: what a model writes after each refusal, and what the checks say about it.

No recorded traces are in this repository. They are made here, by an explicit model of how language models repair: from
HumanEval's solutions and their mutants, with verdicts of real check processes. Its probabilities are chosen so that
fixes and repeats come in the rounds in which they came in 850 recorded repair runs (docs/explanation/generation.md). A
file of recorded traces can be replayed in their place.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.humaneval import HumanEvalProblem
from benchmarks.mutants import make_mutants
from benchmarks.real_loop import NoVerdictError, check_program_report
from skill_operator.generation.fingerprint import fingerprint
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.typed_dicts import types_module
from skill_operator.resources.check import bundle

MAX_ROUNDS = 11
_RUN: Final = "def run(input: Input) -> Output:\n"


@dataclass(frozen=True)
class TracedCandidate:
    """TracedCandidate is one program of a trace, and its verdict."""

    fingerprint: str
    passed: bool
    gate: str = ""
    message: str = ""
    private: str = ""
    line: int | None = None


@dataclass(frozen=True)
class RepairTrace:
    """RepairTrace is a first candidate that is wrong, and all that follows, up to the first that passes."""

    task: str
    candidates: tuple[TracedCandidate, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether the trace ends with a program that passes."""
        return self.candidates[-1].passed


@dataclass(frozen=True)
class RepairModel:
    """RepairModel has the probabilities by which the next program is chosen.

    `fixes` by the number of repairs so far, if the latest program was a new one; the last value holds for all further.
    What remains after all of them is a new program that is wrong.
    """

    fixes: tuple[float, ...] = (0.127, 0.085, 0.16, 0.14, 0.12)
    fixes_after_repeat: float = 0.003
    repeats: float = 0.44
    repeats_after_repeat: float = 0.93
    oscillates: float = 0.06
    special_cases: float = 0.05


@dataclass
class ProgramPool:
    """ProgramPool holds the programs of one problem with their verdicts."""

    task: str
    right: TracedCandidate
    wrong: list[TracedCandidate] = field(default_factory=list)
    special_cased: list[TracedCandidate] = field(default_factory=list)


def make_traces(
    pools: list[ProgramPool],
    runs: int,
    seed: int,
    model: RepairModel = RepairModel(),
) -> list[RepairTrace]:
    """Return so many traces; the same ones for the same arguments."""
    rng = random.Random(seed)
    return [_make_trace(rng.choice(pools), rng, model) for _ in range(runs)]


def _make_trace(pool: ProgramPool, rng: random.Random, model: RepairModel) -> RepairTrace:
    candidates = [rng.choice(pool.wrong)]
    while len(candidates) < MAX_ROUNDS and not candidates[-1].passed:
        candidates.append(_next_candidate(pool, candidates, rng, model))
    return RepairTrace(pool.task, tuple(candidates))


def _next_candidate(
    pool: ProgramPool, candidates: list[TracedCandidate], rng: random.Random, model: RepairModel
) -> TracedCandidate:
    is_repeat = candidates[-1] in candidates[:-1]
    fix = model.fixes_after_repeat if is_repeat else model.fixes[min(len(candidates), len(model.fixes)) - 1]
    chance = rng.random()
    for probability, chosen in (
        (fix, [pool.right]),
        (model.repeats_after_repeat if is_repeat else model.repeats, candidates[-1:]),
        (model.oscillates, candidates[:-1]),
        (model.special_cases, pool.special_cased),
    ):
        if chance < probability and chosen:
            return rng.choice(chosen)
        chance -= probability
    fresh = [candidate for candidate in pool.wrong if candidate not in candidates]
    return rng.choice(fresh or pool.wrong)


def make_pools(problems: Iterable[HumanEvalProblem], each: int, jobs: int) -> list[ProgramPool]:
    """Return the pools of those problems that have wrong programs: every verdict is one of a check process."""
    chosen = list(problems)
    with ProcessPoolExecutor(jobs) as executor:
        pools = executor.map(_make_pool, chosen, [each] * len(chosen))
        return [pool for pool in pools if pool is not None]


def _make_pool(problem: HumanEvalProblem, each: int) -> ProgramPool | None:
    right = check_candidate(problem, problem.source)
    if not right.passed:
        return None
    pool = ProgramPool(problem.name, right)
    for mutant in make_mutants(problem.source, each):
        candidate = check_candidate(problem, mutant.source)
        if candidate.passed:
            continue
        pool.wrong.append(candidate)
        if len(pool.special_cased) < each and (special := _special_case(problem, mutant.source, candidate.message)):
            pool.special_cased.append(check_candidate(problem, special))
    return pool if pool.wrong else None


def check_candidate(problem: HumanEvalProblem, source: str) -> TracedCandidate:
    """Return a program of a problem with the verdict of a check process. Raises NoVerdictError."""
    spec = problem.skill.spec
    content = bundle(problem.skill, source, types_module(spec.input, spec.output), *split_examples(spec.examples))
    report = check_program_report(content)
    if "passed" not in report:
        raise NoVerdictError(f"no verdict on {problem.name}: {report}")
    values = {key: report.get(key) or "" for key in ("gate", "message", "private")}
    return TracedCandidate(fingerprint(source), report["passed"], **values, line=report.get("line"))


def _special_case(problem: HumanEvalProblem, source: str, message: str) -> str:
    """Return the program with the answer of the first failed example written out, or an empty string."""
    failed = re.search(r"^example '(\w+)':", message, re.MULTILINE)
    example = next((one for one in problem.skill.spec.examples if failed and one.name == failed[1]), None)
    if example is None:
        return ""
    return source.replace(_RUN, f"{_RUN}    if input == {example.input!r}:\n        return {example.output!r}\n")


def read_traces(path: Path) -> Iterator[RepairTrace]:
    """Yield the traces of a file: one JSON object a line, with `task` and `candidates`, as write_traces makes them."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        yield RepairTrace(row["task"], tuple(TracedCandidate(**candidate) for candidate in row["candidates"]))


def write_traces(path: Path, traces: Iterable[RepairTrace]) -> None:
    """Write traces, one JSON object a line."""
    path.write_text("".join(f"{json.dumps(asdict(trace))}\n" for trace in traces), encoding="utf-8")
