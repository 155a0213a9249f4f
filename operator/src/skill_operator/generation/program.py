"""Programs as syntax trees: what they define, what they lack, and how several of them become one file."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Sequence
from typing import Final

from skill_operator.generation.python_text import bound_names, parse

_BUILTINS: Final = frozenset(dir(builtins)) | {"__file__", "__annotations__"}


def defines(tree: ast.Module, name: str) -> bool:
    """Return whether a function of this name is defined at the top level."""
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def is_stub(tree: ast.Module, name: str) -> bool:
    """Return whether the last function of this name at the top level does nothing but say what it would do."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return bool(functions) and all(map(_does_nothing, functions[-1].body))


def _does_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
        case ast.Return(value=ast.Constant(value=value)):
            return value is ...
        case _:
            return False


def select_helpers(tree: ast.Module, others: Sequence[ast.Module], entry_point: str) -> list[int]:
    """Return which of the others, by number, define names that the program lacks, or that those of them lack.

    Of two that define the same name the last counts. A program that uses the entry point is no helper.
    """
    providers = dict[str, int]()
    for number, other in enumerate(others):
        names = _top_level_names(other)
        if entry_point not in names and entry_point not in _used_names(other):
            providers |= dict.fromkeys(names, number)
    selected = set[int]()
    pending = [missing_names(tree)]
    while pending:
        found = {providers[name] for name in pending.pop() if name in providers} - selected
        selected |= found
        pending += [missing_names(others[number]) for number in sorted(found)]
    return sorted(selected)


def join_programs(sources: Sequence[str]) -> str:
    """Return one file of several programs. What must begin a file (`from __future__`) is moved to its beginning."""
    first, rest = dict[str, None](), list[str]()
    for source in sources:
        tree = parse(source)
        lines = source.split("\n")
        for node in reversed(tree.body if tree is not None else []):
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                first["\n".join(lines[node.lineno - 1 : node.end_lineno])] = None
                del lines[node.lineno - 1 : node.end_lineno]
        rest.append("\n".join(lines).strip("\n"))
    return "\n\n\n".join([*(["\n".join(first)] if first else []), *rest]) + "\n"


def missing_names(tree: ast.Module) -> set[str]:
    """Return the names that a program uses and binds nowhere."""
    bound = {name for node in ast.walk(tree) for name in _used_as_bound(node)}
    return _used_names(tree) - bound - _BUILTINS


def _used_names(tree: ast.Module) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)} | {
        name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names
    }


def _top_level_names(tree: ast.Module) -> set[str]:
    """Return the names that the statements of a module bind, those inside `if` and `try` included."""
    names, pending = set[str](), list[ast.AST](tree.body)
    while pending:
        node = pending.pop()
        names.update(_used_as_bound(node))
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))
    return names


def _used_as_bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds, or declares as bound elsewhere; parameters are among them."""
    match node:
        case ast.arg(arg=name):
            yield name
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            yield from names
        case _:
            yield from bound_names(node)
