"""What the workers do with the keys of the queue."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from skill_operator.controller import Controller, Resync
from skill_operator.k8s.errors import Unavailable
from skill_operator.naming import SkillKey
from skill_operator.reconcile.reconciler import Reconciler
from skill_operator.sweeper import Sweeper
from skill_operator.work_queue import WorkQueue
from tests.unit.reconcile.samples import SETTINGS

HOSTILE, HONEST = "hostile", SkillKey("honest", "echo")


class Passes:
    """Passes is a reconciler whose reconciles of one namespace never end."""

    def __init__(self) -> None:
        self.held = 0
        self.ended: list[SkillKey] = []
        self.honest = asyncio.Event()

    async def reconcile(self, key: SkillKey) -> float | None:
        if key.namespace == HOSTILE:
            self.held += 1
            await asyncio.Event().wait()
        self.ended.append(key)
        self.honest.set()
        return None


class Nothing:
    """Nothing is a resync and a sweep that find nothing."""

    async def queue_all(self) -> None:
        return

    async def sweep(self) -> None:
        raise Unavailable("not now")


@pytest.mark.parametrize("number", [1, 4, 500])
async def test_reconciles_that_never_end_hold_up_no_other_namespace(number: int) -> None:
    passes, queue, nothing = Passes(), WorkQueue(SETTINGS.workers), Nothing()
    controller = Controller(
        SETTINGS, cast("Reconciler", passes), queue, cast("Resync", nothing), cast("Sweeper", nothing)
    )
    for n in range(number):
        queue.add(SkillKey(HOSTILE, f"s{n}"))
    running = asyncio.create_task(controller.run())
    try:
        for _ in range(3):
            passes.honest.clear()
            queue.add(HONEST)
            async with asyncio.timeout(5):
                await passes.honest.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert passes.ended == [HONEST] * 3
    assert passes.held == min(number, SETTINGS.workers - 1)
