"""The benchmark of a model, with a model on loopback that is right once, wrong once and rubbish once."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.humaneval import HumanEvalProblem
from benchmarks.model import TaskResult, passes_all_tests, report, run_task
from benchmarks.real_loop import LoopResult, NoVerdictError
from hack.model.server import ScriptedModel
from skill_operator.api.v1alpha1 import Skill
from skill_operator.settings import ModelEndpoint
from tests.unit.runtime.harness import NUMBER

HEAD = "from skill_types import Input, Output\n\n\ndef run(input: Input) -> Output:\n    n = input['n']\n"
RIGHT = f"{HEAD}    return {{'n': 2 * n}}\n"
FALSE_FROM_SEVEN_ON = f"{HEAD}    return {{'n': 2 * n if n < 70 else 0}}\n"


def problem(name: str) -> HumanEvalProblem:
    """Return the doubling of a number: 70 tests, of which a Skill shows the first."""
    inputs = tuple({"n": n} for n in range(1, 71))
    spec = {
        "description": f"Double n, {name}.",
        "input": NUMBER,
        "output": NUMBER,
        "examples": [
            {"name": f"e{value['n']}", "input": value, "output": {"n": 2 * value["n"]}} for value in inputs[:64]
        ],
    }
    skill = Skill.model_validate({"metadata": {"name": name, "namespace": "bench", "uid": name}, "spec": spec})
    return HumanEvalProblem(name, "run", RIGHT, skill, inputs)


def reply(source: str) -> list[dict[str, Any]]:
    return [{"text": f"```python\n{source}```", "usage": {"prompt_tokens": 70, "completion_tokens": 30}}]


async def test_solved_false_accepts_and_calls_are_told_apart() -> None:
    script = {"right": reply(RIGHT), "wrong": reply(FALSE_FROM_SEVEN_ON), "rubbish": [{"text": "No."}]}
    with ScriptedModel({f"n, {name}.": replies for name, replies in script.items()}) as server:
        model = ModelEndpoint(name="m", base_url=server.url, model="m")
        results = {name: await run_task(problem(name), model) for name in script}
    right, wrong, rubbish = (results[name] for name in script)
    assert (right.loop.reason, right.is_right, right.loop.attempts, right.loop.tokens) == ("Accepted", True, 1, 100)
    assert (wrong.loop.reason, wrong.is_false_accept, wrong.loop.source) == ("Accepted", True, FALSE_FROM_SEVEN_ON)
    assert (rubbish.loop.reason, rubbish.calls, rubbish.loop.checks) == ("NoCode", 2, 0)
    table = report("m", [*results.values()])
    for row in ("1 of 3, 33.3 %", "2 of 3, 66.7 %", "1 of 2, 50.0 %", "ended by NoCode"):
        assert row in table


def test_tests_beyond_those_of_one_check_count_too() -> None:
    assert passes_all_tests(problem("p"), RIGHT)
    assert not passes_all_tests(problem("p"), FALSE_FROM_SEVEN_ON), "the 70th test alone tells"


def test_a_check_that_breaks_is_no_verdict_on_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.real_loop.command", lambda name: ["false", name])
    with pytest.raises(NoVerdictError):
        passes_all_tests(problem("p"), RIGHT)


def test_an_empty_share_is_no_division_by_zero() -> None:
    result = TaskResult("p", LoopResult("NoCode"), is_right=False, calls=1, seconds=0.0)
    assert "0 of 0, 0.0 %" in report("m", [result])
