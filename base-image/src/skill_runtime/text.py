"""Foreign text on its way into a message, a log line or a status."""

from __future__ import annotations


def printable(text: str, limit: int) -> str:
    """The text with control, format and surrogate characters escaped, and cut. Line feeds stay."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isascii() and cut.replace("\n", "").isprintable():
        return cut
    return "".join(c if c == "\n" or c.isprintable() else _escaped(c) for c in cut)


def one_line(text: str, limit: int) -> str:
    """`printable`, with white space of any kind as single spaces."""
    return printable(" ".join(text[: 4 * limit].split()), limit)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
