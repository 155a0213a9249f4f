"""How processes of a skill are ended: all of them, however they come and go meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.unit.runtime.harness import GOOD, HEAD, check, family, run_program, serving, until

ROUNDS = 40
"""A survivor was left in most of a dozen rounds while PID 1 reaped beside its look for orphans."""

RELAY = """
import os, select, sys, time
from skill_runtime import process, signals

process.harden()
signals.SignalReceiver(lambda: None, reap=True)
for number in range(int(sys.argv[1])):
    alive, held = os.pipe()
    if os.fork() == 0:
        os.setsid()
        for link in range(3000):  # each starts the next and ends
            if link == number:
                os.write(held, b"!")
            if os.fork():
                os._exit(0)
        time.sleep(20)
        os._exit(0)
    os.close(held)
    os.read(alive, 1)
    process.kill_orphans()
    if not select.select([alive], [], [], 0)[0] or os.read(alive, 1):
        sys.exit(f"round {number}: a process that holds the pipe lives on")
    os.close(alive)
"""


def test_who_starts_the_next_and_ends_does_not_outrun_the_look_for_orphans() -> None:
    assert run_program(RELAY, str(ROUNDS), seconds=60) == ""


TRACED = """
import ctypes, os, time
from skill_runtime import process

SEIZE, SET_PTRACER, ANYBODY = 0x4206, 0x59616D61, -1
libc = ctypes.CDLL(None)
process.harden()
orphans, orphan = os.pipe()
traced, tracing = os.pipe()
tracer = os.fork()
if tracer == 0:
    starter = os.fork()
    if starter == 0:
        if os.fork() == 0:
            libc.prctl(SET_PTRACER, ANYBODY, 0, 0, 0)
            os.write(orphan, str(os.getpid()).encode())
            time.sleep(60)
        os._exit(0)
    os.waitpid(starter, 0)
    os.write(tracing, b"0" if libc.ptrace(SEIZE, int(os.read(orphans, 20)), None, None) == 0 else b"1")
    time.sleep(60)
    os._exit(0)
if os.read(traced, 1) == b"0":
    process.kill_orphans({tracer})
else:
    print("the kernel forbids ptrace(2) here")
process.kill_all()
"""
"""An orphan's tracer, which is none, has the kernel keep the orphan's end from its parent."""


def test_who_traces_an_orphan_does_not_hold_up_the_look_for_orphans() -> None:
    if printed := run_program(TRACED, seconds=40):
        pytest.skip(printed)


SLOW_TO_DIE = """
import runpy, sys
from skill_runtime import process

process.KILL_TIMEOUT_MS = 0
sys.argv[1:] = sys.argv[-1:]
runpy.run_module("skill_runtime", run_name="__main__")
"""
"""A command that finds no killed process gone at once, as where the pod has used up its time on the processor."""


def test_what_a_worker_that_is_slow_to_die_left_behind_is_ended_too(tmp_path: Path) -> None:
    source = HEAD + (
        "    import os, time\n"
        "    if input['n'] == 1:\n"
        "        kept = b'x' * (300 << 20)\n"  # takes the kernel a moment to give back
        "        if os.fork() == 0:\n"
        "            os.setsid()\n"
        "        time.sleep(100)\n"
        "    return {'n': input['n']}\n"
    )
    with serving(tmp_path, source, prefix=(sys.executable, "-c", SLOW_TO_DIE)) as served:
        for _ in range(5):
            assert served.call({"n": 1}, X_Skill_Deadline_Ms="500")[0] == 504
            until(lambda: len(family(served.process.pid)) == 2)  # server and zygote


LATE_TO_BE_GONE = """
import runpy, sys
from skill_runtime import process

kill = process.kill
process.kill = lambda pidfd: kill(pidfd) and False
sys.argv[1:] = sys.argv[-1:]
runpy.run_module("skill_runtime", run_name="__main__")
"""
"""A command that learns of each worker's end only when its event loop has a turn."""


def test_a_worker_that_is_late_to_be_gone_does_not_end_the_next_process_of_its_check(tmp_path: Path) -> None:
    assert check(tmp_path, GOOD, prefix=(sys.executable, "-c", LATE_TO_BE_GONE)).report["passed"]


GONE_AT_ONCE = """
import os, select, signal
from skill_runtime import process, signals, spawn

def spawn_and_kill(*arguments, **options):
    pid = start(*arguments, **options)
    os.kill(pid, signal.SIGKILL)
    for _ in range(50):  # whoever reaps has the time to
        if process.parent_pid(pid) is None:
            break
        select.select([], [], [], 0.01)
    return pid

start, os.posix_spawn = os.posix_spawn, spawn_and_kill
signals.SignalReceiver(lambda: None, reap=True)
select.select([spawn.start_zygote().pidfd], [], [])
"""


def test_a_zygote_that_is_gone_at_once_is_not_lost_to_whoever_reaps() -> None:
    assert run_program(GONE_AT_ONCE, seconds=60) == ""
