"""Foreign text on its way into a message, a log line or a status."""

from __future__ import annotations

import json
from typing import Any


def printable(text: str, limit: int) -> str:
    """Return the text, cut to `limit` characters, with control, format and surrogate characters escaped.

    Line feeds stay.
    """
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isascii() and cut.replace("\n", "").isprintable():
        return cut
    return "".join(c if c == "\n" or c.isprintable() else _escape(c) for c in cut)


def one_line(text: str, limit: int) -> str:
    """Return the `printable` text with white space of any kind as single spaces."""
    return printable(" ".join(text[: 4 * limit].split()), limit)


def one_line_json(value: Any, limit: int) -> str:
    """Return the value as JSON on one line, cut to `limit` characters."""
    return one_line(json.dumps(value, ensure_ascii=False), limit)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
