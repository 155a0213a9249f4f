"""The loop as the operator runs it, from a Skill to the build of accepted code: every rule that ends it."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from skill_operator import naming, runtime_contract
from skill_operator.generation.prompt import PROMPT_VERSION
from skill_operator.settings import (
    DailyTokenSettings,
    EgressProxySettings,
    GenerationSettings,
    ModelEndpoint,
    SecondOpinionSettings,
    Settings,
)
from tests.unit.generation.world import IMAGES, NAME, NAMESPACE, World, completion_response

MODELS = [ModelEndpoint(name=name, base_url="http://model/v1", model=f"{name}-1") for name in ("cheap", "strong")]

IN_BUILDS = Settings(images=IMAGES).builder_namespace


def settings(**generation: Any) -> Settings:
    """Without second opinions, which test_second_opinion.py is about."""
    alone = {"second_opinion": SecondOpinionSettings(below_examples=0)}
    return Settings(images=IMAGES, models=MODELS, generation=GenerationSettings(**(alone | generation)))


def code(body: str) -> str:
    return f"def run(input):\n    {body}\n"


def fenced(body: str) -> str:
    return f"```python\n{code(body)}```"


@pytest.fixture
async def world() -> World:
    made = World(settings())
    made.skill()
    return made


async def writes(world: World, body: str, tokens: tuple[int, int] = (100, 50)) -> None:
    await world.receive(completion_response(fenced(body), tokens))


async def refused(
    world: World, body: str, gate: str = "mypy", message: str = "no", line: int | None = None, private: str = ""
) -> None:
    """One whole attempt."""
    await writes(world, body)
    world.verdict(passed=False, gate=gate, message=message, line=line, private=private)
    await world.reconcile()


def prompts(world: World) -> list[str]:
    return ["\n".join(m["content"] for m in r["messages"]) for r in world.wire.requests]


async def test_words_become_a_build(world: World) -> None:
    await writes(world, "return 1")
    assert world.check() == code("return 1")
    assert world.builds() == set()
    world.verdict(passed=True)
    await world.reconcile()
    assert world.builds() == {code("return 1")}
    assert world.status["generation"] == {"attempts": 1, "tokens": 150, "model": "cheap-1"}
    assert world.store.objects["ConfigMap", NAMESPACE, f"{NAME}-source"]["data"]["skill.py"] == code("return 1")


async def test_a_reconcile_of_an_unchanged_world_writes_nothing(world: World) -> None:
    await world.start_call()
    await world.reconcile()
    version = world.store.version
    await world.reconcile(3)
    assert world.store.version == version
    assert len(world.wire.requests) == 1
    await world.operators[0].die()


async def test_attempts_exhausted(world: World) -> None:
    for number in range(3):
        await refused(world, f"return {number}", message=f"wrong {'xyz'[number]}", line=2)
    await world.reconcile()
    condition = world.condition("Ready")
    assert condition["reason"] == "AttemptsExhausted"
    assert "3 of 3 attempts" in condition["message"]
    assert "at line 2: wrong z" in condition["message"]
    assert "skill-operator.dev/retry=" in condition["message"]
    assert world.condition("Stalled")["status"] == "True"
    for _ in range(5):
        world.operators[0] = world.operator()
        world.now += timedelta(days=1)
        await world.reconcile(2)
    assert len(world.wire.requests) == 3, "a failed Skill stays failed"
    assert world.builds() == set()


async def test_budget_exhausted_before_the_call() -> None:
    world = World(settings())
    world.skill(generation={"tokenBudget": 2000})
    await world.receive(completion_response(fenced("return 0"), (600, 1000)))
    world.verdict(passed=False, gate="ruff", message="E9")
    await world.reconcile()
    await world.reconcile()
    assert world.reason == "BudgetExhausted"
    assert len(world.wire.requests) == 1


async def test_loop_detected_comments_and_names_do_not_count(world: World) -> None:
    await refused(world, "a = 1\n    return a")
    await writes(world, "b = 1  # better\n    return b")
    assert world.check() is None, "no check for a repeat"
    assert (
        "CodeRepeated",
        "attempt 2 of 3: cheap wrote code that was refused before (150 tokens); it is not checked",
    ) in world.events.recorded
    await writes(world, "'''Docs.'''\n    c = 1\n    return c")
    await world.reconcile()
    assert world.reason == "LoopDetected"
    assert "Start anew" in prompts(world)[-1]
    assert [r["temperature"] for r in world.wire.requests] == [0.2, 0.2, 0.8]


async def test_no_progress(world: World) -> None:
    for number in range(3):
        await refused(world, f"return {number}", "examples", f"0/2 visible examples pass.\ngot {number}")
    await world.reconcile()
    assert world.reason == "NoProgress"


async def test_suspect_spec(world: World) -> None:
    example = "example 'b':\n  input:    {}\n  expected: 4\n  got:      3"
    for number in range(3):
        await refused(world, f"return {number}", "examples", f"1/2 visible examples pass.\n{example}")
    await world.reconcile()
    assert world.reason == "SuspectSpec"
    assert "3 different programs answer 3 where the example 'b' wants 4" in world.condition("Ready")["message"]


async def test_a_dispute_over_a_held_out_example_is_told_to_people_and_to_no_model(world: World) -> None:
    """Also after more attempts are allowed, and after the rules that end generation have seen it."""
    private = "example 'hidden-name':\n  input:    {}\n  expected: 'hidden-value'\n  got:      \"hidden-answer\""
    for number in range(3):
        await refused(world, f"return {number}", "hidden", f"All pass, but only 0 of {number} held-out", None, private)
    await world.reconcile()
    assert world.reason == "SuspectSpec"
    message = world.condition("Ready")["message"]
    assert "\"hidden-answer\" where the held-out example 'hidden-name' wants 'hidden-value'" in message
    view = world.store.objects["ConfigMap", NAMESPACE, naming.candidates(NAME)]["data"]
    assert private in view["attempt-2.txt"]
    world.skill(generation={"maxAttempts": 5})
    await world.reconcile()
    assert world.reason == "SuspectSpec", "three programs are enough to ask a person"
    world.annotate(naming.RETRY_ANNOTATION, "1")
    world.now += timedelta(minutes=1)
    await refused(world, "return 7", "hidden", "All pass, but only 0 of 7 held-out", None, private)
    for text in ("I cannot.", fenced("return 7"), fenced("return 8")):
        await world.start_call()
        world.wire.respond(completion_response(text, (100, 5)))
        await world.finish_calls()
        world.wire.respond(None)
    await world.reconcile()
    assert world.check() == code("return 8"), "a repair, an unusable reply and a fresh start were asked for"
    assert len(prompts(world)) == 7
    assert not any("hidden-" in prompt for prompt in prompts(world))


async def test_policy_refused(world: World) -> None:
    for number in range(2):
        await refused(world, f"import socket\n    return {number}", "policy", f"line {number}: socket is forbidden")
    await world.reconcile()
    assert world.reason == "PolicyRefused"


async def test_deadline_exceeded(world: World) -> None:
    await writes(world, "return 0")
    world.now += timedelta(seconds=901)
    world.verdict(passed=False, gate="mypy", message="no")
    await world.reconcile(2)
    assert world.reason == "DeadlineExceeded"


async def test_a_candidate_that_ends_its_own_check_is_refused_after_a_few(world: World) -> None:
    await writes(world, "return 1")
    checks = 0
    for _ in range(100):
        if world.check() is not None:
            world.end_check(143, "")
            checks += 1
        await world.reconcile(2)
        world.now += timedelta(seconds=60)
        if world.status["generation"].get("lastFailure"):
            break
    assert checks == 5
    assert world.status["generation"]["lastFailure"]["gate"] == "no-verdict"


async def test_a_candidate_whose_checks_are_counted_by_nobody_ends_at_the_deadline(world: World) -> None:
    """Whoever may write Jobs in the Skill's namespace may reset what they count."""
    await writes(world, "return 1")
    checks = 0
    for _ in range(100):
        if world.check() is not None:
            for (kind, _, _), obj in world.store.objects.items():
                if kind == "Job":
                    obj["metadata"].pop("annotations", None)
            world.end_check(143, "")
            checks += 1
        await world.reconcile(2)
        world.now += timedelta(minutes=5)
        if world.reason == "DeadlineExceeded":
            break
    assert checks <= 5
    assert world.condition("Stalled")


