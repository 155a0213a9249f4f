"""What a skill prints, on its way into the log: cut per call, slowed per second, never mistaken for ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from skill_runtime import log
from skill_runtime.redaction import Redactor

PER_CALL = 1 << 16
PER_SECOND = 1 << 18
_CHUNK = 1 << 14
_LINE = 2000

Sink = Callable[[str, str], None]
"""Called with a line and the id of the request that it belongs to."""


def to_log(line: str, request_id: str) -> None:
    """The sink of the server."""
    log.write("info", "output", request=request_id, text=line)


class Drain:
    """One budget for all pipes. When it is spent they are left unread until the next second: a loud skill waits for us,
    we never work for it."""

    def __init__(self, sink: Sink, redactor: Redactor | None = None, per_second: int = PER_SECOND) -> None:
        self._sink, self._redactor = sink, redactor
        self._per_second = per_second
        self._left = per_second
        self._second = 0

    def attach(self, descriptor: int) -> Pipe:
        """Read a pipe from now on; closes it at its end."""
        return Pipe(self, descriptor, self._sink, self._redactor)

    def spend(self, count: int, now: float) -> float:
        """Account for bytes; the seconds to wait before reading more."""
        if int(now) != self._second:
            self._second, self._left = int(now), self._per_second
        self._left -= count
        return 0.0 if self._left > 0 else 1.0 - now % 1.0


class Pipe:
    """The output of one process."""

    def __init__(self, drain: Drain, descriptor: int, sink: Sink, redactor: Redactor | None) -> None:
        self._drain, self._descriptor, self._sink, self._redactor = drain, descriptor, sink, redactor
        self._loop = asyncio.get_running_loop()
        self._request_id = ""
        self._partial = b""
        self._left = PER_CALL
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._readable)

    def begin(self, request_id: str) -> None:
        """What comes from now on belongs to this call."""
        self._request_id, self._left = request_id, PER_CALL

    def end(self) -> None:
        """The call is over: what it printed is in the pipe by now."""
        for _ in range(1 + (1 << 16) // _CHUNK):  # what a pipe can hold
            if not self._read():
                break
        self._finish_line()
        self._request_id = ""

    def close(self) -> None:
        """Stop reading. Idempotent."""
        if self._descriptor >= 0:
            self.end()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _readable(self) -> None:
        self._read()
        pause = self._drain.spend(0, self._loop.time())
        if pause and self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            self._loop.call_later(pause, self._resume)

    def _resume(self) -> None:
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._readable)

    def _read(self) -> bool:
        if self._descriptor < 0:
            return False
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._descriptor, _CHUNK)
            if not data:
                self._finish_line()
                self._loop.remove_reader(self._descriptor)
                os.close(self._descriptor)
                self._descriptor = -1
        self._drain.spend(len(data), self._loop.time())
        self._accept(data)
        return bool(data)

    def _accept(self, data: bytes) -> None:
        if not data or self._left <= 0:
            return
        kept, self._left = data[: self._left], self._left - len(data)
        *lines, self._partial = (self._partial + kept).split(b"\n")
        for line in lines:
            self._emit(line)
        if len(self._partial) > _LINE + self._overlap:
            self._let_go()
        if self._left <= 0:
            self._let_go()
            self._partial = b""
            self._emit(b"(output beyond %d bytes of one call is dropped)" % PER_CALL)

    @property
    def _overlap(self) -> int:
        return self._redactor.overlap if self._redactor else 0

    def _let_go(self) -> None:
        """Of an unfinished line, but not of its end: a secret may have begun there."""
        line = self._redacted(self._partial)
        at = max(0, len(line) - self._overlap)
        if at:
            self._write(line[:at])
        self._partial = line[at:]

    def _finish_line(self) -> None:
        if self._partial:
            line, self._partial = self._partial, b""
            self._emit(line)

    def _emit(self, line: bytes) -> None:
        self._write(self._redacted(line))

    def _redacted(self, line: bytes) -> bytes:
        return self._redactor.line(line) if self._redactor else line

    def _write(self, line: bytes) -> None:
        for start in range(0, len(line) or 1, _LINE):
            self._sink(line[start : start + _LINE].decode("utf-8", "backslashreplace"), self._request_id)
