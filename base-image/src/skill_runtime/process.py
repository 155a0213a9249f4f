"""What only the kernel can promise: secrecy of PID 1's memory, and the end of what it did not start. Imported early."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
from collections.abc import Collection, Iterator

END_MS = 1000  # for a process that was killed; one that waits for a disk takes longer, and is not waited for
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36


def seclude() -> None:
    """Make this process unreadable to others of its user: no ptrace, no /proc/PID/{environ,mem,fd}. Must come first.

    Orphans become children of this process even where it is not PID 1, so that `end_strangers` finds them all.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_CHILD_SUBREAPER, 1)):
        if libc.prctl(option, value, 0, 0, 0):
            code = ctypes.get_errno()
            raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def parent_of(pid: int) -> int | None:
    """The parent's PID, or None if there is no such process."""
    try:
        number = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        status = os.read(number, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(number)
    return int(status.rpartition(b")")[2].split()[1])  # the name before it may hold anything


def end(handle: int) -> None:
    """Kill the process of a pidfd, and wait until it is gone: only then are its children ours."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(END_MS)


def end_strangers(mine: Collection[int] = ()) -> None:
    """Kill and reap every child but `mine`; killing one can make its children ours, hence the loop."""
    for _ in range(10_000):
        strangers = [pid for pid in _children() if pid not in mine]
        if not strangers:
            return
        for pid in strangers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in strangers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def end_everything() -> None:
    """Leave no other process alive. As PID 1 one signal reaches all at once: not even a fork bomb outruns it."""
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    end_strangers()


def _children() -> Iterator[int]:
    me = os.getpid()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and parent_of(int(entry.name)) == me:
            yield int(entry.name)
