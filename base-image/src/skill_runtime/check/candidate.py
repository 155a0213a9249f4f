"""The candidate at work: caged as in production, asked one thing after another, within one deadline."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from skill_runtime import replies, resource_limits, spawn, worker_pool
from skill_runtime.check.request import CheckRequest
from skill_runtime.output import Drain
from skill_runtime.strict_json import DocumentError, canonical
from skill_runtime.worker_client import WorkerError, Zygote

LOAD_SECONDS = 20.0
MAX_REPLY = 1 << 20
LIMITS = {"CORE": 0, "CPU": 120, "DATA": 1 << 29, "FSIZE": 1 << 26, "NOFILE": 256}


class Candidate:
    """One process of the candidate; a call that ends it gets the next one a new one."""

    def __init__(self, workers: worker_pool.WorkerPool, end: float) -> None:
        self._workers, self._end = workers, end

    @property
    def left(self) -> float:
        """Seconds until the deadline of the check."""
        return self._end - time.monotonic()

    async def ask(self, value: Any, most: float = math.inf) -> replies.Reply:
        """What `run` makes of it, within the call's timeout, the deadline and `most` seconds."""
        try:
            async with asyncio.timeout(max(0.0, min(self.left, most))):
                return await self._workers.call(canonical(json.dumps(value).encode())[1])
        except TimeoutError:
            return replies.WorkerFailure("timeout", message="no answer within the time that is left for this check")
        except DocumentError as error:
            return replies.WorkerFailure("malformed", message=f"the input is no JSON: {error}")
        except (WorkerError, worker_pool.OverloadedError):
            return replies.WorkerFailure("died", message="the process ended")


@asynccontextmanager
async def opened(bundle: CheckRequest, skill: Path, end: float) -> AsyncIterator[Candidate]:
    """A session with a process that has loaded the candidate. Raises OffspringError if it cannot be loaded."""
    loop = asyncio.get_running_loop()
    load = max(0.1, min(LOAD_SECONDS, end - time.monotonic()))
    limits = LIMITS | resource_limits.processes()
    plan = worker_pool.Plan(skill, 1, 0, bundle.contract.call_timeout, MAX_REPLY, limits, load_seconds=load)
    workers = worker_pool.WorkerPool(plan, Zygote(spawn.start()), Drain(lambda _line, _request_id: None))
    loop.add_signal_handler(worker_pool.CHILD_ENDED, worker_pool.reap, workers)
    keeper = asyncio.create_task(workers.live())
    loaded = asyncio.create_task(workers.loaded.wait())
    try:
        await asyncio.wait((keeper, loaded), return_when=asyncio.FIRST_COMPLETED)
        if keeper.done():
            keeper.result()  # raises
        yield Candidate(workers, end)
    finally:
        loaded.cancel()
        keeper.cancel()
        loop.remove_signal_handler(worker_pool.CHILD_ENDED)
        workers.end()
