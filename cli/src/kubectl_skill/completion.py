"""Completion in the shell by kubectl's own protocol for plugins.

kubectl runs `kubectl_complete-skill` with the words after `kubectl skill`, the last of which is unfinished. The answer
is one completion a line, with a tab before its explanation, and a last line with cobra's directive.
"""

from __future__ import annotations

from typing import Any, Final

import typer
from typer._click.shell_completion import CompletionItem, ShellComplete

from kubectl_skill.app import PROGRAM, app
from skill_operator.untrusted.text import single_line

NAME: Final = "kubectl_complete-skill"
NO_FILES: Final = ":4"  # cobra's ShellCompDirectiveNoFileComp
FILES: Final = ":0"  # cobra's ShellCompDirectiveDefault: the shell completes names of files
MAX_HELP_CHARACTERS = 100


class KubectlComplete(ShellComplete):
    """KubectlComplete finds completions for words that kubectl hands over."""

    name = "kubectl"
    source_template = ""

    def source_vars(self) -> dict[str, Any]:
        """Return nothing: kubectl's own script is used."""
        return {}

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return nothing: the words are arguments."""
        return [], ""

    def format_completion(self, item: CompletionItem) -> str:
        """Return a completion as cobra writes it: the word, and after a tab what it means."""
        explanation = single_line(item.help or "", MAX_HELP_CHARACTERS)
        value = single_line(str(item.value), MAX_HELP_CHARACTERS)
        return f"{value}\t{explanation}" if explanation else value


def complete(words: list[str]) -> str:
    """Return what kubectl reads for these words."""
    *finished, incomplete = words or [""]
    finder = KubectlComplete(typer.main.get_command(app), {}, PROGRAM, "")
    try:
        found = finder.get_completions(finished, incomplete)
    except Exception:  # noqa: BLE001  # a shell that completes shows no error
        found = []
    lines = []
    for item in found:
        if item.type != "plain":
            return FILES
        lines.append(finder.format_completion(item))
    return "\n".join([*lines, NO_FILES])
