"""`kubectl skill history`: the revisions that ran, newest first."""

from __future__ import annotations

from typing import Any

import typer

from kubectl_skill import output
from kubectl_skill.options import ContextOption, KubeconfigOption, NamespaceOption, OutputOption, SkillName, connect
from kubectl_skill.output import OutputFormat
from kubectl_skill.skills import SkillView, age, read_skill
from skill_operator.api.v1alpha1 import Revision

HEADER = ("REVISION", "", "AGE", "AUTHOR", "MODEL", "ATTEMPTS", "TOKENS", "SOURCE SHA-256")
DIGEST_CHARACTERS = 12


def command(
    ctx: typer.Context,
    name: SkillName,
    output_format: OutputOption = None,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """List the revisions of a Skill that ran, newest first."""
    skill = read_skill(connect(ctx, namespace, context, kubeconfig).get_skill(name))
    if output_format is OutputFormat.NAME:
        for entry in skill.status.history:
            output.write(entry.revision)
        return
    if output_format is not None:
        raw: list[Any] = (skill.raw.get("status") or {}).get("history") or []
        output.write_object(raw, output_format)
        return
    if not skill.status.history:
        output.note(
            f"{skill.name} has no history yet: no revision of it ever ran. See `kubectl skill why {skill.name}`."
        )
        return
    output.write(output.table(HEADER, [_row(skill, entry) for entry in skill.status.history]))


def _row(skill: SkillView, entry: Revision) -> tuple[str, ...]:
    made = entry.provenance
    pinned = str((skill.raw.get("spec") or {}).get("revision") or "")
    marks = ["current"] if entry.revision == skill.status.revision else []
    marks += ["pinned"] if pinned == entry.revision else []
    mark = ", ".join(marks)
    if made is None:
        return (entry.revision, mark, age(entry.time), "", "", "", "", "")
    by_model = made.author != "pinned"
    return (
        entry.revision,
        mark,
        age(entry.time),
        made.author,
        made.model,
        str(made.attempts) if by_model else "",
        str(made.tokens) if by_model else "",
        made.source_digest[:DIGEST_CHARACTERS],
    )
