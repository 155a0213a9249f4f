"""The real loop without a cluster: Author, Provider and check processes are the operator's own; only the store is not.

A check runs as its Job would run it, as a process with the request in its environment. What stands for the API server
and for the beacon are ports of loopback where nothing listens, which is what blocked egress looks like.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2

from skill_operator import runtime_contract
from skill_operator.settings import GenerationSettings, IsolationSettings, ModelEndpoint, Settings
from tests.unit.generation.world import IMAGES, World, completion_response
from tests.unit.runtime.harness import (
    GOOD,
    HEAD,
    MANIFEST,
    NUMBER,
    check_environment,
    closed_port,
    command,
    environment,
    tools,
)

MAX_STEPS = 80
STEP = timedelta(seconds=60)
CHECK_TIMEOUT_SECONDS = 180.0
MAX_PAUSE_SECONDS = 30.0
"""The longest real pause after a fault of the endpoint; the loop's own clock runs ahead."""
WAITING_REASONS = frozenset({"", "Generating", "Checking", "CheckRefused", "Building", "Queued", "Throttled"})
PLAIN_MANIFEST = MANIFEST | {"modules": {}}
"""The standard library alone: what else an image has may not be installed here."""


class NoVerdictError(SystemExit):
    """The checks do not work on this machine, so that nothing that a benchmark says would be true."""


@dataclass
class LoopResult:
    """LoopResult is how the generation of one Skill ended. `source` is the accepted code, or empty."""

    reason: str
    source: str = ""
    attempts: int = 0
    tokens: int = 0
    checks: int = 0
    refusals: list[str] = field(default_factory=list)
    """The gates that refused candidates, in turn."""
    has_weak_examples: bool = False


def loop_settings(model: ModelEndpoint) -> Settings:
    """Return settings for one endpoint, under which only the endpoint's own limits stop a call."""
    beacon = IsolationSettings(beacon=f"127.0.0.1:{closed_port()}")
    generation = GenerationSettings(deadline_seconds=86_400, floor_seconds=0)
    return Settings(images=IMAGES, models=[model], generation=generation, isolation=beacon)


async def generate(world: World, max_steps: int = MAX_STEPS) -> LoopResult:
    """Have the Skill of this world written, until it stops or is built. Raises NoVerdictError."""
    result = LoopResult("Unfinished")
    world.manifest = PLAIN_MANIFEST
    for _ in range(max_steps):
        after = await world.reconcile()
        if world.builds() or world.condition("Stalled").get("status") == "True":
            break
        if (variables := world.check_environment()) is not None:
            code, last_word = await asyncio.to_thread(run_check, variables)
            if code == runtime_contract.EXIT_EGRESS_NOT_BLOCKED:
                raise NoVerdictError(f"no check can give a verdict here: {last_word}")
            result.checks += 1
            world.end_check(code, last_word)
            if gate := _gate(last_word):
                result.refusals.append(gate)
        elif world.network and world.reason not in WAITING_REASONS:
            await asyncio.sleep(min(after or 0.0, MAX_PAUSE_SECONDS))
        await world.finish_calls()
        world.now += STEP
    status = world.status.get("generation") or {}
    result.attempts, result.tokens = status.get("attempts", 0), status.get("tokens", 0)
    result.has_weak_examples = world.condition("Verified").get("reason") == "WeakExamples"
    if builds := world.builds():
        (result.source,) = builds
    result.reason = "Accepted" if builds else world.reason
    return result


def _gate(last_word: str) -> str:
    """Return the gate that a report names, or an empty string."""
    try:
        return str(json.loads(json.loads(last_word)["report"])["gate"] or "")
    except (ValueError, KeyError, TypeError):
        return ""


def run_check(variables: dict[str, str]) -> tuple[int, str]:
    """Run both containers of a check, or the one whole check of a request without a phase.

    Returns the exit code and the termination message of the last that ran.
    """
    is_in_phases = runtime_contract.ENV_CHECK_PHASE in variables
    phases = (runtime_contract.PHASE_READ, runtime_contract.PHASE_RUN) if is_in_phases else ("",)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        log = place / "termination-log"
        for phase in phases:
            log.unlink(missing_ok=True)
            env = environment(place, **variables | {runtime_contract.ENV_CHECK_PHASE: phase})
            (place / "manifest.json").write_text(json.dumps(PLAIN_MANIFEST))
            ended = subprocess.run(
                command("check"), env=env, cwd=place, capture_output=True, timeout=CHECK_TIMEOUT_SECONDS, check=False
            )
            if ended.returncode:
                break
        return ended.returncode, log.read_text() if log.exists() else ""


async def prove_checks() -> None:
    """Have a wrong program refused and a right one built, by the very checks of the benchmark.

    Raises NoVerdictError: a benchmark whose checks all break would report rubbish as the model's fault.
    """
    tools()
    replies = iter([f"{HEAD}    return {{'n': 0}}\n", GOOD])
    model = ModelEndpoint(name="scripted", base_url="http://model/v1", model="scripted")
    world = World(loop_settings(model))
    examples = [{"name": f"e{n}", "input": {"n": n}, "output": {"n": n + 1}} for n in range(1, 4)]
    world.skill(input=NUMBER, output=NUMBER, examples=examples, generation={"secondOpinion": "Never"})

    def answer(body: dict[str, Any]) -> httpx2.Response:
        return completion_response(f"```python\n{next(replies)}```", (100, 100))(body)

    world.wire.respond(answer)
    result = await generate(world)
    if result.reason != "Accepted" or result.refusals != ["examples"] or result.source != GOOD:
        raise NoVerdictError(f"the checks do not work here: {result}")


def check_program(document: dict[str, Any]) -> str:
    """Run the check of a program with a request that is no Skill's.

    Return the gate that refused the program, or an empty string. Raises NoVerdictError where the check breaks.
    """
    return str(check_program_report(document)["gate"] or "")


def check_program_report(document: dict[str, Any]) -> dict[str, Any]:
    """Run the check of a program with a request that is no Skill's, and return its report.

    Raises NoVerdictError where the check breaks.
    """
    code, last_word = run_check(check_environment(**document))
    if code not in {runtime_contract.EXIT_OK, runtime_contract.EXIT_REFUSED} or not last_word:
        raise NoVerdictError(f"a check ended with exit code {code}: {last_word}")
    report: dict[str, Any] = json.loads(json.loads(last_word)["report"])
    return report
