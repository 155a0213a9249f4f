"""`kubectl skill rollback`: pin a Skill to a revision that ran before."""

from __future__ import annotations

from typing import Annotated

import typer

from kubectl_skill import output
from kubectl_skill.answering import TimeoutOption, WatchOption, follow_written, patch_skill
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.kept_code import find_revision
from kubectl_skill.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    SkillName,
    complete_revision,
    connect,
)
from kubectl_skill.skills import SkillView, read_skill


def command(
    ctx: typer.Context,
    name: SkillName,
    revision: Annotated[
        str,
        typer.Argument(
            metavar="[REVISION]",
            help="Label in the Skill's history, or its beginning; default: the one before.",
            show_default=False,
            autocompletion=complete_revision,
        ),
    ] = "",
    to_latest: Annotated[
        bool, typer.Option("--to-latest", help="Take the pin away: what the spec asks for runs again.")
    ] = False,
    watch: WatchOption = False,
    timeout: TimeoutOption = 300,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Pin a Skill to a revision that ran before.

    No model is called and nothing is built. The pin is spec.revision: where Git writes the spec, write it there, too.
    """
    if to_latest and revision:
        raise CliError("name a revision, or say --to-latest", ExitCode.USAGE)
    kubectl = connect(ctx, namespace, context, kubeconfig)
    skill = read_skill(kubectl.get_skill(name))
    wanted = None if to_latest else _choose(skill, revision)
    pinned = str((skill.raw.get("spec") or {}).get("revision") or "")
    if (wanted or "") == pinned:
        output.write(f"{skill.namespace}/{skill.name}: " + (f"it is pinned to {wanted}" if wanted else "it has no pin"))
        return
    written = patch_skill(kubectl, name, {"spec": {"revision": wanted}})
    if str((written.get("spec") or {}).get("revision") or "") != (wanted or ""):
        raise CliError("the operator's API has no spec.revision: upgrade its chart and its definition of a Skill")
    where = f"{skill.namespace}/{skill.name}"
    if wanted is None:
        output.write(f"{where}: the pin to {pinned} is gone; what the spec asks for runs again")
    else:
        output.write(f"{where}: it is pinned to {wanted}. Back again: kubectl skill rollback {skill.name} --to-latest")
    if watch:
        follow_written(kubectl, written, timeout)


def _choose(skill: SkillView, wanted: str) -> str:
    """Return the label to pin to: what was named, or the one before the one that runs. Raises CliError."""
    if wanted:
        return find_revision(skill, wanted).revision
    labels = [entry.revision for entry in skill.status.history]
    if not labels:
        raise CliError(f"{skill.name} has no history yet: no revision of it ever ran", ExitCode.NOT_FOUND)
    current = skill.status.revision
    at = labels.index(current) if current in labels else -1
    if at + 1 >= len(labels):
        raise CliError(f"{skill.name} has no revision before {current or 'this'}: nothing is older", ExitCode.NOT_FOUND)
    return labels[at + 1]