async def test_no_code_twice(world: World) -> None:
    await world.receive(completion_response("I would rather not.", (100, 5)))
    await world.receive(completion_response("", (100, 0)))
    await world.reconcile()
    assert world.reason == "NoCode"
    assert world.status["generation"]["attempts"] == 0
    assert "could not be used" in prompts(world)[1]
    assert "the reply held no Python" in prompts(world)[1]


async def test_a_reply_that_was_cut_off_is_asked_once_to_be_shorter(world: World) -> None:
    for _ in range(2):
        await world.receive(completion_response("```python\ndef run(input):\n    return", (100, 400), "length"))
    await world.reconcile()
    assert world.reason == "ReplyCutOff"
    assert "keep it short" in prompts(world)[1]
    assert len(world.wire.requests) == 2


async def test_a_person_retries_once(world: World) -> None:
    for number in range(3):
        await refused(world, f"return {number}", message="xyz"[number])
    await world.reconcile()
    world.annotate(naming.RETRY_ANNOTATION, "1")
    world.now += timedelta(minutes=1)
    for number in range(3):
        await refused(world, f"return [{number}]", message="xyz"[number])
    await world.reconcile()
    assert world.reason == "AttemptsExhausted"
    assert len(world.wire.requests) == 6
    world.operators[0] = world.operator()
    world.now += timedelta(minutes=1)
    await world.reconcile(3)
    assert len(world.wire.requests) == 6, "the annotation was used"


