"""`skill_runtime serve`: PID 1 of a skill's pod."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from skill_runtime import gate, launch, log, process
from skill_runtime.settings import Settings, SettingsError

if TYPE_CHECKING:
    from skill_runtime.server import Outcome

EXIT_FAILED, EXIT_NOT_SHUT_IN, EXIT_UNUSABLE = 1, 3, 2


def main() -> int:
    """The whole life of the pod; its exit code."""
    process.seclude()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = Settings.read(os.environ)
    except SettingsError as error:
        log.write("error", "unusable settings", detail=str(error))
        return EXIT_UNUSABLE
    proof = gate.begin(settings)
    zygote = launch.start()  # of our code only: it loads the skill when it is told to, which is after the proof
    from skill_runtime import server

    if not gate.passed(proof, settings):
        process.end_everything()
        return EXIT_NOT_SHUT_IN
    try:
        outcome: Outcome = server.run(settings, zygote)
    except SettingsError as error:
        outcome = server.Outcome(EXIT_UNUSABLE, str(error))
    process.end_everything()
    if outcome.message:
        log.write("error", "ended", detail=outcome.message)
        process.conclude(settings.termination_log, outcome.message)
    return outcome.code
