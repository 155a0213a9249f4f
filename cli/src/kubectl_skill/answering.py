"""Show what waits for an answer, write the answer into the Skill, and follow it: the verbs that answer share this."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from kubectl_skill import output
from kubectl_skill.approval import ReviewedChange
from kubectl_skill.errors import ExitCode
from kubectl_skill.following import FollowedSkill, follow
from kubectl_skill.kubectl import SKILLS, Kubectl
from kubectl_skill.output import Color
from kubectl_skill.skills import SkillView
from skill_operator.api.conditions import VERIFIED
from skill_operator.api.v1alpha1 import ApprovalRequest

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Follow the Skill until it is Ready or Stalled.")]
TimeoutOption = Annotated[int, typer.Option(min=1, max=86_400, metavar="SECONDS", help="How long --watch follows it.")]


def show(skill: SkillView, pending: ApprovalRequest, change: ReviewedChange) -> None:
    """Write what a person looks at before they answer."""
    label = f"Revision {pending.revision} of" if pending.revision else "A new revision of"
    output.write_parts(output.paint(f"{label} {skill.namespace}/{skill.name} waits.", Color.BOLD))
    if pending.doubt:
        output.write(f"A person is asked since {pending.doubt}.")
    verified = skill.condition(VERIFIED)
    if verified is not None and verified.reason == "WeakExamples":
        output.write(f"Verified says: {verified.message}")
    if pending.changed:
        output.write(f"Changed since the last approval: {', '.join(pending.changed)}.")
    output.write(f"The code's SHA-256 is {pending.source_digest}.")
    _write_evidence(skill)
    output.write("\nWhat it may do and use:")
    for line in change.grants or ("  nothing: no egress, no secret",):
        _write_line(line)
    output.write(f"\nThe code, against {change.against}, which runs:" if change.against else "\nThe code:")
    for line in change.code or ("  no line of it changed",):
        _write_line(line)
    output.write()


def _write_evidence(skill: SkillView) -> None:
    found = skill.status.evidence
    if found is not None:
        variants = found.mutants.skipped or f"{found.mutants.killed} of {found.mutants.of}"
        output.write(
            f"Tried on it: {found.visible} examples that its author saw, {found.held_out} held out, "
            f"{found.promises} made inputs; variants found out: {variants}."
        )


def _write_line(line: str) -> None:
    color = {"-": Color.RED, "+": Color.GREEN, "@": Color.CYAN}.get(line[:1])
    output.write_parts(output.paint(line, color) if color is not None else output.clean(line))


def patch_skill(kubectl: Kubectl, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a patch into a Skill, and return it as the API server has it now. Raises CliError."""
    written: dict[str, Any] = kubectl.json("patch", SKILLS, name, "--type", "merge", "-p", json.dumps(patch))
    return written


def answer(kubectl: Kubectl, name: str, annotations: Mapping[str, str | None], *, watch: bool, timeout: float) -> str:
    """Set annotations of a Skill, follow it where asked for, and return `namespace/name`. Raises CliError, or ends."""
    written = patch_skill(kubectl, name, {"metadata": {"annotations": dict(annotations)}})
    if watch:
        follow_written(kubectl, written, timeout)
    meta = written["metadata"]
    return f"{meta['namespace']}/{meta['name']}"


def follow_written(kubectl: Kubectl, written: Mapping[str, Any], timeout: float) -> None:
    """Follow a Skill that was just written. Ends the command with its outcome unless it becomes Ready."""
    meta = written["metadata"]
    code = follow(kubectl, [FollowedSkill(meta["namespace"], meta["name"], int(meta.get("generation", 0)))], timeout)
    if code is not ExitCode.DONE:
        raise typer.Exit(code)
