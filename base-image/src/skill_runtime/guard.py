"""The guard of a running pod: it ends the pod once egress opens or the event loop stands still, whatever PID 1 does.

It is a thread, which an event loop cannot hold up. Code in C that keeps Python's lock can, so the guard winds up a
watchdog before each look: a thread without Python (faulthandler), which ends the process unless it is wound up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import threading
import time
from pathlib import Path

from skill_runtime import log, process, termination
from skill_runtime import operator_contract as oc
from skill_runtime.egress_gate import EgressNotBlockedError, EgressProof

STALL_SECONDS = 30.0
"""The time by which a look may be late before the watchdog ends the pod."""
MAX_MISSED_BEATS = 2
"""The number of looks in a row between which the event loop may have had no turn."""
_FAREWELL_SECONDS = 5.0
"""The time for the last words, which nobody may ever read."""


class Guard:
    """Guard looks at the way out and at the event loop, once in each interval; an interval of 0 means never."""

    def __init__(self, proof: EgressProof, termination_log: Path, interval_seconds: float) -> None:
        self._proof, self._termination_log, self._interval_seconds = proof, termination_log, interval_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._missed_beats = 0
        self._message_file = _open_message_file(termination_log)
        if interval_seconds:
            self._wind_up(interval_seconds + STALL_SECONDS)
            threading.Thread(target=self._run, daemon=True).start()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Demand from now on that the loop has a turn now and then."""
        self._loop = loop

    def _run(self) -> None:
        while True:  # an exception ends this thread, and then the watchdog the pod
            time.sleep(self._interval_seconds)
            self._check_egress()
            self._check_loop()
            self._wind_up(self._interval_seconds + STALL_SECONDS)

    def _check_egress(self) -> None:
        if self._proof.required:
            try:
                self._proof.recheck()
            except EgressNotBlockedError as error:
                self._wind_up(_FAREWELL_SECONDS)
                termination.report_open_egress(error, self._termination_log, last=True)
                process.end(oc.EXIT_EGRESS_NOT_BLOCKED)

    def _check_loop(self) -> None:
        if self._loop is None:
            return
        if self._missed_beats >= MAX_MISSED_BEATS:
            message = f"the server stood still for {self._missed_beats * self._interval_seconds:.0f} s"
            self._wind_up(_FAREWELL_SECONDS)
            termination.write_message(self._termination_log, message, last=True)
            log.write("error", "server failed", detail=message)
            process.end(oc.EXIT_FAILED)
        self._missed_beats += 1
        with contextlib.suppress(RuntimeError):  # the loop is closed, so the process is about to end
            self._loop.call_soon_threadsafe(self._on_beat)

    def _on_beat(self) -> None:
        self._missed_beats = 0

    def _wind_up(self, seconds: float) -> None:
        """Have the watchdog end the process (EXIT_FAILED) so many seconds from now; its message is a traceback."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._message_file)


def _open_message_file(path: Path) -> int:
    """Return a descriptor of the termination log, or of standard error where there is none."""
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return 2
