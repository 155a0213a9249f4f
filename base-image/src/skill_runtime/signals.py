"""Signals to PID 1: only those from outside of the pod end it.

A process inside may signal PID 1 wherever PID 1 has a handler, so PID 1 has none. It blocks the two signals that it
needs and takes them with their sender (sigwaitinfo(2)); the kernel drops every other signal from inside, SIGKILL too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable

from skill_runtime import process

HANDLED_SIGNALS = frozenset((signal.SIGTERM, signal.SIGCHLD))
_SI_USER = 0
"""The si_code of kill(2). A process can choose the sender of sigqueue(3), but not with this code."""


class SignalReceiver:
    """SignalReceiver takes signals in a thread of its own, before there is an event loop and while one is busy."""

    def __init__(self, on_terminate: Callable[[], object], *, reap: bool) -> None:
        """It must come before any other thread, since threads inherit the mask of the one that starts them.

        `on_terminate` is called in the thread; with `reap` all children that end are reaped there.
        """
        self.on_terminate = on_terminate
        self._reap = reap
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler is one that a process inside could call
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            info = signal.sigwaitinfo(HANDLED_SIGNALS)
            if info.si_signo == signal.SIGCHLD:
                if self._reap:  # whoever sent it: the kernel merges signals, so it may stand for a real one
                    process.reap()
            elif sent_from_outside(info.si_code, info.si_pid):
                with contextlib.suppress(RuntimeError):  # the handler's event loop is closed
                    self.on_terminate()


def sent_from_outside(code: int, pid: int) -> bool:
    """Return whether the sender of a signal has no PID here, as the kubelet's container runtime.

    A process that is not PID 1 has no outside, and heeds everybody.
    """
    return os.getpid() != 1 or (code == _SI_USER and pid == 0)
