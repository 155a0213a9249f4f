"""`kubectl skill check`: judge manifests without a cluster, and run the gates on pinned code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from kubectl_skill import gate_runner, output
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.gate_runner import ContainerGates, GateResult, GatesUnavailableError, LocalGates
from kubectl_skill.gate_text import write_finding
from kubectl_skill.options import OutputOption
from kubectl_skill.output import Color, OutputFormat
from kubectl_skill.spec_check import NOT_CHECKED, CheckedManifest, ManifestProblem, check_manifests
from kubectl_skill.yaml_files import Document, DocumentError, UnreadableFileError, read_documents

SOURCE_PATH = "spec.source.inline"


@dataclass
class _Checked:
    """_Checked is a manifest and what the gates said of its code, where they ran."""

    manifest: CheckedManifest
    gates: GateResult | None = None
    obstacle: str = ""
    """Why the gates of pinned code did not run."""

    @property
    def is_good(self) -> bool:
        return self.manifest.is_valid and (self.gates is None or self.gates.report.passed)


def command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Manifests, folders of them, or - for standard input.")
    ],
    output_format: OutputOption = None,
    image: Annotated[
        str,
        typer.Option(
            metavar="IMAGE",
            envvar=gate_runner.IMAGE_VARIABLE,
            help="The checker's image for a container, as the chart's `images.checker` names it.",
            show_default=False,
        ),
    ] = "",
    engine: Annotated[
        str,
        typer.Option(metavar="PROGRAM", help="docker or podman; default: the one that answers.", show_default=False),
    ] = "",
    run_locally: Annotated[
        bool,
        typer.Option(
            "--run-locally",
            help="Run pinned code as a process of yours, without a container: it can read what you can read.",
        ),
    ] = False,
    spec_only: Annotated[bool, typer.Option("--spec-only", help="Run no gate on pinned code.")] = False,
    timeout: Annotated[
        int, typer.Option(min=5, max=3600, metavar="SECONDS", help="Deadline of the gates of one Skill.")
    ] = 180,
) -> None:
    """Check manifests without a cluster, and run the gates on pinned code.

    Without a cluster and without a network: the whole validation of the spec, and for pinned code (spec.source) the
    very gates of the image. Exit code 1 says that something is wrong, 2 that the gates could not run.
    """
    documents, unreadable = _read(files)
    checked = [_Checked(manifest) for manifest in check_manifests(documents) if manifest.kind in {"Skill", ""}]
    others = len(documents) - len(checked)
    if not checked and not unreadable:
        raise CliError("there is no Skill in these files", ExitCode.USAGE)
    if not spec_only:
        _run_gates(checked, image, engine, timeout, run_locally=run_locally)
    if output_format in {OutputFormat.JSON, OutputFormat.YAML}:
        output.write_object(_report(checked, unreadable), output_format)
    elif output_format is OutputFormat.NAME:
        output.write("\n".join(one.manifest.name for one in checked if one.is_good))
    else:
        _write(checked, unreadable, others)
    if unreadable or not all(one.is_good for one in checked):
        raise typer.Exit(ExitCode.UNWELL)
    if obstacle := next((one.obstacle for one in checked if one.obstacle), ""):
        raise CliError(obstacle, ExitCode.USAGE)


def _read(files: list[str]) -> tuple[list[Document], list[DocumentError]]:
    """Return the documents of all files, and what cannot be read as YAML. Raises CliError where there is no file."""
    documents: list[Document] = []
    unreadable: list[DocumentError] = []
    for file in files:
        try:
            documents += read_documents([file])
        except UnreadableFileError as error:
            raise CliError(str(error), ExitCode.USAGE) from error
        except DocumentError as error:
            unreadable.append(error)
    return documents, unreadable


def _run_gates(checked: list[_Checked], image: str, engine: str, timeout: int, *, run_locally: bool) -> None:
    """Run the gates on each valid Skill with pinned code; where they cannot run, note why."""
    pinned = [one for one in checked if one.manifest.is_valid and one.manifest.skill and one.manifest.skill.spec.source]
    if not pinned:
        return
    try:
        runner = _choose(image, engine, timeout, run_locally=run_locally)
    except GatesUnavailableError as error:
        for one in pinned:
            one.obstacle = str(error)
        return
    for one in pinned:
        if one.manifest.skill is None:
            continue
        try:
            one.gates = runner.run(one.manifest.skill.spec)
        except GatesUnavailableError as error:
            one.obstacle = str(error)


def _choose(image: str, engine: str, timeout: int, *, run_locally: bool) -> ContainerGates | LocalGates:
    """Return where the gates run. Raises GatesUnavailableError with what to do."""
    if run_locally:
        if engine or image:
            raise CliError("choose --run-locally, or a container by --image and --engine", ExitCode.USAGE)
        gate_runner.check_platform()
        output.note("The code runs as you, without a container: it can read what you can read.")
        return LocalGates(timeout_seconds=timeout)
    found = gate_runner.find_engine(engine)
    if found is None:
        raise GatesUnavailableError(
            "the gates did not run: neither Docker nor Podman answers. Start one, or allow a process of yours with "
            "--run-locally, or leave the gates out with --spec-only"
        )
    if not image:
        raise GatesUnavailableError(
            f"the gates did not run: name the checker's image by --image or {gate_runner.IMAGE_VARIABLE}, as the "
            "chart's images.checker does"
        )
    return ContainerGates(found, image, timeout)


def _write(checked: list[_Checked], unreadable: list[DocumentError], others: int) -> None:
    for error in unreadable:
        output.write_parts(
            output.clean(f"{error.file}:{error.line or 1}: "), _mark("error"), output.clean(error.message)
        )
    for one in checked:
        _write_one(one)
    good = sum(one.is_good and not one.obstacle for one in checked)
    more = f" {others} other objects were not looked at." if others else ""
    output.write(f"Good: {good} of {len(checked)}.{more}")
    output.write(f"Only a cluster knows: {'; '.join(NOT_CHECKED)}.")


def _write_one(one: _Checked) -> None:
    manifest = one.manifest
    document = manifest.document
    for problem in manifest.problems:
        place = output.clean(f"{document.file}:{problem.line}: ")
        path = f"{problem.path}: " if problem.path else ""
        output.write_parts(place, _mark(problem.severity), output.clean(f"{path}{problem.message}"))
    if one.gates is not None and not one.gates.report.passed:
        report = one.gates.report
        place = output.clean(f"{document.file}:{_source_line(document, report.line)}: ")
        output.write_parts(place, _mark("error"), output.clean(f"the gate {report.gate} refuses {SOURCE_PATH}"))
        write_finding(report.message)
        if report.private:
            write_finding(report.private)
    elif manifest.is_valid:
        place = output.clean(f"{document.file}:{document.line}: ")
        mark = output.paint("unchecked", Color.YELLOW) if one.obstacle else output.paint("good", Color.GREEN)
        output.write_parts(place, mark, output.clean(f": Skill {manifest.name}: {_verdict(one)}"))
        for question in one.gates.report.questions if one.gates is not None else ():
            text = f"the examples leave open what is right for {question.text} Add an example that says so."
            output.write_parts(place, _mark("warning"), output.clean(text))


def _source_line(document: Document, line: int | None) -> int:
    inside = document.line_inside(SOURCE_PATH, line) if line else None
    return inside or document.line_of(SOURCE_PATH)


def _verdict(one: _Checked) -> str:
    """Return what was found good, in words."""
    if one.gates is None:
        if one.obstacle:
            return "the spec is valid; the gates did not run"
        skill = one.manifest.skill
        pinned = skill is not None and skill.spec.source is not None
        return "the spec is valid" + ("; the gates were left out" if pinned else "; a model is yet to write the code")
    report, gates = one.gates.report, one.gates
    variants = (
        f"variants were not tried ({report.mutants_skipped})"
        if report.mutants_skipped
        else f"{report.mutants_killed} of {report.mutants} variants are found out"
    )
    where = f"in a container of {gates.tools}" if gates.place == "container" else f"in a process here, by {gates.tools}"
    closed = "" if gates.is_network_closed else ", with your network open to it"
    return (
        f"the spec is valid, and every gate passed {where}{closed}: "
        f"{report.passed_examples} of {report.total_examples} examples, {report.promises} made inputs, {variants}"
    )


def _mark(severity: str) -> str:
    color = Color.RED if severity == "error" else Color.YELLOW
    return output.paint(severity, color) + ": "


def _report(checked: list[_Checked], unreadable: list[DocumentError]) -> dict[str, Any]:
    """Return the whole report for programs."""
    files = [
        {"file": error.file, "line": error.line or 1, "name": "", "namespace": "", "good": False, "gates": None}
        | {"problems": [_problem(ManifestProblem("", error.message, error.line or 1))]}
        for error in unreadable
    ]
    return {
        "good": not unreadable and all(one.is_good and not one.obstacle for one in checked),
        "skills": files + [_entry(one) for one in checked],
        "notChecked": list(NOT_CHECKED),
    }


def _entry(one: _Checked) -> dict[str, Any]:
    manifest, document = one.manifest, one.manifest.document
    gates: dict[str, Any] | None = None
    if one.gates is not None:
        report = one.gates.report.wire()
        report.pop("subject")
        gates = {"ran": one.gates.place, "by": one.gates.tools, "networkClosed": one.gates.is_network_closed, **report}
        gates["fileLine"] = _source_line(document, one.gates.report.line) if not one.gates.report.passed else None
    elif one.obstacle:
        gates = {"ran": None, "message": one.obstacle}
    return {
        "file": document.file,
        "line": document.line,
        "name": manifest.name,
        "namespace": manifest.namespace,
        "good": one.is_good and not one.obstacle,
        "problems": [_problem(problem) for problem in manifest.problems],
        "gates": gates,
    }


def _problem(problem: ManifestProblem) -> dict[str, Any]:
    return {"severity": problem.severity, "line": problem.line, "path": problem.path, "message": problem.message}
