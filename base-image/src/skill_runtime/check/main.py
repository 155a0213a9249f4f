"""The command `check`: PID 1 of a check Job."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path

from skill_runtime import egress_gate, guard, log, process, signals, termination
from skill_runtime import operator_contract as oc
from skill_runtime.check import dynamic, report, static
from skill_runtime.check.candidate import WritablePaths
from skill_runtime.check.request import CheckRequest, EncodedRequest
from skill_runtime.settings import RuntimeSettings, RuntimeSettingsError

_SHARED_MEMORY = (Path("/dev/shm"),) if os.getuid() == oc.SANDBOX_UID else ()  # elsewhere it is somebody else's, too
_EXIT_TERMINATED = 143  # as of a process that SIGTERM ends


def main() -> int:
    """Run the whole check and return its exit code; EXIT_OK says that there is a report, not that it passed."""
    signals.SignalReceiver(lambda: process.end(_EXIT_TERMINATED), reap=False)  # it waits for its tools
    try:
        encoded = EncodedRequest.take(os.environ)
        settings = RuntimeSettings.read(os.environ)
        proof = egress_gate.EgressProof(os.environ)
        if not termination.wait_for_proof(proof, settings.termination_log):
            return oc.EXIT_EGRESS_NOT_BLOCKED
        guard.Guard(proof, settings.termination_log, settings.recheck_seconds)
        request = encoded.decode()
    except RuntimeSettingsError as error:
        log.write("error", "invalid check request", detail=str(error))
        return oc.EXIT_UNUSABLE
    try:
        start, cpu = time.monotonic(), _cpu_seconds()
        with tempfile.TemporaryDirectory(prefix="check-", dir=settings.scratch, ignore_cleanup_errors=True) as folder:
            finding, passed = static.run_gates(request, settings, Path(folder)), 0
        static_end, cpu = time.monotonic(), _cpu_seconds() - cpu
        if finding is None:
            _place_skill(request, settings.skill)
            writable = WritablePaths((settings.scratch, *_SHARED_MEMORY), settings.termination_log)
            result = asyncio.run(dynamic.run_gates(request, settings.skill, writable))
            finding, passed = result.finding, result.passed
    except RuntimeSettingsError as error:
        log.write("error", "the code is not the one to check", detail=str(error))
        return oc.EXIT_UNUSABLE
    finally:
        process.kill_all()
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


def _place_skill(request: CheckRequest, path: Path) -> None:
    """Hold the mounted file of the candidate against the request; outside of a pod, write it.

    Raises RuntimeSettingsError where the file is another: then somebody changed the ConfigMap.
    """
    source = request.source.encode()
    with contextlib.suppress(OSError):  # in a pod the mount is read-only
        path.unlink(missing_ok=True)
        path.write_bytes(source)
        path.chmod(0o444)
    try:
        mounted = path.read_bytes()
    except OSError as error:
        raise RuntimeSettingsError(f"cannot read {path}: {error.strerror}") from error
    if mounted != source:
        raise RuntimeSettingsError(f"{path} is not the code of the check request")


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
