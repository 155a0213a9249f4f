"""The command `serve`: PID 1 of a skill's pod. Here is only what must happen before anything else is imported."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from skill_runtime import egress_gate, process, signals, spawn
from skill_runtime import operator_contract as oc

if TYPE_CHECKING:
    from skill_runtime.server import PodExaminer


def main(examiner: PodExaminer | None = None) -> int:
    """Run the pod for its whole life, or until it is examined, and return its exit code."""
    receiver = signals.SignalReceiver(lambda: process.end(oc.EXIT_OK), reap=True)
    proof = egress_gate.EgressProof(os.environ)
    zygote = spawn.start_zygote()  # of our code only: it loads the skill on command, which is after the proof
    gc.disable()  # what imports make stays: looking through it for garbage costs an eighth of their time
    from skill_runtime import server  # takes as long as the proof does: both at once

    gc.freeze()
    gc.enable()
    return server.main(proof, zygote, receiver, examiner)
