"""Limits of what one skill takes of its node, beyond those of Kubernetes, and the signs that it took too much."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

MAX_PROCESSES = 256
"""Processes and threads of all calls together. Kubernetes limits them for a whole node at best."""
MAX_FILE_BYTES = 1 << 30
_NEARLY_FULL_RATIO = 0.9
_OOM_FILES = (  # cgroup v2, v1
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
)
_MEMORY_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def skill_limits(scratch: Path) -> dict[str, int]:
    """Return the resource limits (RLIMIT_…) for the processes of a skill, not for PID 1.

    A file is at most as large as the scratch volume, which also bounds the termination log, a file on the node's disk.
    """
    disk = os.statvfs(scratch)
    return {"CORE": 0, "FSIZE": min(disk.f_blocks * disk.f_frsize, MAX_FILE_BYTES)} | process_limit()


def process_limit() -> dict[str, int]:
    """Return the limit of processes, or no limit outside a user namespace.

    The kernel counts processes by user and user namespace. In the node's namespace the pod would share the count with
    every other pod of its user id: there the kubelet's podPidsLimit is all there is.
    """
    return {"NPROC": MAX_PROCESSES} if has_user_namespace() else {}


def has_user_namespace() -> bool:
    """Return whether user ids here are other ids on the node."""
    return Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", "4294967295"]


def count_oom_kills() -> int:
    """Return how many processes of this container the kernel has killed for want of memory; 0 where it cannot tell."""
    for file in _OOM_FILES:
        with contextlib.suppress(OSError, ValueError):
            for line in file.read_text(encoding="ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def memory_share(most_bytes: int) -> int:
    """Return a third of the container's memory limit, or `most_bytes` where that is less or there is no limit."""
    for file in _MEMORY_FILES:
        with contextlib.suppress(OSError, ValueError):
            return min(most_bytes, int(file.read_text(encoding="ascii")) // 3)
    return most_bytes


def empty_scratch(scratch: Path, *, always: bool = False) -> bool:
    """Empty the scratch folder when it is nearly full, and return whether it was emptied.

    What fills the folder is memory of the pod. Only PID 1 empties it: elsewhere it may be somebody else's too.
    """
    if os.getpid() != 1:
        return False
    disk = os.statvfs(scratch)
    if (
        not always
        and disk.f_bavail > disk.f_blocks * (1 - _NEARLY_FULL_RATIO)
        and disk.f_favail > disk.f_files * (1 - _NEARLY_FULL_RATIO)
    ):
        return False
    empty_folder(scratch)
    return True


def _open_folders(folder: str) -> None:
    """Give this user all rights to its folders in there, which it may have taken from itself."""
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)  # noqa: PTH101 - of a DirEntry
    for place, names, _ in os.walk(folder):
        for path in (os.path.join(place, name) for name in names):  # noqa: PTH118 - as os.walk has it
            with contextlib.suppress(OSError):
                if not os.path.islink(path):  # noqa: PTH114 - as os.walk has it
                    os.chmod(path, 0o700)  # noqa: PTH101 - as os.walk has it


def empty_folder(folder: Path) -> None:
    """Remove what is in the folder, as far as this user may."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _open_folders(entry.path)
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)  # noqa: PTH108 - a DirEntry is no Path
