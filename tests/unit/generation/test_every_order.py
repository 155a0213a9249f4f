"""Every order in which things can happen to the loop: a model that answers anything or nothing, two operators that both
believe that they lead, power cuts between any two writes, people who edit, revert, delete and retry, days that pass.

    LOOP_RUNS=600 pytest tests/unit/generation/test_every_order.py    # a few minutes; `make bench-generation` does it
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skill_operator import naming
from skill_operator.generation.provider import BYTES_PER_TOKEN
from skill_operator.generation.request import FRESH_START_TEMPERATURE
from skill_operator.k8s.errors import ClusterError
from skill_operator.settings import DailyTokenSettings, GenerationSettings, ModelEndpoint, Settings
from tests.unit.generation.world import IMAGES, NAME, NAMESPACE, PowerCut, World

pytestmark = pytest.mark.timeout(900)  # a failure is made as short as five minutes allow before it is shown
Then = list[tuple[int, int | None, int | None]]
RUNS = int(os.environ.get("LOOP_RUNS", "20"))
BUDGET, ATTEMPTS, DAILY, REPLY = 20_000, 3, 60_000, 2048
MAX_ATTEMPTS = 5  # as many as a spec may allow
MODELS = [
    ModelEndpoint(name=name, base_url="http://model/v1", model=name, max_reply_tokens=REPLY)
    for name in ("cheap", "strong")
]
SETTINGS = Settings(
    images=IMAGES,
    models=MODELS,
    generation=GenerationSettings(
        escalation=["cheap", "strong"], daily_tokens=DailyTokenSettings(namespace=DAILY, operator=DAILY)
    ),
)
GOOD = "return 'good'"
ALSO_GOOD = "found = 'good'\n    return found"  # another program, which its check accepts
BODIES = [
    GOOD,
    ALSO_GOOD,
    "return 1",
    "return 2",
    "x = 1\n    return x",
    "y = 1  # again\n    return y",
    "return bad",
    "import os",
]
REPLIES = [f"```python\ndef run(input):\n    {body}\n```" for body in BODIES]
REPLIES += ["", "I cannot.", "```python\ndef other(): pass\n```", "```python\ndef run(input)", "x" * 9000]
TERMINAL = {
    "AttemptsExhausted", "BudgetExhausted", "LoopDetected", "NoProgress", "SuspectSpec", "PolicyRefused",
    "DeadlineExceeded", "NoCode", "ReplyCutOff", "TaskRefused",
}  # fmt: skip
PATIENT = {
    "Generating", "Checking", "ModelUnavailable", "ModelRefused", "Throttled", "QuotaExhausted", "Building",
    "CheckRefused", "SpecInvalid", "Queued", "SecondOpinion",
}  # fmt: skip
GATES = ["policy", "ruff", "mypy", "examples", "hidden"]
CUT = st.sampled_from([*[None] * 8, *range(8)])
THEN = st.lists(st.tuples(st.sampled_from([0, 0, 0, 1]), CUT, CUT), max_size=3)


class EveryOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.epoch = 0  # retries and re-creations: a person retried
        self.billed: Counter[tuple[Any, ...]] = Counter()  # by input, as the model sees it
        self.days: Counter[Any] = Counter()
        self.checked: dict[tuple[Any, ...], set[str | None]] = {}
        self.passed: set[str] = set()
        self.ended: dict[tuple[Any, ...], str] = {}
        self.request_count = 0  # requests
        self.opinions: Counter[tuple[Any, ...]] = Counter()  # requests for a second opinion, by input
        self.world: World = self.runner.run(self._world())
        self.task = "A"
        self.limits = (BUDGET, ATTEMPTS)
        self.allowed = {self.input: self.limits}  # the most that was ever allowed

    async def _world(self) -> World:
        world = World(SETTINGS)
        world.operators.append(world.operator())
        world.skill(description="Task A.")
        world.stamp = lambda: {"of": self.input, "day": world.now.date().isoformat()}
        return world

    @property
    def input(self) -> tuple[Any, ...]:
        return (self.task, self.epoch)

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def reconcile_all(self, then: Then) -> None:
        """Reconcile as listed: by which operator, before which write its power fails, and before which write the other
        operator makes a whole reconcile of its own."""
        for who, cut, other in then:
            self.run(self._reconcile(who, cut, other))

    async def _reconcile(self, who: int, cut: int | None, other: int | None) -> None:
        writes = -1

        async def before() -> None:
            nonlocal writes
            writes += 1
            if writes == other:
                hook, self.world.store.before_write = self.world.store.before_write, None
                await self._reconcile_once(1 - who)
                self.world.store.before_write = hook
            if writes == cut:
                raise PowerCut

        created_before = len(self.world.store.created)
        self.world.store.before_write = before
        try:
            await self._reconcile_once(who)
        except PowerCut:
            self.world.store.before_write = None
            await self.world.wait_for_requests()
            await self._power_cut(who)
        self.world.store.before_write = None
        await self.world.wait_for_requests()
        # A check of an earlier input may still run: only one that was started now counts for this input.
        started = {self.world.checked_code(job) for job in self.world.store.created[created_before:]} - {None}
        self.checked.setdefault(self.input, set()).update(started - self.passed)  # else it is code accepted before

    async def _reconcile_once(self, who: int) -> None:
        with contextlib.suppress(ClusterError):  # of two that write, one has to come again
            await self.world.reconcile(operator=who)

    def allow(self) -> None:
        """What the spec says now holds for the input as it is now."""
        most = self.allowed.get(self.input, (0, 0))
        self.allowed[self.input] = (max(most[0], self.limits[0]), max(most[1], self.limits[1]))

    # What happens.

    @initialize(attempts=st.integers(1, ATTEMPTS))
    def begin(self, attempts: int) -> None:
        """Fewer attempts are used up sooner, so that more runs come to their end."""
        self.limits = (BUDGET, attempts)
        self.allowed = {self.input: self.limits}
        self.world.skill(description="Task A.", generation={"tokenBudget": BUDGET, "maxAttempts": attempts})

    @rule(
        text=st.sampled_from(REPLIES),
        price=st.sampled_from(["true", "most", "hidden", "reasoning"]),
        finish=st.sampled_from(["stop", "stop", "length"]),
        then=THEN,
    )
    def any_reply(self, text: str, price: str, finish: str, then: Then) -> None:
        self.reply(text, price, finish, then)

    def reply(self, text: str, price: str, finish: str, then: Then) -> None:
        def answer(request: Any) -> httpx2.Response:
            cost = self._cost(request, text if price not in {"most", "reasoning"} else None)
            usage = {"usage": {"prompt_tokens": cost[0], "completion_tokens": cost[1]}} if price != "hidden" else {}
            choice = {"message": {"content": text}, "finish_reason": finish}
            if price == "reasoning":  # it took up the whole reply
                choice = {"message": {"content": None}, "finish_reason": "length"}
            self._bill(request, sum(cost))
            return httpx2.Response(200, json={"choices": [choice], **usage})

        self.run(self._answer(answer))
        self.reconcile_all(then)

    @rule(
        body=st.sampled_from(BODIES),
        gate=st.sampled_from(GATES),
        count=st.integers(0, 3),
        then=st.tuples(THEN, THEN, THEN),
    )
    def attempt(self, body: str, gate: str, count: int, then: tuple[Then, Then, Then]) -> None:
        """Make a whole attempt, with whatever happens in between."""
        self.world.now += timedelta(seconds=31)
        self.reconcile_all([(0, None, None), *then[0]])
        self.reply(f"```python\ndef run(input):\n    {body}\n```", "true", "stop", [(0, None, None), *then[1]])
        if self.world.check() is not None:
            self.end_check(gate, count, [(0, None, None), *then[2]])

    @rule(
        fault=st.sampled_from(["429", "503", "504", "401", "html", "truncated", "timeout", "reset", "huge"]),
        wait=st.sampled_from([None, "1", "600"]),
        then=THEN,
    )
    def fault(self, fault: str, wait: str | None, then: Then) -> None:
        def answer(request: Any) -> httpx2.Response:
            if fault.isdecimal():
                if fault == "504":
                    self._bill(request, sum(self._cost(request, None)))
                return httpx2.Response(int(fault), headers={"Retry-After": wait} if wait else {})
            if fault == "html":
                return httpx2.Response(200, text="<html>")
            self._bill(request, sum(self._cost(request, None)))
            if fault == "timeout":
                raise httpx2.ReadTimeout("late")
            if fault == "reset":
                raise httpx2.ReadError("reset")
            return httpx2.Response(200, content=b"{" if fault == "truncated" else b"x" * (3 << 20))

        self.run(self._answer(answer))
        self.reconcile_all(then)

    async def _answer(self, answer: Any) -> None:
        self.world.wire.respond(answer)
        await self.world.finish_calls()
        self.world.wire.respond(None)

    @rule(who=st.integers(0, 1), then=THEN)
    def power_cut(self, who: int, then: Then) -> None:
        """Whatever the model was writing is billed, and its reply is lost."""
        self.run(self._power_cut(who))
        self.reconcile_all(then)

    async def _power_cut(self, who: int) -> None:
        def answer(request: Any) -> httpx2.Response:
            self._bill(request, sum(self._cost(request, None)))
            raise httpx2.ReadError("nobody listens")

        operator = self.world.operators[who]
        self.world.operators[who] = self.world.operator()
        self.world.wire.respond(answer)
        tasks = [c.task for c in operator.author._pool._calls.values() if c.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=10)
        self.world.wire.respond(None)

    @precondition(lambda self: self.world.reason != "SecondOpinion")
    @rule(then=st.tuples(THEN, THEN, THEN))
    def accepted_attempt(self, then: tuple[Then, Then, Then]) -> None:
        """Make a whole attempt that passes, so that a second opinion is wanted."""
        self.attempt(GOOD, "examples", 0, then)

    @precondition(lambda self: self.world.reason == "SecondOpinion")
    @rule(body=st.sampled_from(BODIES), gate=st.sampled_from(GATES), then=st.tuples(THEN, THEN))
    def opinion(self, body: str, gate: str, then: tuple[Then, Then]) -> None:
        """Write the second program, and end its comparison."""
        self.reply(f"```python\ndef run(input):\n    {body}\n```", "true", "stop", [(0, None, None), *then[0]])
        if self.world.check() is not None:
            self.end_check(gate, 0, [(0, None, None), *then[1]])

    @precondition(lambda self: self.world.check() is not None)
    @rule(gate=st.sampled_from(GATES), count=st.integers(0, 3), then=THEN)
    def any_verdict(self, gate: str, count: int, then: Then) -> None:
        self.end_check(gate, count, then)

    def end_check(self, gate: str, count: int, then: Then) -> None:
        code = self.world.check()
        assert code is not None
        passed = "good" in code
        if passed:
            self.passed.add(code)
        self.world.verdict(passed=passed, gate="" if passed else gate, message=f"{count}/4 visible examples pass.")
        self.reconcile_all(then)

    @rule(seconds=st.sampled_from([1, 20, 120, 1900, 90_000]), then=THEN)
    def time_passes(self, seconds: int, then: Then) -> None:
        self.world.now += timedelta(seconds=seconds)
        self.reconcile_all(then)

    @rule(task=st.sampled_from("AB"), then=THEN)
    def edit(self, task: str, then: Then) -> None:
        self.task = task
        self.world.skill(description=f"Task {task}.")
        self.allow()
        self.reconcile_all(then)

    @rule(
        budget=st.sampled_from([BUDGET, BUDGET, BUDGET // 2]),
        attempts=st.sampled_from([1, ATTEMPTS, MAX_ATTEMPTS]),
        then=THEN,
    )
    def other_limits(self, budget: int, attempts: int, then: Then) -> None:
        self.world.skill(generation={"tokenBudget": budget, "maxAttempts": attempts})
        self.limits = (budget, attempts)
        self.allow()
        self.ended.clear()
        self.reconcile_all(then)

    @precondition(lambda self: self.epoch < 3)
    @rule(then=THEN)
    def retry(self, then: Then) -> None:
        """Both operators see it before anything else happens, so that each input of the machine is one ledger of the history."""
        uid = self.world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["uid"]
        if ("ConfigMap", SETTINGS.namespace, naming.ledger(uid)) in self.world.store.objects:
            self.epoch += 1
            self.allow()
            self.world.annotate(naming.RETRY_ANNOTATION, str(self.epoch))
            self.run(self._reconcile_once(0))
        self.reconcile_all(then)

    @rule(what=st.sampled_from(["candidates", "source", "status"]), then=THEN)
    def meddle(self, what: str, then: Then) -> None:
        """As whoever may write in the Skill's namespace."""
        if what == "status":
            skill = self.world.store.objects["Skill", NAMESPACE, NAME]
            self.world.store.put(skill | {"status": {"generation": {"attempts": 0, "tokens": 0}}})
        else:
            name = naming.candidates(NAME) if what == "candidates" else naming.source(NAME)
            self.world.store.objects.pop(("ConfigMap", NAMESPACE, name), None)
        self.reconcile_all(then)

    # What must hold.

    @invariant()
    def never_more_than_allowed(self) -> None:
        for spec, billed in self.billed.items():
            assert billed <= self.allowed[spec][0], (spec, billed)
        for spec, codes in self.checked.items():
            assert len(codes) <= self.allowed[spec][1], (spec, codes)
        for day, billed in self.days.items():
            assert billed <= DAILY, (day, billed)

    @invariant()
    def attempts_and_second_opinions_are_within_the_limit(self) -> None:
        if self.world.status.get("observedGeneration") == self._generation():
            assert self.world.status.get("generation", {}).get("attempts", 0) <= self.allowed[self.input][1]

    @invariant()
    def nothing_is_built_that_did_not_pass(self) -> None:
        assert self.world.builds() <= self.passed

    @invariant()
    def what_ended_calls_no_model(self) -> None:
        for request in self.world.wire.requests[self.request_count :]:
            of = request["of"]
            assert of not in self.ended, f"{of} ended with {self.ended[of]} and a model was called"
            is_fresh_start = "Start anew" in request["messages"][-1]["content"]
            self.opinions[of] += request["temperature"] == FRESH_START_TEMPERATURE and not is_fresh_start
            assert self.opinions[of] <= 1, f"{of} got two second opinions"
        self.request_count = len(self.world.wire.requests)

    @invariant()
    def the_daily_usage_misses_nothing(self) -> None:
        stored = self.world.store.objects.get(("ConfigMap", SETTINGS.namespace, naming.ACCOUNT))
        if stored is not None:
            usage = json.loads(stored["data"]["account.json"])
            known = sum(usage["spent"].values()) + sum(out["tokens"] for out in usage["out"].values())
            assert known >= self.days[usage["day"]]

    @invariant()
    def what_ended_says_why(self) -> None:
        reason = self.world.reason
        assert reason in TERMINAL | PATIENT | {""}, self.world.status
        if reason in TERMINAL and self.world.status["observedGeneration"] == self._generation():
            assert self.world.condition("Stalled")["status"] == "True"
            assert self.world.condition("Ready")["message"]
            self.ended[self.input] = reason

    def _generation(self) -> int:
        return int(self.world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["generation"])

    def _cost(self, request: Any, text: str | None) -> tuple[int, int]:
        """Of prompt and reply, as a tokenizer would count: never more than the estimate, nor than was allowed."""
        prompt = sum(len(m["content"]) for m in request["messages"]) // BYTES_PER_TOKEN
        return prompt, min(request["max_tokens"], request["max_tokens"] if text is None else len(text) // 3)

    def _bill(self, request: Any, tokens: int) -> None:
        of = request["of"]
        self.billed[of] += tokens
        self.days[request["day"]] += tokens

    def teardown(self) -> None:
        async def end() -> None:
            for operator in self.world.operators:
                await operator.die()

        self.runner.run(end())
        self.runner.close()


TestEveryOrder = EveryOrder.TestCase
TestEveryOrder.settings = settings(
    max_examples=RUNS, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
