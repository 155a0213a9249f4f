"""`skill_runtime serve`: PID 1 of a skill's pod. Here is only what must happen before anything else is imported."""

from __future__ import annotations

import gc
import os
import signal
import sys

from skill_runtime import egress_gate, spawn


def main() -> int:
    """The whole life of the pod; its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    proof = egress_gate.Proof(os.environ)
    zygote = spawn.start()  # of our code only: it loads the skill when it is told to, which is after the proof
    gc.disable()  # what imports make stays: looking through it for garbage costs an eighth of their time
    from skill_runtime import server  # takes as long as the proof does: both at once

    gc.freeze()
    gc.enable()
    return server.main(proof, zygote)
