"""The text of a Python program, as a parser and a tokenizer see it. The text is untrusted and is never run."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

# A string or a comment; what is between them is code. No branch can fail once it has begun, and no repetition gives
# anything back, so the work is linear in the text. A quote that is never closed has no group: what it spans is code.
_LITERAL: Final = re.compile(
    r"""
    \'\'\'(?:[^'\\]|\\.|'(?!''))*+(?P<single>\'\'\')?
    |\"\"\"(?:[^"\\]|\\.|"(?!""))*+(?P<double>\"\"\")?
    |'(?:[^'\\\n]|\\.)*+(?P<apostrophe>')?
    |"(?:[^"\\\n]|\\.)*+(?P<quote>")?
    |(?P<comment>\#)[^\n]*+
    """,
    re.DOTALL | re.VERBOSE,
)


class LiteralSpan(NamedTuple):
    """LiteralSpan is a string or a comment of a program, as the positions of its text."""

    start: int
    end: int
    is_closed: bool
    is_comment: bool


def parse(source: str) -> ast.Module | None:
    """Parse a source. Return None where it is no Python, or nested so deeply that the parser gives up."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes and comparisons in untrusted code
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def find_syntax_error(source: str) -> SyntaxError | None:
    """Return the parser's error, or None where the source parses or is refused without a line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError):
        return None
    return None


def find_literals(text: str, start: int, end: int) -> Iterator[LiteralSpan]:
    """Yield the strings and comments between two positions, of a program that begins at the first."""
    for match in _LITERAL.finditer(text, start, end):
        kind = match.lastgroup
        yield LiteralSpan(match.start(), match.end(), kind is not None, kind == "comment")


def map_code(text: str, function: Callable[[str], str]) -> str:
    """Apply the function to everything but strings and comments."""
    parts, position = [], 0
    for literal in find_literals(text, 0, len(text)):
        if literal.is_closed:
            parts += [function(text[position : literal.start]), text[literal.start : literal.end]]
            position = literal.end
    return "".join((*parts, function(text[position:])))


def bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds in its scope."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.alias(name=name, asname=asname):
            yield asname or name.partition(".")[0]
