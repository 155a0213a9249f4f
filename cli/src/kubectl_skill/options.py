"""The options and arguments that commands share, and what completes them.

A command takes them as annotated parameters and gets its way to the cluster by `connect`:

    def command(ctx: typer.Context, name: SkillName, namespace: NamespaceOption = "", context: ContextOption = "",
                kubeconfig: KubeconfigOption = "") -> None:
        kubectl = connect(ctx, namespace, context, kubeconfig)
"""

from __future__ import annotations

from typing import Annotated

import typer

from kubectl_skill.errors import CliError
from kubectl_skill.kubectl import SKILLS, Kubectl
from kubectl_skill.output import OutputFormat
from skill_operator.untrusted.text import single_line

MAX_COMPLETION_CHARACTERS = 200


def connect(ctx: typer.Context, namespace: str, context: str, kubeconfig: str) -> Kubectl:
    """Return the way to the cluster. What stands after the verb wins over what stands before it."""
    outer = (ctx.find_root().params if ctx is not None else {}) or {}
    return Kubectl(
        context=context or outer.get("context") or "",
        namespace_option=namespace or outer.get("namespace") or "",
        kubeconfig=kubeconfig or outer.get("kubeconfig") or "",
    )


def _connect_incomplete(ctx: typer.Context) -> Kubectl:
    given = ctx.params
    return connect(ctx, given.get("namespace") or "", given.get("context") or "", given.get("kubeconfig") or "")


def _names(ctx: typer.Context, *arguments: str, namespaced: bool = True) -> list[str]:
    """Return names for a shell to complete, or none where the cluster does not say them: completion never fails."""
    try:
        found = _connect_incomplete(ctx).run(*arguments, namespaced=namespaced)
    except (CliError, OSError):
        return []
    return [single_line(line.rpartition("/")[2], MAX_COMPLETION_CHARACTERS) for line in found.split()]


def complete_skill(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of Skills that begin so."""
    return [name for name in _names(ctx, "get", SKILLS, "-o", "name") if name.startswith(incomplete)]


def complete_namespace(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of namespaces that begin so."""
    found = _names(ctx, "get", "namespaces", "-o", "name", namespaced=False)
    return [name for name in found if name.startswith(incomplete)]


def complete_context(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of contexts that begin so."""
    found = _names(ctx, "config", "get-contexts", "-o", "name", namespaced=False)
    return [name for name in found if name.startswith(incomplete)]


def complete_revision(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the revisions in a Skill's history that begin so."""
    name = ctx.params.get("name")
    if not name:
        return []
    found = _names(ctx, "get", SKILLS, str(name), "-o", 'jsonpath={range .status.history[*]}{.revision}{"\\n"}{end}')
    return [revision for revision in found if revision.startswith(incomplete)]


SkillName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the Skill.", show_default=False, autocompletion=complete_skill)
]
NamespaceOption = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAMESPACE",
        help="Namespace of the Skill; default: that of kubectl's context.",
        show_default=False,
        autocompletion=complete_namespace,
    ),
]
ContextOption = Annotated[
    str,
    typer.Option(
        "--context",
        metavar="CONTEXT",
        help="Context of kubectl's configuration to use.",
        show_default=False,
        autocompletion=complete_context,
    ),
]
KubeconfigOption = Annotated[
    str,
    typer.Option("--kubeconfig", metavar="FILE", help="Configuration of kubectl to use.", show_default=False),
]
OutputOption = Annotated[
    OutputFormat | None,
    typer.Option("--output", "-o", help="Write this format, for programs.", show_default=False),
]
AllNamespacesOption = Annotated[
    bool,
    typer.Option("--all-namespaces", "-A", help="Look in every namespace.", show_default=False),
]
OperatorNamespaceOption = Annotated[
    str,
    typer.Option(
        "--operator-namespace",
        metavar="NAMESPACE",
        envvar="SKILL_OPERATOR_NAMESPACE",
        help="Namespace that the operator is installed in; default: skill-operator.",
        show_default=False,
        show_envvar=True,
    ),
]
GatewayUrlOption = Annotated[
    str,
    typer.Option(
        "--gateway-url",
        metavar="URL",
        envvar="SKILL_GATEWAY_URL",
        help="Address of the gateway; default: a port that kubectl forwards to it.",
        show_default=False,
        show_envvar=True,
    ),
]
CaFileOption = Annotated[
    str,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        help="CA of the gateway's certificate, as PEM; default: the one that the installation publishes.",
        show_default=False,
    ),
]
AccountOption = Annotated[
    str,
    typer.Option(
        "--as-account",
        metavar="[NAMESPACE/]ACCOUNT",
        help="Call with a short-lived token of this ServiceAccount. You need the right to create its "
        "serviceaccounts/token. Default: $SKILL_TOKEN, else the token of your kubeconfig.",
        show_default=False,
    ),
]
