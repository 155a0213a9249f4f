"""`kubectl skill approve`: show what waits for a person, and approve it."""

from __future__ import annotations

import typer

from kubectl_skill import output
from kubectl_skill.answering import TimeoutOption, WatchOption, YesOption, answer, show
from kubectl_skill.approval import answer_annotations, find_pending, review
from kubectl_skill.asking import confirm
from kubectl_skill.options import ContextOption, KubeconfigOption, NamespaceOption, SkillName, connect
from kubectl_skill.skills import read_skill


def command(
    ctx: typer.Context,
    name: SkillName,
    yes: YesOption = False,
    watch: WatchOption = False,
    timeout: TimeoutOption = 300,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Show what waits for approval, and approve it.

    It shows what the code may do, and the code against what runs. You need the right to `update` `skills/approval`.
    """
    kubectl = connect(ctx, namespace, context, kubeconfig)
    skill = read_skill(kubectl.get_skill(name))
    pending = find_pending(skill, or_rejected=True)
    show(skill, pending, review(kubectl, skill, pending))
    confirm(f"Approve this for {skill.namespace}/{skill.name}?", yes=yes)
    written = answer(
        kubectl,
        name,
        answer_annotations(skill, pending.token, kubectl.user),
        watch=watch,
        timeout=timeout,
    )
    output.write(f"{written}: {kubectl.user} approved it")
