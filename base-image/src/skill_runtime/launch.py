"""Starting a zygote: early, while PID 1 still loads the rest of itself."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {
    "PATH": "/opt/skill/bin:/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",  # noqa: S108 - the only writable folder
    "OPENBLAS_NUM_THREADS": "1",  # one call, one core; and threads do not survive a fork
}
"""All that a skill sees of the environment: none of it comes from this process's own."""

_CODE = "import sys; sys.path.append({root!r}); from skill_runtime.zygote import main; main({control})"
_CONTROL = 3


@dataclass(frozen=True)
class Started:
    """A zygote that waits for commands and has loaded nothing foreign."""

    pid: int
    handle: int
    """Of the process, whatever becomes of its PID."""
    control: socket.socket
    output: int
    """The end to read of what it prints."""


def start() -> Started:
    """Its own session, standard input empty, an environment of constants, and no descriptor but these."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    reading, writing = os.pipe()
    code = _CODE.format(root=str(Path(__file__).parents[1]), control=_CONTROL)
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-c", code],
            ENVIRONMENT,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, writing, 1),
                (os.POSIX_SPAWN_DUP2, writing, 2),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CONTROL),
            ],
            setsid=True,
        )
    finally:
        theirs.close()
        os.close(writing)
    return Started(pid, os.pidfd_open(pid), ours, reading)