async def test_retry_writes_accepted_code_anew(world: World) -> None:
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    world.annotate(naming.RETRY_ANNOTATION, "now")
    await world.reconcile()
    assert world.reason == "Throttled"
    world.now += timedelta(seconds=31)
    await writes(world, "return 2")
    assert world.check() == code("return 2")


async def test_a_spec_that_is_changed_back_finds_its_ledger_again(world: World) -> None:
    first = world.store.objects["Skill", NAMESPACE, NAME]["spec"]["description"]
    for number in range(3):
        await refused(world, f"return {number}", message="xyz"[number])
    world.now += timedelta(minutes=1)
    world.skill(description="Something else.")
    await writes(world, "return 7")
    world.verdict(passed=True)
    await world.reconcile()
    world.skill(description=first)
    await world.reconcile(2)
    assert world.reason == "AttemptsExhausted"
    world.skill(description="Something else.")
    await world.reconcile(2)
    assert world.builds() == {code("return 7")}
    assert len(world.wire.requests) == 4, "going to and fro buys nothing"


async def test_specs_that_change_all_the_time_are_asked_for_now_and_then(world: World) -> None:
    await writes(world, "return 0")
    for number in range(9):
        world.skill(description=f"Version {number}.")
        await world.reconcile(2)
        assert world.reason == "Throttled"
        world.now += timedelta(seconds=3)
    assert len(world.wire.requests) == 1
    world.now += timedelta(seconds=3)
    await writes(world, "return 1")
    assert "Version 8." in prompts(world)[-1]


@pytest.mark.parametrize("quota", [{"namespace": 9000}, {"operator": 9000}])
async def test_the_day_s_tokens_end_whatever_happens_to_skill_and_ledger(quota: dict[str, int]) -> None:
    world = World(settings(daily_tokens=DailyTokenSettings(**quota), floor_seconds=0))
    for number in range(12):
        world.skill(description=f"Version {number}.")
        await writes(world, f"return {number}", (900, 900))
        world.store.objects = {p: o for p, o in world.store.objects.items() if p[2] == naming.ACCOUNT}
    assert len(world.wire.requests) < 5
    world.skill()
    await world.reconcile()
    assert world.reason == "QuotaExhausted"
    message = world.condition("Ready")["message"]
    assert f"generation.dailyTokens.{next(iter(quota))}" in message
    assert world.condition("Stalled")["status"] == "True"
    world.now += timedelta(hours=12)
    await writes(world, "return 1")
    assert world.check() == code("return 1")


