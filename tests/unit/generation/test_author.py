"""The narrow door of generation: inputs in, a step out, and no reconcile in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.generation.author import Author
from skill_operator.generation.circuit_breaker import FAILURE_THRESHOLD
from skill_operator.generation.decision import Call, ReadyCandidate, Wait
from skill_operator.generation.generation_step import GenerationInput, GenerationUpdate
from skill_operator.generation.provider import Provider
from skill_operator.naming import SkillKey
from skill_operator.settings import ImageSettings, ModelEndpoint, Settings
from skill_operator.untrusted.worker import Worker, WorkerFailed
from tests.unit.generation.world import InlineWorker, Wire, completion_response

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MODEL = ModelEndpoint(name="main", base_url="http://model/v1", model="m-1")
IMAGES = ImageSettings(runtime="r@sha256:1", checker="c@sha256:1", builder="b:1", operator="o:1")
SETTINGS = Settings(images=IMAGES, models=[MODEL])
CODE = "def run(input):\n    return 1\n"
SKILL = Skill.model_validate(
    {
        "metadata": {"name": "echo", "namespace": "team", "uid": "u-1", "generation": 1},
        "spec": {"description": "Echo.", "input": {"type": "object"}, "output": {"type": "object"}},
    }
)
OTHER_METADATA = SKILL.metadata.model_copy(update={"name": "other", "uid": "u-2"})
INPUTS = GenerationInput(
    skill=SKILL,
    models=(MODEL,),
    types="",
    manifest={},
    checker="c@sha256:1",
    stored_history=None,
    stored_usage=None,
    accepted_source="",
    retry="",
)


class Bench:
    """An author, and the keys of the Skills that it woke."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.woken: asyncio.Queue[SkillKey] = asyncio.Queue()
        self.author = Author(SETTINGS, Provider(self.wire), self.woken.put_nowait, lambda: NOW)


def store(inputs: GenerationInput, update: GenerationUpdate) -> GenerationInput:
    """As the API server stores the records."""
    found: dict[str, Any] = {}
    for record in update.records:
        saved = record | {"metadata": record["metadata"] | {"resourceVersion": "1"}}
        is_usage = record["metadata"]["name"] == naming.ACCOUNT
        found["stored_usage" if is_usage else "stored_history"] = saved
    return replace(inputs, **found)


async def test_a_call_is_recorded_then_made_then_its_reply_is_a_candidate() -> None:
    bench = Bench()
    bench.wire.respond(completion_response(f"```python\n{CODE}```", (100, 50)))
    step = bench.author.advance(INPUTS, NOW)
    assert isinstance(step.decision, Call)
    assert step.request is not None
    assert step.attempt == "attempt 1 of 3"
    assert [record["metadata"]["name"] for record in step.records] == [naming.ACCOUNT, naming.ledger("u-1")]
    assert bench.wire.requests == [], "no call before its record is written"
    inputs = store(INPUTS, step)
    bench.author.start_call(step.request)
    assert await asyncio.wait_for(bench.woken.get(), 10) == ("team", "echo")
    step = bench.author.advance(inputs, NOW)
    assert isinstance(step.decision, ReadyCandidate)
    assert step.decision.attempt.source == CODE
    assert (step.status.attempts, step.status.tokens, step.status.model) == (1, 150, "m-1")
    update = bench.author.record_verdict(store(inputs, step), NOW, passed=False, gate="mypy", message="no", line=1)
    assert update is not None
    assert update.status.last_failure is not None
    assert update.view[0]["data"]["attempt-1.txt"].endswith("was refused by mypy, line 1:\nno\n")


async def test_a_call_whose_record_is_not_known_to_be_written_is_offered_again() -> None:
    bench = Bench()
    first = bench.author.advance(INPUTS, NOW)
    again = bench.author.advance(store(INPUTS, first), NOW)
    assert isinstance(again.decision, Wait)
    assert again.request == first.request
    assert again.records == ()


async def test_accepted_code_is_a_candidate_without_a_call() -> None:
    step = Bench().author.advance(replace(INPUTS, accepted_source=CODE), NOW)
    assert isinstance(step.decision, ReadyCandidate)
    assert step.attempt == "the code accepted before"
    assert step.request is None


async def test_a_verdict_without_a_candidate_is_nothing() -> None:
    assert Bench().author.record_verdict(INPUTS, NOW, passed=True, gate="", message="", line=None) is None


async def test_another_author_counts_a_pending_call_as_lost() -> None:
    first = Bench().author.advance(INPUTS, NOW)
    step = Bench().author.advance(store(INPUTS, first), NOW + timedelta(seconds=1))
    assert isinstance(step.decision, Call)
    assert [event.message for event in step.events] == [
        "The operator was restarted while main was writing; its reply is lost. No attempt is spent."
    ]


class BrokenWorker(Worker):
    """It exceeds its limits, whatever it gets."""

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        raise WorkerFailed(f"{function.__name__} exceeded a limit")


async def test_a_reply_that_cannot_be_read_within_the_limits_is_one_without_code() -> None:
    bench = Bench()
    bench.author = Author(
        SETTINGS, Provider(bench.wire, InlineWorker()), bench.woken.put_nowait, lambda: NOW, BrokenWorker()
    )
    bench.wire.respond(completion_response(f"```python\n{CODE}```", (100, 50)))
    first = bench.author.advance(INPUTS, NOW)
    assert first.request is not None
    bench.author.start_call(first.request)
    await asyncio.wait_for(bench.woken.get(), 10)
    step = bench.author.advance(store(INPUTS, first), NOW)
    assert isinstance(step.decision, Call)
    assert step.tokens >= 150, "the reply is paid"
    assert [event.reason for event in step.events] == ["NoCode"]
    assert "too complex to be read" in step.events[0].message


async def test_the_trial_of_a_skill_that_goes_leaves_its_turn_to_another() -> None:
    """Else all Skills wait until the time of a call is over of which nobody will ever know the outcome."""
    bench = Bench()
    breaker = bench.author._breakers["main"]
    for _ in range(FAILURE_THRESHOLD):
        breaker.record_failure(NOW - timedelta(hours=1), "main failed (503).", None)
    other = replace(INPUTS, skill=SKILL.model_copy(update={"metadata": OTHER_METADATA}))
    for starts in (True, False):  # once its request is on its way, or before it is
        step = bench.author.advance(INPUTS, NOW)
        assert step.request is not None
        bench.author.start_call(step.request)
        assert isinstance(bench.author.advance(other, NOW).decision, Wait)
        if starts:
            await asyncio.sleep(0)
        bench.author.cancel(INPUTS.key)
        assert isinstance(bench.author.advance(other, NOW).decision, Call)
