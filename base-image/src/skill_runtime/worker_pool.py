"""Calls in, replies out: a bounded number of workers, a bounded queue, and a zygote that is replaced when it falls."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skill_runtime import log, process, replies, resource_limits, spawn
from skill_runtime.output import Drain
from skill_runtime.worker_client import LoadError, Worker, WorkerError, Zygote

CHILD_ENDED = signal.SIGCHLD
LOAD_SECONDS = 60.0
BACKOFFS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Pauses before each new zygote; one that falls after the last of them, in a row, is the last."""
IN_A_ROW = 60.0
"""Seconds after which the fall of a zygote is not the previous one's sequel."""


class OverloadedError(Exception):
    """Too many calls wait already."""


@dataclass(frozen=True)
class Plan:
    """How a pool works."""

    skill: Path
    workers: int
    queue: int
    call_timeout: float
    max_body: int
    limits: Mapping[str, int]
    load_seconds: float = LOAD_SECONDS
    scratch: Path | None = None
    """Emptied when it is full and no call is under way."""


class WorkerPool:
    """All processes of one skill."""

    def __init__(self, plan: Plan, zygote: Zygote, drain: Drain) -> None:
        self._plan, self._zygote, self._drain = plan, zygote, drain
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._slots = asyncio.Semaphore(plan.workers)
        self._waiting = 0
        self._falls: list[float] = []
        self._oom_kills = resource_limits.oom_kills()
        self._fallen = asyncio.Event()
        self.loaded = asyncio.Event()

    async def load(self) -> None:
        """Have the zygote load the skill. Raises LoadError, OffspringError."""
        self._drain.attach(self._zygote.output)
        try:
            async with asyncio.timeout(self._plan.load_seconds):
                await self._zygote.load(self._plan.skill, self._plan.limits)
        except TimeoutError:
            self._zygote.kill()
            raise WorkerError(f"skill.py did not finish loading in {self._plan.load_seconds:.0f} s") from None
        except WorkerError as error:
            if isinstance(error, LoadError):
                raise
            raise WorkerError("the process ended while skill.py was loading") from error
        self.loaded.set()

    async def call(self, body: bytes, request_id: str = "", ends: float = math.inf) -> replies.Reply:
        """Run one call, which is of no use to anybody after `ends`. Raises OverloadedError, OffspringError.

        Cancelling it ends the call's process.
        """
        if self._slots.locked() and self._waiting >= self._plan.queue:
            raise OverloadedError
        self._waiting += 1
        try:
            async with asyncio.timeout(self._left(ends)):
                await self._slots.acquire()
        except TimeoutError:
            raise OverloadedError from None
        finally:
            self._waiting -= 1
        try:
            return await self._run(body, request_id, ends)
        finally:
            self._slots.release()

    def _left(self, ends: float) -> float:
        """Seconds from now: what the skill may take, or less."""
        return min(self._plan.call_timeout, ends - asyncio.get_running_loop().time())

    async def _run(self, body: bytes, request_id: str, ends: float) -> replies.Reply:
        worker = self._take() or await self._fork(ends)
        reply: replies.Reply = replies.WorkerFailure("died")
        self._busy.add(worker)
        worker.output.begin(request_id)
        seconds = self._left(ends)
        try:
            async with asyncio.timeout(seconds):
                reply = await worker.call(body)
        except TimeoutError:
            reply = replies.WorkerFailure("timeout", message=f"no answer within {max(seconds, 0):.3g} s")
        finally:
            self._busy.discard(worker)
            if Worker.sane(reply):
                worker.output.end()
                self._idle.append(worker)
            else:
                worker.kill()
                reply = self._told(reply)
                # What it left behind goes with it. Workers whose zygote fell are our children, too, and stay.
                process.end_strangers({self._zygote.pid, *(kept.pid for kept in (*self._idle, *self._busy))})
            if isinstance(reply, replies.WorkerFailure) and self._scratch_was_full():
                log.write("warning", "/tmp was full and is emptied")
        return reply

    def _scratch_was_full(self) -> bool:
        scratch = self._plan.scratch
        return scratch is not None and not self._busy and resource_limits.tidy(scratch)

    def _told(self, reply: replies.Reply) -> replies.Reply:
        """A process that died may have been killed for want of memory: the kernel counts that."""
        known, self._oom_kills = self._oom_kills, resource_limits.oom_kills()
        if isinstance(reply, replies.WorkerFailure) and reply.kind == "died" and self._oom_kills > known:
            return replies.WorkerFailure("memory", message="killed: it used more memory than it may")
        return reply

    def _take(self) -> Worker | None:
        """A worker that waits for a call. One may have ended since its last, by its own hand or by a sibling's."""
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            worker.kill()
        return None

    async def _fork(self, ends: float) -> Worker:
        try:
            async with asyncio.timeout(self._left(ends)):
                await self.loaded.wait()
            forking = asyncio.create_task(self._zygote.fork(self._plan.skill, self._plan.max_body, self._drain))
            try:
                return await asyncio.shield(forking)
            except asyncio.CancelledError:  # what the zygote was asked must be heard, or the next hears it
                (await forking).kill()
                raise
        except WorkerError:
            self._zygote.kill()
            raise
        except TimeoutError:
            raise OverloadedError from None

    def reaped(self, pid: int) -> None:
        """A child was reaped; was it the zygote?"""
        if pid == self._zygote.pid:
            self._fallen.set()

    async def live(self) -> None:
        """Load the skill, and replace the zygote whenever it falls. Raises OffspringError once that is hopeless."""
        await self.load()
        while True:
            await self._fallen.wait()
            self._fallen.clear()
            self.loaded.clear()
            self._zygote.kill()
            now = time.monotonic()
            self._falls = [fall for fall in self._falls if now - fall < IN_A_ROW] + [now]
            if len(self._falls) > len(BACKOFFS):
                raise WorkerError(f"the skill's process ended {len(self._falls)} times within {IN_A_ROW:.0f} s")
            log.write("warning", "the skill's process ended and is started again", times=len(self._falls))
            await asyncio.sleep(BACKOFFS[len(self._falls) - 1])
            self._zygote = Zygote(spawn.start())
            await self.load()

    def end(self) -> None:
        """End all that was started here."""
        for worker in self._idle:
            worker.kill()
        self._idle.clear()
        self._zygote.kill()
        process.end_everything()


def reap(pool: WorkerPool) -> None:
    """Collect ended children; PID 1 inherits those of others, too."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        pool.reaped(pid)
