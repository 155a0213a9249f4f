"""What a model is worth here: it writes the problems of HumanEval as Skills, in the whole real loop.

    OPENAI_BASE_URL=https://llm.example/v1 SKILL_MODEL=name OPENAI_API_KEY=... TASKS=20 make bench-model

Author, Provider, ledger and gates are the operator's own, and every candidate goes through real check processes. A
Skill shows the first EXAMPLES of its problem, as a person would give a few. Code that is accepted is then held against
all tests of the problem, which no model has seen: that is what finds false accepts. Without OPENAI_BASE_URL a tiny
model on loopback answers, which shows that the benchmark works, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.humaneval import HumanEvalProblem, call_run, load_run, problems
from benchmarks.real_loop import LoopResult, check_program, generate, loop_settings, prove_checks
from benchmarks.tiny_model import served
from skill_operator.generation.provider import Completion
from skill_operator.generation.typed_dicts import types_module
from skill_operator.resources.check import bundle
from skill_operator.settings import ModelEndpoint
from tests.unit.generation.world import World

TASKS = int(os.environ.get("TASKS", "164"))
EXAMPLES = int(os.environ.get("EXAMPLES", "6"))
"""As many as a Skill needs so that two are held out."""
MAX_ATTEMPTS = int(os.environ.get("MAX_ATTEMPTS", "3"))
TOKEN_BUDGET = int(os.environ.get("TOKEN_BUDGET", "20000"))
REPLY_TOKENS = int(os.environ.get("REPLY_TOKENS", "4096"))
TINY_REPLY_TOKENS = 256
CALL_TIMEOUT_SECONDS = 300.0
TEST_EXAMPLES = 64
"""Tests of one check: as many examples as a Skill may have."""


@dataclass(frozen=True)
class TaskResult:
    """TaskResult is how one problem ended. `is_right` is what its own tests say about the accepted code."""

    name: str
    loop: LoopResult
    is_right: bool
    calls: int
    seconds: float

    @property
    def is_false_accept(self) -> bool:
        """Whether the gates accepted code that fails the problem's own tests."""
        return bool(self.loop.source) and not self.is_right


async def run_task(problem: HumanEvalProblem, model: ModelEndpoint) -> TaskResult:
    """Have one problem written, and hold the accepted code against all of its tests."""
    began = time.monotonic()
    world = World(loop_settings(model), network=True)
    world.skill(**skill_spec(problem))
    calls = _count_calls(world)
    result = await generate(world)
    is_right = bool(result.source) and await asyncio.to_thread(passes_all_tests, problem, result.source)
    return TaskResult(problem.name, result, is_right, calls.total(), time.monotonic() - began)


def skill_spec(problem: HumanEvalProblem) -> dict[str, Any]:
    """Return the spec of a Skill with the first examples of the problem."""
    spec = problem.skill.spec
    return {
        "description": spec.description,
        "input": spec.input,
        "output": spec.output,
        "examples": [example.model_dump(mode="json", exclude_unset=True) for example in spec.examples[:EXAMPLES]],
        "callTimeoutSeconds": spec.call_timeout_seconds,
        "generation": {"maxAttempts": MAX_ATTEMPTS, "tokenBudget": TOKEN_BUDGET},
    }


def _count_calls(world: World) -> Counter[str]:
    """Return a counter of the calls that this world's provider makes, by endpoint."""
    calls: Counter[str] = Counter()
    provider = world.operators[0].provider
    complete = provider.complete

    async def counted(endpoint: ModelEndpoint, *arguments: Any) -> Completion:
        calls[endpoint.name] += 1
        return await complete(endpoint, *arguments)

    provider.complete = counted  # type: ignore[method-assign, assignment]
    return calls


def passes_all_tests(problem: HumanEvalProblem, source: str) -> bool:
    """Return whether the code gives the reference's output for every input of the problem's tests, in real checks.

    Raises NoVerdictError where a check breaks: that says nothing of the code.
    """
    spec = problem.skill.spec
    run = load_run(problem.source)  # the published solution: the candidate itself runs in checks alone
    tests = [
        {"name": f"t{number}", "input": value, "output": json.loads(text), "hidden": False}
        for number, value in enumerate(problem.inputs)
        if not (text := call_run(run, value)).startswith("raises")
    ]
    content = bundle(problem.skill, source, types_module(spec.input, spec.output), [], [])
    chunks = [tests[start : start + TEST_EXAMPLES] for start in range(0, len(tests), TEST_EXAMPLES)]
    return not any(check_program(content | {"examples": chunk}) for chunk in chunks)


