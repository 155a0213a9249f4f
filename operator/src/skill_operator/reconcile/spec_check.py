"""The mistakes of each spec, found once for each generation and never at the expense of other Skills."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from skill_operator.api.v1alpha1 import Skill
from skill_operator.api.validation import SpecProblem, problems_of, quick_problems
from skill_operator.untrusted.worker import Worker, WorkerFailed

log = logging.getLogger(__name__)
CPU_SECONDS: Final = 5
DEADLINE_SECONDS: Final = 15.0
MEMORY_BYTES: Final = 320 << 20
MAX_REMEMBERED: Final = 4096
TOO_EXPENSIVE: Final = SpecProblem(
    "spec",
    f"takes more than {CPU_SECONDS} s or {MEMORY_BYTES >> 20} MiB to check: use fewer or shorter examples, "
    "and maxLength instead of long repetitions in patterns",
)


class SpecCheck:
    """SpecCheck finds the problems of specs. What would hold the event loop is done in a worker process.

    At most one spec of a namespace is there or waits for it: no namespace can fill it.
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self._worker = worker or Worker(DEADLINE_SECONDS, CPU_SECONDS, MEMORY_BYTES)
        self._known: dict[str, tuple[int, list[SpecProblem] | None]] = {}  # by uid; None where a worker must find out
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by namespace

    def problems(self, skill: Skill, spec: dict[str, Any]) -> list[SpecProblem] | None:
        """Return the problems of a Skill's stored spec; None where they are not known yet, which takes seconds."""
        meta = skill.metadata
        generation, found = self._known.get(meta.uid, (None, None))
        if generation is None or generation != meta.generation:
            found = quick_problems(skill.spec)
            self._remember(meta.uid, meta.generation, found)
        if found is None and meta.namespace not in self._tasks:
            task = asyncio.create_task(self._find(meta.uid, meta.generation, spec))
            self._tasks[meta.namespace] = task
            task.add_done_callback(lambda _: self._tasks.pop(meta.namespace))
        return found

    async def _find(self, uid: str, generation: int, spec: dict[str, Any]) -> None:
        try:
            found = [SpecProblem(*problem) for problem in await self._worker.call(problems_of, spec)]
        except (WorkerFailed, RecursionError) as error:
            log.warning("a spec cannot be checked: %s", error, extra={"uid": uid})
            found = [TOO_EXPENSIVE]
        self._remember(uid, generation, found)

    def _remember(self, uid: str, generation: int, found: list[SpecProblem] | None) -> None:
        self._known.pop(uid, None)
        while len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[uid] = (generation, found)
