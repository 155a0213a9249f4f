"""One watch of the registry for all Skills, against a real registry API on loopback that goes and comes back."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from skill_operator.k8s.errors import Unavailable
from skill_operator.registry import monitor as module
from skill_operator.registry.monitor import RegistryMonitor
from tests.unit.registry.test_client import Answers, answers

__all__ = ["answers"]
NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Skills:
    """How often all Skills were queued; the API server fails as often as it is told to."""

    def __init__(self) -> None:
        self.queued = 0
        self.failures = 0
        self.event = asyncio.Event()

    async def queue_all(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("no answer", 503)
        self.queued += 1
        self.event.set()


@pytest.fixture
def skills() -> Skills:
    return Skills()


@pytest.fixture
async def monitor(answers: Answers, skills: Skills) -> RegistryMonitor:
    made = RegistryMonitor(answers.settings(), skills.queue_all, lambda: NOW)
    await made.update()
    return made


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough for an answer on a machine that does much else."""
    monkeypatch.setattr(module, "EMBEDDED_TIMEOUT_SECONDS", 60.0)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == module.__name__]


async def test_an_outage_is_one_line_of_the_log_and_so_is_its_end(
    answers: Answers, monitor: RegistryMonitor, skills: Skills, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    known = (await monitor.read()).base
    assert known is not None
    assert (skills.queued, lines(caplog)) == (0, [])
    answers.status = 502
    for _ in range(50):
        await monitor.update()
    away = await monitor.read()
    assert away.problem is not None
    assert "does not answer" in str(away.problem)
    assert away.base is known, "what was read of the base image still holds"
    assert skills.queued == 1
    answers.status = 200
    for _ in range(5):
        await monitor.update()
    back = await monitor.read()
    assert (back.problem, back.back_since, skills.queued) == (None, NOW, 2)
    assert [line.partition(":")[0] for line in lines(caplog)] == ["the registry is away", "the registry is back"]


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "BaseImageMissing"), (401, "RegistryAccessDenied"), (500, "RegistryUnavailable")]
)
async def test_what_is_wrong_with_a_registry_that_worked_is_told(
    answers: Answers, monitor: RegistryMonitor, skills: Skills, status: int, kind: str
) -> None:
    answers.status = status
    await monitor.update()
    assert type((await monitor.read()).problem).__name__ == kind
    assert skills.queued == 1
    answers.status = 502  # another kind is news
    await monitor.update()
    assert skills.queued == (1 if kind == "RegistryUnavailable" else 2)


async def test_a_registry_that_never_answered_is_told_too(answers: Answers, skills: Skills) -> None:
    answers.url = "http://127.0.0.1:1"
    made = RegistryMonitor(answers.settings(), skills.queue_all, lambda: NOW)
    reading = asyncio.create_task(made.read())
    await made.update()
    state = await reading
    assert state.base is None
    assert state.problem is not None
    assert skills.queued == 1


@pytest.mark.parametrize(("minutes", "kind"), [(0, "RegistryStarting"), (3, "RegistryUnavailable")])
async def test_a_registry_of_an_installation_that_only_started_is_no_fault_yet(
    answers: Answers, skills: Skills, minutes: int, kind: str
) -> None:
    """Nobody else's registry is: it was there before."""
    answers.url = "http://127.0.0.1:1"
    for namespace in ("skill-operator", ""):
        moments = itertools.chain([NOW], itertools.repeat(NOW + timedelta(minutes=minutes)))
        settings = answers.settings(mirror_namespace=namespace)
        made = RegistryMonitor(settings, skills.queue_all, functools.partial(next, moments))
        await made.update()
        problem = (await made.read()).problem
        assert problem is not None
        assert problem.reason == (kind if namespace else "RegistryUnavailable")


