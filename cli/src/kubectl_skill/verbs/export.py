"""`kubectl skill export`: the accepted code of a Skill as a pinned manifest, or as a folder of Agent Skills."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from kubectl_skill import output
from kubectl_skill.agent_skill import folder_files, folder_name
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.kept_code import find_revision, read_accepted, read_kept
from kubectl_skill.kubectl import Kubectl
from kubectl_skill.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    SkillName,
    complete_revision,
    connect,
)
from kubectl_skill.pinned import pinned_manifest
from kubectl_skill.skills import SkillView, lenient, read_skill
from skill_operator.api.v1alpha1 import SkillSpec


def command(
    ctx: typer.Context,
    name: SkillName,
    revision: Annotated[
        str,
        typer.Option(
            metavar="REVISION",
            help="Export this revision of the history, with the spec that it ran with.",
            show_default=False,
            autocompletion=complete_revision,
        ),
    ] = "",
    skill_md: Annotated[
        str,
        typer.Option(
            "--skill-md",
            metavar="FOLDER",
            help="Write a folder of Agent Skills (SKILL.md) in here.",
            show_default=False,
        ),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Print a Skill with its accepted code pinned, for Git and the next cluster.

    The same Skill gives the same bytes. The code is held against the digest in the Skill's status.
    """
    kubectl = connect(ctx, namespace, context, kubeconfig)
    skill = read_skill(kubectl.get_skill(name))
    label, source, spec = _find(kubectl, skill, revision)
    if not skill_md:
        output.write(pinned_manifest({**skill.raw, "spec": spec}, source, label), end="")
        return
    folder = Path(skill_md) / folder_name(skill.name)
    files = folder_files(skill.name, lenient(SkillSpec, spec), source, label)
    _write_folder(folder, dict(files), force=force)
    output.note(f"{folder}: {len(files)} files, for any agent that reads SKILL.md")


def _find(kubectl: Kubectl, skill: SkillView, revision: str) -> tuple[str, str, dict[str, Any]]:
    """Return label, code and spec of what is exported. Raises CliError where the code is not there, or another."""
    pinned = str((skill.raw.get("spec") or {}).get("revision") or "")
    wanted = find_revision(skill, revision).revision if revision else pinned
    if wanted:
        kept = read_kept(kubectl, skill, wanted)
        if kept is None:
            raise CliError(f"the namespace keeps no code of revision {wanted}", ExitCode.NOT_FOUND)
        return wanted, kept.source, kept.spec if kept.spec is not None else (skill.raw.get("spec") or {})
    provenance = skill.status.provenance
    if provenance is None:
        raise CliError(f"{skill.name} has no accepted code yet: see kubectl skill why {skill.name}")
    source = read_accepted(kubectl, skill, provenance.source_digest)
    return skill.status.revision or "(not deployed)", source, skill.raw.get("spec") or {}


def _write_folder(folder: Path, files: dict[str, str], *, force: bool) -> None:
    """Write the files. Raises CliError where one is there already, and --force was not given."""
    there = [name for name in files if (folder / name).exists() or (folder / name).is_symlink()]
    if there and not force:
        raise CliError(f"{folder / there[0]} is there already: --force writes over it", ExitCode.USAGE)
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}", ExitCode.USAGE) from error
