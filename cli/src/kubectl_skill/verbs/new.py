"""`kubectl skill new`: ask for a few words and examples, and write the manifest of a Skill."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from kubectl_skill import output
from kubectl_skill.asking import ask
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.example_text import name_example, parse_error, parse_example, parse_value
from kubectl_skill.kubectl import check_name
from kubectl_skill.scaffold import make_spec, render
from kubectl_skill.spec_check import check_manifests
from kubectl_skill.yaml_files import STDIN, parse_documents
from skill_operator.api.validation import read_spec

MAX_EXAMPLES = 64
MAX_QUESTIONS = 200
GOOD_EXAMPLES = 3


def command(
    name: Annotated[
        str,
        typer.Argument(metavar="[NAME]", help="Name of the Skill; asked for where it is missing.", show_default=False),
    ] = "",
    description: Annotated[
        str, typer.Option("--description", "-d", metavar="WORDS", help="What it must do.", show_default=False)
    ] = "",
    summary: Annotated[
        str, typer.Option(metavar="WORDS", help="What it does and when to use it, for agents.", show_default=False)
    ] = "",
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="NAME:TYPE", help="Field of the input; default: as in the examples.", show_default=False
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            metavar="NAME:TYPE",
            help="Field of the output; default: as in the examples.",
            show_default=False,
        ),
    ] = None,
    examples: Annotated[
        list[str] | None,
        typer.Option(
            "--example",
            metavar="'INPUT => OUTPUT'",
            help="A call and its right answer in JSON, or INPUT => !ValueError. Give several.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="Where to write; - prints. Default: NAME.yaml.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write the manifest of a new Skill.

    It asks for what the options do not say: what the Skill must do, and some calls with their right answers. The
    schemas follow from these. What it writes passes `kubectl skill check`.
    """
    name = name or _ask("Name of the Skill, such as invoice-total:")
    check_name(name)
    path = file or f"{name}.yaml"
    _refuse_existing(path, force=force)
    description = description or _ask("What must it do? (in words; say what is right at the edges):")
    if not description.strip():
        raise CliError("say in words what it must do: --description", ExitCode.USAGE)
    made = [_named(parse_example(text), known) for known, text in _progressively(examples or [])]
    fields = (inputs or [], outputs or [])
    if examples:
        spec = make_spec(description, summary, *fields, _unique(made))
    else:
        spec = make_spec(description, summary, *fields, _ask_examples(description, *fields))
    text = render(name, "FILE" if path == STDIN else path, spec)
    _check(text, path)
    if path == STDIN:
        output.write(text, end="")
        return
    _write(path, text, force=force)
    output.note(f"wrote {path}. Next: kubectl skill check {path}, then kubectl skill apply -f {path} --watch")
    if len(spec["examples"]) < GOOD_EXAMPLES:
        output.note("With three examples or more, some are held out from the model: add what happens at the edges.")


def _progressively(texts: list[str]) -> list[tuple[int, str]]:
    if len(texts) > MAX_EXAMPLES:
        raise CliError(f"a Skill has at most {MAX_EXAMPLES} examples", ExitCode.USAGE)
    return list(enumerate(texts))


def _named(example: dict[str, Any], number: int) -> dict[str, Any]:
    return {"name": f"example-{number + 1}", **example}


def _unique(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names: set[str] = set()
    for example in examples:
        if example["name"] in names:
            example["name"] = name_example(example, "example", names)
        names.add(example["name"])
    return examples


def _ask(question: str) -> str:
    """Ask a person. Raises CliError where nobody is there."""
    answer = ask(question)
    if answer is None:
        raise CliError(
            "nobody answered: give NAME, --description and --example, see kubectl skill new --help", ExitCode.USAGE
        )
    return answer


def _ask_examples(description: str, inputs: list[str], outputs: list[str]) -> list[dict[str, Any]]:
    """Ask for calls and their answers until there is one and no more come; what no code could pass is asked again."""
    output.note('Now some calls, in JSON, such as {"text": "a b"}. Six are good; leave the call empty to end.')
    made: list[dict[str, Any]] = []
    for _ in range(MAX_QUESTIONS):
        if len(made) == MAX_EXAMPLES:
            break
        question = f"Call {len(made) + 1}, the input in JSON" + (" (empty: no more):" if made else ":")
        text = (ask(question) or "") if made else _ask(question)
        if not text:
            break
        try:
            example = _named(_read_example(text), len(made))
            problem = _problem([*made, example], description, inputs, outputs)
        except CliError as error:
            problem = error.message
        if problem:
            output.note(f"  That cannot be: {problem}")
        else:
            made.append(example)
    if not made:
        raise CliError("a Skill needs an example: a call and its right answer", ExitCode.USAGE)
    return made


def _read_example(text: str) -> dict[str, Any]:
    if "=>" in text:
        return parse_example(text)
    value = parse_value(text, "the input")
    answer = _ask("  its right answer in JSON, or !ValueError where it must be refused:")
    if answer.startswith("!"):
        return {"input": value, "error": parse_error(answer[1:])}
    return {"input": value, "output": parse_value(answer, "the answer")}


def _problem(examples: list[dict[str, Any]], description: str, inputs: list[str], outputs: list[str]) -> str:
    _, found = read_spec(make_spec(description, "", inputs, outputs, examples))
    return "; ".join(f"{re.sub(r'^spec.', '', problem.path)}: {problem.message}" for problem in found[:2])


def _check(text: str, path: str) -> None:
    """Hold what was made against the whole check. Raises CliError: a file that is wrong is never written."""
    problems = [p for m in check_manifests(parse_documents(text, path)) for p in m.problems if p.severity == "error"]
    if problems:
        words = "; ".join(f"{problem.path}: {problem.message}" for problem in problems[:3])
        raise CliError(f"nothing was written: {words}", ExitCode.USAGE)


def _refuse_existing(path: str, *, force: bool) -> None:
    if path != STDIN and not force and os.path.lexists(path):
        raise CliError(f"{path} is there already: --force writes over it", ExitCode.USAGE)


def _write(path: str, text: str, *, force: bool) -> None:
    """Write the file; without --force never over one that somebody made meanwhile. Raises CliError."""
    try:
        with Path(path).open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CliError(f"{path} is there already: --force writes over it", ExitCode.USAGE) from None
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}", ExitCode.USAGE) from error
