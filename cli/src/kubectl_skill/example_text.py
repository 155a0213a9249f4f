"""Read what people type about calls and answers, and make examples of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.manifest_text import dump_flow
from skill_operator import naming
from skill_operator.api.v1alpha1 import DNS_LABEL
from skill_operator.untrusted.json_values import finite_float, is_deeper, reject_constant
from skill_operator.untrusted.text import single_line

MAX_VALUE_BYTES: Final = 1 << 20
MAX_LEVELS: Final = 32
NAME_HASH_CHARACTERS: Final = 6
_ERROR = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


def parse_value(text: str, what: str) -> Any:
    """Return a JSON value that was typed, or that a file named by `@file` holds. Raises CliError."""
    if text.startswith("@"):
        text = _read(text[1:], what)
    if len(text.encode("utf-8", "replace")) > MAX_VALUE_BYTES:
        raise CliError(f"{what} is larger than {MAX_VALUE_BYTES >> 20} MiB", ExitCode.USAGE)
    try:
        value = json.loads(text, parse_constant=reject_constant, parse_float=finite_float, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise CliError(
            f"{what} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}: {single_line(text, 80)}",
            ExitCode.USAGE,
        ) from error
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise CliError(f"{what} is no JSON: {single_line(reason, 120)}", ExitCode.USAGE) from error
    if is_deeper(value, MAX_LEVELS):
        raise CliError(f"{what} is nested more than {MAX_LEVELS} levels deep", ExitCode.USAGE)
    return value


def parse_error(text: str) -> str:
    """Return the class name of an exception that was typed. Raises CliError."""
    if not _ERROR.match(text):
        raise CliError(
            f"{single_line(text, 80)!r} is no name of an exception's class, such as ValueError", ExitCode.USAGE
        )
    return text


def parse_example(text: str) -> dict[str, Any]:
    """Return input and outcome of `INPUT => OUTPUT` or `INPUT => !ERROR`, each in JSON. Raises CliError."""
    problem = (
        f"an example is INPUT => OUTPUT, both in JSON, or INPUT => !ValueError; this is none: {single_line(text, 120)}"
    )
    try:
        _, end = json.JSONDecoder().raw_decode(text.strip())
    except (ValueError, RecursionError) as error:
        raise CliError(problem, ExitCode.USAGE) from error
    stripped = text.strip()
    before, rest = stripped[:end], stripped[end:].strip()
    if not rest.startswith("=>"):
        raise CliError(problem, ExitCode.USAGE)
    outcome = rest[2:].strip()
    value = parse_value(before, "the input of the example")
    if outcome.startswith("!"):
        return {"input": value, "error": parse_error(outcome[1:].strip())}
    return {"input": value, "output": parse_value(outcome, "the output of the example")}


def name_example(example: dict[str, Any], prefix: str, taken: set[str]) -> str:
    """Return a name that no other example has: the same example gets the same name."""
    digest = naming.digest(example["input"], example.get("output"), example.get("error"))
    for length in range(NAME_HASH_CHARACTERS, len(digest)):
        name = f"{prefix}-{digest[:length]}"
        if name not in taken:
            return name
    raise CliError("this example is there already", ExitCode.USAGE)


def check_example_name(name: str) -> str:
    """Return the name of an example that a person chose. Raises CliError where it cannot be one."""
    if not re.fullmatch(DNS_LABEL, name) or len(name) > 63:
        raise CliError(
            f"{single_line(name, 80)!r} is no name of an example: lower-case letters, digits and `-`", ExitCode.USAGE
        )
    return name


def format_examples(examples: list[dict[str, Any]], indent: str) -> str:
    """Return examples as items of a list in YAML, each value on one line."""
    lines = []
    for example in examples:
        lines.append(f"{indent}- name: {dump_flow(example['name'])}")
        lines += [
            f"{indent}  {key}: {dump_flow(example[key])}" for key in ("input", "output", "error") if key in example
        ]
    return "".join(f"{line}\n" for line in lines)


def _read(path: str, what: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_VALUE_BYTES + 1)
        return data.decode("utf-8-sig")
    except OSError as error:
        raise CliError(f"{what}: {single_line(path, 200)}: {error.strerror}", ExitCode.USAGE) from error
    except UnicodeDecodeError as error:
        raise CliError(f"{what}: {single_line(path, 200)} is not UTF-8 text", ExitCode.USAGE) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands in an object twice")
    return made
