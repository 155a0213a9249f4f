"""A form for the input of a Skill, made from its schema, and the JSON value that a filled one stands for.

A form can do what most inputs are: an object of texts, numbers, choices and yes or no. Any other property is written as
JSON, and so is the whole input where it is no such object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.gateway import json_bounds
from skill_operator.gateway.problems import Problem
from skill_operator.untrusted.json_values import parse_json
from skill_operator.untrusted.text import printable

MAX_FIELDS: Final = 24
MAX_CHOICES: Final = 50
MAX_LABEL_CHARACTERS: Final = 120
MAX_HELP_CHARACTERS: Final = 400
MAX_FORM_BYTES: Final = 3 << 20
"""A body of 1 MiB, of which every character may be escaped."""
SHORT_TEXT_CHARACTERS: Final = 120
RAW: Final = "raw"
PIECE_BYTES: Final = 32 << 10
"""What is decoded of a form in one call, while all other threads wait."""
_ESCAPES: Final = re.compile(rb"(?:%[0-9A-Fa-f]{2})++")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_SINGLE_LINE_FORMATS: Final = frozenset(
    {"date", "date-time", "time", "email", "uri", "uuid", "hostname", "ipv4", "ipv6"}
)


class FormField(NamedTuple):
    """FormField is one property; `kind` is text, area, number, boolean, choice or json, `name` its own in the form."""

    name: str
    label: str
    property: str
    kind: str
    required: bool
    help: str
    choices: list[tuple[str, str]]
    value: str


class InputForm(NamedTuple):
    """InputForm has the fields, none where only JSON can say what the input is, and the example as JSON."""

    fields: list[FormField]
    raw: str


def make_form(spec: SkillSpec, values: Mapping[str, str] | None = None, example: str = "") -> InputForm:
    """Return the form, filled with what was sent, or with an example: the named one, or else the first."""
    chosen = next((one for one in spec.examples if one.name == example), None) or next(iter(spec.examples), None)
    given = chosen.input if chosen is not None else {}
    sent = values or {}
    fields = [
        _field(number, name, schema, name in _required(spec.input), given, sent)
        for number, (name, schema) in enumerate(_properties(spec.input))
    ]
    return InputForm(fields, sent.get(RAW, "") or _pretty(given))


def _properties(schema: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the properties that are fields: first those of `required`, whose order the API server keeps."""
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict) or len(properties) > MAX_FIELDS:
        return []
    names = dict.fromkeys([*(name for name in _required(schema) if name in properties), *properties])
    return [(name, properties[name]) for name in names]


