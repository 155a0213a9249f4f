"""What is wrong with a model's file and has one remedy only: mended here, so that it costs no attempt.

The text is parsed, never run. What parses is left as it is, but for imports that nothing uses: one that is not there
or not allowed would be refused for nothing.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Final

# A string or a comment; what is between them is code. A quote that is never closed is code, too.
_LITERAL: Final = re.compile(
    r"""(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|\#[^\n]*)""",
    re.DOTALL,
)
_UNSEEN: Final = re.compile("[\ufeff\u200b-\u200f\u2060\u00ad\u202a-\u202e]")
_SPACES: Final = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_QUOTED: Final = re.compile("\u201c([^\u201c\u201d\"\\\\\n]*)\u201d|\u2018([^\u2018\u2019'\\\\\n]*)\u2019")
_INDENT: Final = re.compile(r"(?<=\n)[ \t]+|\A[ \t]+")


def parse(source: str) -> ast.Module | None:
    """None for what is no Python, or is too much of it: deep nesting ends the parser in several ways."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a stranger's escapes and comparisons
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def autofix(source: str) -> str:
    """The source, without what keeps it from being Python if that is all that does."""
    if parse(source) is not None:
        return source
    text = source
    for remedy in (_without_unseen, _with_plain_spaces, _with_plain_quotes, _with_spaces_for_tabs):
        changed = remedy(text)
        if changed != text and parse(changed) is not None:
            return changed
        text = changed
    return source


def _without_unseen(text: str) -> str:
    return _in_code(text, lambda code: _UNSEEN.sub("", code))


def _with_plain_spaces(text: str) -> str:
    return _in_code(text, lambda code: _SPACES.sub(" ", code))


def _with_plain_quotes(text: str) -> str:
    """Pairs on one line with no other quote between them: then there is one way to read them."""
    return _in_code(text, lambda code: _QUOTED.sub(_plain_quote, code))


def _plain_quote(found: re.Match[str]) -> str:
    return f'"{found[1]}"' if found[1] is not None else f"'{found[2]}'"


def _with_spaces_for_tabs(text: str) -> str:
    """Tabs of four or of eight columns; where both would do and mean different things, neither."""
    made = [_in_code(text, lambda code, width=width: _expanded(code, width)) for width in (4, 8)]  # type: ignore[misc]
    trees = [parse(one) for one in made]
    if all(trees) and ast.dump(trees[0]) != ast.dump(trees[1]):  # type: ignore[arg-type]
        return text
    return made[0] if trees[0] else made[1]


def _expanded(code: str, width: int) -> str:
    return _INDENT.sub(lambda found: found[0].expandtabs(width), code)


def _in_code(text: str, change: Callable[[str], str]) -> str:
    """Strings and comments stay as they are."""
    parts, at = [], 0
    for literal in _LITERAL.finditer(text):
        parts += [change(text[at : literal.start()]), literal[0]]
        at = literal.end()
    return "".join((*parts, change(text[at:])))


def without_unused_imports(source: str) -> str:
    """Takes what parses. An import counts as used if its name is written anywhere else, be it in a comment."""
    tree = parse(source)
    if tree is None:
        return source
    lines = source.split("\n")
    found = [(body, node) for body in _bodies(tree) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    if not found:
        return source
    covered = {number for _, node in found for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    rest = "\n".join(line for number, line in enumerate(lines, 1) if number not in covered)
    words = set(re.findall(r"\w+", rest))
    removed: dict[int, int] = {}
    for body, node in sorted(found, key=lambda pair: pair[1].lineno, reverse=True):
        kept = [alias for alias in node.names if _used(node, alias, words)]
        if len(kept) == len(node.names) or not _alone(node, lines):
            continue
        indent = " " * node.col_offset
        new = [indent + ast.unparse(_with(node, kept))] if kept else []
        if not kept:
            removed[id(body)] = removed.get(id(body), 0) + 1
            new = [f"{indent}pass"] if removed[id(body)] == len(body) else []
        lines[node.lineno - 1 : node.end_lineno] = new
    made = "\n".join(lines)
    return made if parse(made) is not None else source


def _bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every block of statements, but for those of `try`: who imports there counts on failing."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Try | ast.TryStar):
            continue
        for name in ("body", "orelse"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                yield block
        waiting.extend(ast.iter_child_nodes(node))


def _used(node: ast.Import | ast.ImportFrom, alias: ast.alias, words: set[str]) -> bool:
    if alias.name == "*" or (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
        return True
    return (alias.asname or alias.name.partition(".")[0]) in words


def _alone(node: ast.stmt, lines: list[str]) -> bool:
    """Whether no other statement is on its lines."""
    before = lines[node.lineno - 1].encode()[: node.col_offset]
    after = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset :].strip()
    return not before.strip(b" ") and (not after or after.startswith(b"#"))


def _with(node: ast.Import | ast.ImportFrom, names: list[ast.alias]) -> ast.stmt:
    if isinstance(node, ast.Import):
        return ast.Import(names=names)
    return ast.ImportFrom(module=node.module, names=names, level=node.level)