async def test_another_namespace_has_tokens_of_its_own() -> None:
    world = World(settings(daily_tokens=DailyTokenSettings(namespace=9000)))
    usage = {"day": "2030-01-01", "spent": {"other": 8999}}
    meta = {"name": naming.ACCOUNT, "namespace": "skill-operator"}
    world.store.put({"kind": "ConfigMap", "metadata": meta, "data": {"account.json": json.dumps(usage)}})
    world.skill()
    await writes(world, "return 1")
    stored = world.store.objects["ConfigMap", "skill-operator", naming.ACCOUNT]["data"]["account.json"]
    assert json.loads(stored)["spent"] == {"other": 8999, "team": 150}
    assert json.loads(stored)["out"] == {}


async def test_a_new_base_image_tries_the_accepted_code_first(world: World) -> None:
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    world.settings = world.settings.model_copy(
        update={"images": IMAGES.model_copy(update={"checker": f"c@sha256:{'3' * 64}"})}
    )
    world.manifest = {"python": "3.14.0"}
    world.operators[0] = world.operator()
    await world.reconcile(2)
    assert world.check() == code("return 1")
    world.verdict(passed=True)
    await world.reconcile()
    assert world.condition("Verified")["status"] == "True"
    assert len(world.wire.requests) == 1, "no model was called"
    world.manifest = {"python": "3.15.0"}
    world.now += timedelta(days=1)
    world.settings = world.settings.model_copy(
        update={"images": IMAGES.model_copy(update={"checker": f"c@sha256:{'4' * 64}"})}
    )
    world.operators[0] = world.operator()
    await world.reconcile(2)
    world.verdict(passed=False, gate="mypy", message="gone in 3.15", line=1)
    await world.reconcile()
    await writes(world, "return 2")
    assert world.check() == code("return 2")
    assert "gone in 3.15" in prompts(world)[-1]
    assert world.status["generation"]["attempts"] == 1


WROTE_ONE = {"attempts": 2, "tokens": 300, "model": "cheap-1"}
PROVENANCE = {
    "author": "model", "model": "cheap-1", "promptVersion": PROMPT_VERSION, "attempts": 2, "tokens": 300,
}  # fmt: skip


def with_settings(world: World, **values: Any) -> None:
    world.settings = world.settings.model_copy(update=values)


def lose_ledgers(world: World) -> None:
    for place in [p for p in world.store.objects if p[0] == "ConfigMap" and p[2].startswith("ledger-")]:
        del world.store.objects[place]


CHANGES: dict[str, Callable[[World], None]] = {
    "another default model": lambda world: with_settings(world, models=MODELS[::-1]),
    "a renamed model": lambda world: with_settings(
        world, models=[MODELS[0].model_copy(update={"name": "other", "model": "other-2"})]
    ),
    "another base image": lambda world: world.manifest.update(python="3.14.0"),
    "another checker": lambda world: with_settings(
        world, images=IMAGES.model_copy(update={"checker": f"c@sha256:{'3' * 64}"})
    ),
    "the ledger is lost": lose_ledgers,
}


@pytest.mark.parametrize("change", CHANGES)
async def test_who_wrote_the_code_at_what_price_is_known_after(world: World, change: str) -> None:
    await refused(world, "return 0")
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    assert world.status["generation"].items() >= WROTE_ONE.items()
    before = world.status["provenance"]
    assert before.items() >= PROVENANCE.items()
    for _ in range(2):  # the second time, what is known comes from what was known
        CHANGES[change](world)
        world.now += timedelta(days=1)
        world.operators[0] = world.operator()
        await world.reconcile(2)
        if world.check() is not None:
            world.verdict(passed=True)
            await world.reconcile(2)
        assert world.condition("Verified")["status"] == "True"
        assert len(world.wire.requests) == 2, "no model was called"
        assert world.status["generation"].items() >= WROTE_ONE.items()
        now = world.status["provenance"]
        assert {**now, "checker": ""} == {**before, "checker": ""}
        assert now["checker"] == world.settings.images.checker
        evidence = world.status["evidence"]
        assert (evidence["model"], evidence["author"]) == ("cheap-1", "model")


