"""The command `check`: PID 1 of a check Job."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from skill_runtime import egress_gate, log, process, termination
from skill_runtime import operator_contract as oc
from skill_runtime.check import dynamic, report, static
from skill_runtime.check.request import CheckRequest, EncodedRequest
from skill_runtime.settings import RuntimeSettings, RuntimeSettingsError


def main() -> int:
    """Run the whole check and return its exit code; EXIT_OK says that there is a report, not that it passed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        encoded = EncodedRequest.take(os.environ)
        settings = RuntimeSettings.read(os.environ)
        if not termination.wait_for_proof(egress_gate.EgressProof(os.environ), settings.termination_log):
            return oc.EXIT_EGRESS_NOT_BLOCKED
        request = encoded.decode()
    except RuntimeSettingsError as error:
        log.write("error", "invalid check request", detail=str(error))
        return oc.EXIT_UNUSABLE
    folder = Path(tempfile.mkdtemp(prefix="check-", dir=settings.scratch))
    try:
        start, cpu = time.monotonic(), _cpu_seconds()
        finding, passed = static.run_gates(request, settings, folder), 0
        static_end, cpu = time.monotonic(), _cpu_seconds() - cpu
        if finding is None:
            result = asyncio.run(dynamic.run_gates(request, _write_skill(request, folder)))
            finding, passed = result.finding, result.passed
    finally:
        process.kill_all()
        shutil.rmtree(folder, ignore_errors=True)
    termination.write_message(settings.termination_log, report.sign_report(encoded.key, request, finding, passed))
    log.write(
        "info",
        "verdict",
        gate=finding.gate if finding else "passed",
        passed=passed,
        examples=len(request.examples),
        staticSeconds=round(static_end - start, 3),
        staticCPU=round(cpu, 3),
        seconds=round(time.monotonic() - start, 3),
    )
    return oc.EXIT_OK


def _write_skill(request: CheckRequest, folder: Path) -> Path:
    """Write the candidate to a file, as in production."""
    path = folder / oc.SKILL_FILE
    path.write_text(request.source, encoding="utf-8")
    return path


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
