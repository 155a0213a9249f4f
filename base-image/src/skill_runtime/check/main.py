"""`skill_runtime check`: PID 1 of a check Job."""

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
from skill_runtime.check import dynamic, report, static
from skill_runtime.check.request import CheckRequest, Order
from skill_runtime.settings import RuntimeSettings, RuntimeSettingsError

VERDICT = 0


def main() -> int:
    """The whole check; its exit code. 0 tells that there is a verdict, not which."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        order = Order.take(os.environ)
        settings = RuntimeSettings.read(os.environ)
        if not termination.may_go_on(egress_gate.Proof(os.environ), settings.termination_log):
            return termination.NOT_SHUT_IN
        bundle = order.read()
    except RuntimeSettingsError as error:
        log.write("error", "unusable order", detail=str(error))
        return termination.UNUSABLE
    folder = Path(tempfile.mkdtemp(prefix="check-", dir=settings.scratch))
    try:
        began, cpu = time.monotonic(), _cpu()
        finding, passed = static.judge(bundle, settings, folder), 0
        looked, cpu = time.monotonic(), _cpu() - cpu
        if finding is None:
            result = asyncio.run(dynamic.judge(bundle, _written(bundle, folder)))
            finding, passed = result.finding, result.passed
    finally:
        process.end_everything()
        shutil.rmtree(folder, ignore_errors=True)
    termination.conclude(settings.termination_log, report.signed(order.key, bundle, finding, passed))
    log.write(
        "info",
        "verdict",
        gate=finding.gate if finding else "passed",
        passed=passed,
        examples=len(bundle.examples),
        staticSeconds=round(looked - began, 3),
        staticCPU=round(cpu, 3),
        seconds=round(time.monotonic() - began, 3),
    )
    return VERDICT


def _written(bundle: CheckRequest, folder: Path) -> Path:
    """The candidate in a file, as in production."""
    path = folder / "skill.py"
    path.write_text(bundle.source, encoding="utf-8")
    return path


def _cpu() -> float:
    """Seconds of CPU of this process and of those that it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
