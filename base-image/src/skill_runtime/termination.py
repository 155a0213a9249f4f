"""How a pod of ours ends: what it leaves in its termination log, and with which code."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from skill_runtime import egress_gate, log

FAILED, UNUSABLE, NOT_SHUT_IN = 1, 2, 3
"""Exit codes. Kubernetes and the operator tell them apart."""


def conclude(path: Path, message: str) -> None:
    """Leave the last word where Kubernetes picks it up, over anything that others wrote there."""
    with contextlib.suppress(OSError):
        path.write_bytes(message.encode("utf-8", "replace")[:4096])


def may_go_on(proof: egress_gate.Proof, termination_log: Path) -> bool:
    """Wait for the gate. If it does not open, the pod's last word is written already."""
    began = time.monotonic()
    try:
        proof.wait()
    except egress_gate.EgressNotBlockedError as error:
        if proof.required:
            conclude(termination_log, not_shut_in(error))
            return False
        log.write("warning", "not shut in, and told not to mind", target=error.target, detail=str(error))
        return True
    cost = round(time.monotonic() - began, 3)  # less than the proof took: much of it passed during imports
    log.write("info", "shut in", seconds=round(proof.seconds, 3), waited=cost)
    return True


def not_shut_in(error: egress_gate.EgressNotBlockedError) -> str:
    """What the operator reads of it."""
    log.write("error", "not shut in", target=error.target, detail=str(error))
    return json.dumps({"refused": False, "target": error.target, "detail": str(error)})
