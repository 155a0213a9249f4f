"""What one skill may take of its node, beyond what Kubernetes can limit, and how to tell that it took too much."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

PROCESSES = 256
"""Processes and threads of all calls together. Kubernetes limits them for a whole node at best."""
LARGEST_FILE = 1 << 30
_NEARLY_FULL = 0.9
_OOM = (  # cgroup v2, v1
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
)


def limits(scratch: Path) -> dict[str, int]:
    """Of the processes of a skill, not of PID 1.

    A file is at most as large as the scratch volume, which also bounds the termination log, a file on the node's disk.
    """
    disk = os.statvfs(scratch)
    return {"CORE": 0, "FSIZE": min(disk.f_blocks * disk.f_frsize, LARGEST_FILE)} | processes()


def processes() -> dict[str, int]:
    """The kernel counts them by user and user namespace. In the node's namespace the pod would share the count with
    every other pod of its user id: there the kubelet's podPidsLimit is all there is."""
    return {"NPROC": PROCESSES} if own_user_namespace() else {}


def own_user_namespace() -> bool:
    """Whether user ids here are other ids on the node."""
    return Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", "4294967295"]


def oom_kills() -> int:
    """How many processes of this container the kernel has killed for want of memory; 0 where nobody knows."""
    for file in _OOM:
        with contextlib.suppress(OSError, ValueError):
            for line in file.read_text(encoding="ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def tidy(scratch: Path, *, always: bool = False) -> bool:
    """Empty the scratch folder when it is nearly full: what fills it is memory of the pod. Whether it was emptied.

    Only PID 1 does so: elsewhere the folder may be somebody else's too.
    """
    if os.getpid() != 1:
        return False
    disk = os.statvfs(scratch)
    if (
        not always
        and disk.f_bavail > disk.f_blocks * (1 - _NEARLY_FULL)
        and disk.f_favail > disk.f_files * (1 - _NEARLY_FULL)
    ):
        return False
    for entry in os.scandir(scratch):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)  # noqa: PTH108 - a DirEntry is no Path
    return True
