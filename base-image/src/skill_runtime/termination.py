"""The end of a pod: what it leaves in its termination message for Kubernetes and the operator."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path

from skill_runtime import egress_gate, log
from skill_runtime import operator_contract as oc

_writing = threading.Lock()


def write_message(path: Path, message: str, *, last: bool = False) -> None:
    """Write the termination message where Kubernetes reads it, over anything that others wrote there.

    After the `last` one other threads wait for ever. Its writer ends the process, beginning with what the others serve,
    and they must not have the last word on that.
    """
    _writing.acquire()
    try:
        with contextlib.suppress(OSError):
            path.write_bytes(message.encode("utf-8", "replace")[: oc.TERMINATION_MESSAGE_BYTES])
    finally:
        if not last:
            _writing.release()


def wait_for_proof(proof: egress_gate.EgressProof, termination_log: Path) -> bool:
    """Wait for the egress gate and return whether the pod may continue.

    Where it may not, the termination message is written already.
    """
    start = time.monotonic()
    try:
        proof.wait()
    except egress_gate.EgressNotBlockedError as error:
        if proof.required:
            report_open_egress(error, termination_log)
            return False
        message = f"egress is not blocked; {oc.ENV_ISOLATION}={oc.ISOLATION_OPTIONAL} lets the skill run all the same"
        log.write("warning", message, target=error.target, detail=str(error))
        return True
    waited = round(time.monotonic() - start, 3)  # less than the proof took: much of it passed during imports
    log.write("info", "egress is blocked", seconds=round(proof.duration_seconds, 3), waited=waited)
    return True


def report_open_egress(error: egress_gate.EgressNotBlockedError, termination_log: Path, *, last: bool = False) -> None:
    """Write the termination message about open egress, and log it. `last`: see write_message."""
    message = {oc.EGRESS_BLOCKED: False, oc.EGRESS_TARGET: error.target, oc.EGRESS_DETAIL: str(error)}
    write_message(termination_log, json.dumps(message), last=last)
    log.write("error", "egress is not blocked", target=error.target, detail=str(error))