async def test_the_price_of_new_code_is_its_own(world: World) -> None:
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    with_settings(world, models=MODELS[::-1], images=IMAGES.model_copy(update={"checker": f"c@sha256:{'3' * 64}"}))
    world.now += timedelta(days=1)
    world.operators[0] = world.operator()
    await world.reconcile(2)
    world.verdict(passed=False, gate="examples", message="0/1 visible examples pass.")
    await world.reconcile()
    await writes(world, "return 2", (20, 10))
    world.verdict(passed=True)
    await world.reconcile()
    assert world.status["generation"].items() >= {"attempts": 1, "tokens": 30, "model": "strong-1"}.items()
    assert world.status["provenance"].items() >= {"attempts": 1, "tokens": 30, "model": "strong-1"}.items()


async def test_no_question_is_in_a_prompt(world: World) -> None:
    """What a check asks depends on examples that are held out."""
    questions = [{"kind": "mutant", "input": '{"n": 770077}', "answers": ["880088", "990099"]}]
    await writes(world, "return 1")
    world.verdict(passed=True, questions=questions)
    await world.reconcile()
    assert "770077" in world.condition("Verified")["message"]
    assert world.condition("Verified")["reason"] == "WeakExamples"
    with_settings(world, models=MODELS[::-1], images=IMAGES.model_copy(update={"checker": f"c@sha256:{'3' * 64}"}))
    world.now += timedelta(days=1)
    world.operators[0] = world.operator()
    await world.reconcile(2)
    for body in ("return 2", "return 3"):
        world.verdict(passed=False, gate="examples", message="0/1 visible examples pass.", questions=questions)
        await world.reconcile()
        await writes(world, body)
    assert len(prompts(world)) == 3
    for secret in ("770077", "880088", "990099"):
        assert not [text for text in prompts(world) if secret in text]
        stored = [o for o in world.store.objects.values() if o["metadata"]["name"].startswith("ledger-")]
        assert secret not in json.dumps(stored), "what prompts are made of"


async def test_code_that_was_accepted_and_is_refused_now_is_a_repeat_with_other_comments(world: World) -> None:
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    world.manifest = {"python": "3.14.0"}
    images = IMAGES.model_copy(update={"checker": f"c@sha256:{'3' * 64}"})
    world.settings = world.settings.model_copy(update={"images": images})
    world.operators[0] = world.operator()
    world.now += timedelta(days=1)
    await world.reconcile(2)
    world.verdict(passed=False, gate="mypy", message="gone in 3.14", line=1)
    await world.reconcile()
    await writes(world, "# as before\n    return 1")
    assert world.check() is None
    assert "CodeRepeated" in {reason for reason, _ in world.events.recorded}


@pytest.mark.parametrize("source", ["x" * (runtime_contract.MAX_SOURCE_BYTES + 1), "é" * 40_000])
async def test_planted_code_that_is_too_long_is_no_candidate(world: World, source: str) -> None:
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    world.store.objects["ConfigMap", NAMESPACE, f"{NAME}-source"]["data"]["skill.py"] = source
    uid = world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["uid"]
    del world.store.objects["ConfigMap", world.settings.namespace, naming.ledger(uid)]
    await world.reconcile(2)
    assert world.check() is None or source not in str(world.check())


async def accepted_and_lost(world: World, *, by_hand: str = "") -> None:
    """A model's code is accepted, its ledger lost, and what is by hand written over NAME-source."""
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    uid = world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["uid"]
    del world.store.objects["ConfigMap", world.settings.namespace, naming.ledger(uid)]
    if by_hand:
        world.store.objects["ConfigMap", NAMESPACE, f"{NAME}-source"]["data"]["skill.py"] = by_hand
    world.skill(callTimeoutSeconds=31)
    world.now += timedelta(days=1)


async def test_code_that_somebody_wrote_by_hand_is_no_model_s(world: World) -> None:
    await accepted_and_lost(world, by_hand=code("return 1  # by hand"))
    await writes(world, "return 2")
    assert world.check() == code("return 2"), "a model is asked"
    world.verdict(passed=True)
    await world.reconcile()
    assert world.status["provenance"]["sourceDigest"] == naming.source_digest(code("return 2"))


