"""Read YAML files of users as `kubectl` reads them, with bounds, and with the line of every value.

`kubectl` turns YAML 1.1 into JSON: `y` and `on` are true, `1e3` is a number, a date stays text. What it would misread
or refuse is an error here, with its line.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from skill_operator.untrusted.json_values import Place, located
from skill_operator.untrusted.text import printable

MAX_FILE_BYTES: Final = 1 << 21
"""The largest file: an object of Kubernetes has at most 1.5 MiB."""
MAX_VALUES: Final = 100_000
"""Values of one document, those of an alias counted as often as it stands."""
MAX_LEVELS: Final = 64
MAX_NUMBER_CHARACTERS: Final = 400
MAX_DOCUMENTS: Final = 200
MAX_FILES: Final = 1000
STDIN: Final = "-"
SUFFIXES: Final = frozenset((".yaml", ".yml", ".json"))

_TRUE = frozenset(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"))
_FALSE = frozenset(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"))
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_STRING_TAG: Final = "tag:yaml.org,2002:str"
_PLAIN_TAG: Final = "tag:yaml.org,2002:plain"
"""The tag of a scalar that was written without one."""
_KNOWN_TAGS: Final = frozenset((_STRING_TAG, _PLAIN_TAG, "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"))


class DocumentError(Exception):
    """A file that cannot be read as YAML of Kubernetes: its name, the line where one is known, and why."""

    def __init__(self, file: str, message: str, line: int | None = None) -> None:
        self.file, self.message, self.line = file, printable(message, 512), line
        super().__init__(f"{printable(file, 256)}{f':{line}' if line else ''}: {self.message}")


class UnreadableFileError(DocumentError):
    """A file that is not there, or that this user may not read."""


@dataclass
class Document:
    """Document is one YAML document, as JSON holds it."""

    file: str
    line: int
    """The first line of its content, counted from 1."""
    value: Any
    lines: dict[str, int] = field(repr=False)
    """The line of each value, by its place as `located` writes it, from the empty place on."""
    literals: dict[str, int] = field(repr=False)
    """The line of the `|` of each text in literal style, by its place: the text's lines are those after it."""

    def line_of(self, path: str) -> int:
        """Return the line of a place such as `spec.input.a[0]`, or of what is nearest around it."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, self.line)

    def line_inside(self, path: str, line: int) -> int | None:
        """Return the line of the file that a line of a text in literal style is, or None in another style."""
        return self.literals[path] + line if path in self.literals else None


def read_documents(paths: Iterable[str]) -> Iterator[Document]:
    """Yield every document of these files; a folder stands for the YAML files in it, `-` for standard input.

    Raises DocumentError.
    """
    for path in paths:
        for file in _expand(path):
            yield from parse_documents(read_file(file), file)


def read_file(path: str) -> str:
    """Return the text of a file, or of standard input for `-`. Raises DocumentError where it is none, or too large."""
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableFileError(path, error.strerror or str(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise DocumentError(path, f"is larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(path, "is not UTF-8 text", data.count(b"\n", 0, error.start) + 1) from error


def parse_documents(text: str, file: str) -> Iterator[Document]:
    """Yield the documents of a text; empty ones are left out. Raises DocumentError."""
    try:
        for count, node in enumerate(yaml.compose_all(text, Loader=_KubernetesLoader)):
            if count >= MAX_DOCUMENTS:
                raise DocumentError(file, f"holds more than {MAX_DOCUMENTS} documents", node.start_mark.line + 1)
            if node is not None:
                made = _Builder(file).document(node)
                if made.value is not None:
                    yield made
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(part for part in (error.context, error.problem) if part)
        raise DocumentError(file, message or "is not YAML", mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentError(
            file, f"holds a character that YAML forbids: U+{ord(text[error.position]):04X}", line
        ) from error
    except yaml.YAMLError as error:
        raise DocumentError(file, f"is not YAML: {error}") from error
    except RecursionError as error:
        raise DocumentError(file, "is nested too deeply") from error


def _expand(path: str) -> list[str]:
    folder = Path(path)
    if path == STDIN or not folder.is_dir():
        return [path]
    found = sorted(str(file) for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not found:
        raise UnreadableFileError(path, "is a folder without YAML files")
    if len(found) > MAX_FILES:
        raise DocumentError(path, f"is a folder of more than {MAX_FILES} YAML files")
    return found


class _KubernetesLoader(yaml.SafeLoader):
    """_KubernetesLoader leaves plain scalars as they are: `_Builder` reads them, as `kubectl` does."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """Return the tag of a node that was written without one."""
        return _PLAIN_TAG if kind is yaml.ScalarNode else str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]


class _Builder:
    """_Builder turns the nodes of one document into JSON values, and notes their lines."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._lines: dict[str, int] = {}
        self._literals: dict[str, int] = {}
        self._count = 0

    def document(self, node: yaml.Node) -> Document:
        value = self._value(node, ())
        return Document(self._file, node.start_mark.line + 1, value, self._lines, self._literals)

    def _fail(self, node: yaml.Node, message: str) -> DocumentError:
        return DocumentError(self._file, message, node.start_mark.line + 1)

    def _value(self, node: yaml.Node, place: Place, key: yaml.Node | None = None) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._fail(node, f"the document holds more than {MAX_VALUES} values")
        if len(place) > MAX_LEVELS:
            raise self._fail(node, f"is nested more than {MAX_LEVELS} levels deep")
        path = located("", place).removeprefix(".")
        self._lines[path] = (key or node).start_mark.line + 1
        if node.tag not in _KNOWN_TAGS:
            raise self._fail(node, f"the tag {node.tag} has no meaning in Kubernetes")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, (*place, index)) for index, child in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode):
            raise self._fail(node, "is no value of YAML")
        if node.style == "|":
            self._literals[path] = node.start_mark.line + 1
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if key == "<<" and key_node.style is None:
                raise self._fail(key_node, "merge keys (<<) are not for manifests: write the fields out")
            if not isinstance(key, str):
                raise self._fail(key_node, _explain_key(key_node))
            if key in made:
                raise self._fail(key_node, f"the key {key} stands here twice")
            made[key] = self._value(value_node, (*place, key), key_node)
        return made

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if node.style is not None or node.tag == _STRING_TAG or _is_plain_text(text):
            return text
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if _NOT_FINITE.match(text):
            raise self._fail(node, f"{text} is no number of JSON")
        return self._number(node, text)

    def _number(self, node: yaml.ScalarNode, text: str) -> Any:
        if len(text) > MAX_NUMBER_CHARACTERS:
            raise self._fail(node, "a number of so many digits is none to JSON; put it into quotes")
        if _INTEGER.match(text):
            return _integer(text.replace("_", ""))
        value = float(text)
        if math.isinf(value):
            raise self._fail(node, f"{text} is larger than any number of JSON")
        return value


def _is_plain_text(text: str) -> bool:
    is_word = text in _TRUE or text in _FALSE or text in _NULL or _NOT_FINITE.match(text)
    return not is_word and not _INTEGER.match(text) and not _FLOAT.match(text)


def _integer(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2].lower())
    if base is not None:
        return sign * int(digits[2:], base)
    return sign * int(digits, 8 if len(digits) > 1 and digits.startswith("0") else 10)


def _explain_key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return "a key must be text"
    return f"the key {node.value or '(none)'} is not text to YAML: write it in quotes"
