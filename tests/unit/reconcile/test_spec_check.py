"""What would hold the controller is found elsewhere, once, and no namespace waits for another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from skill_operator.api import validation
from skill_operator.api.v1alpha1 import Skill
from skill_operator.api.validation import problems, quick_problems
from skill_operator.reconcile import spec_check
from skill_operator.reconcile.preflight import parse
from skill_operator.reconcile.spec_check import TOO_EXPENSIVE, SpecCheck
from skill_operator.untrusted import json_schema, patterns
from skill_operator.untrusted.worker import WorkerFailed

NAME = r"^[\p{L} .'-]{1,80}$"
SPEC: dict[str, Any] = {"description": "d", "input": {"type": "object"}, "output": {}}
UNICODE = SPEC | {"input": {"type": "object", "properties": {"name": {"pattern": NAME}}}}


def skill(spec: dict[str, Any], name: str = "a", namespace: str = "team", generation: int = 1) -> Skill:
    meta = {"name": name, "namespace": namespace, "uid": f"{namespace}/{name}", "generation": generation}
    return Skill.model_validate({"metadata": meta, "spec": spec})


class FakeWorker:
    """A worker that ends each call when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, Any], asyncio.Future[Any]]] = []

    async def call(self, _: Callable[..., Any], spec: dict[str, Any]) -> Any:
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.calls.append((spec, ended))
        return await ended


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_small_spec_is_checked_at_once_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    check = SpecCheck(FakeWorker())  # type: ignore[arg-type]
    bad = SPEC | {"input": {"type": "array"}}
    found = check.problems(skill(bad), bad)
    assert found == problems(skill(bad).spec) != []
    monkeypatch.setattr(spec_check, "quick_problems", lambda _: pytest.fail("checked again"))
    assert check.problems(skill(bad), bad) is found


def test_all_that_cannot_be_read_is_named() -> None:
    body = {
        "metadata": {"name": "a", "namespace": "team", "uid": "u"},
        "spec": SPEC | {"description": 1, "examples": 2},
    }
    _, refusal = parse(body)
    assert refusal is not None
    lines = refusal.conditions[0].message.split("\n")
    assert [line.partition(":")[0] for line in lines] == ["spec.description", "spec.examples"]


async def test_a_new_generation_is_checked_anew() -> None:
    check = SpecCheck(FakeWorker())  # type: ignore[arg-type]
    bad = SPEC | {"input": {"type": "array"}}
    assert check.problems(skill(bad), bad)
    assert check.problems(skill(SPEC, generation=2), SPEC) == []


async def test_an_expensive_spec_is_checked_elsewhere() -> None:
    worker = FakeWorker()
    check = SpecCheck(worker)  # type: ignore[arg-type]
    assert check.problems(skill(UNICODE), UNICODE) is None
    assert check.problems(skill(UNICODE), UNICODE) is None
    assert check.problems(skill(SPEC, "quick"), SPEC) == [], "others do not wait"
    await turn()
    ((spec, ended),) = worker.calls
    assert spec is UNICODE
    ended.set_result([["spec.input", "is bad"]])
    await turn()
    assert [str(problem) for problem in check.problems(skill(UNICODE), UNICODE) or []] == ["spec.input: is bad"]


async def test_no_namespace_waits_behind_anothers() -> None:
    worker = FakeWorker()
    check = SpecCheck(worker)  # type: ignore[arg-type]
    for n in range(50):
        assert check.problems(skill(UNICODE, f"s{n}", "hostile"), UNICODE) is None
    assert check.problems(skill(UNICODE, "a", "honest"), UNICODE) is None
    await turn()
    assert len(worker.calls) == 2


async def test_what_exceeds_the_limits_is_refused() -> None:
    worker = FakeWorker()
    check = SpecCheck(worker)  # type: ignore[arg-type]
    check.problems(skill(UNICODE), UNICODE)
    await turn()
    worker.calls[0][1].set_exception(WorkerFailed("too long"))
    await turn()
    assert check.problems(skill(UNICODE), UNICODE) == [TOO_EXPENSIVE]


async def test_the_worker_finds_what_is_found_here() -> None:
    """In a process of its own, as in production."""
    check = SpecCheck()
    bad = UNICODE | {"examples": [{"name": "a", "input": {"name": "7"}, "output": 1}]}
    assert check.problems(skill(bad), bad) is None
    await asyncio.gather(*check._tasks.values())
    assert check.problems(skill(bad), bad) == problems(skill(bad).spec) != []


async def test_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec_check, "MAX_REMEMBERED", 3)
    check = SpecCheck(FakeWorker())  # type: ignore[arg-type]
    for n in range(5):
        check.problems(skill(SPEC, f"s{n}"), SPEC)
    assert len(check._known) == 3


def examples(count: int, value: Any) -> list[dict[str, Any]]:
    return [{"name": f"e{n}", "input": value, "output": 1} for n in range(count)]


def chain(levels: int, **node: Any) -> dict[str, Any]:
    defs = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} | node for n in range(levels)}
    return {"type": "object", "$ref": "#/$defs/d0", "$defs": defs | {f"d{levels}": True}}


def with_patterns(made: Callable[[int], str], count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{n}": {"pattern": made(n)} for n in range(count)}}


HOSTILE: dict[str, dict[str, Any]] = {
    "empty lists": {"examples": examples(1, [[]] * 25_000)},
    "wide examples": {"examples": examples(64, {str(key): 0 for key in range(500)})},
    "long texts": {"examples": examples(64, "x" * 20_000)},
    "deep": {"examples": examples(1, [[[[0] * 50] * 50]] * 2)},
    "doubling": {"input": chain(40), "examples": examples(1, {})},
    "unevaluated": {"input": chain(30, unevaluatedProperties=False), "examples": examples(1, {"z": 1})},
    "alternatives": {
        "input": {"type": "object", "properties": {"a": {"items": {"enum": [{"a": n} for n in range(600)]}}}},
        "examples": examples(1, {"a": [{"a": 1}] * 600}),
    },
    "large patterns": {"input": with_patterns(lambda n: rf"^\p{{L}}{{1,{30 + n}}}$", 60)},
    "many patterns": {"input": with_patterns(lambda n: rf"^\p{{L}}+{n}$", 60)},
    "long texts, patterns": {
        "input": with_patterns(lambda n: f"[ab]*a[ab]{{{n + 30}}}c", 20),
        "examples": examples(4, {f"p{n}": "ab" * 900 for n in range(20)}),
    },
    "wide schema": {"input": {"type": "object", "enum": [[n] for n in range(1900)]}, "examples": examples(60, {})},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_the_work_in_the_loop_is_bounded(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {"units": 0, "kib": 0}
    pay, measure = json_schema.WorkBudget.pay, patterns.compiled_kib

    def count_units(self: json_schema.WorkBudget, units: int, searches: int = 0) -> None:
        pay(self, units, searches)
        spent["units"] += units + searches

    def count_kib(pattern: str, max_kib: int = 4096) -> int | None:
        found = measure(pattern, max_kib)
        spent["kib"] += found or 0
        return found

    monkeypatch.setattr(json_schema.WorkBudget, "pay", count_units)
    monkeypatch.setattr(json_schema, "compiled_kib", count_kib)
    spec = skill(SPEC | HOSTILE[what]).spec
    found = quick_problems(spec)
    assert found is None or found, "left to a worker, or refused"
    assert spent["units"] <= validation.QUICK.units + validation.QUICK.searches
    assert spent["kib"] <= 2 * validation.QUICK.patterns_kib
