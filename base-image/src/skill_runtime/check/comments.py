"""Comments of a candidate, which no gate reads: type checkers and linters take orders from them."""

from __future__ import annotations

import io
import tokenize


def blank_comments(source: str) -> str:
    """Return the source with spaces in the place of comments, so that lines and columns stay what they are.

    Raises SyntaxError or tokenize.TokenError where the source has no tokens.
    """
    text = io.StringIO(source, newline=None).read()  # a lone carriage return ends a line of Python, too
    lines = text.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, start = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:start] + " " * len(token.string) + line[start + len(token.string) :]
    return "\n".join(lines)
