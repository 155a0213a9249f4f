"""The guard ends a pod whose egress opens, and one that stands still, whatever its event loop and its calls do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from skill_runtime import guard, process, termination
from skill_runtime import operator_contract as oc
from skill_runtime.egress_gate import EgressNotBlockedError
from tests.unit.runtime.harness import GOOD, HEAD, SOURCE, Served, check, closed_port, serving, tools_with, until


class EndedError(Exception):
    """What stands for the end of the process."""


class Proof:
    def __init__(self, answers: list[bool]) -> None:
        self.required, self.answers = True, answers

    def recheck(self) -> None:
        if self.answers and self.answers.pop(0):
            raise EgressNotBlockedError("10.0.0.1:443", "it could be reached")


@pytest.fixture
def wound_up(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The watchdog's times. The end of the process is an exception, and nothing takes time."""

    def end(code: int) -> None:
        raise EndedError(code)

    seconds: list[float] = []
    monkeypatch.setattr(process, "end", end)
    monkeypatch.setattr(termination, "_writing", threading.Lock())
    monkeypatch.setattr(guard.threading.Thread, "start", lambda _self: None)
    monkeypatch.setattr(guard.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(guard.faulthandler, "dump_traceback_later", lambda value, **_more: seconds.append(value))
    return seconds


def watch(proof: Any, path: Path, loop: Any = None) -> int:
    """The exit code of a guard that looks until it ends the process."""
    made = guard.Guard(proof, path, 20)
    if loop is not None:
        made.watch(loop)
    with pytest.raises(EndedError) as caught:
        made._run()
    code: int = caught.value.args[0]
    return code


def test_egress_that_opens_ends_the_process(tmp_path: Path, wound_up: list[float]) -> None:
    path = tmp_path / "log"
    assert watch(Proof([False, False, True]), path) == oc.EXIT_EGRESS_NOT_BLOCKED
    assert json.loads(path.read_text())["target"] == "10.0.0.1:443"
    assert wound_up == [50, 50, 50, 5], "one for each look in time, and one for the end"


def test_what_ends_with_the_process_has_no_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop sees the end of what it serves before its own, and would write what it makes of that."""
    monkeypatch.setattr(termination, "_writing", threading.Lock())
    path = tmp_path / "log"
    termination.report_open_egress(EgressNotBlockedError("10.0.0.1:443", "it could be reached"), path, last=True)
    loop = threading.Thread(target=termination.write_message, args=(path, "the process ended"), daemon=True)
    loop.start()
    loop.join(0.2)
    assert loop.is_alive()
    assert json.loads(path.read_text())["target"] == "10.0.0.1:443"


def test_a_message_that_cannot_be_written_leaves_the_end_to_the_watchdog(
    tmp_path: Path, wound_up: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise MemoryError

    monkeypatch.setattr(termination, "report_open_egress", fail)
    with pytest.raises(MemoryError):
        guard.Guard(Proof([True]), tmp_path / "log", 20)._run()  # type: ignore[arg-type]
    assert wound_up[-1] == 5


class Loop:
    """An event loop that has so many turns."""

    def __init__(self, turns: int) -> None:
        self.turns, self.waiting = turns, 0

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        if self.turns:
            self.turns -= 1
            callback()
        else:
            self.waiting += 1


def test_a_loop_that_stands_still_ends_the_process(tmp_path: Path, wound_up: list[float]) -> None:
    path, loop = tmp_path / "log", Loop(3)
    assert watch(Proof([]), path, loop) == oc.EXIT_FAILED
    assert path.read_text() == "the server stood still for 40 s"
    assert loop.waiting == guard.MAX_MISSED_BEATS
    assert wound_up[-1] == 5


def test_a_loop_that_is_closed_is_no_error(tmp_path: Path, wound_up: list[float]) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert watch(Proof([]), tmp_path / "log", loop) == oc.EXIT_FAILED


WIDE = HEAD + "    import time\n    print('ready', flush=True)\n    time.sleep(1000)\n    return {'n': 1}\n"


def open_way(served: Served, port: int) -> tuple[int, dict[str, Any]]:
    """The exit code and the termination message after the way out opens."""
    with socket.create_server(("127.0.0.1", port), backlog=512):
        code = served.process.wait(20)
    return code, json.loads(served.last_word())


def test_egress_that_opens_during_a_drain_ends_the_pod(tmp_path: Path) -> None:
    port = closed_port()
    more = {"KUBERNETES_SERVICE_PORT": str(port), "SKILL_RECHECK": "1", "SKILL_GRACE": "3600"}
    with serving(tmp_path, WIDE, timeout=3000, **more) as served, ThreadPoolExecutor() as threads:
        threads.submit(served.call, {"n": 1})
        until(lambda: any(line.get("text") == "ready" for line in served.log()))
        os.kill(served.pid_1, signal.SIGTERM)
        until(lambda: any(line["message"] == "stopping" for line in served.log()))
        assert open_way(served, port) == (
            oc.EXIT_EGRESS_NOT_BLOCKED,
            {
                "blocked": False,
                "target": f"127.0.0.1:{port}",
                "detail": f"egress is not blocked: 127.0.0.1:{port} could be reached while the skill was running",
            },
        )


def test_egress_that_opens_ends_a_check(tmp_path: Path) -> None:
    port, began = closed_port(), tmp_path / "began"
    planted = tools_with(tmp_path / "tools", f"touch '{began}'; exec sleep 1000")
    env = {"KUBERNETES_SERVICE_PORT": str(port), "SKILL_RECHECK": "1", "SKILL_TOOLS": str(planted)}
    with ThreadPoolExecutor() as threads:
        ending = threads.submit(check, tmp_path, GOOD, env=env)
        until(began.exists)
        with socket.create_server(("127.0.0.1", port), backlog=512):
            checked = ending.result()
    assert (checked.code, json.loads(checked.last_word)["blocked"]) == (oc.EXIT_EGRESS_NOT_BLOCKED, False)


HELD = """
import faulthandler, os, sys
from pathlib import Path
from skill_runtime import guard

class Proof:
    required = True
    def recheck(self):
        while True:
            sys.flags  # keeps Python's lock with the interval below, as code in C does

sys.setswitchinterval(1000)
guard.STALL_SECONDS = 0.05
guard.Guard(Proof(), Path(sys.argv[1]), 0.01)
while True:
    pass
"""


def test_code_that_keeps_python_s_lock_does_not_hold_the_watchdog(tmp_path: Path) -> None:
    message = tmp_path / "log"
    message.touch()
    ended = subprocess.run(
        [sys.executable, "-c", HELD, message], env={"PYTHONPATH": str(SOURCE)}, timeout=60, check=False
    )
    assert ended.returncode == oc.EXIT_FAILED
    assert message.read_text().startswith("Timeout (0:00:00.06")
