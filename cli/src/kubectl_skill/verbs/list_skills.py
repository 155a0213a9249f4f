"""`kubectl skill list`: the Skills of a namespace, with the state of each in one word."""

from __future__ import annotations

import typer

from kubectl_skill import output
from kubectl_skill.kubectl import SKILL_PREFIX
from kubectl_skill.options import (
    AllNamespacesOption,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    connect,
)
from kubectl_skill.output import OutputFormat
from kubectl_skill.skills import SkillView, age, read_skill


def command(
    ctx: typer.Context,
    all_namespaces: AllNamespacesOption = False,
    output_format: OutputOption = None,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """List the Skills of a namespace, with the state of each."""
    kubectl = connect(ctx, namespace, context, kubeconfig)
    found = kubectl.list_skills(all_namespaces=all_namespaces)
    if output_format is OutputFormat.NAME:
        for raw in found:
            output.write(f"{SKILL_PREFIX}{raw['metadata']['name']}")
        return
    if output_format is not None:
        output.write_object({"apiVersion": "v1", "kind": "List", "items": found}, output_format)
        return
    if not found:
        where = "any namespace" if all_namespaces else f"namespace {kubectl.namespace}"
        output.note(f"There is no Skill in {where}. `kubectl skill new` begins one.")
        return
    header = ("NAMESPACE", "NAME", "STATE", "REASON", "REVISION", "AGE", "DOES")
    output.write(output.table(header, [_row(read_skill(raw), named=all_namespaces) for raw in found]))


def _row(skill: SkillView, *, named: bool) -> tuple[str, ...]:
    holdup = skill.holdup
    return (
        skill.namespace if named else "",
        skill.name,
        skill.state,
        holdup.reason if holdup is not None else "",
        skill.status.revision,
        age(skill.metadata.creation_timestamp),
        (skill.spec.summary or skill.spec.description.strip().partition("\n")[0])[:60],
    )
