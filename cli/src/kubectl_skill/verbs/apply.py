"""`kubectl skill apply`: apply manifests by server-side apply, and follow what becomes of them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from kubectl_skill import output
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.following import DEFAULT_TIMEOUT_SECONDS, FollowedSkill, follow
from kubectl_skill.options import ContextOption, KubeconfigOption, NamespaceOption, connect
from kubectl_skill.output import Color
from kubectl_skill.spec_check import CheckedManifest, check_manifests
from kubectl_skill.yaml_files import Document, DocumentError, read_documents

MAX_SHOWN_PROBLEMS = 10


def command(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Option(
            "--filename",
            "-f",
            metavar="FILE",
            help="Manifest, folder of them, or - for standard input.",
            show_default=False,
        ),
    ],
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow the Skills until each is Ready or Stalled.")
    ] = False,
    timeout: Annotated[
        int, typer.Option(min=1, max=86_400, metavar="SECONDS", help="How long --watch follows them.")
    ] = DEFAULT_TIMEOUT_SECONDS,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take fields that another program wrote.")
    ] = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Apply manifests, and follow what becomes of them.

    The specs are checked first, and nothing is applied while one is wrong. With --watch the exit code says the end:
    0 where every Skill is Ready, 1 where one is Stalled, 6 where the time was over first.
    """
    documents = _read(files)
    kubectl = connect(ctx, namespace, context, kubeconfig)
    force = ["--force-conflicts"] if force_conflicts else []
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": [document.value for document in documents]})
    applied: dict[str, Any] = kubectl.json("apply", "--server-side", *force, "-f", "-", stdin=manifest)
    items = applied.get("items", []) if applied.get("kind") == "List" else [applied]
    followed = []
    for item in items:
        meta = item.get("metadata", {})
        output.write(
            f"applied {str(item.get('kind', '')).lower()} {meta.get('name', '')} in {meta.get('namespace', '')}"
        )
        if item.get("kind") == "Skill":
            followed.append(FollowedSkill(meta["namespace"], meta["name"], int(meta.get("generation", 0))))
    if watch and followed:
        raise typer.Exit(follow(kubectl, followed, timeout))


def _read(files: list[str]) -> list[Document]:
    """Return the documents of these files. Raises CliError where one is no good Skill, before anything is applied."""
    try:
        documents = list(read_documents(files))
    except DocumentError as error:
        raise CliError(str(error), ExitCode.USAGE) from error
    checked = check_manifests(documents)
    if not any(manifest.is_skill for manifest in checked):
        raise CliError("there is no Skill in these files", ExitCode.USAGE)
    bad = [manifest for manifest in checked if not manifest.is_valid]
    for manifest in bad:
        _write_problems(manifest)
    if bad:
        raise CliError(f"nothing was applied: {len(bad)} of {len(checked)} objects are wrong")
    return documents


def _write_problems(manifest: CheckedManifest) -> None:
    errors = [problem for problem in manifest.problems if problem.severity == "error"]
    for problem in errors[:MAX_SHOWN_PROBLEMS]:
        place = output.clean(f"{manifest.document.file}:{problem.line}: ")
        path = f"{problem.path}: " if problem.path else ""
        output.write_parts(place, output.paint("error", Color.RED), output.clean(f": {path}{problem.message}"))