def _required(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _field(number: int, name: str, schema: Any, required: bool, given: Any, sent: Mapping[str, str]) -> FormField:
    known = schema if isinstance(schema, dict) else {}
    kind, choices = _kind(known)
    value = ""
    if isinstance(given, dict) and name in given and not sent:
        value = _shown(kind, given[name])
    title = known.get("title")
    label = title if isinstance(title, str) and title.strip() else name
    about = known.get("description")
    return FormField(
        f"v{number}",
        printable(label, MAX_LABEL_CHARACTERS) or "(without a name)",
        name,
        kind,
        required,
        printable(about, MAX_HELP_CHARACTERS) if isinstance(about, str) else "",
        choices,
        sent.get(f"v{number}", value),
    )


def _kind(schema: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """Return what kind of field a schema needs, and its choices as pairs of JSON and label."""
    options = schema.get("enum")
    if isinstance(options, list) and 0 < len(options) <= MAX_CHOICES and all(map(_is_scalar, options)):
        return "choice", [(_compact(option), printable(_label(option), MAX_LABEL_CHARACTERS)) for option in options]
    type_ = schema.get("type")
    if isinstance(type_, list):
        named = [one for one in type_ if one != "null"]
        type_ = named[0] if len(named) == 1 else None
    if type_ in {"integer", "number"}:
        return "number", []
    if type_ == "boolean":
        return "boolean", [("true", "true"), ("false", "false")]
    if type_ == "string":
        longest = schema.get("maxLength")
        short = schema.get("format") in _SINGLE_LINE_FORMATS or (
            isinstance(longest, int) and longest <= SHORT_TEXT_CHARACTERS
        )
        return ("text" if short else "area"), []
    return "json", []


def _shown(kind: str, value: Any) -> str:
    """Return a value as its field shows it."""
    if kind in {"text", "area"}:
        return value if isinstance(value, str) else ""
    return _pretty(value) if kind == "json" else _compact(value)


def read_form(raw: bytes) -> dict[str, str]:
    """Return the fields of a sent form (application/x-www-form-urlencoded), each by its name. Raises Problem (400)."""
    not_ours = Problem("bad-request", "the form is not one that the page has")
    if not raw.isascii() or raw.count(b"&") >= 2 * MAX_FIELDS:
        raise not_ours
    pairs = [pair.partition(b"=") for pair in raw.split(b"&") if pair]
    try:
        return {_unescaped(name): _unescaped(value).replace("\r\n", "\n") for name, _, value in pairs}
    except UnicodeDecodeError as error:
        raise not_ours from error


def _unescaped(text: bytes) -> str:
    """Return a name or a value of a form. Raises UnicodeDecodeError.

    The standard library makes a list of all escapes first: of a million, the loop stands for half a second meanwhile.
    """
    parts, start = [], 0
    while start < len(text):
        end = start + PIECE_BYTES
        if end < len(text) and (cut := text.rfind(b"%", end - 2, end)) >= 0:
            end = cut  # an escape would be in two pieces
        parts.append(_ESCAPES.sub(_decoded, text[start:end].replace(b"+", b" ")))
        start = end
    return b"".join(parts).decode()


def _decoded(escapes: re.Match[bytes]) -> bytes:
    return bytes.fromhex(escapes[0].replace(b"%", b"").decode())


def encode_input(spec: SkillSpec, values: Mapping[str, str]) -> bytes:
    """Return the JSON text of the input that a sent form stands for. Raises Problem (400, 413), which names the field.

    A whole input that is too much to parse is sent on as it is, as over HTTP: the skill itself says what it is.
    """
    if RAW in values:
        body = values[RAW].encode("utf-8", "replace")
        if json_bounds.is_small(body):
            _parse("the JSON", values[RAW])
        return body
    required = _required(spec.input)
    parts: list[str] = []
    for number, (name, schema) in enumerate(_properties(spec.input)):
        text = values.get(f"v{number}", "")
        kind, _ = _kind(schema if isinstance(schema, dict) else {})
        if text == "" and (name not in required or kind not in {"text", "area"}):
            continue
        parts.append(f"{json.dumps(name)}: {_value(name, kind, text)}")
    return f"{{{', '.join(parts)}}}".encode("utf-8", "replace")


def _value(name: str, kind: str, text: str) -> str:
    """Return what a field says as JSON. Numbers stay as they were written."""
    label = printable(name, MAX_LABEL_CHARACTERS)
    match kind:
        case "text" | "area":
            return json.dumps(text)
        case "number":
            stripped = text.strip()
            if not _NUMBER.fullmatch(stripped):
                raise Problem("bad-request", f"{label} must be a number, such as 3 or 0.5")
            return stripped
        case _:
            _check_size(label, text)
            _parse(label, text)
            return text


def _check_size(label: str, text: str) -> None:
    """Raise Problem (400, 413) for a field that is too much to parse, as it must be so that it ends where it should."""
    marks, levels = json_bounds.measure(text.encode("utf-8", "replace"))
    if levels > json_bounds.MAX_LEVELS:
        most = f"levels of arrays and objects; {json_bounds.MAX_LEVELS} are the most"
        raise Problem("bad-request", f"{label} has too many {most}, over HTTP too")
    if marks > json_bounds.MAX_MARKS:
        most = f"values for a form; {json_bounds.MAX_MARKS} brackets, braces and commas are the most"
        raise Problem("too-large", f"{label} has too many {most}. Call the skill over HTTP instead")


def _parse(label: str, text: str) -> Any:
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        raise Problem("bad-request", f"{label} is no JSON: {printable(str(error), 120)}") from error


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
