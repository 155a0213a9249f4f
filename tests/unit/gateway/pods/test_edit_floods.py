"""However fast a tenant edits Skills, the gateway looks at so much of them a second, and at all of it in the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_operator.gateway.pods import directory as directory_module
from skill_operator.gateway.pods.directory import LEAST_WORK, NOT_READ_YET, Directory, SkillEntry, parse_skill
from skill_operator.gateway.pods.work_allowance import BURST_UNITS, MAX_IDLE_NAMESPACES, UNITS_PER_SECOND, WorkAllowance
from skill_operator.naming import SkillKey
from skill_operator.untrusted import json_schema
from skill_operator.untrusted.json_schema import MAX_UNITS
from skill_operator.untrusted.json_values import weight
from tests.unit.gateway.objects import skill
from tests.unit.untrusted.counted_work import counted_lines

LARGE = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(2000)}}
LINES_OF_A_POSTPONED_EDIT = 8 * 3 * MAX_UNITS  # it is weighed: input, output and examples


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The weight of each schema that was looked at."""
    found: list[int] = []

    def is_presentable(schema: Any) -> bool:
        found.append(weight(schema))
        return json_schema.is_presentable(schema)

    monkeypatch.setattr(directory_module, "is_presentable", is_presentable)
    return found


class Clock:
    """Clock stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def paced(clock: Callable[[], float]) -> Directory:
    return Directory(_looks=WorkAllowance(clock), _compilations=WorkAllowance(clock))


def edited(number: int, generation: int, namespace: str = "mallory", **spec: Any) -> dict[str, Any]:
    body = skill(f"s{number}", namespace, generation, **({"input": LARGE, "output": LARGE} | spec))
    body["metadata"] |= {"uid": f"{namespace}-{number}"}
    body["status"]["image"] = "registry/x@sha256:0"
    return body


def exhausted(clock: Callable[[], float], namespace: str = "mallory") -> Directory:
    """Return a directory in which the namespace had its part of the gateway's time."""
    directory = paced(clock)
    directory._looks.pay(namespace, BURST_UNITS + 1)
    return directory


def entry_of(directory: Directory, number: int, namespace: str = "mallory") -> SkillEntry:
    return directory.entries[SkillKey(namespace, f"s{number}")]


@settings(max_examples=10, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 0.5)), max_size=60))
def test_looks_are_bounded_by_the_time_that_passed(edits: list[tuple[int, float]]) -> None:
    clock, work = Clock(), 0
    directory = paced(clock)
    began = clock.now
    former = directory_module.is_presentable

    def is_presentable(schema: Any) -> bool:
        nonlocal work
        work += weight(schema)
        return json_schema.is_presentable(schema)

    directory_module.is_presentable = is_presentable
    try:
        for generation, (number, pause) in enumerate(edits, 1):
            clock.now += pause
            directory.on_skill("MODIFIED", edited(number, generation))
            asyncio.run(directory.catch_up())
    finally:
        directory_module.is_presentable = former
    one_more = 2 * MAX_UNITS  # which the last units allowed
    assert work <= BURST_UNITS + (clock.now - began) * UNITS_PER_SECOND + one_more
    for number, _ in edits:
        assert entry_of(directory, number).skill is not None


def test_an_edit_beyond_the_bound_is_weighed_and_no_more(looked_at: list[int]) -> None:
    directory = exhausted(Clock())
    body = edited(0, 1, callTimeoutSeconds=7)
    assert counted_lines(lambda: directory.on_skill("MODIFIED", body)) <= LINES_OF_A_POSTPONED_EDIT
    entry = entry_of(directory, 0)
    assert looked_at == []
    assert entry.skill is not None
    assert (entry.skill.spec.input, entry.skill.spec.call_timeout_seconds) == (NOT_READ_YET, 7)
    assert directory.input_schema(entry) is None


def test_what_waits_is_looked_at_once_there_is_time(looked_at: list[int]) -> None:
    clock = Clock()
    directory, changes = exhausted(clock), []
    directory.skill_listeners.append(lambda before, after: changes.append(after))
    for generation in range(1, 4):
        directory.on_skill("MODIFIED", edited(0, generation))
    asyncio.run(directory.catch_up())
    assert looked_at == []
    clock.now += 1
    asyncio.run(directory.catch_up())
    assert len(looked_at) == 2, "the last version alone"
    assert entry_of(directory, 0) == parse_skill(edited(0, 3)) == changes[-1]
    assert directory._postponed == {}


def test_a_skill_that_is_gone_waits_for_nothing(looked_at: list[int]) -> None:
    clock = Clock()
    directory = exhausted(clock)
    directory.on_skill("ADDED", edited(0, 1))
    directory.on_skill("DELETED", edited(0, 1))
    clock.now += 1000
    asyncio.run(directory.catch_up())
    assert (looked_at, directory.entries, directory._postponed) == ([], {}, {})


def test_other_namespaces_pay_nothing(looked_at: list[int]) -> None:
    directory = exhausted(Clock())
    directory.on_skill("ADDED", edited(0, 1))
    directory.on_skill("ADDED", edited(0, 1, "alice"))
    assert len(looked_at) == 2
    assert entry_of(directory, 0, "alice") == parse_skill(edited(0, 1, "alice"))


def test_a_change_that_leaves_the_spec_pays_nothing() -> None:
    directory = paced(Clock())
    directory.on_skill("ADDED", edited(0, 1))
    paid = dict(directory._looks._paid_at)
    again = json.loads(json.dumps(edited(0, 1)))
    again["metadata"]["annotations"] = {"someone.example/n": "1"}
    directory.on_skill("MODIFIED", again)
    assert directory._looks._paid_at == paid


def test_a_schema_is_compiled_while_the_namespace_has_time() -> None:
    clock = Clock()
    directory = paced(clock)
    directory.on_skill("ADDED", edited(0, 1))
    directory._compilations.pay("mallory", BURST_UNITS + LEAST_WORK)
    assert directory.input_schema(entry_of(directory, 0)) is None
    clock.now += 1
    assert directory.input_schema(entry_of(directory, 0)) is not None


async def test_a_list_of_many_lets_others_have_their_turn() -> None:
    directory, turns = Directory(), 0

    async def changes() -> Any:
        for number in range(20):
            yield "ADDED", edited(number, 1)

    async def others() -> None:
        nonlocal turns
        while len(directory.entries) < 20:
            turns += 1
            await asyncio.sleep(0)

    others_task = asyncio.create_task(others())
    await directory._consume(("Skill", None), changes(), directory.on_skill)
    await others_task
    assert turns >= 19


def test_namespaces_that_paid_are_forgotten() -> None:
    clock = Clock()
    allowance = WorkAllowance(clock)
    for number in range(MAX_IDLE_NAMESPACES):
        allowance.pay(f"n{number}", 1)
    clock.now += 1
    allowance.pay("last", UNITS_PER_SECOND)
    assert allowance._paid_at.keys() == {"last"}
