"""Make and remove a cluster's control group in every hierarchy that this machine has.

Pods and the node's own components share the CPU as on a machine of systemd's: each has a group of its own. In the root
group one thread of the API server would weigh as much as all pods.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hack.cluster.shell import wait

SYSTEM = "system"
"""The group of the node's components, beside kubelet's own for pods."""
_WEIGHTS = {"cpu.shares": "8192", "cpu.weight": "800"}
"""Of a whole cluster beside programs of this machine: eight times the default, since a node is no program."""


def create(name: str) -> None:
    """Make the group, ready for children with limits, and the one of the node's components."""
    for root, version in _hierarchies():
        _make(root, root / name, version)
        if (root / name / "cpu.shares").exists() or version == 2:
            _make(root / name, root / name / SYSTEM, 1)


def of_components(name: str) -> list[Path]:
    """Return the folders of the group of the node's components, one in each hierarchy that has it."""
    return [group for root, _ in _hierarchies() if (group := root / name / SYSTEM).exists()]


def _make(root: Path, group: Path, version: int) -> None:
    """Make a group, with the weight of a cluster if it is one."""
    group.mkdir(exist_ok=True)
    if version == 2 and (controllers := (root / "cgroup.controllers").read_text().split()):
        wanted = " ".join(f"+{controller}" for controller in controllers)
        for parent in (root, group):
            (parent / "cgroup.subtree_control").write_text(wanted)
    for knob in ("cpuset.cpus", "cpuset.mems"):
        if version == 1 and (group / knob).exists():  # a new group has none and takes no process
            (group / knob).write_text((root / knob).read_text())
    for knob, weight in _WEIGHTS.items():
        if group.name != SYSTEM and (group / knob).exists():
            (group / knob).write_text(weight)


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
