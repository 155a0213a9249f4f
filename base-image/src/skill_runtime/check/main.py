"""The command `check`: PID 1 of a check Job."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from skill_runtime import egress_gate, guard, log, process, signals, termination
from skill_runtime import operator_contract as oc
from skill_runtime.check import comparison, dynamic, mutation_testing, report, static
from skill_runtime.check.candidate import WritablePaths
from skill_runtime.check.findings import GateFinding
from skill_runtime.check.request import CheckRequest, EncodedRequest
from skill_runtime.settings import RuntimeSettings, RuntimeSettingsError

_READ_FILE = ".read"
"""File of the first phase in the folder that both share: it says, signed, what was read and found good."""
_SHARED_MEMORY = Path("/dev/shm")
MAX_GATE_SECONDS = 20.0
"""The longest time of the gates that run the code after which its mutants are tried."""
_EXIT_TERMINATED = 143  # as of a process that SIGTERM ends


def main() -> int:
    """Run the check, or the phase that ENV_CHECK_PHASE names, and return the exit code.

    The phase that reads the code leaves a report where it refuses it, and EXIT_REFUSED; else a token for the phase that
    runs it. That phase, and a whole check, leave a report: with EXIT_OK where the code passes, else EXIT_REFUSED.
    """
    signals.SignalReceiver(lambda: process.end(_EXIT_TERMINATED), reap=False)  # it waits for its tools
    try:
        encoded = EncodedRequest.take(os.environ)
        phase = os.environ.get(oc.ENV_CHECK_PHASE, "")
        settings = RuntimeSettings.read(os.environ)
        proof = egress_gate.EgressProof(os.environ)
        if not termination.wait_for_proof(proof, settings.termination_log):
            return oc.EXIT_EGRESS_NOT_BLOCKED
        guard.Guard(proof, settings.termination_log, settings.recheck_seconds)
        request = encoded.decode()
    except RuntimeSettingsError as error:
        log.write("error", "invalid check request", detail=str(error))
        return oc.EXIT_UNUSABLE
    token = settings.scratch / _READ_FILE
    finding, evidence, mutant_seconds = None, report.CheckEvidence(), 0.0
    try:
        start, cpu = time.monotonic(), _cpu_seconds()
        if phase != oc.PHASE_RUN:
            finding = _read_code(request, settings)
        else:
            _expect_token(token, encoded.sign(request.digest))
        static_end, cpu = time.monotonic(), _cpu_seconds() - cpu
        if finding is None and phase == oc.PHASE_READ:
            token.write_text(encoded.sign(request.digest))
            return oc.EXIT_OK
        if finding is None:
            result = _run_code(request, settings)
            finding = result.finding
            evidence = report.CheckEvidence(
                result.passed, sum(record.is_promise_kept for record in result.records), questions=result.questions
            )
            if finding is None and not request.reference:
                # A mutant may have the kernel kill the pod. This tells the operator that no gate did.
                message = report.sign_report(encoded.key, request, finding, evidence)
                termination.write_message(settings.termination_log, message)
                gates_end = time.monotonic()
                evidence = _try_mutants(request, settings, result, evidence, gates_end - static_end)
                mutant_seconds = time.monotonic() - gates_end
    except RuntimeSettingsError as error:
        log.write("error", "the code is not the one to check", detail=str(error))
        return oc.EXIT_UNUSABLE
    finally:
        process.kill_all()
    termination.write_message(settings.termination_log, report.sign_report(encoded.key, request, finding, evidence))
    log.write(
        "info",
        "verdict",
        gate=finding.gate if finding else "passed",
        passed=evidence.passed_examples,
        examples=len(request.examples),
        mutants=evidence.mutants.total,
        killed=evidence.mutants.killed,
        mutantSeconds=round(mutant_seconds, 3),
        staticSeconds=round(static_end - start, 3),
        staticCPU=round(cpu, 3),
        seconds=round(time.monotonic() - start, 3),
    )
    return oc.EXIT_OK if finding is None else oc.EXIT_REFUSED


def _read_code(request: CheckRequest, settings: RuntimeSettings) -> GateFinding | None:
    """Run the gates that only read, in a folder of which nothing is left."""
    with tempfile.TemporaryDirectory(prefix="check-", dir=settings.scratch, ignore_cleanup_errors=True) as folder:
        return static.run_gates(request, settings, Path(folder))


def _run_code(request: CheckRequest, settings: RuntimeSettings) -> dynamic.DynamicResult:
    """Run the gates that run the code, or compare it with the accepted program where the request has one."""
    _place_file(request.source, settings.skill)
    writable = _writable_paths(settings)
    if not request.reference:
        return asyncio.run(dynamic.run_gates(request, settings.skill, writable))
    reference = settings.skill.with_name(oc.REFERENCE_FILE)
    _place_file(request.reference, reference)
    return asyncio.run(comparison.compare_programs(request, settings.skill, reference, writable))


def _try_mutants(
    request: CheckRequest,
    settings: RuntimeSettings,
    result: dynamic.DynamicResult,
    evidence: report.CheckEvidence,
    seconds: float,
) -> report.CheckEvidence:
    """Return the evidence with what mutants of the accepted code show; `seconds` is the time that its gates took.

    The code stays accepted whatever happens here.
    """
    if (reason := os.environ.get(oc.ENV_SKIP_MUTANTS)) in oc.MUTANTS_SKIPPED_REASONS:
        return replace(evidence, mutants=report.MutantCount(skipped=reason))
    if seconds > MAX_GATE_SECONDS:
        return replace(evidence, mutants=report.MutantCount(skipped="Slow"))
    try:
        tested = asyncio.run(
            mutation_testing.run_mutants(request, settings.skill, _writable_paths(settings), result.records)
        )
    except Exception as error:  # noqa: BLE001 - it is no reason to lose the verdict
        log.write("error", "the mutants could not be tried", detail=f"{type(error).__name__}: {error}")
        return evidence
    return replace(evidence, mutants=tested.count, questions=(*result.questions, *tested.questions))


def _writable_paths(settings: RuntimeSettings) -> WritablePaths:
    """Return what a candidate can write. Outside of a pod, /tmp and /dev/shm are somebody else's, too."""
    in_pod = os.getpid() == 1 and os.getuid() == oc.SANDBOX_UID
    scratch = () if settings.scratch == Path(oc.SCRATCH_DIRECTORY) and not in_pod else (settings.scratch,)
    return WritablePaths((*scratch, _SHARED_MEMORY) if in_pod else scratch, settings.termination_log)


def _expect_token(path: Path, token: str) -> None:
    """Raise RuntimeSettingsError unless the first phase left this token."""
    if not path.is_file() or path.read_text() != token:
        raise RuntimeSettingsError("the code was not read before: somebody changed the ConfigMap")


def _place_file(text: str, path: Path) -> None:
    """Hold the mounted file of a program against the text in the request; outside of a pod, write it.

    Raises RuntimeSettingsError where the file is another: then somebody changed the ConfigMap.
    """
    source = text.encode()
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
