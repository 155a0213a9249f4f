"""The output that a skill prints, on its way into the log: cut per call, slowed per second, never mistaken for ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from skill_runtime import log
from skill_runtime.redaction import Redactor

MAX_CALL_BYTES = 1 << 16
MAX_SECOND_BYTES = 1 << 18
_READ_BYTES = 1 << 14
_LINE_BYTES = 2000

LineHandler = Callable[[str, str], None]
"""Called with a line and the id of the request that it belongs to."""


def write_to_log(line: str, request_id: str) -> None:
    """Write one printed line to the server's log."""
    log.write("info", "output", request=request_id, text=line)


class OutputCollector:
    """OutputCollector reads the output of all processes of a skill within one budget of bytes per second.

    When the budget is spent the pipes are left unread until the next second: a loud skill waits for us, we never work
    for it.
    """

    def __init__(
        self, on_line: LineHandler, redactor: Redactor | None = None, max_second_bytes: int = MAX_SECOND_BYTES
    ) -> None:
        self._on_line, self._redactor = on_line, redactor
        self._max_second_bytes = max_second_bytes
        self._remaining_bytes = max_second_bytes
        self._second = 0

    def attach(self, descriptor: int) -> OutputPipe:
        """Read a pipe from now on, and close it at its end."""
        return OutputPipe(self, descriptor, self._on_line, self._redactor)

    def spend(self, count: int, now: float) -> float:
        """Account for bytes and return the seconds to wait before reading more."""
        if int(now) != self._second:
            self._second, self._remaining_bytes = int(now), self._max_second_bytes
        self._remaining_bytes -= count
        return 0.0 if self._remaining_bytes > 0 else 1.0 - now % 1.0


class OutputPipe:
    """OutputPipe reads what one process prints."""

    def __init__(
        self, collector: OutputCollector, descriptor: int, on_line: LineHandler, redactor: Redactor | None
    ) -> None:
        self._collector, self._descriptor, self._on_line, self._redactor = collector, descriptor, on_line, redactor
        self._loop = asyncio.get_running_loop()
        self._request_id = ""
        self._partial = b""
        self._remaining_bytes = MAX_CALL_BYTES
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._on_readable)

    def start_call(self, request_id: str) -> None:
        """Assign what comes from now on to this call."""
        self._request_id, self._remaining_bytes = request_id, MAX_CALL_BYTES

    def finish_call(self) -> None:
        """End the call after reading what it printed, all of which is in the pipe by now."""
        for _ in range(1 + (1 << 16) // _READ_BYTES):  # what a pipe can hold
            if not self._read():
                break
        self._finish_line()
        self._request_id = ""

    def close(self) -> None:
        """Stop reading. Idempotent."""
        if self._descriptor >= 0:
            self.finish_call()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _on_readable(self) -> None:
        self._read()
        pause_seconds = self._collector.spend(0, self._loop.time())
        if pause_seconds and self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            self._loop.call_later(pause_seconds, self._resume)

    def _resume(self) -> None:
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._on_readable)

    def _read(self) -> bool:
        if self._descriptor < 0:
            return False
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._descriptor, _READ_BYTES)
            if not data:
                self._finish_line()
                self._loop.remove_reader(self._descriptor)
                os.close(self._descriptor)
                self._descriptor = -1
        self._collector.spend(len(data), self._loop.time())
        self._accept(data)
        return bool(data)

    def _accept(self, data: bytes) -> None:
        if not data or self._remaining_bytes <= 0:
            return
        accepted, self._remaining_bytes = data[: self._remaining_bytes], self._remaining_bytes - len(data)
        *lines, self._partial = (self._partial + accepted).split(b"\n")
        for line in lines:
            self._emit(line)
        if len(self._partial) > _LINE_BYTES + self._overlap_bytes:
            self._emit_partial()
        if self._remaining_bytes <= 0:
            self._emit_partial()
            self._partial = b""
            self._emit(b"(output beyond %d bytes of one call is dropped)" % MAX_CALL_BYTES)

    @property
    def _overlap_bytes(self) -> int:
        return self._redactor.overlap_bytes if self._redactor else 0

    def _emit_partial(self) -> None:
        """Write an unfinished line, but not its end: a secret may begin there."""
        line = self._redact(self._partial)
        at = max(0, len(line) - self._overlap_bytes)
        if at:
            self._write(line[:at])
        self._partial = line[at:]

    def _finish_line(self) -> None:
        if self._partial:
            line, self._partial = self._partial, b""
            self._emit(line)

    def _emit(self, line: bytes) -> None:
        self._write(self._redact(line))

    def _redact(self, line: bytes) -> bytes:
        return self._redactor.redact_line(line) if self._redactor else line

    def _write(self, line: bytes) -> None:
        for start in range(0, len(line) or 1, _LINE_BYTES):
            self._on_line(line[start : start + _LINE_BYTES].decode("utf-8", "backslashreplace"), self._request_id)
