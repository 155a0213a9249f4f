"""The blocks of a file that run only where it is the program itself, which a skill never is."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_NAME, _PROGRAM = "__name__", "__main__"
_OWN_MODULE = "skill"
"""The name under which the file could import itself, to change its own name."""


def find_main_blocks(tree: ast.Module) -> list[ast.If]:
    """Return each `if __name__ == "__main__":` of the module that has no `else` and certainly does not run."""
    return [] if _may_rename(tree) else [node for node in tree.body if isinstance(node, ast.If) and _is_main(node)]


def _is_main(node: ast.If) -> bool:
    match node:
        case ast.If(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]), orelse=[]):
            sides = [(left, right), (right, left)]
        case _:
            return False
    return any(
        isinstance(name, ast.Name) and name.id == _NAME and isinstance(text, ast.Constant) and text.value == _PROGRAM
        for name, text in sides
    )


def _may_rename(tree: ast.Module) -> bool:
    """Return whether the file gives `__name__` a value, or could: by `locals` of the module or by what it imports."""
    return any(_NAME in _bound(node) or _read(node) == "locals" for node in ast.walk(tree))


def _bound(node: ast.AST) -> Iterator[str | None]:
    """Yield the names that a node binds, whatever kind of node it is."""
    if isinstance(node, ast.alias):
        yield _NAME if node.name in ("*", _OWN_MODULE) else node.asname or node.name
    elif isinstance(node, ast.Name):
        yield None if isinstance(node.ctx, ast.Load) else node.id
    elif not isinstance(node, ast.Attribute | ast.Constant):
        for _, value in ast.iter_fields(node):
            yield from value if isinstance(value, list) and isinstance(node, ast.Global | ast.Nonlocal) else [value]


def _read(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.name if isinstance(node, ast.alias) else ""
