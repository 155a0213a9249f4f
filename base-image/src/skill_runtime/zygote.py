"""The zygote: the process that loads the skill once and forks a worker for each call that runs at the same time.

Everything from `load` on happens in the company of foreign code, so PID 1 believes nothing that is sent from here:
not a PID, not a reply. Commands and responses are single messages on a seqpacket socket, JSON both ways.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket
import sys
from types import ModuleType
from typing import Any

from skill_runtime import exception_report, worker

MAX_MESSAGE_BYTES = 1 << 14
"""The longest command or response."""

_SYNTHETIC_TYPES = "skill_types"


class _SyntheticTypes(ModuleType):
    """The module of `from skill_types import Input`: in production every name of it is `dict`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return dict


def main(control_fd: int) -> None:
    """Execute commands until the other side closes."""
    control = socket.socket(fileno=control_fd)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:  # noqa: PTH123 - pathlib costs time
        score.write("1000")  # memory is taken from a skill before it is taken from PID 1
    gc.disable()  # until the skill is loaded: what imports make stays
    run: Any = None
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE_BYTES, 4)
        if not message:
            os._exit(0)
        command = json.loads(message)
        if "load" in command:
            run, response = _load(command["load"], command["limits"], descriptors)
        else:
            response = _fork(run, command, control, descriptors)
        control.send(json.dumps(response).encode()[:MAX_MESSAGE_BYTES])


def _load(path: str, limits: dict[str, int], descriptors: list[int]) -> tuple[Any, dict[str, Any]]:
    """Load the skill from its path, or in its place the program in the file that came with the command."""
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (limit, limit))
    sys.modules[_SYNTHETIC_TYPES] = _SyntheticTypes(_SYNTHETIC_TYPES)
    module = ModuleType("skill")
    module.__file__ = path
    sys.modules["skill"] = module
    try:
        with open(descriptors[0] if descriptors else path, "rb") as file:  # noqa: PTH123 - pathlib costs time
            source = file.read().decode()  # no comment names another encoding than the one that was judged
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what this is for
        run = module.__dict__.get("run")
        if not callable(run):
            raise TypeError("skill.py defines no function run")  # noqa: TRY301 - reported like any other failure to load
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the skill's, and is reported
        return None, {"failure": exception_report.describe(error, path)}
    finally:
        exception_report.flush_output()
    gc.collect()
    gc.enable()
    gc.freeze()  # collections in workers leave the pages shared that are shared now
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    return run, {"loaded": True}


def _fork(run: Any, command: dict[str, Any], control: socket.socket, descriptors: list[int]) -> dict[str, Any]:
    connection, output = descriptors
    pid = os.fork()
    if pid == 0:
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        try:
            worker.serve(socket.socket(fileno=connection), run, command["path"], command["max_reply_bytes"])
        finally:
            os._exit(0)
    os.close(connection)
    os.close(output)
    return {"pid": pid}