async def test_the_status_knows_accepted_code_where_the_ledger_is_lost(world: World) -> None:
    await accepted_and_lost(world)
    await world.reconcile(2)
    assert world.check() == code("return 1")
    assert len(world.wire.requests) == 1
    world.verdict(passed=True)
    await world.reconcile()
    made = world.status["provenance"]
    assert (made["author"], made["model"], made["attempts"]) == ("model", "cheap-1", 1)


async def test_the_ledger_knows_accepted_code_where_the_status_is_lost(world: World) -> None:
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    world.store.put(world.store.objects["Skill", NAMESPACE, NAME] | {"status": {}})
    world.skill(callTimeoutSeconds=31)
    world.now += timedelta(days=1)
    await world.reconcile(2)
    assert world.check() == code("return 1")
    assert len(world.wire.requests) == 1


async def test_where_status_and_ledger_are_lost_a_model_is_asked(world: World) -> None:
    await accepted_and_lost(world)
    world.store.put(world.store.objects["Skill", NAMESPACE, NAME] | {"status": {}})
    await writes(world, "return 2")
    assert world.check() == code("return 2")


async def test_code_that_was_pinned_is_no_model_s_either(world: World) -> None:
    """Its ConfigMap names no task. Whoever writes that there gains nothing: the status says that it was pinned."""
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    task = world.store.objects["ConfigMap", NAMESPACE, f"{NAME}-source"]["metadata"]["annotations"]
    world.skill(source={"inline": code("return 3")})
    await world.reconcile(2)
    world.verdict(passed=True)
    await world.reconcile()
    assert world.status["provenance"]["author"] == "pinned"
    stored = world.store.objects["ConfigMap", NAMESPACE, f"{NAME}-source"]
    world.store.put(stored | {"metadata": stored["metadata"] | {"annotations": task}})
    world.skill(source=None, callTimeoutSeconds=31)
    world.now += timedelta(days=1)
    await world.reconcile(2)
    assert world.check() is None
    await world.operators[0].die()


@pytest.mark.parametrize("lost", ["ledger", "candidates", "both"])
async def test_whoever_deletes_the_ledger_or_candidates_gains_nothing(world: World, lost: str) -> None:
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    uid = world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["uid"]
    for place in (("skill-operator", naming.ledger(uid)), (NAMESPACE, naming.candidates(NAME))):
        if lost == "both" or (lost == "ledger") == (place[0] == "skill-operator"):
            del world.store.objects["ConfigMap", *place]
    world.operators[0] = world.operator()
    await world.reconcile(2)
    assert world.condition("Generated")["status"] == "True"
    assert world.condition("Verified")["status"] == "True"
    assert len(world.wire.requests) == 1
    assert ("ConfigMap", NAMESPACE, naming.candidates(NAME)) in world.store.objects


async def test_candidates_that_somebody_edited_are_not_believed(world: World) -> None:
    for number in range(3):
        await refused(world, f"return {number}", message="xyz"[number])
    await world.reconcile()
    view = world.store.objects["ConfigMap", NAMESPACE, naming.candidates(NAME)]
    world.store.put(view | {"data": {"ledger.json": "{}", "attempt-1.py": "evil"}})
    await world.reconcile(2)
    assert world.reason == "AttemptsExhausted"
    assert world.store.objects["ConfigMap", NAMESPACE, naming.candidates(NAME)]["data"]["attempt-1.py"] == code(
        "return 0"
    )


