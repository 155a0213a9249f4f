"""The candidate's process: isolated as in production, called again and again, within one deadline."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skill_runtime import operator_contract as oc
from skill_runtime import process, replies, resource_limits, spawn, termination, worker_pool
from skill_runtime.check.request import CheckRequest
from skill_runtime.contract import Schema
from skill_runtime.output import OutputCollector
from skill_runtime.strict_json import StrictJsonError, canonicalize
from skill_runtime.worker_client import WorkerError, ZygoteClient

LOAD_TIMEOUT_SECONDS = 20.0
LIMITS = {"CORE": 0, "CPU": 120, "DATA": 1 << 29, "FSIZE": 1 << 26, "NOFILE": 256}


@dataclass(frozen=True)
class WritablePaths:
    """WritablePaths holds what a candidate can write, but for which two of its processes have nothing in common."""

    folders: tuple[Path, ...] = ()
    log: Path | None = None
    """The file of the termination message."""

    def clear(self) -> None:
        """Empty all of it. Raises WorkerError where something stays."""
        for folder in self.folders:
            resource_limits.empty_folder(folder)
            if any(folder.iterdir()):
                raise WorkerError("the code left files that cannot be removed")
        if self.log is not None:
            termination.write_message(self.log, "")


NOTHING_WRITABLE = WritablePaths()


class _CandidatePool(worker_pool.WorkerPool):
    """_CandidatePool loads the very bytes that are judged, into a process that no earlier one left anything for."""

    def __init__(
        self, config: worker_pool.PoolConfig, zygote: ZygoteClient, source: str, writable: WritablePaths
    ) -> None:
        super().__init__(config, zygote, OutputCollector(lambda _line, _request_id: None))
        self._source, self._writable = source.encode(), writable

    async def load(self) -> None:
        process.kill_orphans({self._zygote.pid})  # they could write on
        self._writable.clear()
        if not self._is_unchanged():
            raise WorkerError("the code changed its own file")
        await super().load()

    def _is_unchanged(self) -> bool:
        try:
            with self._config.skill.open("rb") as file:
                return file.read(len(self._source) + 1) == self._source
        except OSError:
            return False


class CandidateProcess:
    """CandidateProcess calls the candidate; after a call that ends its process the next one gets a new process."""

    def __init__(self, workers: worker_pool.WorkerPool, schema: Schema, deadline: float) -> None:
        self._workers, self._schema, self._deadline = workers, schema, deadline

    @property
    def remaining_seconds(self) -> float:
        """Time until the deadline of the check."""
        return self._deadline - time.monotonic()

    async def call(self, value: Any, max_seconds: float = math.inf) -> replies.WorkerReply:
        """Return the candidate's reply, within the call's timeout, the deadline and `max_seconds`.

        The candidate gets the value as in production: in its one spelling, with integers where the schema says so.
        """
        try:
            async with asyncio.timeout(max(0.0, min(self.remaining_seconds, max_seconds))):
                body = self._schema.encode(*canonicalize(json.dumps(value).encode()))
                return await self._workers.call(body)
        except TimeoutError:
            return replies.WorkerFailure("timeout", message="no answer within the time that is left for this check")
        except StrictJsonError as error:
            return replies.WorkerFailure("malformed", message=f"the input is not JSON: {error}")
        except (WorkerError, worker_pool.OverloadedError):
            return replies.WorkerFailure("died", message="the process ended")


@asynccontextmanager
async def start_candidate(
    request: CheckRequest, skill: Path, writable: WritablePaths, deadline: float
) -> AsyncIterator[CandidateProcess]:
    """Start a process that has loaded the candidate, and kill it afterwards.

    `deadline` is by the monotonic clock. Raises WorkerError where the candidate cannot be loaded.
    """
    load_seconds = max(0.1, min(LOAD_TIMEOUT_SECONDS, deadline - time.monotonic()))
    config = worker_pool.PoolConfig(
        skill,
        1,
        0,
        request.contract.call_timeout_seconds,
        oc.MAX_BODY_BYTES,
        LIMITS | resource_limits.process_limit(),
        load_timeout_seconds=load_seconds,
    )
    workers = _CandidatePool(config, ZygoteClient(spawn.start_zygote()), request.source, writable)
    supervisor = asyncio.create_task(workers.supervise())
    loaded = asyncio.create_task(workers.loaded.wait())
    try:
        await asyncio.wait((supervisor, loaded), return_when=asyncio.FIRST_COMPLETED)
        if supervisor.done():
            supervisor.result()  # raises
        yield CandidateProcess(workers, request.contract.input, deadline)
    finally:
        loaded.cancel()
        supervisor.cancel()
        workers.close()
