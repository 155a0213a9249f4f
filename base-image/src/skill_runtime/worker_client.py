"""PID 1's view of the zygote and of its workers: how they are commanded, distrusted and killed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from skill_runtime import frames, problems, process, replies
from skill_runtime.output import OutputCollector, OutputPipe
from skill_runtime.spawn import ZygoteProcess
from skill_runtime.zygote import MAX_MESSAGE_BYTES

FORK_TIMEOUT_SECONDS = 5.0


class WorkerError(Exception):
    """The zygote or a worker does not work; the message says why."""


class LoadError(WorkerError):
    """The skill cannot be loaded."""

    def __init__(self, failure: replies.WorkerFailure) -> None:
        location = f"skill.py line {failure.line}" if failure.line else "skill.py"
        super().__init__(f"{location}: {failure.exception}")
        self.failure = failure


class ZygoteClient:
    """ZygoteClient sends commands to the zygote process, once there is an event loop; `exited` tells of its end."""

    def __init__(self, zygote: ZygoteProcess) -> None:
        self.pid, self.output = zygote.pid, zygote.output
        self._pidfd, self._control = zygote.pidfd, zygote.control
        self._lock = asyncio.Lock()
        self.exited = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    async def load(self, skill: Path, limits: Mapping[str, int], variant: bytes | None = None) -> None:
        """Have the zygote load the skill, for however long that takes. Raises LoadError or WorkerError.

        `variant` is a program that is loaded in the skill's place, and looks to itself like the skill.
        """
        command = {"load": str(skill), "limits": dict(limits)}
        if variant is None:
            response = await self._request(command)
        else:
            descriptor = _memory_file(variant)
            try:
                response = await self._request(command, descriptor)
            finally:
                os.close(descriptor)
        if response.get("loaded") is not True:
            failure = response.get("failure")
            raise LoadError(replies.parse_failure(failure if isinstance(failure, dict) else {}))

    async def fork(self, skill: Path, max_reply_bytes: int, collector: OutputCollector) -> WorkerClient:
        """Fork a new worker. Raises WorkerError where that fails."""
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        worker: WorkerClient | None = None
        try:
            command = {"path": str(skill), "max_reply_bytes": max_reply_bytes}
            async with asyncio.timeout(FORK_TIMEOUT_SECONDS):
                response = await self._request(command, theirs.fileno(), writing)
            worker = WorkerClient(*self._identify(response.get("pid")), ours, max_reply_bytes)
        except TimeoutError:
            raise WorkerError("no worker could be forked in time") from None
        finally:
            theirs.close()
            os.close(writing)
            if worker is None:
                ours.close()
                os.close(reading)
        await worker.open(collector.attach(reading))
        return worker

    def kill(self) -> None:
        """Kill the zygote; PID 1 reaps it. Idempotent."""
        if self._pidfd >= 0:
            self._on_exit()
            process.kill(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
            if self._lock.locked():  # who waits for a response would not learn that the descriptor is closed
                self._control.shutdown(socket.SHUT_RDWR)
            else:
                self._control.close()

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self.exited.set()

    def _identify(self, pid: Any) -> tuple[int, int]:
        """Return PID and pidfd of the worker: only a child of the zygote is believed to be one.

        The pidfd names the process even after its end.
        """
        if not isinstance(pid, int) or isinstance(pid, bool) or not 1 < pid < 1 << 22:
            raise WorkerError("the zygote did not name its worker")
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            raise WorkerError(f"the worker was gone at once: {error.strerror}") from error
        if process.parent_pid(pid) != self.pid:
            os.close(pidfd)
            raise WorkerError("the zygote named a process that is not its worker")
        return pid, pidfd

    async def _request(self, command: dict[str, Any], *descriptors: int) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        async with self._lock:
            try:
                if descriptors:
                    socket.send_fds(self._control, [json.dumps(command).encode()], descriptors)
                else:
                    self._control.send(json.dumps(command).encode())
                message = await loop.sock_recv(self._control, MAX_MESSAGE_BYTES)
                response = json.loads(message) if message else None
            except (OSError, ValueError, RecursionError) as error:
                raise WorkerError(f"the zygote does not respond: {type(error).__name__}") from error
            finally:
                if self._pidfd < 0:  # killed meanwhile
                    self._control.close()
        if not isinstance(response, dict):
            raise WorkerError("the zygote is gone")
        return response


def _memory_file(data: bytes) -> int:
    """Return the descriptor of a file without a name, at its beginning."""
    descriptor = os.memfd_create("variant")
    os.write(descriptor, data)  # all of it: a file in memory takes no part
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class WorkerClient:
    """WorkerClient is PID 1's end of the connection to one worker process."""

    def __init__(self, pid: int, pidfd: int, connection: socket.socket, max_reply_bytes: int) -> None:
        self.pid, self._pidfd = pid, pidfd
        self._connection = connection
        self._max_frame_bytes = max_reply_bytes + 1 + 4096
        """A reply and its first byte, or the description of an error."""
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self.output: OutputPipe

    async def open(self, output: OutputPipe) -> None:
        """Open the streams of the connection."""
        self.output = output
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._connection, limit=1 << 16)

    async def call(self, body: bytes) -> replies.WorkerReply:
        """Run one call, for however long it takes.

        After a reply for which `reusable` is false the worker must be killed.
        """
        try:
            self._writer.write(frames.pack(body))
            await self._writer.drain()
            length = frames.payload_length(await self._reader.readexactly(frames.HEADER_BYTES))
            if length > self._max_frame_bytes:
                return replies.WorkerFailure("malformed", message=f"the worker announced a reply of {length} bytes")
            return replies.parse_reply(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return replies.WorkerFailure("died", message="the process ended during the call")

    @property
    def alive(self) -> bool:
        """True while the worker holds its end of the connection."""
        return not self._reader.at_eof()

    @staticmethod
    def reusable(reply: replies.WorkerReply) -> bool:
        """Return whether the worker that gave this reply may run another call.

        Where it ran out of something, what it started is likely to live on and hold that.
        """
        if isinstance(reply, replies.SkillOutput):
            return True
        return reply.kind in ("raised", "unserialisable", "oversized") and problems.exhausted_resource(reply) is None

    def kill(self, on_gone: Callable[[], object]) -> None:
        """Kill the worker and close the connection. Idempotent.

        `on_gone` is called once the worker is gone, and what it started has become PID 1's: nearly always at once.
        """
        if self._pidfd < 0:
            return
        pidfd, self._pidfd = self._pidfd, -1
        loop = asyncio.get_running_loop()

        def end() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            on_gone()

        gone = process.kill(pidfd)
        self._writer.close()
        self.output.close()
        if gone:
            end()
        else:
            loop.add_reader(pidfd, end)
