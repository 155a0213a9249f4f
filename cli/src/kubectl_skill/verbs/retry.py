"""`kubectl skill retry`: give a Skill that gave up new attempts."""

from __future__ import annotations

from datetime import datetime, timezone

import typer

from kubectl_skill import output
from kubectl_skill.answering import TimeoutOption, WatchOption, answer
from kubectl_skill.kubectl import check_name
from kubectl_skill.options import ContextOption, KubeconfigOption, NamespaceOption, SkillName, connect
from skill_operator import naming


def command(
    ctx: typer.Context,
    name: SkillName,
    watch: WatchOption = False,
    timeout: TimeoutOption = 300,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Give a Skill that gave up new attempts.

    The attempts and tokens of the spec begin anew. It costs tokens; a changed description or a new example often helps
    more.
    """
    check_name(name)
    kubectl = connect(ctx, namespace, context, kubeconfig)
    moment = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
    written = answer(kubectl, name, {naming.RETRY_ANNOTATION: moment}, watch=watch, timeout=timeout)
    output.write(f"{written}: it is tried again")
