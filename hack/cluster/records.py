"""Records of what exists on this machine are written before it is made; locks and slots are here, too.

    STATES/                 flock: who has which slot, and the machine's settings
    STATES/settings.json    the kernel settings as the first cluster found them
    STATES/NAME/            flock: one command at a time per cluster
    STATES/NAME/slot

A cluster that crashed half-way has its slot, and all that can be left of it derives from name and slot.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hack.cluster.identity import SLOTS, STATES, Identity
from hack.cluster.shell import ClusterError

KERNEL = Path("/proc/sys")
CHANGED_BY_KUBELET = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
WATCHES = "fs/inotify/max_user_instances"
ENOUGH_WATCHES = 8192


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is removed afterwards if it is empty."""
    while True:
        with suppress(FileNotFoundError):  # its last user removed the parent meanwhile
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if folder.exists() and folder.stat().st_ino == os.fstat(handle).st_ino:
                break
            os.close(handle)
    try:
        if os.fstat(handle).st_uid != os.geteuid():
            raise ClusterError(f"{folder} belongs to another user: set SKILL_CLUSTERS to a folder of yours")
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()
        os.close(handle)


@contextmanager
def exclusively(name: str) -> Iterator[None]:
    """Hold the lock that lets one command at a time work on a cluster."""
    with locked(STATES / name):
        yield
    with locked(STATES):
        pass  # an empty folder of states goes with its last cluster


def names() -> list[str]:
    """Return the clusters that `up` has begun and `down` has not ended."""
    return sorted(path.parent.name for path in STATES.glob("*/slot"))


def find(name: str) -> Identity | None:
    """Return the cluster of this name, or None where none was begun."""
    with suppress(FileNotFoundError):
        return Identity(name, int((STATES / name / "slot").read_text()))
    return None


def claim(name: str) -> Identity:
    """Take the lowest free slot, or the one it has; remember the kernel's settings if no other cluster stands."""
    with locked(STATES):
        settings = STATES / "settings.json"
        if not settings.exists():
            _write(settings, json.dumps({knob: _knob(knob) for knob in (*CHANGED_BY_KUBELET, WATCHES)}))
        if int(_knob(WATCHES)) < ENOUGH_WATCHES:
            (KERNEL / WATCHES).write_text(str(ENOUGH_WATCHES))
        if mine := find(name):
            return mine
        taken = {cluster.slot for other in names() if (cluster := find(other))}
        free = sorted(set(range(SLOTS)) - taken)
        if not free:
            raise ClusterError(f"{SLOTS} clusters stand already: {', '.join(names())}")
        _write(STATES / name / "slot", str(free[0]))
    return Identity(name, free[0])


def empty(cluster: Identity) -> None:
    """Remove all that the cluster wrote; it keeps its slot."""
    for path in cluster.state.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "slot":
            path.unlink()


def release(cluster: Identity) -> None:
    """Give the slot back; the last cluster to go leaves the kernel's settings as the first one found them.

    The slot goes last, so that what was interrupted here is found and done again.
    """
    with locked(STATES):
        if names() == [cluster.name]:
            with suppress(FileNotFoundError):
                for knob, value in json.loads((STATES / "settings.json").read_text()).items():
                    if _knob(knob) != value:
                        (KERNEL / knob).write_text(value)
            for path in STATES.glob("settings.*"):
                path.unlink()
        (cluster.state / "slot").unlink()


def _knob(name: str) -> str:
    return (KERNEL / name).read_text().strip()


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(path)
