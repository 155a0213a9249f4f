"""Variants of a candidate: programs that are called in its place, one after the other, isolated as it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from skill_runtime import operator_contract as oc
from skill_runtime import resource_limits, spawn, worker_pool
from skill_runtime.check.candidate import CandidateProcess, WritablePaths
from skill_runtime.check.request import CheckRequest
from skill_runtime.output import OutputCollector
from skill_runtime.worker_client import WorkerError, ZygoteClient


class VariantPool(worker_pool.WorkerPool):
    """VariantPool loads programs into one zygote, so that what they import is imported once.

    Calls run in processes that are forked for one variant, so that a variant finds nothing of what another's calls did.
    """

    def __init__(self, request: CheckRequest, skill: Path, writable: WritablePaths, limits: Mapping[str, int]) -> None:
        config = worker_pool.PoolConfig(
            skill,
            1,
            0,
            request.contract.call_timeout_seconds,
            oc.MAX_BODY_BYTES,
            {**limits} | resource_limits.process_limit(),
        )
        super().__init__(config, ZygoteClient(spawn.start_zygote()), OutputCollector(lambda _line, _request_id: None))
        self._collector.attach(self._zygote.output)
        self._schema, self._writable = request.contract.input, writable

    async def load_variant(self, source: str, deadline: float, *, fresh: bool = False) -> CandidateProcess:
        """Load a program and return what calls it, until `deadline` by the monotonic clock.

        `fresh`: into a new zygote, in which nothing was loaded before. Raises LoadError or WorkerError.
        """
        for worker in self._idle:
            worker.kill(self._kill_orphans)
        self._idle.clear()
        if fresh or self._zygote.exited.is_set():
            self._zygote.kill()
            self._zygote = ZygoteClient(spawn.start_zygote())
            self._collector.attach(self._zygote.output)
        self._kill_orphans()
        self._writable.clear()
        self.loaded.clear()
        variant = source.encode("utf-8", "surrogatepass")
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._zygote.load(self._config.skill, self._config.limits, variant)
        except TimeoutError:
            self._zygote.kill()
            raise WorkerError("the variant did not finish loading in time") from None
        except WorkerError:
            self._zygote.kill()  # what it had done until then stays in the process
            raise
        self.loaded.set()
        return CandidateProcess(self, self._schema, deadline)


@asynccontextmanager
async def start_variants(
    request: CheckRequest, skill: Path, writable: WritablePaths, limits: Mapping[str, int]
) -> AsyncIterator[VariantPool]:
    """Start a pool of variants, and kill all its processes afterwards."""
    pool = VariantPool(request, skill, writable, limits)
    try:
        yield pool
    finally:
        pool.close()
