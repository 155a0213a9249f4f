"""Guarantees that only the kernel can give: secrecy of PID 1's memory, and the end of orphans. Imported early."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import threading
from collections.abc import Collection, Iterator

KILL_TIMEOUT_MS = 1000  # for a process that was killed; one that waits for a disk takes longer, and is not waited for
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
reaping = threading.Lock()
"""Held by whoever reaps. Else a child that ends while others are looked for takes the way to its own children along.

Also held from a child's start until its pidfd is open: until it is reaped, its PID is no other process's.
"""


def harden() -> None:
    """Make this process unreadable to others of its user: no ptrace, no /proc/PID/{environ,mem,fd}. Must come first.

    Orphans become children of this process even where it is not PID 1, so that `kill_orphans` finds them all.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_CHILD_SUBREAPER, 1)):
        if libc.prctl(option, value, 0, 0, 0):
            code = ctypes.get_errno()
            raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def parent_pid(pid: int) -> int | None:
    """Return the parent's PID, or None if there is no such process."""
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


def kill(pidfd: int) -> bool:
    """Kill the process of a pidfd, and wait until it is gone: only then are its children ours.

    Returns False if that takes longer than KILL_TIMEOUT_MS. The pidfd is readable once it is gone.
    """
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    return _is_gone(pidfd, KILL_TIMEOUT_MS)


def _is_gone(pidfd: int, timeout_ms: int | None = None) -> bool:
    """Wait until the process of a pidfd is gone, without a timeout for however long that takes."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def kill_orphans(keep: Collection[int] = ()) -> None:
    """Kill and reap every child but those to keep; killing one can make its children ours, hence the loop."""
    passed_over = set(keep)
    with reaping:
        for _ in range(10_000):
            orphans = []
            for pid in _children():
                if pid not in passed_over:
                    orphans.append(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)  # at once: one that forks and ends would be gone after the look
            if not orphans:
                return
            passed_over.update(pid for pid in orphans if not _reap_killed(pid))


def _reap_killed(pid: int) -> bool:
    """Wait until a child that was killed is gone, however long that takes, and reap it.

    Returns False if another process traces the child (ptrace(2)): the kernel keeps its end from us until the tracer's.
    """
    try:
        pidfd = os.pidfd_open(pid)
        try:
            _is_gone(pidfd)
        finally:
            os.close(pidfd)
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except (ProcessLookupError, ChildProcessError):
        return True  # reaped by others


def reap() -> None:
    """Reap every child that has ended; PID 1 inherits those of others, too."""
    with reaping, contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def kill_all() -> None:
    """Leave no other process alive. As PID 1 one signal reaches all at once: not even a fork bomb outruns it."""
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    kill_orphans()


def end(code: int) -> None:
    """End this process and all others at once, from any thread. It does not return."""
    if os.getpid() == 1:  # what is killed can no longer take our port, and the kernel waits for it
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    else:
        kill_orphans()
    os._exit(code)


def _children() -> Iterator[int]:
    me = os.getpid()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and parent_pid(int(entry.name)) == me:
            yield int(entry.name)
