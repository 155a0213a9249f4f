"""Autofix repairs defects of a model's file that have exactly one remedy, so that they cost no attempt.

The text is parsed, never run. A file that parses is left as it is, except for its unused imports: a missing or
forbidden module would be refused for nothing.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from typing import Final

from skill_operator.generation.python_text import map_code, parse

_INVISIBLE: Final = re.compile("[\ufeff\u200b-\u200f\u2060\u00ad\u202a-\u202e]")
_SPACES: Final = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_QUOTED: Final = re.compile("\u201c([^\u201c\u201d\"\\\\\n]*)\u201d|\u2018([^\u2018\u2019'\\\\\n]*)\u2019")
_ENTITY: Final = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#39|#x27|#34);")
_INDENT: Final = re.compile(r"(?<=\n)[ \t]+|\A[ \t]+")


def autofix(source: str) -> str:
    """Return the source with its defects repaired, or unchanged where that does not make it valid Python."""
    if parse(source) is not None:
        return source
    text = source
    for repair in (_remove_invisible, _replace_spaces, _replace_quotes, _expand_tabs, _replace_entities):
        changed_text = repair(text)
        if changed_text != text and parse(changed_text) is not None:
            return changed_text
        text = changed_text
    return source


def _remove_invisible(text: str) -> str:
    return map_code(text, lambda code: _INVISIBLE.sub("", code))


def _replace_spaces(text: str) -> str:
    return map_code(text, lambda code: _SPACES.sub(" ", code))


def _replace_quotes(text: str) -> str:
    """Replace pairs of typographic quotes on one line with no other quote inside: they have one reading only."""
    return map_code(text, lambda code: _QUOTED.sub(_to_plain_quote, code))


def _to_plain_quote(match: re.Match[str]) -> str:
    return f'"{match[1]}"' if match[1] is not None else f"'{match[2]}'"


def _expand_tabs(text: str) -> str:
    """Expand tabs to four or eight columns; where both parse and differ in meaning, leave them."""
    variants = [map_code(text, lambda code, width=width: _expand_indent(code, width)) for width in (4, 8)]  # type: ignore[misc]
    trees = [parse(variant) for variant in variants]
    if all(trees) and ast.dump(trees[0]) != ast.dump(trees[1]):  # type: ignore[arg-type]
        return text
    return variants[0] if trees[0] else variants[1]


def _replace_entities(text: str) -> str:
    """Replace the entities of HTML, in strings too: what wrote them into the code has escaped the whole file."""
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text)


def _expand_indent(code: str, width: int) -> str:
    return _INDENT.sub(lambda match: match[0].expandtabs(width), code)


def without_unused_imports(source: str) -> str:
    """Return the source without unused imports, or unchanged where it does not parse.

    An import counts as used if its name stands anywhere else, even in a comment.
    """
    tree = parse(source)
    if tree is None:
        return source
    lines = source.split("\n")
    imports = [
        (block, node) for block in _blocks(tree) for node in block if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    if not imports:
        return source
    import_lines = {
        number for _, node in imports for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    rest = "\n".join(line for number, line in enumerate(lines, 1) if number not in import_lines)
    words = set(re.findall(r"\w+", rest))
    removed_counts: dict[int, int] = {}
    for block, node in sorted(imports, key=lambda pair: pair[1].lineno, reverse=True):
        kept_names = [alias for alias in node.names if _is_used(node, alias, words)]
        if len(kept_names) == len(node.names) or not _is_alone(node, lines):
            continue
        indent = " " * node.col_offset
        new = [indent + ast.unparse(_with_names(node, kept_names))] if kept_names else []
        if not kept_names:
            removed_counts[id(block)] = removed_counts.get(id(block), 0) + 1
            new = [f"{indent}pass"] if removed_counts[id(block)] == len(block) else []
        lines[node.lineno - 1 : node.end_lineno] = new
    result = "\n".join(lines)
    return result if parse(result) is not None else source


def _blocks(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield every block of statements but those of `try`: an import in there is expected to fail."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Try | ast.TryStar):
            continue
        for name in ("body", "orelse"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                yield block
        pending.extend(ast.iter_child_nodes(node))


def _is_used(node: ast.Import | ast.ImportFrom, alias: ast.alias, words: set[str]) -> bool:
    if alias.name == "*" or (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
        return True
    return (alias.asname or alias.name.partition(".")[0]) in words


def _is_alone(node: ast.stmt, lines: list[str]) -> bool:
    """Return whether no other statement is on the lines of this one."""
    before = lines[node.lineno - 1].encode()[: node.col_offset]
    after = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset :].strip()
    return not before.strip(b" ") and (not after or after.startswith(b"#"))


def _with_names(node: ast.Import | ast.ImportFrom, names: list[ast.alias]) -> ast.stmt:
    if isinstance(node, ast.Import):
        return ast.Import(names=names)
    return ast.ImportFrom(module=node.module, names=names, level=node.level)