async def test_every_candidate_is_kept_with_its_report_and_what_changed(world: World) -> None:
    await refused(world, "return 0", "examples", "1/2 visible examples pass.", 2)
    await refused(world, "return 1", "ruff", "E9 wrong")
    await writes(world, "return 2")
    data = world.store.objects["ConfigMap", NAMESPACE, naming.candidates(NAME)]["data"]
    assert sorted(data) == sorted(
        [
            "ledger.json",
            *(f"attempt-{n}.{end}" for n in (1, 2, 3) for end in ("py", "txt")),
            "attempt-2.diff",
            "attempt-3.diff",
        ]
    )
    assert "refused by examples, line 2:\n1/2 visible" in data["attempt-1.txt"]
    assert "-    return 0\n+    return 1" in data["attempt-2.diff"]
    assert [a["state"] for a in json.loads(data["ledger.json"])["attempts"]] == ["failed", "failed", "candidate"]
    owner = world.store.objects["ConfigMap", NAMESPACE, naming.candidates(NAME)]["metadata"]["ownerReferences"][0]
    assert owner["kind"] == "Skill"
    assert "Changes of it that came no further" in prompts(world)[-1]
    assert "return 0" in prompts(world)[-1]


async def test_later_attempts_go_to_the_stronger_model() -> None:
    world = World(settings(escalation=["cheap", "strong"]))
    world.skill()
    await world.receive(completion_response("Sorry.", (100, 5)))
    for number in range(3):
        await refused(world, f"return {number}", message="xyz"[number])
    assert [r["model"] for r in world.wire.requests] == ["cheap-1", "cheap-1", "strong-1", "strong-1"]
    assert world.status["generation"]["model"] == "strong-1"
    world.skill(generation={"model": "cheap"}, description="Named.")
    world.now += timedelta(minutes=1)
    await refused(world, "return 7")
    await writes(world, "return 8")
    assert [r["model"] for r in world.wire.requests[4:]] == ["cheap-1", "cheap-1"]