@pytest.mark.usefixtures("patience")
async def test_a_registry_that_answered_once_is_away_and_not_starting(answers: Answers, skills: Skills) -> None:
    made = RegistryMonitor(answers.settings(mirror_namespace="skill-operator"), skills.queue_all, lambda: NOW)
    await made.update()
    answers.status = 502
    await made.update()
    problem = (await made.read()).problem
    assert problem is not None
    assert problem.reason == "RegistryUnavailable"


async def test_while_it_works_nothing_is_read_of_it(answers: Answers, monitor: RegistryMonitor) -> None:
    answers.asked.clear()
    for _ in range(10):
        await monitor.update()
    assert Counter(answers.methods[-20:]) == {"HEAD": 20}, "two requests a round, and none for content"


async def test_skills_are_told_later_where_they_cannot_be_listed(
    answers: Answers, monitor: RegistryMonitor, skills: Skills
) -> None:
    answers.status = 502
    skills.failures = 2
    for _ in range(3):
        assert skills.queued == 0
        await monitor.update()
    assert skills.queued == 1
    await monitor.update()
    assert skills.queued == 1


async def test_an_image_is_asked_for_once_while_the_registry_stays(answers: Answers, monitor: RegistryMonitor) -> None:
    image = f"localhost:30500/{answers.image('runtime')}"

    async def requests(*, ask_again: bool = False) -> int:
        before = len(answers.methods)
        assert not await monitor.is_lost(image, ask_again=ask_again)
        return len(answers.methods) - before

    assert [await requests() for _ in range(3)] == [1, 0, 0]
    assert await requests(ask_again=True) == 1, "a node cannot pull it"
    answers.status = 502
    await monitor.update()
    assert await requests() == 0, "nobody can tell now"
    answers.status = 200
    await monitor.update()
    assert await requests() == 1, "it may have come back empty"
    answers.status = 503  # and before anybody noticed
    other = f"localhost:30500/{answers.image('checker')}"
    assert not await monitor.is_lost(other, ask_again=False)
    answers.status = 200
    before = len(answers.methods)
    assert not await monitor.is_lost(other, ask_again=False)
    assert len(answers.methods) == before + 1, "no answer is no proof that it is there"
    absent = f"localhost:30500/base/other@sha256:{'0' * 64}"
    assert await monitor.is_lost(absent, ask_again=False)
    assert await monitor.is_lost(absent, ask_again=False), "it is asked again"


@pytest.mark.parametrize("namespace", ["operators-nodes", ""], ids=["embedded", "elsewhere"])
@pytest.mark.parametrize("status", [502, 404, 401])
async def test_the_pauses_grow_and_nobody_waits_long_for_what_recovers_by_itself(
    answers: Answers, skills: Skills, status: int, namespace: str
) -> None:
    monitor = RegistryMonitor(answers.settings(mirror_namespace=namespace), skills.queue_all, lambda: NOW)
    await monitor.update()
    steady = module.EMBEDDED_PERIOD_SECONDS if namespace else module.PERIOD_SECONDS
    assert monitor._pause_seconds() == steady
    answers.status = status
    pauses = []
    for _ in range(30):
        await monitor.update()
        pauses.append(monitor._pause_seconds())
    assert pauses == sorted(pauses)
    assert pauses[0] < 1
    assert pauses[-1] == (60 if status == 401 and not namespace else 4), "failed logins may lock an account"
    assert module.EMBEDDED_TIMEOUT_SECONDS < 5
    answers.status = 200
    await monitor.update()
    assert monitor._pause_seconds() == steady


async def test_it_probes_by_itself_and_wakes_the_skills_within_five_seconds(answers: Answers, skills: Skills) -> None:
    monitor = RegistryMonitor(answers.settings(), skills.queue_all, lambda: NOW)
    answers.status = 502
    async with asyncio.timeout(20):
        running = asyncio.create_task(monitor.run())
        state = await monitor.read()
        assert state.problem is not None
        await skills.event.wait()
        skills.event.clear()
        answers.status = 200
        began = asyncio.get_running_loop().time()
        await skills.event.wait()
        assert asyncio.get_running_loop().time() - began < 5
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (await monitor.read()).problem is None
