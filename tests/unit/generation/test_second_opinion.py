"""A second program where examples are few: it is requested once, compared, shown, and never stands in the way."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from skill_operator import naming
from skill_operator.settings import (
    DailyTokenSettings,
    GenerationSettings,
    IsolationSettings,
    ModelEndpoint,
    SecondOpinionSettings,
    Settings,
)
from tests.unit.generation.world import IMAGES, NAME, NAMESPACE, World, completion_response
from tests.unit.runtime import harness

MODELS = [
    ModelEndpoint(name=name, base_url="http://model/v1", model=f"{name}-1", timeout_seconds=120)
    for name in ("cheap", "strong")
]
NUMBERS = {"type": "array", "items": {"type": "integer"}}
SPEC: dict[str, Any] = {
    "description": "Add the numbers.",
    "input": {"type": "object", "properties": {"xs": NUMBERS}, "required": ["xs"]},
    "output": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]},
    "examples": [{"name": "two", "input": {"xs": [1, 2]}, "output": {"n": 3}}],
}
HEAD = "from skill_types import Input, Output\n\n\ndef run(input: Input) -> Output:\n"
FIRST = HEAD + "    return {'n': sum(input['xs'])}\n"
ALIKE = HEAD + "    total = 0\n    for x in input['xs']:\n        total += x\n    return {'n': total}\n"
REFUSING = HEAD + "    if not input['xs']:\n        raise ValueError('empty')\n    return {'n': sum(input['xs'])}\n"
WRONG = HEAD + "    return {'n': 4}\n"
FORBIDDEN = HEAD + "    import subprocess\n    subprocess.run('true')\n    return {'n': 3}\n"
QUESTION = {"kind": "opinion", "input": '{"xs": []}', "answers": ['{"n":0}', "ValueError"]}
ASKED = '`{"xs": []}`: {"n":0}, or ValueError?'


def settings(**generation: Any) -> Settings:
    beacon = IsolationSettings(beacon="")  # it has a name, which only a cluster resolves
    return Settings(images=IMAGES, models=MODELS, generation=GenerationSettings(**generation), isolation=beacon)


def fenced(source: str, tokens: tuple[int, int] = (100, 50)) -> Callable[[Any], httpx2.Response]:
    return completion_response(f"```python\n{source}```", tokens)


@pytest.fixture
async def world() -> World:
    made = World(settings())
    made.skill(**SPEC)
    return made


async def accept(world: World, tokens: tuple[int, int] = (100, 50)) -> None:
    """The first program passes its check."""
    await world.receive(fenced(FIRST, tokens))
    world.verdict(passed=True)
    await world.reconcile()


async def requested(world: World) -> None:
    """The model has the request for the second program."""
    await accept(world)
    await world.wait_for_requests()
    assert len(world.wire.requests) == 2


async def comparing(world: World, source: str = REFUSING) -> None:
    """Both programs are about to be run."""
    await requested(world)
    await world.receive(fenced(source))


def run_real_check(world: World) -> None:
    """The check that is under way is run by the runtime, in two processes as in two containers, on loopback."""
    variables = world.check_environment()
    assert variables is not None
    with tempfile.TemporaryDirectory() as folder:
        ended = harness.run_check(Path(folder), variables | {"SKILL_CHECK_PHASE": "read"})
        if ended.code == 0:
            ended = harness.run_check(Path(folder), variables)
    assert ended.last_word, ended.log
    world.end_check(ended.code, ended.last_word)


def opinion(world: World) -> dict[str, Any]:
    """The opinion as the ledger has it."""
    uid = world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["uid"]
    stored = world.store.objects["ConfigMap", world.settings.namespace, naming.ledger(uid)]["data"]["ledger.json"]
    return dict(json.loads(stored)["present"]["opinion"] or {})


def verified(world: World) -> tuple[str, str, str]:
    condition = world.condition("Verified")
    return condition["status"], condition["reason"], condition["message"]


def is_accepted(world: World, source: str = FIRST) -> bool:
    """The first program runs, whatever the second says."""
    return world.condition("Verified")["status"] == "True" and world.builds() == {source}


def evidence(world: World) -> str:
    return str(world.status["evidence"]["secondOpinion"])


def prompts(world: World) -> list[str]:
    return ["\n".join(m["content"] for m in request["messages"]) for request in world.wire.requests]


# With the real check.


async def test_a_second_program_that_does_the_same_agrees(world: World) -> None:
    await world.receive(fenced(FIRST))
    run_real_check(world)
    await world.reconcile()
    await world.wait_for_requests()
    status, reason, message = verified(world)
    assert (status, reason) == ("Unknown", "SecondOpinion")
    assert "1 of 1 examples pass. cheap is writing a second program" in message
    assert world.builds() == set()
    await world.receive(fenced(ALIKE))
    compared = "A second program, by cheap, is being compared with the one that passed"
    assert verified(world) == ("Unknown", "SecondOpinion", compared), "what passed was said before"
    run_real_check(world)
    await world.reconcile()
    assert verified(world)[:2] == ("True", "Verified")
    assert "1 of 1 examples pass" in verified(world)[2]
    assert "A second program, by cheap, agrees" in verified(world)[2]
    assert evidence(world) == "Agrees"
    assert is_accepted(world)
    assert world.status["generation"] == {"attempts": 2, "tokens": 300, "model": "cheap-1"}
    assert world.check() is None


async def test_where_it_differs_the_owner_is_asked_and_the_answer_costs_no_call(world: World) -> None:
    await world.receive(fenced(FIRST))
    run_real_check(world)
    await world.reconcile()
    await world.receive(fenced(REFUSING))
    run_real_check(world)
    await world.reconcile()
    assert verified(world)[:2] == ("True", "WeakExamples")
    assert ASKED in verified(world)[2]
    assert evidence(world) == "Differs"
    assert is_accepted(world)
    answer = {"name": "none", "input": {"xs": []}, "output": {"n": 0}}
    world.skill(examples=[*SPEC["examples"], answer])
    await world.reconcile(2)
    run_real_check(world)
    await world.reconcile(2)
    run_real_check(world)
    await world.reconcile()
    assert verified(world)[:2] == ("True", "Verified"), "the other program fails what the owner said"
    assert "cannot be compared: the gate examples refuses it" in verified(world)[2]
    assert len(world.wire.requests) == 2
    assert is_accepted(world)


async def test_an_answer_against_the_first_program_has_it_repaired(world: World) -> None:
    await world.receive(fenced(FIRST))
    run_real_check(world)
    await world.reconcile()
    await world.receive(fenced(REFUSING))
    run_real_check(world)
    await world.reconcile()
    answer = {"name": "none", "input": {"xs": []}, "error": "ValueError"}
    world.skill(examples=[*SPEC["examples"], answer])
    world.now += timedelta(minutes=1)
    await world.reconcile(2)
    run_real_check(world)
    await world.reconcile()
    await world.receive(fenced(REFUSING.replace("'empty'", "'nothing'")))
    assert "'empty'" not in prompts(world)[-1], "no prompt holds the other program"
    run_real_check(world)
    await world.reconcile(2)
    run_real_check(world)
    await world.reconcile()
    assert "A second program, by cheap, agrees" in verified(world)[2]
    assert len(world.wire.requests) == 3


@pytest.mark.parametrize(("source", "gate"), [(WRONG, "examples"), (FORBIDDEN, "policy")], ids=["examples", "policy"])
async def test_a_second_program_that_is_refused_says_nothing(world: World, source: str, gate: str) -> None:
    await comparing(world, source)
    run_real_check(world)
    await world.reconcile()
    assert opinion(world)["state"] == "none"
    assert evidence(world) == "NoOpinion"
    assert f"the gate {gate} refuses it" in verified(world)[2]
    assert is_accepted(world)


# With scripted verdicts: what is requested.


async def test_it_is_the_first_prompt_again_hotter_and_without_the_first_program(world: World) -> None:
    await world.receive(fenced(WRONG))
    world.verdict(passed=False, gate="examples", message="0/1 visible examples pass.")
    await world.reconcile()
    await accept(world)
    await world.wait_for_requests()
    first, repair, second = world.wire.requests
    assert second["messages"] == first["messages"]
    assert repair["messages"] != first["messages"]
    assert second["temperature"] == 0.8
    assert FIRST.strip() not in prompts(world)[2]
    await world.operators[0].die()


@pytest.mark.parametrize(
    ("escalation", "model", "called"),
    [
        ([], "", ["cheap-1", "cheap-1"]),
        (["cheap", "strong"], "", ["cheap-1", "strong-1"]),
        (["strong", "cheap", "strong"], "", ["strong-1", "cheap-1"]),
        (["cheap", "strong"], "cheap", ["cheap-1", "cheap-1"]),
    ],
)
async def test_the_next_endpoint_writes_it_where_there_is_one(
    escalation: list[str], model: str, called: list[str]
) -> None:
    world = World(settings(escalation=escalation))
    world.skill(**SPEC, generation={"model": model})
    await requested(world)
    assert [request["model"] for request in world.wire.requests] == called
    await world.operators[0].die()


def many(count: int) -> list[dict[str, Any]]:
    return [{"name": f"e{n}", "input": {"xs": [n]}, "output": {"n": n}} for n in range(count)]


UNWANTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "never": ({}, {"generation": {"secondOpinion": "Never"}}),
    "setting": ({"second_opinion": SecondOpinionSettings(below_examples=0)}, {}),
    "many-examples": ({}, {"examples": many(6)}),
    "fewer-than-the-setting": ({"second_opinion": SecondOpinionSettings(below_examples=2)}, {"examples": many(2)}),
}
IMPOSSIBLE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "attempts": ({}, {"generation": {"maxAttempts": 1}}, "no attempt is left of 1"),
    "budget": ({}, {"generation": {"tokenBudget": 1000}}, "of 1000 tokens are spent"),
    "daily": ({"daily_tokens": DailyTokenSettings(namespace=7000)}, {}, "the daily tokens are spent"),
    "daily-of-all": ({"daily_tokens": DailyTokenSettings(operator=7000)}, {}, "the daily tokens are spent"),
    "chance": ({}, {"deterministic": False}, "spec.deterministic is false"),
    "granted": ({}, {"egress": [{"cidr": "203.0.113.0/24", "ports": [443]}]}, "neither network nor secrets"),
}


@pytest.mark.parametrize("case", UNWANTED)
async def test_where_it_is_not_wanted_nothing_is_different(case: str) -> None:
    generation, spec = UNWANTED[case]
    world = World(settings(**generation))
    world.skill(**(SPEC | spec))
    await accept(world)
    assert is_accepted(world)
    assert "second program" not in verified(world)[2]
    assert len(world.wire.requests) == 1
    assert opinion(world) == {}


@pytest.mark.parametrize("case", IMPOSSIBLE)
async def test_where_it_cannot_be_had_the_skill_goes_on_at_once_and_says_why(case: str) -> None:
    generation, spec, why = IMPOSSIBLE[case]
    world = World(settings(**generation))
    world.skill(**(SPEC | spec))
    await accept(world, (900, 2500) if case.startswith("daily") else (100, 50))
    assert is_accepted(world)
    assert why in verified(world)[2]
    assert opinion(world)["state"] == "skipped"
    assert evidence(world) == "NotAsked"
    world.now += timedelta(days=1)
    await world.reconcile(3)
    assert len(world.wire.requests) == 1, "it is not made up for later"


async def test_an_endpoint_whose_circuit_is_open_is_not_waited_for(world: World) -> None:
    await world.receive(fenced(FIRST))
    breaker = world.operators[0].author._breakers["cheap"]
    for _ in range(5):
        breaker.record_failure(world.now, "cheap failed (503).", None)
    world.verdict(passed=True)
    await world.reconcile()
    assert is_accepted(world)
    assert "the circuit is open" in verified(world)[2]
    assert len(world.wire.requests) == 1


async def test_after_the_deadline_of_generation_none_is_requested(world: World) -> None:
    await world.receive(fenced(FIRST))
    world.now += timedelta(seconds=901)
    world.verdict(passed=True)
    await world.reconcile()
    assert is_accepted(world)
    assert "since the first reply" in verified(world)[2]


async def test_always_means_with_many_examples_too() -> None:
    world = World(settings(second_opinion=SecondOpinionSettings(below_examples=0)))
    world.skill(**(SPEC | {"examples": many(9), "generation": {"secondOpinion": "Always"}}))
    await requested(world)
    await world.operators[0].die()


async def test_pinned_code_gets_none(world: World) -> None:
    world.skill(source={"inline": FIRST}, generation={"secondOpinion": "Always"})
    await world.reconcile()
    world.verdict(passed=True)
    await world.reconcile()
    assert is_accepted(world)
    assert world.wire.requests == []


async def test_a_program_that_was_accepted_without_one_gets_none_later() -> None:
    """An upgrade of the operator, or a new value of the chart, calls no model for Skills that run."""
    world = World(settings(second_opinion=SecondOpinionSettings(below_examples=0)))
    world.skill(**SPEC)
    await accept(world)
    world.settings = settings()
    world.operators[0] = world.operator()
    await world.reconcile(3)
    assert is_accepted(world)
    assert len(world.wire.requests) == 1


# What comes back.


def timeout(_: Any) -> httpx2.Response:
    raise httpx2.ReadTimeout("late")


FAULTS: dict[str, Any] = {
    "429": lambda _: httpx2.Response(429, headers={"Retry-After": "600"}),
    "503": lambda _: httpx2.Response(503),
    "401": lambda _: httpx2.Response(401),
    "html": lambda _: httpx2.Response(200, text="<html>"),
    "timeout": timeout,
    "no code": completion_response("I would rather not.", (100, 5)),
    "empty": completion_response("", (100, 0)),
    "cut": completion_response("```python\ndef run(input):\n    return", (100, 400), "length"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_request_that_fails_is_not_made_again(world: World, fault: str) -> None:
    await requested(world)
    await world.receive(FAULTS[fault])
    assert is_accepted(world)
    assert "A second program, by cheap, cannot be compared: " in verified(world)[2]
    assert opinion(world)["state"] == "none"
    assert world.status["generation"]["attempts"] == 2
    world.now += timedelta(hours=1)
    await world.reconcile(3)
    assert len(world.wire.requests) == 2
    version = world.store.version
    await world.reconcile(2)
    assert world.store.version == version


async def test_the_same_program_again_agrees_without_a_check(world: World) -> None:
    await requested(world)
    await world.receive(fenced("# As the model sees it.\n" + FIRST))
    assert world.check() is None
    assert "agrees" in verified(world)[2]
    assert is_accepted(world)


async def test_a_program_that_was_refused_before_says_nothing_and_is_not_checked(world: World) -> None:
    await world.receive(fenced(WRONG))
    world.verdict(passed=False, gate="examples", message="0/1 visible examples pass.")
    await world.reconcile()
    await accept(world)
    await world.wait_for_requests()
    await world.receive(fenced(WRONG))
    assert world.check() is None
    assert "wrote code that was refused before" in verified(world)[2]
    assert is_accepted(world)


async def test_three_questions_are_asked_in_the_order_of_the_report(world: World) -> None:
    await comparing(world)
    more = [QUESTION | {"input": f'{{"xs": [{n}]}}', "answers": [str(n), "x\x1b[31m"]} for n in range(2)]
    world.verdict(passed=True, questions=[QUESTION, *more])
    await world.reconcile()
    message = verified(world)[2]
    assert message.index(ASKED) < message.index('`{"xs": [0]}`: 0, or x') < message.index('`{"xs": [1]}`')
    assert "\x1b" not in message
    view = world.store.objects["ConfigMap", NAMESPACE, naming.candidates(NAME)]["data"]
    assert view["second-opinion.py"] == REFUSING
    assert '{"xs": []}: {"n":0} or ValueError?' in view["second-opinion.txt"]


ENDS: dict[str, tuple[int, str]] = {
    "no report": (0, ""),
    "forged": (0, json.dumps({"report": json.dumps({"passed": True}), "mac": "0" * 64})),
    "killed": (137, ""),
    "open egress": (3, json.dumps({"blocked": False, "target": "x", "detail": "y"})),
    "unusable": (2, ""),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_comparison_without_a_report_is_not_made_again(world: World, end: str) -> None:
    await comparing(world)
    world.end_check(*ENDS[end])
    await world.reconcile()
    assert is_accepted(world)
    assert "the comparison ended without a report" in verified(world)[2]
    await world.reconcile(2)
    assert world.check() is None


async def test_a_report_on_something_else_is_none(world: World) -> None:
    await comparing(world)
    world.verdict(passed=True, subject="0" * 64)
    await world.reconcile()
    assert opinion(world)["state"] == "none"


async def test_a_comparison_that_does_not_end_is_not_waited_for(world: World) -> None:
    await comparing(world)
    after = await world.reconcile()
    assert after is not None
    assert after <= 270, "somebody must look again"
    world.now += timedelta(seconds=271)
    await world.reconcile()
    assert is_accepted(world)
    assert "did not end in time" in verified(world)[2]
    assert world.check() is None


async def test_a_job_that_cannot_be_made_is_not_waited_for(world: World) -> None:
    """Whoever may delete Jobs, or keeps them from being made, holds up no Skill."""
    await comparing(world)
    for _ in range(10):
        for place in [place for place, obj in world.store.objects.items() if world.checked_code(obj) == REFUSING]:
            del world.store.objects[place]
        await world.reconcile(2)
        world.now += timedelta(seconds=30)
    await world.reconcile()
    assert is_accepted(world)


async def test_a_call_that_nobody_answers_is_not_waited_for(world: World) -> None:
    await requested(world)
    after = await world.reconcile()
    assert after is not None
    assert after <= 150
    world.now += timedelta(seconds=151)
    await world.reconcile()
    assert is_accepted(world)
    assert "cheap did not answer in time" in verified(world)[2]
    assert world.status["generation"]["tokens"] > 4096, "it may have been billed"


@pytest.mark.parametrize("stage", [requested, comparing])
async def test_never_ends_the_wait_at_once(world: World, stage: Any) -> None:
    await stage(world)
    world.skill(generation={"secondOpinion": "Never"})
    await world.reconcile()
    assert is_accepted(world)
    assert "secondOpinion is Never" in verified(world)[2]
    assert len(world.wire.requests) == 2
    await world.reconcile(2)
    assert world.check() is None


# Restarts and changes.


async def test_an_unchanged_world_is_not_written_to_while_it_waits(world: World) -> None:
    await requested(world)
    await world.reconcile()
    version = world.store.version
    await world.reconcile(3)
    assert world.store.version == version
    await world.receive(fenced(REFUSING))
    await world.reconcile()
    version = world.store.version
    await world.reconcile(3)
    assert world.store.version == version
    world.verdict(passed=True, questions=[QUESTION])
    await world.reconcile(2)
    version = world.store.version
    await world.reconcile(3)
    assert world.store.version == version


async def test_a_restart_before_the_call_makes_none_twice(world: World) -> None:
    """The ledger has the reservation, and the operator is gone before the request goes out."""
    await world.receive(fenced(FIRST))
    world.verdict(passed=True)

    async def gone() -> None:
        uid = world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["uid"]
        stored = world.store.objects["ConfigMap", world.settings.namespace, naming.ledger(uid)]["data"]["ledger.json"]
        if json.loads(stored)["present"]["opinion"]:
            world.store.after_write = None
            raise ConnectionError

    world.store.after_write = gone
    with pytest.raises(ConnectionError):
        await world.reconcile()
    world.operators[0] = world.operator()
    await world.reconcile()
    assert is_accepted(world)
    assert len(world.wire.requests) == 1
    assert "its reply is lost" in verified(world)[2]
    assert world.status["generation"]["attempts"] == 2


async def test_a_reservation_whose_answer_was_lost_on_the_way_is_used(world: World) -> None:
    await world.receive(fenced(FIRST))
    world.verdict(passed=True)

    async def unheard() -> None:
        world.store.after_write = None
        raise ConnectionError

    async def before() -> None:
        usage = world.store.objects["ConfigMap", world.settings.namespace, naming.ACCOUNT]
        if json.loads(usage["data"]["account.json"])["out"]:
            world.store.after_write, world.store.before_write = unheard, None

    world.store.before_write = before
    with pytest.raises(ConnectionError):
        await world.reconcile()
    assert len(world.wire.requests) == 1
    await world.reconcile()
    await world.wait_for_requests()
    assert len(world.wire.requests) == 2
    await world.receive(fenced(REFUSING))
    assert world.check() == REFUSING


async def test_a_restart_during_the_call_loses_the_reply_and_makes_no_other(world: World) -> None:
    await requested(world)
    await world.operators[0].die()
    world.operators[0] = world.operator()
    await world.reconcile(3)
    assert is_accepted(world)
    assert len(world.wire.requests) == 2
    assert "restarted" in verified(world)[2]


async def test_a_restart_during_the_comparison_loses_nothing(world: World) -> None:
    await comparing(world)
    jobs = len(world.store.created)
    world.operators[0] = world.operator()
    await world.reconcile(2)
    assert len(world.store.created) == jobs
    world.verdict(passed=True, questions=[QUESTION])
    world.operators[0] = world.operator()
    await world.reconcile()
    assert ASKED in verified(world)[2]
    world.operators[0] = world.operator()
    await world.reconcile(3)
    assert ASKED in verified(world)[2]
    assert len(world.wire.requests) == 2
    assert is_accepted(world)


async def test_an_outcome_that_could_not_be_stored_is_not_lost(world: World) -> None:
    await comparing(world)
    world.verdict(passed=True, questions=[QUESTION])

    async def down() -> None:
        raise ConnectionError

    for _ in range(3):
        world.store.before_write = down
        with pytest.raises(ConnectionError):
            await world.reconcile()
    world.store.before_write = None
    await world.reconcile()
    assert ASKED in verified(world)[2]


@pytest.mark.parametrize("stage", [requested, comparing])
async def test_a_changed_spec_drops_it_and_starts_anew(world: World, stage: Any) -> None:
    await stage(world)
    world.skill(description="Multiply the numbers.")
    world.now += timedelta(minutes=1)
    await world.reconcile()
    await world.wait_for_requests()
    assert "Multiply" in prompts(world)[2]
    assert opinion(world) == {}
    await world.receive(fenced(ALIKE))
    world.verdict(passed=True)
    await world.reconcile()
    await world.receive(fenced(FIRST))
    assert world.check() == FIRST
    assert "Multiply" in prompts(world)[3]
    jobs = [obj for (kind, _, _), obj in world.store.objects.items() if kind == "Job"]
    assert [world.checked_code(job) for job in jobs] == [FIRST], "the comparison of this input alone"


async def test_going_back_to_a_spec_finds_its_opinion_again(world: World) -> None:
    await comparing(world)
    world.verdict(passed=True, questions=[QUESTION])
    await world.reconcile()
    world.skill(description="Multiply the numbers.")
    world.now += timedelta(minutes=1)
    await world.start_call()
    world.skill(description=SPEC["description"])
    await world.reconcile(2)
    assert ASKED in verified(world)[2]
    assert len(world.wire.requests) == 3


@pytest.mark.parametrize("stage", [requested, comparing])
async def test_deletion_ends_it(world: World, stage: Any) -> None:
    await stage(world)
    del world.store.objects["Skill", NAMESPACE, NAME]
    await world.reconcile()
    assert world.operators[0].author._pool._calls == {}


async def test_a_new_base_image_compares_both_anew_and_calls_no_model(world: World) -> None:
    await comparing(world)
    world.verdict(passed=True, questions=[QUESTION])
    await world.reconcile()
    world.manifest = {"python": "3.14.0"}
    world.now += timedelta(days=1)
    images = IMAGES.model_copy(update={"checker": f"c@sha256:{'3' * 64}"})
    world.settings = world.settings.model_copy(update={"images": images})
    world.operators[0] = world.operator()
    await world.reconcile(2)
    assert world.check() == FIRST
    world.verdict(passed=True)
    await world.reconcile()
    assert world.check() == REFUSING
    world.verdict(passed=True, questions=[QUESTION])
    await world.reconcile()
    assert verified(world)[1] == "WeakExamples"
    assert len(world.wire.requests) == 2
    assert world.status["generation"] == {"attempts": 2, "tokens": 300, "model": "cheap-1"}, "what it took"


async def asked(world: World) -> None:
    """The second program differs, and the owner is asked which one is right."""
    await comparing(world)
    world.verdict(passed=True, questions=[QUESTION])
    await world.reconcile(2)
    assert (verified(world)[1], evidence(world)) == ("WeakExamples", "Differs")
    world.now += timedelta(days=1)


@pytest.mark.parametrize("change", [{"generation": {"secondOpinion": "Never"}}, {"examples": many(9)}])
async def test_what_differs_is_not_forgotten_where_no_more_opinions_are_wanted(
    world: World, change: dict[str, Any]
) -> None:
    await asked(world)
    world.skill(**change)
    for seconds in (31, 32):  # another input each time, with a ledger of its own
        world.skill(callTimeoutSeconds=seconds)
        await world.reconcile(2)
        assert world.check() == FIRST
        world.verdict(passed=True)
        await world.reconcile()
        assert world.check() == REFUSING
    world.verdict(passed=True, questions=[QUESTION])
    await world.reconcile(2)
    assert ASKED in verified(world)[2]
    assert (verified(world)[1], evidence(world)) == ("WeakExamples", "Differs")
    assert len(world.wire.requests) == 2, "no model is called"


@pytest.mark.parametrize("end", ["late", *ENDS])
async def test_what_differs_is_not_answered_by_a_comparison_without_a_report(world: World, end: str) -> None:
    """Whoever may delete Jobs, or keeps them from being made, answers no question."""
    await asked(world)
    world.skill(callTimeoutSeconds=31)
    await world.reconcile(2)
    world.verdict(passed=True)
    await world.reconcile()
    assert world.check() == REFUSING
    if end == "late":
        world.now += timedelta(seconds=271)
    else:
        world.end_check(*ENDS[end])
    await world.reconcile(2)
    assert ASKED in verified(world)[2]
    assert evidence(world) == "Differs"


async def test_an_example_answers_what_differs_where_no_more_opinions_are_wanted(world: World) -> None:
    await asked(world)
    empty = {"name": "none", "input": {"xs": []}, "output": {"n": 0}}
    world.skill(examples=[*SPEC["examples"], empty], generation={"secondOpinion": "Never"})
    await world.reconcile(2)
    assert world.check() == FIRST
    world.verdict(passed=True)
    await world.reconcile()
    assert world.check() == REFUSING
    world.verdict(passed=False, gate="examples", message="1/2 visible examples pass.")
    await world.reconcile(2)
    assert (verified(world)[1], evidence(world)) == ("Verified", "NoOpinion")
    assert len(world.wire.requests) == 2


async def test_what_agrees_is_not_compared_again_where_no_more_opinions_are_wanted(world: World) -> None:
    await comparing(world, ALIKE)
    world.verdict(passed=True)
    await world.reconcile(2)
    world.now += timedelta(days=1)
    world.skill(generation={"secondOpinion": "Never"}, callTimeoutSeconds=31)
    await world.reconcile(2)
    world.verdict(passed=True)
    await world.reconcile(2)
    assert world.check() is None
    assert evidence(world) == "NotAsked"


async def test_the_same_for_another_task_is_not_carried_over(world: World) -> None:
    await comparing(world)
    world.verdict(passed=True)
    await world.reconcile()
    world.skill(output=SPEC["output"] | {"description": "The sum."})
    world.now += timedelta(minutes=1)
    await world.receive(fenced(FIRST))
    assert opinion(world) == {}
    world.verdict(passed=True)
    await world.reconcile()
    assert opinion(world)["state"] == "reserved"


async def test_code_that_is_refused_after_all_is_repaired_and_compared_with_what_there_is(world: World) -> None:
    """The verdict is lost, and the check says something else the next time."""
    await comparing(world)
    world.verdict(passed=True, questions=[QUESTION])
    await world.reconcile()
    skill = world.store.objects["Skill", NAMESPACE, NAME]
    world.store.put(skill | {"status": {}})
    await world.reconcile(2)
    assert world.check() == FIRST
    world.verdict(passed=False, gate="schema", message="no")
    await world.reconcile()
    await world.receive(fenced(ALIKE))
    assert world.check() == ALIKE
    world.verdict(passed=True)
    await world.reconcile()
    assert world.check() == REFUSING
    world.verdict(passed=True)
    await world.reconcile()
    assert "agrees" in verified(world)[2]
    assert len(world.wire.requests) == 3, "no model is called for another opinion"
    assert world.status["generation"]["attempts"] == 3


async def test_the_price_is_in_budget_and_day(world: World) -> None:
    await comparing(world)
    world.verdict(passed=True)
    await world.reconcile()
    usage = world.store.objects["ConfigMap", world.settings.namespace, naming.ACCOUNT]["data"]["account.json"]
    assert json.loads(usage) == {"day": "2030-01-01", "spent": {NAMESPACE: 300}, "out": {}}
    assert world.status["generation"]["tokens"] == 300
