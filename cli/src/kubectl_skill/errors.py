"""The exit codes of the plugin, and the error that ends a command with one of them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """ExitCode says to a script how a command ended. The numbers do not change."""

    DONE = 0
    UNWELL = 1
    USAGE = 2
    NO_CLUSTER = 3
    FORBIDDEN = 4
    NOT_FOUND = 5
    TIMEOUT = 6
    CALL_REJECTED = 7
    CALL_FAILED = 8
    INTERRUPTED = 130


EXIT_CODES: Final[Mapping[ExitCode, str]] = {
    ExitCode.DONE: "The command did what it was asked.",
    ExitCode.UNWELL: "The command worked, and what it looked at is not well: a check failed, a Skill is stalled, "
    "a line of `doctor` is bad. Also any error that has no number of its own.",
    ExitCode.USAGE: "The command line is wrong, or a file that it names.",
    ExitCode.NO_CLUSTER: "kubectl is missing, its configuration is wrong, or the cluster does not respond.",
    ExitCode.FORBIDDEN: "The cluster does not accept the user, or the user may not do this.",
    ExitCode.NOT_FOUND: "The Skill, the namespace or the operator's API is not there.",
    ExitCode.TIMEOUT: "What the command waited for did not come in time.",
    ExitCode.CALL_REJECTED: "The gateway or the Skill rejected the call (a status of 400 to 499).",
    ExitCode.CALL_FAILED: "The gateway or the Skill failed to answer the call (a status of 500 to 599).",
    ExitCode.INTERRUPTED: "Ctrl-C ended the command.",
}


class CliError(Exception):
    """CliError ends a command: one line for a person, and an exit code for a script."""

    def __init__(self, message: str, code: ExitCode = ExitCode.UNWELL) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
