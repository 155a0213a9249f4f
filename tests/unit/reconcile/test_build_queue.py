from __future__ import annotations

import asyncio
from typing import Any, cast

from skill_operator import naming
from skill_operator.k8s.interface import Cluster
from skill_operator.naming import SkillKey
from skill_operator.reconcile.build_queue import BuildQueue
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
    queue = BuildQueue(cast("Cluster", server), ONE, woken.append)
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
    queue = BuildQueue(cast("Cluster", server), ONE, woken.append)
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
