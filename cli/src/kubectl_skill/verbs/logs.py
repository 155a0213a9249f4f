"""`kubectl skill logs`: what the pods of a Skill write."""

from __future__ import annotations

from typing import Annotated

import typer

from kubectl_skill import output
from kubectl_skill.options import ContextOption, KubeconfigOption, NamespaceOption, SkillName, connect
from kubectl_skill.skills import read_skill
from skill_operator import naming

MAX_PODS = 20


def command(
    ctx: typer.Context,
    name: SkillName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=-1, help="Lines of each pod; -1: all.")] = 100,
    since: Annotated[
        str, typer.Option("--since", metavar="DURATION", help="Not older than this, such as 10m.", show_default=False)
    ] = "",
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Of the container that ended before.")] = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Write the log of a Skill's pods.

    A Skill that sleeps has no pod, and so no log. Hidden characters are shown as escapes.
    """
    kubectl = connect(ctx, namespace, context, kubeconfig)
    skill = read_skill(kubectl.get_skill(name))
    selector = ",".join(f"{key}={value}" for key, value in naming.selector(skill.metadata.uid).items())
    pods = kubectl.json("get", "pods", "-l", selector).get("items", [])
    if not pods:
        output.note(f"{skill.name} has no pod, and so no log. It is {skill.state}: kubectl skill why {skill.name}")
        return
    options = [f"--tail={tail}", f"--container={naming.SKILL_CONTAINER}"]
    options += ["--follow", f"--max-log-requests={MAX_PODS}"] if follow else []
    options += [f"--since={since}"] if since else []
    options += ["--previous"] if previous else []
    options += ["--prefix"] if len(pods) > 1 else []
    for line in kubectl.lines("logs", "-l", selector, *options):
        output.write(line)
