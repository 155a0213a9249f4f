from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

import pytest

from skill_operator import naming
from skill_operator.k8s.interface import Cluster
from skill_operator.naming import SkillKey
from skill_operator.reconcile.job_queue import make_build_queue, make_job_queues
from skill_operator.settings import Settings
from tests.unit.reconcile.samples import SETTINGS

ONE = SETTINGS.model_copy(update={"build": SETTINGS.build.model_copy(update={"concurrency": 1})})
FIRST, SECOND = SkillKey("team", "first"), SkillKey("team", "second")


class Slow:
    """An API server whose list is as old as the question, and comes when it is let go."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.request_event = asyncio.Event()
        self.response = asyncio.Event()
        self.response.set()

    async def list(self, *_: Any) -> list[dict[str, Any]]:
        found = [*self.jobs]
        self.request_event.set()
        await self.response.wait()
        return found


async def test_a_job_that_is_made_while_the_list_is_on_its_way_counts() -> None:
    server, woken = Slow(), list[SkillKey]()
    queue = make_build_queue(cast("Cluster", server), ONE, woken.append)
    assert await queue.request(FIRST) == 0
    server.response.clear()
    server.request_event.clear()
    second = asyncio.create_task(queue.request(SECOND))
    await server.request_event.wait()
    server.jobs.append({"metadata": {"labels": {naming.NAMESPACE_LABEL: "team"}}})
    ended = asyncio.create_task(queue.reconcile_ended(FIRST))
    await asyncio.sleep(0)
    server.response.set()
    assert await second == 1, "two builds at once"
    await ended
    assert woken == []
    server.jobs.clear()
    await queue.reconcile_ended(SECOND)
    await queue.reconcile_ended(FIRST)
    assert await queue.request(SECOND) == 0


async def test_what_somebody_waits_for_is_built_first() -> None:
    """Of one namespace or of several: a registry that lost everything makes many wait whom nobody calls."""
    server, woken = Slow(), list[SkillKey]()
    queue = make_build_queue(cast("Cluster", server), ONE, woken.append)
    assert await queue.request(FIRST) == 0
    renewed = [SkillKey(namespace, f"renewed-{n}") for namespace in ("team", "other") for n in range(3)]
    for key in renewed:
        assert await queue.request(key, urgent=False) > 0
    called = renewed[2]
    assert await queue.request(SECOND, urgent=True) == 1
    assert await queue.request(called, urgent=True) == 1, "it waited already, and is called now"
    for key in (*renewed, SECOND):
        await queue.reconcile_ended(key)
    turns = []
    done = FIRST
    for _ in range(7):
        await queue.reconcile_ended(done)
        done = woken[-1]
        turns.append(done)
        assert await queue.request(done) == 0
    assert turns[:2] == [called, SECOND]
    assert set(turns[2:]) == set(renewed) - {called}


class Checks:
    """An API server that holds check Jobs."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()

    async def list(self, kind: str, namespace: str | None, labels: dict[str, str]) -> list[dict[str, Any]]:
        assert (kind, namespace, labels["app.kubernetes.io/component"]) == ("Job", None, "check")
        return [{"metadata": {"namespace": each, "labels": labels}} for each in self.running.elements()]


def checks(concurrency: int, namespace_concurrency: int) -> Settings:
    bounds = {"concurrency": concurrency, "namespace_concurrency": namespace_concurrency}
    return SETTINGS.model_copy(update={"check": SETTINGS.check.model_copy(update=bounds)})


@pytest.mark.parametrize("crowd", [1, 3, 40])
@pytest.mark.parametrize("forged", [0, 30])
async def test_one_namespace_never_takes_all_places_of_checks(crowd: int, forged: int) -> None:
    """Not with more Skills than there are places, nor with Jobs that only look like checks."""
    server, woken = Checks(), list[SkillKey]()
    queue = make_job_queues(cast("Cluster", server), checks(4, 3), woken.append).checks
    server.running["crowd"] = forged
    admitted = 0
    for key in (SkillKey("crowd", f"s{n}") for n in range(crowd)):
        if await queue.request(key) == 0:
            admitted += 1
            server.running["crowd"] += 1
        await queue.reconcile_ended(key)
    assert admitted == (0 if forged else min(crowd, 3))
    assert await queue.request(SkillKey("lone", "one")) == 0, "its place was free all the time"


async def test_who_waited_for_a_check_is_woken_when_one_of_its_namespace_ends() -> None:
    server, woken = Checks(), list[SkillKey]()
    queue = make_job_queues(cast("Cluster", server), checks(4, 1), woken.append).checks
    assert await queue.request(FIRST) == 0
    server.running["team"] += 1
    await queue.reconcile_ended(FIRST)
    assert await queue.request(SECOND) == 1
    await queue.reconcile_ended(SECOND)
    assert woken == []
    server.running["team"] -= 1
    await queue.reconcile_ended(FIRST)
    assert woken == [SECOND]
    assert await queue.request(SECOND) == 0
