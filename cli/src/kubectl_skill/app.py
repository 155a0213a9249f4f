"""The command line: its verbs, in the order of the help, and how it ends.

A verb is a module of `kubectl_skill.verbs` that has a function `command`, or a `typer.Typer` called `app` where the
verb has verbs of its own. It is imported only when it is asked for, so that no command waits for what others need.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup

from kubectl_skill import output
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.options import ContextOption, KubeconfigOption, NamespaceOption

PROGRAM: Final = "kubectl skill"
DEBUG_VARIABLE: Final = "SKILL_DEBUG"


class Verb(NamedTuple):
    """Verb names a command and the module below `kubectl_skill.verbs` that holds it."""

    name: str
    module: str


VERBS: Final[tuple[Verb, ...]] = (
    # which read
    Verb("list", "list_skills"),
    Verb("why", "why"),
    Verb("history", "history"),
    Verb("diff", "diff"),
    Verb("logs", "logs"),
    Verb("call", "call"),
    Verb("cost", "cost"),
    Verb("doctor", "doctor"),
    Verb("ui", "ui"),
    # which write
    Verb("new", "new"),
    Verb("check", "check"),
    Verb("apply", "apply"),
    Verb("example", "example"),
    Verb("approve", "approve"),
    Verb("reject", "reject"),
    Verb("retry", "retry"),
    Verb("rollback", "rollback"),
    Verb("export", "export"),
)


class VerbGroup(TyperGroup):
    """VerbGroup imports a verb's module when the verb is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = dict.fromkeys(verb.name for verb in VERBS)  # type: ignore[assignment]  # names alone

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the verbs in the order of the help."""
        return [verb.name for verb in VERBS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb's command, or None where there is no such verb."""
        return next((load(verb) for verb in VERBS if verb.name == cmd_name), None)


def load(verb: Verb) -> Any:
    """Return the command of a verb, for which its module is imported."""
    module = import_module(f"kubectl_skill.verbs.{verb.module}")
    own: typer.Typer | None = getattr(module, "app", None)
    if own is None:
        own = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        own.command(verb.name)(module.command)
    command = typer.main.get_command(own)
    command.name = verb.name
    return command


def _root(namespace: NamespaceOption = "", context: ContextOption = "", kubeconfig: KubeconfigOption = "") -> None:
    """Write, understand, approve and call Skills.

    Every command reaches the cluster by your own kubectl, with your own rights.
    """


app = typer.Typer(
    cls=VerbGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(_root)


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit code; an error is one line, never a traceback."""
    command = typer.main.get_command(app)
    try:
        command.main(arguments, prog_name=PROGRAM)
    except CliError as error:
        sys.stdout.flush()
        output.fail(error.message)
        return int(error.code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except Exception as error:  # of a defect, too, people see one line
        if os.environ.get(DEBUG_VARIABLE):
            raise
        output.fail(f"a defect of kubectl skill: {type(error).__name__}: {error}. {DEBUG_VARIABLE}=1 shows where")
        return int(ExitCode.UNWELL)
    return int(ExitCode.DONE)
