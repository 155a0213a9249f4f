"""`kubectl skill reject`: refuse what waits for a person, in words that its author reads."""

from __future__ import annotations

from typing import Annotated

import typer

from kubectl_skill import output
from kubectl_skill.answering import TimeoutOption, WatchOption, YesOption, answer, show
from kubectl_skill.approval import answer_annotations, find_pending, review
from kubectl_skill.asking import confirm
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.options import ContextOption, KubeconfigOption, NamespaceOption, SkillName, connect
from kubectl_skill.skills import read_skill

MAX_WORDS_CHARACTERS = 1024


def command(
    ctx: typer.Context,
    name: SkillName,
    message: Annotated[
        str,
        typer.Option(
            "--message", "-m", metavar="WORDS", help="What is wrong; the author reads it.", show_default=False
        ),
    ],
    yes: YesOption = False,
    watch: WatchOption = False,
    timeout: TimeoutOption = 300,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Reject what waits for approval, and say why.

    A model makes one more attempt with these words, within its attempts and tokens. You need the right to `update`
    `skills/approval`.
    """
    words = message.strip()
    if not words or len(words) > MAX_WORDS_CHARACTERS:
        raise CliError(f"say in 1 to {MAX_WORDS_CHARACTERS} characters what is wrong: -m WORDS", ExitCode.USAGE)
    kubectl = connect(ctx, namespace, context, kubeconfig)
    skill = read_skill(kubectl.get_skill(name))
    pending = find_pending(skill)
    if not yes:
        show(skill, pending, review(kubectl, skill, pending))
    confirm(f"Reject this for {skill.namespace}/{skill.name}?", yes=yes)
    written = answer(
        kubectl,
        name,
        answer_annotations(skill, pending.token, kubectl.user, words),
        watch=watch,
        timeout=timeout,
    )
    output.write(f"{written}: {kubectl.user} rejected it")
