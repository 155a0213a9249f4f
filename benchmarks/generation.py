"""The loop under a model that fights it, and under a real one that cannot do better.

    make bench-generation        # LOOP_RUNS=600 SKILLS=20

First the state machine of the tests, many times: a scripted model that does whatever hurts, two operators, power cuts,
people who edit, retry and delete. Then a real model of 135M parameters writes Skills, and the real gates check them:
that they do is proven before, with a wrong program and a right one, since that model hardly ever writes either.
What is counted must be 0: attempts or tokens over a bound, builds of code that did not pass, Skills that do not end.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections import Counter
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from benchmarks.real_loop import LoopResult, generate, loop_settings, prove_checks
from benchmarks.tiny_model import served
from skill_operator.settings import ModelEndpoint
from tests.unit.generation.test_every_order import TERMINAL, EveryOrder
from tests.unit.generation.world import World

RUNS = int(os.environ.get("LOOP_RUNS", "600"))
SKILLS = int(os.environ.get("SKILLS", "20"))
STEPS = 25
ATTEMPTS, BUDGET, REPLY = 3, 20_000, 256
NUMBER, TEXT = {"type": "number"}, {"type": "string"}


def task(name: str, what: str, *examples: tuple[dict[str, Any], Any]) -> tuple[str, dict[str, Any]]:
    """A small piece of software in words; what it takes is read off its examples."""
    given = {key: TEXT if isinstance(value, str) else NUMBER for key, value in examples[0][0].items()}
    gives = TEXT if isinstance(examples[0][1], str) else NUMBER
    return name, {
        "description": what,
        "input": {"type": "object", "properties": given, "required": [*given]},
        "output": {"type": "object", "properties": {"result": gives}, "required": ["result"]},
        "examples": [
            {"name": f"e{at}", "input": taken, "output": {"result": result}}
            for at, (taken, result) in enumerate(examples)
        ],
    }


TASKS = [
    task("add", "Add a and b.", ({"a": 1, "b": 2}, 3), ({"a": -1, "b": 1}, 0)),
    task("subtract", "Subtract b from a.", ({"a": 3, "b": 2}, 1), ({"a": 0, "b": 4}, -4)),
    task("square", "Square the number n.", ({"n": 3}, 9), ({"n": -2}, 4)),
    task("double", "Double n.", ({"n": 2}, 4), ({"n": 0}, 0)),
    task("echo", "Return the text as it is.", ({"text": "hi"}, "hi"), ({"text": ""}, "")),
    task("upper", "Return the text in upper case.", ({"text": "hi"}, "HI"), ({"text": "a1"}, "A1")),
    task("length", "Return how many characters the text has.", ({"text": "hi"}, 2), ({"text": ""}, 0)),
    task("reverse", "Return the text from its end to its start.", ({"text": "abc"}, "cba"), ({"text": ""}, "")),
    task("words", "Count the words of the text.", ({"text": "a b c"}, 3), ({"text": ""}, 0)),
    task("vowels", "Count the vowels of the text.", ({"text": "banana"}, 3), ({"text": "xyz"}, 0)),
    task("maximum", "Return the larger of a and b.", ({"a": 1, "b": 2}, 2), ({"a": 5, "b": 2}, 5)),
    task("minimum", "Return the smaller of a and b.", ({"a": 1, "b": 2}, 1), ({"a": 5, "b": 2}, 2)),
    task("absolute", "Return n without its sign.", ({"n": -2}, 2), ({"n": 3}, 3)),
    task("celsius", "Convert degrees Fahrenheit f to Celsius.", ({"f": 212}, 100), ({"f": 32}, 0)),
    task("area", "Return the area of a rectangle of sides a and b.", ({"a": 2, "b": 3}, 6), ({"a": 0, "b": 3}, 0)),
    task("factorial", "Return the factorial of n.", ({"n": 4}, 24), ({"n": 0}, 1)),
    task("fibonacci", "Return the n-th Fibonacci number.", ({"n": 6}, 8), ({"n": 1}, 1)),
    task("greeting", "Greet by name: Hello, NAME!", ({"name": "Eva"}, "Hello, Eva!"), ({"name": "Al"}, "Hello, Al!")),
    task("initial", "Return the first letter of the name.", ({"name": "Eva"}, "E"), ({"name": "al"}, "a")),
    task("parity", "Return even or odd for n.", ({"n": 2}, "even"), ({"n": 3}, "odd")),
]


class Counted(EveryOrder):
    """Counts what the runs came to."""

    figures: ClassVar[Counter[str]] = Counter()

    def teardown(self) -> None:
        figures = self.figures
        figures["runs"] += 1
        figures["calls"] += len(self.world.wire.requests)
        figures["built"] += bool(self.world.builds())
        for reason in set(self.ended.values()):
            figures[f"ended: {reason}"] += 1
        super().teardown()


def run_adversarial_orders() -> None:
    """Run the state machine. Raises an error at the first thing that must not happen."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run_state_machine_as_test(
        Counted,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"adversarial runs                                {Counted.figures.pop('runs')}")
    print("  over attempts, tokens or the day's tokens      0   (the run stops at the first)")
    print("  builds of code that did not pass               0   (the run stops at the first)")
    print("  calls after the end                            0   (the run stops at the first)")
    for name, count in sorted(Counted.figures.items()):
        print(f"  {name:<45} {count}")
    print(f"  CPU seconds, memory grown                     {time.process_time() - began:.0f}, {grown / 1024:.0f} MiB")


async def generate_with(url: str, spec: dict[str, Any]) -> LoopResult:
    """Generate one Skill with the model at this URL."""
    model = ModelEndpoint(name="tiny", base_url=url, model="tiny", max_reply_tokens=REPLY, timeout_seconds=300)
    world = World(loop_settings(model), network=True)
    world.skill(**spec, generation={"maxAttempts": ATTEMPTS, "tokenBudget": BUDGET})
    return await generate(world)


def soak() -> None:
    """Generate Skills with a real model. Only bounds are checked: the text differs from machine to machine."""
    asyncio.run(prove_checks())
    results: list[LoopResult] = []
    began = time.monotonic()
    with served() as url:
        for name, spec in TASKS[:SKILLS]:
            result = asyncio.run(generate_with(url, spec))
            assert result.reason in TERMINAL | {"Accepted"}, result
            assert result.attempts <= ATTEMPTS, result
            assert result.tokens <= BUDGET, result
            results.append(result)
            print(f"  {name:<45} {result.reason}, {result.attempts} attempts, {result.tokens} tokens", flush=True)
    attempts, tokens = [result.attempts for result in results], [result.tokens for result in results]
    print(f"Skills written by a model of 135M               {len(results)}   in {time.monotonic() - began:.0f} s")
    for reason, count in Counter(result.reason for result in results).most_common():
        print(f"  {reason:<45} {count}")
    print(f"  attempts: most, all                           {max(attempts)} (bound {ATTEMPTS}), {sum(attempts)}")
    print(f"  tokens: most, all                             {max(tokens)} (bound {BUDGET}), {sum(tokens)}")
    print(f"  checks of its code                            {sum(result.checks for result in results)}")


if __name__ == "__main__":
    run_adversarial_orders()
    soak()
