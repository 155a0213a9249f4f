"""`kubectl skill diff`: what would run, against what runs; grants and limits first, then the rest, then the code."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from kubectl_skill import kept_code, output
from kubectl_skill.errors import ExitCode
from kubectl_skill.kubectl import Kubectl
from kubectl_skill.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    SkillName,
    complete_revision,
    connect,
)
from kubectl_skill.output import Color
from kubectl_skill.skills import SkillView, lenient, read_skill
from skill_operator import naming
from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.runtime_contract import SKILL_FILE
from skill_operator.untrusted.line_diff import unified_diff

FIRST = (
    ("Egress", ("egress",)),
    ("Secrets", ("secrets",)),
    ("Limits", ("resources", "callTimeoutSeconds", "callLimits", "runtimeClassName", "base")),
)
LAST = ("The rest of the spec", ("summary", "description", "input", "output", "deterministic", "examples"))
_COLORS = {"+": Color.GREEN, "-": Color.RED, "@": Color.CYAN}


@dataclass(frozen=True)
class DiffSide:
    """DiffSide is one of the two that are compared; what is not known of it is None."""

    label: str
    source: str | None
    spec: SkillSpec | None


def command(
    ctx: typer.Context,
    name: SkillName,
    revision: Annotated[
        str,
        typer.Argument(
            metavar="[REVISION]",
            help="Label in the Skill's history, or its beginning; default: what the spec asks for now.",
            show_default=False,
            autocompletion=complete_revision,
        ),
    ] = "",
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 1 where the two differ.")] = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Compare what a Skill runs with what it would run.

    Without REVISION that is what the spec asks for now, such as code that waits for approval. With REVISION it is what
    a rollback would bring. Egress, secrets and limits come first.
    """
    kubectl = connect(ctx, namespace, context, kubeconfig)
    skill = read_skill(kubectl.get_skill(name))
    running = read_running(kubectl, skill)
    wanted = read_revision(kubectl, skill, revision) if revision else read_wanted(kubectl, skill)
    differ = write_diff(running, wanted)
    if not differ:
        output.note(_nothing(skill, running, wanted))
    if differ and exit_code:
        raise typer.Exit(ExitCode.UNWELL)


def read_running(kubectl: Kubectl, skill: SkillView) -> DiffSide:
    """Return what runs now. Raises CliError where nothing does."""
    label = skill.status.revision
    if not label:
        return DiffSide("nothing", "", None)
    side = read_revision(kubectl, skill, label)
    return DiffSide(f"running {label}", side.source, side.spec)


def read_revision(kubectl: Kubectl, skill: SkillView, wanted: str) -> DiffSide:
    """Return the code and the spec of a revision of the history, where they are kept. Raises CliError."""
    entry = kept_code.find_revision(skill, wanted)
    kept = kept_code.read_kept(kubectl, skill, entry.revision)
    if kept is not None:
        spec = None if kept.spec is None else lenient(SkillSpec, kept.spec)
        return DiffSide(entry.revision, kept.source, spec)
    digest = entry.provenance.source_digest if entry.provenance is not None else ""
    accepted = _accepted_source(kubectl, skill)
    is_same = accepted is not None and bool(digest) and naming.source_digest(accepted) == digest
    return DiffSide(entry.revision, accepted if is_same else None, None)


def read_wanted(kubectl: Kubectl, skill: SkillView) -> DiffSide:
    """Return what the spec asks for now: its own code, or the code that was accepted last."""
    if skill.spec.source is not None:
        return DiffSide("spec", skill.spec.source.inline, skill.spec)
    return DiffSide("spec", _accepted_source(kubectl, skill), skill.spec)


def _accepted_source(kubectl: Kubectl, skill: SkillView) -> str | None:
    stored = kubectl.find("configmap", naming.source(skill.name))
    source = ((stored or {}).get("data") or {}).get(SKILL_FILE)
    return source if isinstance(source, str) else None


def write_diff(before: DiffSide, after: DiffSide) -> bool:
    """Write what differs, the grants first, and return whether anything does."""
    differ = False
    known = before.spec is not None and after.spec is not None
    if not known and before.label != "nothing":
        output.note("Only the code is compared: the spec that the revision ran with was not kept.")
    for title, fields in (*FIRST, LAST):
        if after.spec is None or (not known and before.label != "nothing"):
            break
        old = _spec_text(before.spec, fields) if before.spec is not None else ""
        differ |= _write_section(title, old, _spec_text(after.spec, fields), before.label, after.label)
    for side in (before, after):
        if side.source is None:
            output.note(f"The code of {side.label} is not kept, so code is not compared.")
            return differ
    return _write_section("Code", before.source or "", after.source or "", before.label, after.label) or differ


def _spec_text(spec: SkillSpec, fields: Sequence[str]) -> str:
    """Return these fields as YAML; what is as by default is left out, so that it never differs."""
    whole: dict[str, Any] = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    found = {name: whole[name] for name in fields if name in whole}
    return output.format_yaml(found) if found else ""


def _write_section(title: str, before: str, after: str, from_name: str, to_name: str) -> bool:
    lines = list(unified_diff(before, after, from_name, to_name))
    if lines:
        output.write_parts(output.paint(f"# {title}", Color.BOLD))
        for part in _painted(lines):
            output.write_parts(part)
        output.write()
    return bool(lines)


def _painted(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        color = Color.BOLD if line.startswith(("--- ", "+++ ")) else _COLORS.get(line[:1])
        yield output.clean(line) if color is None else output.paint(line, color, sys.stdout)


def _nothing(skill: SkillView, running: DiffSide, wanted: DiffSide) -> str:
    if None in {running.source, wanted.source}:
        return "Nothing that can be compared differs."
    if wanted.label == "spec":
        more = f": `kubectl skill diff {skill.name} REVISION` compares with an earlier one"
        return f"What runs is what the spec asks for{more if skill.status.history[1:] else ''}."
    return f"{wanted.label} does not differ from what runs."
