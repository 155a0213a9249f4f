"""End a program that is PID 1 of its container, when it is asked to."""

from __future__ import annotations

import os
import signal


def exit_on_sigterm() -> None:
    """Exit with status 0 at SIGTERM, at once: for programs that may be killed at any moment.

    The kernel keeps from PID 1 every signal that it has no handler for, so the kubelet would wait for the whole grace
    period, and then kill it. A new pod of a StatefulSet or a DaemonSet waits for that.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
