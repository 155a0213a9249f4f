"""Make and remove a cluster's control group in every hierarchy that this machine has."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hack.cluster.shell import wait


def create(name: str) -> None:
    """Make the group, ready for children with limits."""
    for root, version in _hierarchies():
        group = root / name
        group.mkdir(exist_ok=True)
        if version == 2 and (controllers := (root / "cgroup.controllers").read_text().split()):
            wanted = " ".join(f"+{controller}" for controller in controllers)
            for parent in (root, group):
                (parent / "cgroup.subtree_control").write_text(wanted)
        for knob in ("cpuset.cpus", "cpuset.mems"):
            if version == 1 and (group / knob).exists():  # a new group has none and takes no process
                (group / knob).write_text((root / knob).read_text())


def remove(name: str) -> None:
    """Remove the group and its children; the kernel lets go of them some time after their last process."""
    groups = [root / name for root, _ in _hierarchies()]
    wait(f"the end of control group {name}", 20, lambda: all([_removed(group) for group in groups]))  # noqa: C419 - all of them


def _removed(group: Path) -> bool:
    with suppress(OSError):
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        group.rmdir()
    return not group.exists()


def _hierarchies() -> list[tuple[Path, int]]:
    versions = {"cgroup": 1, "cgroup2": 2}
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((Path(target), versions[kind]) for target, kind in mounts if kind in versions)
