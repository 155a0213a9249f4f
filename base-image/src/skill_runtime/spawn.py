"""The start of a zygote: early, while PID 1 still loads the rest of itself. Hence the few imports."""

from __future__ import annotations

import os
import socket
import sys
import threading

from skill_runtime import operator_contract as oc
from skill_runtime import process, syscall_filter

ENVIRONMENT = {
    "PATH": "/opt/skill/bin:/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",
    "OPENBLAS_NUM_THREADS": "1",  # one call, one core; and threads do not survive a fork
}
"""All of the environment that a skill gets, but for PROXY_VARIABLES: none of it comes from this process's own."""
PROXY_VARIABLES = tuple(
    variable for name in (oc.ENV_HTTP_PROXY, oc.ENV_HTTPS_PROXY, oc.ENV_NO_PROXY) for variable in (name, name.lower())
)
"""The proxy of the skill's granted hosts; the operator sets these for a Skill that has any."""

_CODE = "import sys; sys.path.append({root!r}); from skill_runtime.zygote import main; main({control})"
_CONTROL_FD = 3


class ZygoteProcess:
    """ZygoteProcess is a zygote that waits for commands and has loaded nothing foreign.

    `pidfd` is of the process, whatever becomes of its PID; `output` is the end to read of what it prints.
    """

    def __init__(self, pid: int, control: socket.socket, output: int) -> None:
        self.pid, self.control, self.output = pid, control, output
        self.pidfd = os.pidfd_open(pid)


def start_zygote() -> ZygoteProcess:
    """Start a zygote in its own session, with an empty standard input and no other descriptors but these.

    Its environment is ENVIRONMENT and PROXY_VARIABLES. A thread starts it, which has the filter that it shall inherit.
    Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    reading, writing = os.pipe()
    pids: list[int] = []
    errors: list[OSError] = []

    def start() -> None:
        try:
            syscall_filter.restrict_thread()
            pids.append(_spawn_zygote(theirs.fileno(), writing))
        except OSError as error:
            errors.append(error)

    with process.reaping:
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        theirs.close()
        os.close(writing)
        if errors:
            raise errors[0]
        return ZygoteProcess(pids[0], ours, reading)


def _spawn_zygote(control: int, output: int) -> int:
    code = _CODE.format(root=__file__.rpartition("/skill_runtime/")[0], control=_CONTROL_FD)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-c", code],
        ENVIRONMENT | {name: os.environ[name] for name in PROXY_VARIABLES if name in os.environ},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
            (os.POSIX_SPAWN_DUP2, control, _CONTROL_FD),
        ],
        setsid=True,
        setsigmask=(),  # this process blocks signals
    )
