"""A worker process does work on strangers' bytes that has no small bound, under a deadline and a memory limit.

The process lives for one call. It gets a function's name and arguments as JSON and returns JSON, so that neither side
ever unpickles what the other sends. Its environment holds nothing but the path of the modules.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

DEADLINE_SECONDS: Final = 20.0
CPU_SECONDS: Final = 10
MEMORY_BYTES: Final = 160 << 20  # of address space, the interpreter included
MAX_RESULT_BYTES: Final = 8 << 20


class WorkerFailed(Exception):
    """WorkerFailed says that a worker process exceeded a limit or ended without a result."""


class Worker:
    """Worker runs functions in a process of its own, one at a time."""

    def __init__(
        self,
        deadline_seconds: float = DEADLINE_SECONDS,
        cpu_seconds: int = CPU_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._limits = (str(cpu_seconds), str(memory_bytes))
        self._lock = asyncio.Lock()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the function's result. Function, arguments and result must be such that JSON can name or hold them.

        Raises WorkerFailed.
        """
        request = json.dumps([function.__module__, function.__qualname__, arguments], ensure_ascii=False)
        async with self._lock:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-sPW",
                "ignore",
                "-m",
                __name__,
                *self._limits,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
            )
            try:
                async with asyncio.timeout(self._deadline_seconds):
                    output, _ = await process.communicate(request.encode("utf-8", "surrogatepass"))
            except TimeoutError:
                raise WorkerFailed(f"{function.__name__} took longer than {self._deadline_seconds:g} s") from None
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        if process.returncode != 0 or len(output) > MAX_RESULT_BYTES:
            raise WorkerFailed(f"{function.__name__} exceeded a limit or ended with {process.returncode}")
        try:
            return json.loads(output.decode("utf-8", "surrogatepass"))
        except ValueError as error:
            raise WorkerFailed(f"{function.__name__} ended without a result") from error


def _main(cpu_seconds: int, memory_bytes: int) -> None:
    """Run one call, read from standard input."""
    module, name, arguments = json.loads(sys.stdin.buffer.read().decode("utf-8", "surrogatepass"))
    function = getattr(importlib.import_module(module), name)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    result = json.dumps(function(*arguments), ensure_ascii=False)
    sys.stdout.buffer.write(result.encode("utf-8", "surrogatepass"))


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
