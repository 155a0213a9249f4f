"""The pool of workers: a bounded number of them, a bounded queue, and a zygote that is replaced when it crashes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skill_runtime import log, process, replies, resource_limits, spawn
from skill_runtime.output import OutputCollector
from skill_runtime.worker_client import LoadError, WorkerClient, WorkerError, ZygoteClient

LOAD_TIMEOUT_SECONDS = 60.0
BACKOFF_SECONDS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Pauses before each new zygote; one that crashes after the last of them, in a row, is the last."""
CRASH_WINDOW_SECONDS = 60.0
"""The time after which the crash of a zygote no longer counts with the previous one."""


class OverloadedError(Exception):
    """Too many calls are waiting already."""


@dataclass(frozen=True)
class PoolConfig:
    """PoolConfig says how a pool works."""

    skill: Path
    workers: int
    queue: int
    call_timeout_seconds: float
    max_body_bytes: int
    limits: Mapping[str, int]
    load_timeout_seconds: float = LOAD_TIMEOUT_SECONDS
    scratch: Path | None = None
    """A folder that is emptied when it is full and no call is in flight."""


class WorkerPool:
    """WorkerPool owns all processes of one skill."""

    def __init__(self, config: PoolConfig, zygote: ZygoteClient, collector: OutputCollector) -> None:
        self._config, self._zygote, self._collector = config, zygote, collector
        self._idle: list[WorkerClient] = []
        self._busy: set[WorkerClient] = set()
        self._slots = asyncio.Semaphore(config.workers)
        self._waiting = 0
        self._crashes: list[float] = []
        self._closed = False
        self._oom_kills = resource_limits.count_oom_kills()
        self.loaded = asyncio.Event()

    async def load(self) -> None:
        """Have the zygote load the skill. Raises LoadError or WorkerError."""
        self._collector.attach(self._zygote.output)
        try:
            async with asyncio.timeout(self._config.load_timeout_seconds):
                await self._zygote.load(self._config.skill, self._config.limits)
        except TimeoutError:
            self._zygote.kill()
            raise WorkerError(f"skill.py did not finish loading in {self._config.load_timeout_seconds:.0f} s") from None
        except WorkerError as error:
            if isinstance(error, LoadError):
                raise
            raise WorkerError("the process ended while skill.py was loading") from error
        self.loaded.set()

    async def call(self, body: bytes, request_id: str = "", deadline: float = math.inf) -> replies.WorkerReply:
        """Run one call, which is of no use to anybody after `deadline` (the event loop's clock).

        Raises OverloadedError or WorkerError. Cancelling it kills the call's process.
        """
        if self._slots.locked() and self._waiting >= self._config.queue:
            raise OverloadedError
        self._waiting += 1
        try:
            async with asyncio.timeout(self._remaining_seconds(deadline)):
                await self._slots.acquire()
        except TimeoutError:
            raise OverloadedError from None
        finally:
            self._waiting -= 1
        try:
            return await self._run(body, request_id, deadline)
        finally:
            self._slots.release()

    def _remaining_seconds(self, deadline: float) -> float:
        """Return the seconds from now that a call may take: the skill's timeout, or less."""
        return min(self._config.call_timeout_seconds, deadline - asyncio.get_running_loop().time())

    async def _run(self, body: bytes, request_id: str, deadline: float) -> replies.WorkerReply:
        worker = self._take_idle() or await self._fork(deadline)
        reply: replies.WorkerReply = replies.WorkerFailure("died")
        self._busy.add(worker)
        worker.output.start_call(request_id)
        seconds = self._remaining_seconds(deadline)
        try:
            async with asyncio.timeout(seconds):
                reply = await worker.call(body)
        except TimeoutError:
            reply = replies.WorkerFailure("timeout", message=f"no answer within {max(seconds, 0):.3g} s")
        finally:
            self._busy.discard(worker)
            if WorkerClient.reusable(reply):
                worker.output.finish_call()
                self._idle.append(worker)
            else:
                worker.kill(self._kill_orphans)
                reply = self._classify(reply)
            if isinstance(reply, replies.WorkerFailure) and self._empty_full_scratch():
                log.write("warning", "/tmp was full and is emptied")
        return reply

    def _empty_full_scratch(self) -> bool:
        scratch = self._config.scratch
        return scratch is not None and not self._busy and resource_limits.empty_scratch(scratch)

    def _classify(self, reply: replies.WorkerReply) -> replies.WorkerReply:
        """Return a failure of kind `memory` where the kernel killed the process for want of memory."""
        previous, self._oom_kills = self._oom_kills, resource_limits.count_oom_kills()
        if isinstance(reply, replies.WorkerFailure) and reply.kind == "died" and self._oom_kills > previous:
            return replies.WorkerFailure("memory", message="killed: it exceeded its memory limit")
        return reply

    def _take_idle(self) -> WorkerClient | None:
        """Return a worker that waits for a call.

        One may have ended since its last call, by its own hand or by a sibling's.
        """
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            worker.kill(self._kill_orphans)
        return None

    def _kill_orphans(self) -> None:
        """Kill what workers left behind. Workers whose zygote crashed are PID 1's children, too, and stay.

        So do those of the pool that comes after this one, when a worker of this one is late to be gone.
        """
        if self._closed:
            return
        process.kill_orphans({self._zygote.pid, *(worker.pid for worker in (*self._idle, *self._busy))})

    async def _fork(self, deadline: float) -> WorkerClient:
        try:
            async with asyncio.timeout(self._remaining_seconds(deadline)):
                await self.loaded.wait()
        except TimeoutError:
            raise OverloadedError from None
        config, zygote = self._config, self._zygote  # by the time that this one fails there may be another
        forking = asyncio.create_task(zygote.fork(config.skill, config.max_body_bytes, self._collector))
        try:
            try:
                return await asyncio.shield(forking)
            except asyncio.CancelledError:  # the zygote's response must be read, or the next command reads it
                (await forking).kill(self._kill_orphans)
                raise
        except WorkerError:
            zygote.kill()
            raise

    async def supervise(self) -> None:
        """Load the skill, and replace the zygote whenever it crashes. Raises WorkerError once that is hopeless."""
        await self.load()
        while True:
            await self._zygote.exited.wait()
            self.loaded.clear()
            self._zygote.kill()
            now = time.monotonic()
            self._crashes = [crash for crash in self._crashes if now - crash < CRASH_WINDOW_SECONDS] + [now]
            if len(self._crashes) > len(BACKOFF_SECONDS):
                raise WorkerError(
                    f"the skill's process ended {len(self._crashes)} times within {CRASH_WINDOW_SECONDS:.0f} s"
                )
            log.write("warning", "the skill's process ended and is started again", times=len(self._crashes))
            await asyncio.sleep(BACKOFF_SECONDS[len(self._crashes) - 1])
            self._zygote = ZygoteClient(spawn.start_zygote())
            await self.load()

    def close(self) -> None:
        """Kill all processes that were started here."""
        self._closed = True
        for worker in self._idle:
            worker.kill(self._kill_orphans)
        self._idle.clear()
        self._zygote.kill()
        process.kill_all()
