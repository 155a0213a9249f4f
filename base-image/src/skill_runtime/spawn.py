"""Starting a zygote: early, while PID 1 still loads the rest of itself. Hence the few imports."""

from __future__ import annotations

import os
import socket
import sys

ENVIRONMENT = {
    "PATH": "/opt/skill/bin:/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",
    "OPENBLAS_NUM_THREADS": "1",  # one call, one core; and threads do not survive a fork
}
"""All that a skill sees of the environment, but for PROXY: none of it comes from this process's own."""
PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""Where its granted hosts answer; the operator sets these for a Skill that has any."""

_CODE = "import sys; sys.path.append({root!r}); from skill_runtime.zygote import main; main({control})"
_CONTROL = 3


class Started:
    """A zygote that waits for commands and has loaded nothing foreign.

    `handle` is of the process, whatever becomes of its PID; `output` is the end to read of what it prints.
    """

    def __init__(self, pid: int, control: socket.socket, output: int) -> None:
        self.pid, self.control, self.output = pid, control, output
        self.handle = os.pidfd_open(pid)


def start() -> Started:
    """Its own session, standard input empty, an environment of constants and PROXY, and no descriptor but these."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    reading, writing = os.pipe()
    code = _CODE.format(root=__file__.rpartition("/skill_runtime/")[0], control=_CONTROL)
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-c", code],
            ENVIRONMENT | {name: os.environ[name] for name in PROXY if name in os.environ},
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
    return Started(pid, ours, reading)