@contextlib.contextmanager
def endpoint() -> Iterator[ModelEndpoint]:
    """Yield the endpoint that the environment names, or the tiny model on loopback."""
    url, key = os.environ.get("OPENAI_BASE_URL", ""), os.environ.get("OPENAI_API_KEY", "")
    with contextlib.ExitStack() as stack:
        name = os.environ.get("SKILL_MODEL", "")
        if not url:
            url, name = stack.enter_context(served()), "SmolLM2-135M"
        elif not name:
            raise SystemExit("SKILL_MODEL is not set: name the model as the endpoint knows it")
        file = ""
        if key:
            file = str(Path(stack.enter_context(tempfile.TemporaryDirectory()), "key"))
            Path(file).touch(0o600)
            Path(file).write_text(key, encoding="utf-8")
        limit = REPLY_TOKENS if os.environ.get("OPENAI_BASE_URL") else TINY_REPLY_TOKENS
        yield ModelEndpoint(
            name="bench",
            base_url=url,
            model=name,
            api_key_file=file,
            max_reply_tokens=limit,
            timeout_seconds=CALL_TIMEOUT_SECONDS,
        )


def report(model: str, results: list[TaskResult]) -> str:
    """Return the table."""
    accepted = [result for result in results if result.loop.source]
    solved = [result for result in results if result.is_right]
    wrong = [result for result in results if result.is_false_accept]
    warned = [result for result in accepted if result.loop.has_weak_examples]
    first = [result for result in solved if result.loop.attempts == 1]
    tokens, attempts = [result.loop.tokens for result in results], [result.loop.attempts for result in results]
    rows = [
        (f"problems of HumanEval, written by {model}", str(len(results))),
        ("solved: accepted, and right by all tests", _share(solved, results)),
        ("  with the first attempt", _share(first, results)),
        ("accepted by the gates", _share(accepted, results)),
        ("false accepts: accepted, and wrong", _share(wrong, accepted)),
        ("  of those with WeakExamples", _share([one for one in warned if not one.is_right], wrong)),
        ("solved, with WeakExamples all the same", _share([one for one in warned if one.is_right], solved)),
        ("attempts, all and per problem", f"{sum(attempts)}, {sum(attempts) / len(results):.2f}"),
        ("calls of the model", str(sum(result.calls for result in results))),
        (
            "tokens, all and per solved problem",
            f"{sum(tokens)}, {sum(tokens) // len(solved) if solved else '-'}",
        ),
        ("checks", str(sum(result.loop.checks for result in results))),
        ("seconds, all", f"{sum(result.seconds for result in results):.0f}"),
    ]
    for title, counts in (
        ("ended by", Counter(result.loop.reason for result in results)),
        ("refused by", Counter(gate for result in results for gate in result.loop.refusals)),
    ):
        rows += [(f"  {title} {name}", str(count)) for name, count in counts.most_common()]
    return "\n".join(f"{name:<52}{value}" for name, value in rows)


def _share(some: list[TaskResult], whole: list[TaskResult]) -> str:
    return f"{len(some)} of {len(whole)}, {100 * len(some) / max(1, len(whole)):.1f} %"


def main() -> int:
    """Run the problems one after the other, and print the table."""
    chosen = list(problems())[:TASKS]
    if not chosen:
        raise SystemExit("TASKS must be at least 1")
    asyncio.run(prove_checks())
    results: list[TaskResult] = []
    with endpoint() as model:
        for problem in chosen:
            result = asyncio.run(run_task(problem, model))
            results.append(result)
            verdict = "right" if result.is_right else "wrong" if result.loop.source else "-"
            print(f"  {problem.name:<16}{result.loop.reason:<20}{verdict:<8}{result.loop.tokens} tokens", flush=True)
            if result.loop.reason == "ModelRefused":
                raise SystemExit("the endpoint refuses the requests: see OPENAI_BASE_URL, SKILL_MODEL, OPENAI_API_KEY")
    print(report(model.model, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
