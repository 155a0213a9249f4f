"""The reference of the plugin of kubectl: the help of every verb, exit codes, rights and environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from hack.docs.markdown import code, page, table
from kubectl_skill.app import PROGRAM
from kubectl_skill.errors import ExitCode
from kubectl_skill.verbs.doctor import UsersRight

WIDTH_COLUMNS = 100
INTRODUCTION = """\
`kubectl skill` reaches the cluster by your own kubectl alone, so it can do nothing that you could not type. How to
install and use it: [kubectl skill](../how-to/kubectl-skill.md).
"""
FORMATS_TEXT = """\
Answers go to standard output, and all else to standard error. `-o json` and `-o yaml` write whole objects for programs,
`-o name` names alone. Text is for people and may change.

Hidden characters, such as escape sequences of a terminal, are shown as escapes (`\\x1b`). In JSON and YAML they are
escapes that mean the same. Colours are for terminals alone; `NO_COLOR=1` or `TERM=dumb` turns them off.
"""
EXIT_TEXT = "These numbers do not change within `v1alpha1`."
RIGHTS_TEXT = """\
The plugin has no rights of its own. `kubectl skill doctor` says which of these you have. The role `view` suffices for
what reads, and `skill-caller` for a call with `--gateway-url`.
"""
ENVIRONMENT = (
    ("KUBECONFIG", "Configuration of kubectl, which reads it itself."),
    ("SKILL_TOKEN", "Token of `call` and `ui`, in place of that of the kubeconfig."),
    ("SKILL_GATEWAY_URL", "Address of the gateway, in place of a forwarded port."),
    ("SKILL_OPERATOR_NAMESPACE", "Namespace of the operator; `skill-operator` where it is not set."),
    ("SKILL_CALL_JOURNAL", "`off` keeps no calls on this machine for `example add --from-call`."),
    ("NO_COLOR", "Any value turns colours off."),
    ("XDG_STATE_HOME", "Folder below which your last calls are kept; `~/.local/state` where it is not set."),
    ("SHIV_ROOT", "Folder that the plugin unpacks itself into once; `~/.shiv` where it is not set."),
)


def render(command: Any, exit_codes: Mapping[ExitCode, str], rights: Sequence[UsersRight]) -> str:
    """Return the page, for the command of the whole program."""
    root = typer.Context(command, info_name=PROGRAM, terminal_width=WIDTH_COLUMNS, max_content_width=WIDTH_COLUMNS)
    where = {True: "the operator's", False: "the Skill's"}
    rights_rows = [
        (code(f"{right.verb} {right.resource}"), where[right.in_operator_namespace], right.needed_by)
        for right in rights
    ]
    return page(
        "kubectl skill",
        INTRODUCTION,
        "## Output",
        FORMATS_TEXT,
        "## Exit codes",
        EXIT_TEXT,
        table(("Code", "When"), [(str(int(number)), meaning) for number, meaning in exit_codes.items()]),
        "## Rights",
        RIGHTS_TEXT,
        table(("Right", "In the namespace", "For"), rights_rows),
        "## Environment",
        table(("Variable", "What"), [(code(name), meaning) for name, meaning in ENVIRONMENT]),
        "## Commands",
        *_help(command, root),
    )


def _help(command: Any, context: typer.Context) -> Iterator[str]:
    """Yield a heading and the help of each verb, and of the verbs below it."""
    for name in command.list_commands(context):
        verb = command.get_command(context, name)
        inner = typer.Context(
            verb, info_name=name, parent=context, terminal_width=WIDTH_COLUMNS, max_content_width=WIDTH_COLUMNS
        )
        if hasattr(verb, "list_commands"):
            yield from _help(verb, inner)
            continue
        yield f"### {inner.command_path.removeprefix(f'{PROGRAM} ')}"
        text = "\n".join(line.rstrip() for line in verb.get_help(inner).splitlines())
        yield f"```text\n{text.strip()}\n```"
