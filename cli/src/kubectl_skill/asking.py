"""Ask a person at the terminal. Questions go to standard error, so that standard output stays what was asked for."""

from __future__ import annotations

import sys
from typing import Final

from kubectl_skill import output
from kubectl_skill.errors import CliError, ExitCode

MAX_ANSWER_CHARACTERS: Final = 1 << 20


def ask(question: str) -> str | None:
    """Return the line that a person typed, without blanks around it, or None where nobody is there any more."""
    output.prompt(question)
    line = sys.stdin.readline(MAX_ANSWER_CHARACTERS)
    if not line.endswith("\n"):
        output.note("")
    return line.strip() if line else None


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person, unless they said yes before. Raises CliError where the answer is no, or nobody is there."""
    if yes:
        return
    answer = ask(f"{question} [y/N]")
    if answer is None:
        raise CliError("nobody answered: say --yes to do it without a question", ExitCode.USAGE)
    if answer.lower() not in {"y", "yes"}:
        raise CliError("nothing was changed")