FAULTS: dict[str, Any] = {
    "429": lambda _: httpx2.Response(429, json={"error": {"message": "slow down"}}),
    "429 with Retry-After": lambda _: httpx2.Response(429, headers={"Retry-After": "60"}),
    "503": lambda _: httpx2.Response(503),
    "html": lambda _: httpx2.Response(200, text="<html>", headers={"Content-Type": "text/html"}),
    "truncated": lambda _: httpx2.Response(200, text='{"choices": [{"mess'),
    "401": lambda _: httpx2.Response(401),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_faults_cost_no_attempt_pause_and_end_by_themselves(world: World, fault: str) -> None:
    await world.receive(FAULTS[fault])
    assert world.reason == ("ModelRefused" if fault == "401" else "ModelUnavailable")
    await world.reconcile(3)
    assert len(world.wire.requests) == 1
    assert world.status["generation"]["attempts"] == 0
    assert any("No attempt is spent" in message for _, message in world.events.recorded)
    world.now += timedelta(seconds=60 if "Retry" in fault else 1)
    await world.reconcile()
    assert len(world.wire.requests) == 1
    world.now += timedelta(hours=1)
    await writes(world, "return 1")
    assert world.check() == code("return 1")


async def test_an_endpoint_that_fails_for_all_is_left_alone_then_tried_by_one(world: World) -> None:
    for _ in range(5):
        await world.receive(FAULTS["503"])
        world.now += timedelta(hours=1)
    made = len(world.wire.requests)
    author = world.operators[0].author
    assert author._breakers["cheap"].state(world.now) == "half-open"
    author._breakers["cheap"].record_failure(world.now, "cheap failed (503).", None)
    await world.reconcile(3)
    assert len(world.wire.requests) == made
    condition = world.condition("Generated")
    assert condition["reason"] == "ModelUnavailable"
    assert "the circuit is open after 6 failures in a row" in condition["message"]
    world.now += timedelta(minutes=10)
    await writes(world, "return 1")
    assert author._breakers["cheap"].state(world.now) == "closed"


async def test_a_change_cancels_the_call_and_its_answer_is_dropped(world: World) -> None:
    await world.start_call()
    call = next(iter(world.operators[0].author._pool._calls.values())).task
    world.skill(description="Something else.")
    await world.reconcile()
    assert call is not None
    await asyncio.wait([call], timeout=5)
    assert call.cancelled()
    assert world.reason == "Throttled"
    world.now += timedelta(minutes=1)
    await writes(world, "return 2")
    assert "Something else." in prompts(world)[-1]
    assert world.status["generation"] == {"attempts": 1, "tokens": 150, "model": "cheap-1"}


async def test_deletion_cancels_the_call(world: World) -> None:
    await world.start_call()
    call = next(iter(world.operators[0].author._pool._calls.values())).task
    del world.store.objects["Skill", NAMESPACE, NAME]
    await world.reconcile()
    assert call is not None
    await asyncio.wait([call], timeout=5)
    assert call.cancelled()


async def test_deletion_ends_the_build_and_no_other(world: World) -> None:
    await writes(world, "return 1")
    world.verdict(passed=True)
    await world.reconcile()
    (mine,) = (place for place, obj in world.store.objects.items() if place[:2] == ("Job", IN_BUILDS) and obj)
    other = copy.deepcopy(world.store.objects[mine])
    other["metadata"] |= {"name": "other"}
    other["metadata"]["labels"] |= {naming.NAMESPACE_LABEL: "elsewhere"}
    world.store.put(other)
    del world.store.objects["Skill", NAMESPACE, NAME]
    await world.reconcile()
    assert [name for kind, namespace, name in world.store.objects if (kind, namespace) == ("Job", IN_BUILDS)] == [
        "other"
    ]


async def test_a_spec_that_became_bad_cancels_the_call(world: World) -> None:
    await world.start_call()
    call = next(iter(world.operators[0].author._pool._calls.values())).task
    world.skill(description="  ")
    await world.reconcile()
    assert world.reason == "SpecInvalid"
    assert call is not None
    await asyncio.wait([call], timeout=5)
    assert call.cancelled()


async def test_hosts_without_a_proxy_cost_nothing() -> None:
    """What the installation cannot do is shown before a model is called."""
    world = World(settings().model_copy(update={"egress_proxy": EgressProxySettings(address="")}))
    world.skill(egress=[{"cidr": "203.0.113.0/24", "ports": [443]}, {"host": "api.example.com", "ports": [443]}])
    await world.reconcile(2)
    assert (world.reason, world.condition("Stalled").get("status")) == ("SpecInvalid", "True")
    assert "spec.egress[1].host: api.example.com is called" in world.condition("Ready")["message"]
    assert "egressProxy.enabled: true" in world.condition("Ready")["message"]
    assert not world.wire.requests


async def test_a_reply_that_could_not_be_stored_is_not_lost(world: World) -> None:
    world.wire.respond(completion_response(fenced("return 1"), (100, 50)))
    await world.reconcile()
    await world.finish_calls()

    async def down() -> None:
        raise ConnectionError

    for _ in range(3):
        world.store.before_write = down
        with pytest.raises(ConnectionError):
            await world.reconcile()
    world.store.before_write = None
    await world.reconcile()
    assert world.check() == code("return 1")
    assert len(world.wire.requests) == 1


async def test_a_reservation_whose_answer_was_lost_on_the_way_is_used(world: World) -> None:
    """The API server stored the ledger, and the operator did not learn it."""

    async def unheard() -> None:
        if any(name == naming.ledger("u-0") for _, _, name in world.store.objects):
            world.store.after_write = None
            raise ConnectionError

    world.store.after_write = unheard
    with pytest.raises(ConnectionError):
        await world.reconcile()
    assert world.wire.requests == []
    await writes(world, "return 1")
    assert world.check() == code("return 1")
    assert world.status["generation"]["tokens"] == 150


async def test_tokens_are_shown_when_they_are_spent(world: World) -> None:
    """A number that falls again, once a reply came to less than was reserved for it, would puzzle people."""
    await world.start_call()
    await world.reconcile()
    assert world.status["generation"]["tokens"] == 0
    await writes(world, "return 1")
    assert world.status["generation"]["tokens"] == 150


async def test_a_restart_loses_the_reply_and_counts_it_whole(world: World) -> None:
    await world.start_call()
    await world.operators[0].die()
    world.operators[0] = world.operator()
    await world.reconcile()
    assert any("restarted" in message for _, message in world.events.recorded)
    spent = world.status["generation"]["tokens"]
    assert spent > 4096
    await writes(world, "return 1")
    assert world.status["generation"] == {"attempts": 1, "tokens": spent + 150, "model": "cheap-1"}
