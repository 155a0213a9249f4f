"""How a pool of workers comes through the end of its zygote, whatever was under way at that moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.runtime.harness import run_program

FALL_IN_A_FORK = """
import asyncio, os, pathlib, select, signal, sys
from skill_runtime import output, process, signals, spawn, worker_client, worker_pool

async def main():
    zygote = worker_client.ZygoteClient(spawn.start_zygote())
    config = worker_pool.PoolConfig(pathlib.Path(sys.argv[1]), 2, 0, 60.0, 1000, {})
    pool = worker_pool.WorkerPool(config, zygote, output.OutputCollector(lambda line, request_id: None))
    supervisor = asyncio.create_task(pool.supervise())
    await pool.loaded.wait()
    os.kill(zygote.pid, signal.SIGSTOP)  # it answers no more
    call = asyncio.create_task(pool.call(b"{}"))
    while not zygote._lock.locked():
        await asyncio.sleep(0)
    end = os.pidfd_open(zygote.pid)
    os.kill(zygote.pid, signal.SIGKILL)
    select.select([end], [], [])  # the event loop learns of its end and of the connection's in one turn
    try:
        await call
    except worker_client.WorkerError:
        while pool._zygote is zygote:
            await asyncio.sleep(0)
        await pool.loaded.wait()
        assert (await pool.call(b"{}")).text == b"{}"
    supervisor.cancel()
    pool.close()

process.harden()
signals.SignalReceiver(lambda: None, reap=True)
asyncio.run(asyncio.wait_for(main(), 30))
"""
"""A pool's zygote ends while it forks, and the next one must load within half the time that loading may take."""

HEIR = "import os, time\nif os.fork() == 0:\n    time.sleep(1000)\n"
"""Starts a process that keeps the zygote's end of the connection open when that is gone."""


@pytest.mark.parametrize("heir", ["", HEIR], ids=["alone", "with an heir"])
def test_a_zygote_that_falls_in_a_fork_is_replaced(tmp_path: Path, heir: str) -> None:
    skill = tmp_path / "skill.py"
    skill.write_text(heir + "def run(input):\n    return input\n")
    assert "is started again" in run_program(FALL_IN_A_FORK, str(skill), seconds=90)
