"""Make a machine of namespaces; its first process holds them, and ending that process ends everything."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import binaries, cgroups
from hack.cluster.identity import NODE_NAME, Identity
from hack.cluster.shell import ClusterError, run, wait

# The first process does nothing before it was told that its id is on record: whoever dies meanwhile leaves nothing.
# /run is new and what is written to /var/lib and /var/log lands in the state, so the host's files stay as they were.
# The kubelet wants its mounts to propagate.
_BEGIN = """
read -r self < /proc/self/stat
echo "$self"
read -r go || exit 1
exec < /dev/null >&2
mount -t proc proc /proc
hostname "$3"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/containerd /run/netns /run/lock
mkdir -p "$1/var/lib" "$1/var/work" "$1/var/log"
mount -t overlay -o "lowerdir=/var/lib,upperdir=$1/var/lib,workdir=$1/var/work" node /var/lib
mount --bind "$1/var/log" /var/log
mount --make-rshared /
touch "$1/begun"
exec "$2"
"""
_DAEMON = 'echo $$ > "$1"; shift; for group in $CGROUPS; do echo 0 > "$group/cgroup.procs"; done; exec "$@"'


@dataclass(frozen=True)
class Node:
    """Node is the namespaces of one cluster and the processes in them."""

    cluster: Identity

    def begin(self) -> int:
        """Make the namespaces and return the id of their first process."""
        state = self.cluster.state
        (state / "logs").mkdir(exist_ok=True)
        (state / "pids").mkdir(exist_ok=True)
        namespaces = (
            "unshare",
            "--net",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--uts",
        )
        first = ("sh", "-ec", _BEGIN, "sh", str(state), str(binaries.pause()), NODE_NAME)
        begun = ["setsid", "--fork", *namespaces, *first]
        with (
            (state / "logs" / "init.log").open("ab") as log,
            subprocess.Popen(begun, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd="/") as starter,
        ):
            assert starter.stdin is not None
            assert starter.stdout is not None
            stat = starter.stdout.readline().decode()
            if not stat:
                raise ClusterError("no namespaces: this needs root, and a kernel that allows them")
            draft = state / "init.draft"
            draft.write_text(stat)
            draft.rename(state / "init")
            starter.stdin.write(b"go\n")
        wait(f"the node's namespaces (see {state}/logs/init.log)", 10, (state / "begun").exists)
        pid = self.first()
        if pid is None:
            raise ClusterError(f"the node's first process ended: {(state / 'logs' / 'init.log').read_text()}")
        return pid

    def first(self) -> int | None:
        """Return the id of the first process while it lives, or None.

        A process with another start time is another process.
        """
        try:
            recorded = (self.cluster.state / "init").read_text()
            pid = int(recorded.split()[0])
            living = Path("/proc", str(pid), "stat").read_text()
        except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
            return None
        state, *_ = living.rpartition(")")[2].split()
        return pid if _start_time(living) == _start_time(recorded) and state != "Z" else None

    def enter(self, *command: str | Path) -> list[str]:
        """Return the command line that runs a command on the node."""
        pid = self.first()
        if pid is None:
            raise ClusterError(f"cluster {self.cluster.name} is not running")
        return ["nsenter", "-t", str(pid), "--net", "--mount", "--pid", "--uts", *map(str, command)]

    def run(self, *command: str | Path, stdin: str | None = None, check: bool = True) -> str:
        """Run a command on the node."""
        return run(*self.enter(*command), stdin=stdin, check=check)

    def start(self, name: str, *command: str | Path) -> None:
        """Start a process that belongs to the node and outlives its caller; its log lies in the state."""
        pid = self.cluster.state / "pids" / name
        detached = self.enter("setsid", "--fork", "sh", "-ec", _DAEMON, "sh", pid, *command)
        groups = " ".join(map(str, cgroups.of_components(self.cluster.cgroup)))
        with (self.cluster.state / "logs" / f"{name}.log").open("ab") as log:
            environment = {**os.environ, "CGROUPS": groups}
            subprocess.run(
                detached, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, cwd="/", env=environment
            )

    def running(self, name: str) -> bool:
        """Return whether that process lives."""
        with suppress(FileNotFoundError, ClusterError):  # the node may end just now
            pid = (self.cluster.state / "pids" / name).read_text().strip()
            return bool(pid) and self.run("ps", "--no-headers", "-o", "stat", "-p", pid, check=False).strip()[
                :1
            ] not in ("", "Z")
        return False

    def kill(self, name: str) -> None:
        """End that process at once."""
        pid = (self.cluster.state / "pids" / name).read_text().strip()
        self.run("kill", "-KILL", pid)
        wait(f"the end of {name}", 10, lambda: not self.running(name))

    def end(self) -> None:
        """End everything on the node."""
        pid = self.first()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait("the node's end", 30, lambda: self.first() is None)


def _start_time(stat: str) -> str:
    """Return the field of /proc/PID/stat that tells a process from a later one with its id."""
    return stat.rpartition(")")[2].split()[19]
