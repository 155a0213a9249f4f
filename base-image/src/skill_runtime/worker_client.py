"""PID 1's view of the zygote and of its workers: how they are started, asked, distrusted and ended."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skill_runtime import frames, problems, process, replies
from skill_runtime.output import Drain, Pipe
from skill_runtime.spawn import Started
from skill_runtime.zygote import MESSAGE

FORK_SECONDS = 5.0


class WorkerError(Exception):
    """The zygote cannot do what it is for; the message says why."""


class LoadError(WorkerError):
    """The skill cannot be loaded."""

    def __init__(self, failure: replies.WorkerFailure) -> None:
        where = f"skill.py line {failure.line}" if failure.line else "skill.py"
        super().__init__(f"{where}: {failure.exception}")
        self.failure = failure


class Zygote:
    """The zygote process, once there is a loop to talk to it."""

    def __init__(self, started: Started) -> None:
        self.pid, self.output = started.pid, started.output
        self._handle, self._control = started.handle, started.control
        self._asking = asyncio.Lock()

    async def load(self, skill: Path, limits: Mapping[str, int]) -> None:
        """Let it load the skill, for however long that takes. Raises LoadError."""
        said = await self._ask({"load": str(skill), "limits": dict(limits)})
        if said.get("loaded") is not True:
            failed = said.get("failed")
            raise LoadError(replies.failure(failed if isinstance(failed, dict) else {}))

    async def fork(self, skill: Path, most: int, drain: Drain) -> Worker:
        """A new worker. Raises OffspringError."""
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        worker: Worker | None = None
        try:
            async with asyncio.timeout(FORK_SECONDS):
                said = await self._ask({"path": str(skill), "most": most}, theirs.fileno(), writing)
            worker = Worker(*self._identify(said.get("pid")), ours, most)
        except TimeoutError:
            raise WorkerError("no worker could be forked in time") from None
        finally:
            theirs.close()
            os.close(writing)
            if worker is None:
                ours.close()
                os.close(reading)
        await worker.open(drain.attach(reading))
        return worker

    def kill(self) -> None:
        """End it; who reaps is PID 1's loop. Idempotent."""
        if self._handle >= 0:
            process.end(self._handle)
            os.close(self._handle)
            self._handle = -1
            self._control.close()

    def _identify(self, pid: Any) -> tuple[int, int]:
        """PID and handle of the worker: only a child of the zygote is believed to be one. Its handle outlives it."""
        if not isinstance(pid, int) or isinstance(pid, bool) or not 1 < pid < 1 << 22:
            raise WorkerError("the zygote did not name its worker")
        try:
            handle = os.pidfd_open(pid)
        except OSError as error:
            raise WorkerError(f"the worker was gone at once: {error.strerror}") from error
        if process.parent_of(pid) != self.pid:
            os.close(handle)
            raise WorkerError("the zygote named a process that is not its worker")
        return pid, handle

    async def _ask(self, command: dict[str, Any], *descriptors: int) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        async with self._asking:
            try:
                if descriptors:
                    socket.send_fds(self._control, [json.dumps(command).encode()], descriptors)
                else:
                    self._control.send(json.dumps(command).encode())
                message = await loop.sock_recv(self._control, MESSAGE)
                said = json.loads(message) if message else None
            except (OSError, ValueError, RecursionError) as error:
                raise WorkerError(f"the zygote cannot be asked: {type(error).__name__}") from error
        if not isinstance(said, dict):
            raise WorkerError("the zygote is gone")
        return said


class Worker:
    """One worker process, and the line to it."""

    def __init__(self, pid: int, handle: int, connection: socket.socket, most: int) -> None:
        self.pid, self._handle = pid, handle
        self._connection = connection
        self._most = most + 1
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self.output: Pipe

    async def open(self, output: Pipe) -> None:
        """Prepare the line."""
        self.output = output
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._connection, limit=1 << 16)

    async def call(self, body: bytes) -> replies.Reply:
        """One call, for however long it takes. After a reply that is not `sane` the worker must be killed."""
        try:
            self._writer.write(frames.pack(body))
            await self._writer.drain()
            size = frames.size(await self._reader.readexactly(frames.HEADER))
            if size > self._most + 4096:
                return replies.WorkerFailure("malformed", message=f"the worker announced a reply of {size} bytes")
            return replies.read(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            return replies.WorkerFailure("died", message="the process ended during the call")

    @property
    def alive(self) -> bool:
        """Whether it still holds its end of the line."""
        return not self._reader.at_eof()

    @staticmethod
    def sane(reply: replies.Reply) -> bool:
        """Whether the worker that gave this reply may be asked again. Where it ran out of something, what it started
        is likely to live on and hold that."""
        if isinstance(reply, replies.Output):
            return True
        return reply.kind in ("raised", "unserialisable", "oversized") and problems.exhausted(reply) is None

    def kill(self) -> None:
        """End it and close the line. Idempotent."""
        if self._handle < 0:
            return
        process.end(self._handle)
        os.close(self._handle)
        self._handle = -1
        self._writer.close()
        self.output.close()
