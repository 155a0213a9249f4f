"""Programs as syntax trees: what they define, what they lack, and how several of them become one file."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Sequence
from typing import Final

from skill_operator.generation.python_text import bound_names, find_literals, parse

_BUILTINS: Final = frozenset(dir(builtins)) | {"__file__", "__annotations__"}
_ELISION: Final = re.compile(r"#[ \t]*(?:\.\.\.|\u2026)")
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_LABEL_PARTS: Final = (
    *(ast.Name, ast.Attribute, ast.Call, ast.BinOp, ast.UnaryOp, ast.Compare, ast.List, ast.Tuple, ast.Set, ast.Dict),
    *(ast.operator, ast.unaryop, ast.cmpop, ast.expr_context),
)


def defines(tree: ast.Module, name: str) -> bool:
    """Return whether a function of this name is defined at the top level."""
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def is_stub(tree: ast.Module, name: str) -> bool:
    """Return whether the last function of this name at the top level does nothing but say what it would do."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return bool(functions) and all(map(_does_nothing, functions[-1].body))


def is_outline(tree: ast.Module, source: str, name: str) -> bool:
    """Return whether the program leaves out a part of itself.

    That is a bare `...` in the last function of this name, or a comment line that begins with it.
    """
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return any(map(_has_ellipsis, functions[-1:])) or _has_elision(source)


def _has_ellipsis(function: ast.FunctionDef) -> bool:
    """Return whether a statement of a function is `...`; after `except` it is a way to write `pass`."""
    pending = list[ast.AST](function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...:
            return True
        if isinstance(node, ast.stmt | ast.match_case) and not isinstance(node, _SCOPES):
            pending.extend(ast.iter_child_nodes(node))
    return False


def _has_elision(source: str) -> bool:
    """Return whether a line of a source is a comment that begins with `...`."""
    if _ELISION.search(source) is None:
        return False
    comments = (part.start for part in find_literals(source, 0, len(source)) if part.is_comment)
    starts = [start for start in comments if _ELISION.match(source, start) is not None]
    return any(not source[source.rfind("\n", 0, start) + 1 : start].strip(" \t") for start in starts)


def imports_function(tree: ast.Module, module: str, name: str) -> bool:
    """Return whether a program imports a module, or a function of this name out of it."""
    return any(
        any(alias.name == module for alias in node.names)
        if isinstance(node, ast.Import)
        else node.module == module and any(alias.name in {name, "*"} for alias in node.names)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    )


def find_body(tree: ast.Module, entry_point: str) -> slice:
    """Return which statements of a module are left without labels at its ends, which Python could read as code.

    A single word is one, and so is what consists of names that nothing defines: `app/skill.py`, `File: skill.py`. In a
    module without the entry point an assignment is none: the name that it lacks may stand in another block.
    """
    last = len(tree.body)
    is_file = defines(tree, entry_point)
    may_be_label = [_may_be_label(node) and (is_file or not isinstance(node, ast.Assign)) for node in tree.body]
    places = [place for place in range(last) if not may_be_label[place]]
    if not places:
        return slice(0, 0)
    core = ast.Module(tree.body[places[0] : places[-1] + 1], [])
    if len(core.body) == last:
        return slice(0, last)
    known = {name for node in ast.walk(core) for name in _used_as_bound(node)} | _used_names(core) | _BUILTINS
    kept = [
        place
        for place in (*range(places[0]), *places[:1], *places[-1:], *range(places[-1] + 1, last))
        if not may_be_label[place] or not _is_label(tree.body[place], known)
    ]
    return slice(min(kept), max(kept) + 1)


def _may_be_label(node: ast.stmt) -> bool:
    """Return whether a statement looks like a label, whatever its names mean."""
    match node:
        case ast.Expr(value=ast.Constant(value=value)):
            return not isinstance(value, str)
        case ast.Expr(value=value) | ast.AnnAssign(target=ast.Name(), annotation=value, value=None):
            return _consists_of_names(value)
        case ast.Assign(targets=[ast.Name()], value=ast.Attribute() as value):
            return _consists_of_names(value)
        case _:
            return False


def _consists_of_names(expression: ast.expr) -> bool:
    """Return whether an expression has no part but names and signs. The arguments of a call are names, too."""
    nodes = list(ast.walk(expression))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    return (
        all(isinstance(node, _LABEL_PARTS) for node in nodes)
        and any(isinstance(node, ast.Name) for node in nodes)
        and all(call.args and all(isinstance(argument, ast.Name) for argument in call.args) for call in calls)
    )


def _is_label(node: ast.stmt, known: set[str] | frozenset[str]) -> bool:
    """Return whether a statement that looks like a label is one: a single word, or names that nothing defines."""
    is_word = isinstance(node, ast.Expr) and isinstance(node.value, ast.Name | ast.Attribute)
    return is_word or not any(isinstance(part, ast.Name) and part.id in known for part in ast.walk(node))


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
