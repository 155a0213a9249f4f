"""The process that loads the skill once and forks a worker for each call that runs at the same time.

Everything from `load` on happens in the company of foreign code, so nothing that is said from here is believed by
PID 1: not a PID, not a reply. Commands and answers are single messages on a seqpacket socket, JSON both ways.
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

MESSAGE = 1 << 14
"""Bytes of the longest command or answer."""

_SYNTHETIC_TYPES = "skill_types"


class _AnyName(ModuleType):
    """`from skill_types import Input`: in production every name of that module is `dict`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return dict


def main(control_number: int) -> None:
    """Obey commands until the other side closes."""
    control = socket.socket(fileno=control_number)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:  # noqa: PTH123 - pathlib costs time
        score.write("1000")  # memory is taken from a skill before it is taken from PID 1
    gc.disable()  # until the skill is loaded: what imports make stays
    skill: Any = None
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE, 4)
        if not message:
            os._exit(0)
        command = json.loads(message)
        if "load" in command:
            skill, answer = _load(command["load"], command["limits"])
        else:
            answer = _fork(skill, command, control, descriptors)
        control.send(json.dumps(answer).encode()[:MESSAGE])


def _load(path: str, limits: dict[str, int]) -> tuple[Any, dict[str, Any]]:
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (most, most))
    sys.modules[_SYNTHETIC_TYPES] = _AnyName(_SYNTHETIC_TYPES)
    module = ModuleType("skill")
    module.__file__ = path
    sys.modules["skill"] = module
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs time
            exec(compile(file.read(), path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what this is for
        run = module.__dict__.get("run")
        if not callable(run):
            raise TypeError("skill.py defines no function run")  # noqa: TRY301 - told like any other failure to load
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the skill's, and is to be told
        return None, {"failed": exception_report.describe(error, path)}
    finally:
        exception_report.flush()
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
            worker.serve(socket.socket(fileno=connection), run, command["path"], command["most"])
        finally:
            os._exit(0)
    os.close(connection)
    os.close(output)
    return {"pid": pid}
