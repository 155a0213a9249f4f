r"""The one door through which a command writes: no text of others sends the terminal a command.

Names, conditions, logs, answers and whatever a model wrote may hold escape sequences or characters that turn a line
around. `write`, `table` and `fail` make them visible instead (`\x1b`, `\u202e`). JSON and YAML get escapes that their
readers turn back, so that `-o json` loses nothing.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, TextIO

from skill_operator.untrusted.text import printable, single_line

MAX_TEXT_CHARACTERS = 16 * 1024 * 1024
MAX_CELL_CHARACTERS = 120
TAB_STOP = 8
_PLAIN = re.compile(r"[\n\x20-\x7e]*")


class Color(Enum):
    """Color is a colour or weight of a terminal, as SGR numbers it (ECMA-48)."""

    BOLD = "1"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"
    GREY = "90"


class OutputFormat(str, Enum):
    """OutputFormat is the value of `-o`."""

    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def has_color(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that wants colours (NO_COLOR, see no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in {"", "dumb"}


def paint(text: str, color: Color, stream: TextIO | None = None) -> str:
    """Return the text as a part for `write_parts`: made printable, and coloured where the stream wants colours."""
    safe = clean(text)
    return f"\x1b[{color.value}m{safe}\x1b[0m" if has_color(stream or sys.stdout) else safe


def clean(text: str) -> str:
    """Return a text of others with its hidden characters made visible; newlines stay, and tabs become blanks."""
    if _PLAIN.fullmatch(text):
        return text
    return printable(text.replace("\r\n", "\n").expandtabs(TAB_STOP), MAX_TEXT_CHARACTERS, lines=True)


def write(text: str = "", *, end: str = "\n") -> None:
    """Write a text of anybody to standard output."""
    sys.stdout.write(clean(text) + end)


def write_parts(*parts: str, end: str = "\n") -> None:
    """Write parts that `paint` or `clean` made; nothing else may be given."""
    sys.stdout.write("".join(parts) + end)


def note(text: str) -> None:
    """Write a line about the command itself to standard error, so that standard output stays what was asked for."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def prompt(question: str) -> None:
    """Write a question to standard error, after which a person types on the same line."""
    sys.stdout.flush()
    sys.stderr.write(clean(question) + " ")
    sys.stderr.flush()


def fail(message: str) -> None:
    """Write the one line that says why a command ended."""
    mark = paint("error:", Color.RED, sys.stderr)
    sys.stderr.write(f"{mark} {clean(message)}\n")


def escape_json(text: str) -> str:
    r"""Return a JSON text with hidden characters as `\u` escapes, which mean the same.

    Outside of strings JSON has no such character but newlines, carriage returns and tabs, so the text stays JSON.
    """
    if _PLAIN.fullmatch(text):
        return text
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return character
    if character == "\r":
        return ""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))


def write_json_text(text: str) -> None:
    """Write a JSON text as it came, but for hidden characters."""
    sys.stdout.write(escape_json(text) + "\n")


def format_json(value: Any) -> str:
    """Return a value as indented JSON."""
    return escape_json(json.dumps(value, ensure_ascii=False, indent=2))


def format_yaml(value: Any) -> str:
    """Return a value as YAML; where a text has hidden characters, all that is not ASCII is escaped."""
    import yaml  # most commands never need it

    hidden = escape_json(raw := json.dumps(value, ensure_ascii=False)) != raw
    return str(yaml.dump(value, Dumper=_dumper(yaml), allow_unicode=not hidden, sort_keys=False, width=100))


def _dumper(yaml: Any) -> type[Any]:
    """Return a dumper that writes texts of several lines as blocks, as people write them."""

    class BlockDumper(yaml.SafeDumper):  # type: ignore[misc]
        """BlockDumper writes no anchors, and texts of several lines with `|`."""

        def ignore_aliases(self, data: Any) -> bool:
            """Return True: equal parts are written twice."""
            return True

    def represent(dumper: Any, text: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    BlockDumper.add_representer(str, represent)
    return BlockDumper


def write_object(value: Any, output: OutputFormat, name: str = "") -> None:
    """Write a value as `-o` asks for; `name` is what `-o name` prints."""
    if output is OutputFormat.JSON:
        sys.stdout.write(format_json(value) + "\n")
    elif output is OutputFormat.YAML:
        sys.stdout.write(format_yaml(value))
    elif name:
        write(name)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table for people. Each cell is one line; a column in which no row has a text is left out."""
    cells = [[single_line(cell, MAX_CELL_CHARACTERS) for cell in row] for row in rows]
    kept = [n for n in range(len(header)) if any(row[n] for row in cells)] or [0]
    lines = [[header[n] for n in kept], *([row[n] for n in kept] for row in cells)]
    wide = [max(_width(line[n]) for line in lines) for n in range(len(kept))]
    return "\n".join("   ".join(_pad(cell, wide[n]) for n, cell in enumerate(line)).rstrip() for line in lines)


def _width(text: str) -> int:
    """Return how many columns a terminal needs for it (Unicode's East Asian Width)."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
