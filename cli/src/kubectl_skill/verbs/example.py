"""`kubectl skill example add`: make a test of a call, right or wrong."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from kubectl_skill import call_journal, output
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.example_text import (
    check_example_name,
    format_examples,
    name_example,
    parse_error,
    parse_value,
)
from kubectl_skill.kubectl import SKILLS
from kubectl_skill.options import ContextOption, KubeconfigOption, NamespaceOption, SkillName, connect
from kubectl_skill.skills import SkillView, read_skill
from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.api.validation import read_spec

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Make examples, which are the tests of a Skill.",
)


@app.callback()
def _group() -> None:
    """Make examples, which are the tests of a Skill."""


def _complete_call(incomplete: str) -> list[str]:
    return [request_id for request_id in call_journal.recent_ids() if request_id.startswith(incomplete)]


@app.command("add")
def add(
    ctx: typer.Context,
    name: SkillName,
    from_call: Annotated[
        str,
        typer.Option(
            "--from-call",
            metavar="REQUEST-ID",
            help="Take the input of this call of yours, made by `kubectl skill call`.",
            show_default=False,
            autocompletion=_complete_call,
        ),
    ] = "",
    input_: Annotated[
        str, typer.Option("--input", metavar="JSON|@FILE", help="Input of the call.", show_default=False)
    ] = "",
    output_: Annotated[
        str, typer.Option("--output", metavar="JSON|@FILE", help="The right answer.", show_default=False)
    ] = "",
    error: Annotated[
        str,
        typer.Option("--error", metavar="CLASS", help="The right exception, such as ValueError.", show_default=False),
    ] = "",
    as_answered: Annotated[
        bool, typer.Option("--as-answered", help="With --from-call: the answer was right, and shall stay so.")
    ] = False,
    example_name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the example; default: made.", show_default=False)
    ] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Add it to the Skill in the cluster, too.")] = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Make an example of a call and its right answer: a wrong answer becomes a test.

    It prints the YAML for spec.examples in Git. With --apply it also changes the Skill in the cluster, whose code is
    then checked against it, and written anew where it fails.
    """
    kubectl = connect(ctx, namespace, context, kubeconfig)
    skill = read_skill(kubectl.get_skill(name))
    if bool(from_call) == bool(input_):
        raise CliError("say --input JSON, or --from-call REQUEST-ID of a call of yours", ExitCode.USAGE)
    call = _find_call(skill, from_call) if from_call else None
    value = call.input if call is not None else parse_value(input_, "--input")
    example: dict[str, Any] = {"name": "", "input": value, **_outcome(call, output_, error, as_answered=as_answered)}
    taken = {known.name for known in skill.spec.examples}
    example["name"] = check_example_name(example_name) if example_name else name_example(example, "report", taken)
    _check(skill, example)
    output.write(format_examples([example], "    "), end="")
    if apply:
        _apply(kubectl, skill, example)


def _find_call(skill: SkillView, request_id: str) -> call_journal.JournaledCall:
    call = call_journal.find_call(request_id)
    if call is None:
        raise CliError(
            "this machine keeps no such call: the cluster stores no inputs, so only the last calls of "
            "`kubectl skill call` are known. Give the input by --input",
            ExitCode.NOT_FOUND,
        )
    if (call.namespace, call.name) != (skill.namespace, skill.name):
        raise CliError(f"that was a call of {call.namespace}/{call.name}", ExitCode.USAGE)
    return call


def _outcome(call: call_journal.JournaledCall | None, output_: str, error: str, *, as_answered: bool) -> dict[str, Any]:
    """Return the right outcome. Raises CliError where it was not said, or said twice."""
    given = sum((bool(output_), bool(error), as_answered))
    if given > 1:
        raise CliError("say one of --output, --error and --as-answered", ExitCode.USAGE)
    if error:
        return {"error": parse_error(error)}
    if output_:
        return {"output": parse_value(output_, "--output")}
    if as_answered and call is not None:
        if call.status != 200:
            raise CliError("that call had no answer: say --error CLASS, or --output JSON", ExitCode.USAGE)
        return {"output": call.answer}
    answered = f" It answered {json.dumps(call.answer, ensure_ascii=False)[:200]}." if call is not None else ""
    raise CliError(f"what is right? Say --output JSON or --error CLASS.{answered}", ExitCode.USAGE)


def _check(skill: SkillView, example: dict[str, Any]) -> None:
    """Refuse an example that no code could pass. Raises CliError."""
    known = skill.raw.get("spec", {})
    spec: dict[str, Any] = {name: known[name] for name in ("description", "input", "output") if name in known}
    others = [other for other in known.get("examples") or [] if other.get("name") != example["name"]]
    if len(others) != len(known.get("examples") or []):
        raise CliError(f"{skill.name} has an example {example['name']} already: choose another --name", ExitCode.USAGE)
    _, found = read_spec({**spec, "examples": [*others, example]})
    mine = f"spec.examples[{len(others)}]"
    found = [problem for problem in found if problem.path.startswith((mine, "spec.examples"))]
    if found:
        words = "; ".join(f"{problem.path.replace(mine, 'the example')}: {problem.message}" for problem in found[:3])
        raise CliError(words, ExitCode.USAGE)
    most = SkillSpec.model_json_schema()["properties"]["examples"]["maxItems"]
    if len(others) >= most:
        raise CliError(f"{skill.name} has {most} examples, which is the most", ExitCode.USAGE)


def _apply(kubectl: Any, skill: SkillView, example: dict[str, Any]) -> None:
    """Add the example, unless somebody changed the Skill meanwhile. A patch of JSON (RFC 6902) keeps nulls."""
    path = "/spec/examples"
    add: list[dict[str, Any]] = [{"op": "add", "path": f"{path}/-", "value": example}]
    if not skill.raw.get("spec", {}).get("examples"):
        add = [{"op": "add", "path": path, "value": [example]}]
    version = skill.raw["metadata"].get("resourceVersion", "")
    patch = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}, *add]
    kubectl.json("patch", SKILLS, skill.name, "--type", "json", "-p", json.dumps(patch))
    output.note(
        f"{skill.namespace}/{skill.name}: the example {example['name']} is in the cluster; put it into Git, too"
    )
