"""Make untrusted text fit for terminals, logs and status."""

from __future__ import annotations

import unicodedata

# Control (C0, C1), format (bidirectional overrides, zero-width, tags), surrogate, private, unassigned, line, paragraph.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ELLIPSIS = "…"
_ENDS_OF_SENTENCES = (".", "!", "?", ":", ";")
MAX_EXPANSION = 4  # how much longer than its one line a text is read, because of blanks


def printable(text: str, limit: int, *, lines: bool = False) -> str:
    r"""Escape what a reader cannot see (`\x1b`, `\u202e`) and cut to `limit` characters, never inside an escape.

    A newline is escaped too, since it could fake a line of someone else's output; `lines=True` keeps it.
    """
    if len(text) <= limit and (text.replace("\n", "") if lines else text).isprintable():  # as most texts are
        return text
    kept: list[str] = []
    room = limit
    for position, character in enumerate(text):
        shown = character
        if unicodedata.category(character) in _HIDDEN and not (lines and character == "\n"):
            shown = character.encode("unicode_escape").decode("ascii")
        if len(shown) > room:
            return _cut(kept, limit)
        kept.append(shown)
        room -= len(shown)
        if room == 0 and position + 1 < len(text):
            return _cut(kept, limit)
    return "".join(kept)


def single_line(text: str, limit: int) -> str:
    """Return the text as one printable line of at most `limit` characters; semicolons join lines that end no sentence.

    It is for what people read among the lines of others, as in `kubectl describe`: no text can add a line there.
    """
    shown = printable(text.replace("\r\n", "\n"), MAX_EXPANSION * limit, lines=True)
    lines = [line for raw in shown.split("\n") if (line := " ".join(raw.split()))]
    ends = [" " if line.endswith(_ENDS_OF_SENTENCES) else "; " for line in lines[:-1]] + [""]
    return printable("".join(line + end for line, end in zip(lines, ends, strict=False)), limit)


def _cut(kept: list[str], limit: int) -> str:
    """Return the text of `kept` with its end replaced by an ellipsis."""
    size = sum(map(len, kept))
    while kept and size + len(_ELLIPSIS) > limit:
        size -= len(kept.pop())
    return "".join(kept) + _ELLIPSIS[:limit]
