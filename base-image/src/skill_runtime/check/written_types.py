"""Types that are written out, where a library evaluates texts in the place of types, as pydantic does."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from skill_runtime.check.syntax import Function, assignments, bound_names, words

_MAKERS = words("collections dataclasses enum pydantic typing typing_extensions")
"""Packages whose calls make types, or describe a field."""
_Scope = tuple[int, ...]
_MAX_ALIASES = 20
"""Names of types that stand for another, one after the other."""


class WrittenTypes:
    """WrittenTypes tells types that are written out from what may be a text that the code computes."""

    def __init__(self, tree: ast.Module, origin: Callable[[ast.expr], str]) -> None:
        """Take the dotted name of what is imported from `origin`."""
        self._origin = origin
        self._scopes = dict[int, _Scope]()
        self._known = dict[tuple[str, _Scope], bool]()
        self._values = dict[str, list[tuple[_Scope, ast.expr | None]]]()
        nodes = list(_with_scope(tree, ()))
        for node, scope in nodes:
            self._scopes[id(node)] = scope
            for name, value in assignments([node]):
                self._values.setdefault(name, []).append((scope, value))
        self._set = {
            node.attr for node, _ in nodes if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)
        }
        fields = {id(node.target) for node, _ in nodes if isinstance(node, ast.AnnAssign)}
        known = {(name, scope) for name, values in self._values.items() for scope, _ in values}
        for node, scope in nodes:
            if isinstance(node, ast.arg) or (isinstance(node, ast.Name) and id(node) not in fields):
                for name in bound_names(node):
                    if (name, scope) not in known:
                        self._values.setdefault(name, []).append((scope, None))

    def are_written(self, node: ast.expr, visited: frozenset[str] = frozenset()) -> bool:
        """Return whether an expression is a type, or several, and no text that is computed."""
        match node:
            case ast.Constant():
                return True
            case ast.Name(id=name):
                return self._is_type(name, node, visited)
            case ast.Attribute(attr=name):
                return bool(self._origin(node)) or (name not in self._set and self._is_type(name, node, visited))
            case ast.Subscript(value=owner, slice=key):
                return self.are_written(owner, visited) and all(
                    self.are_written(each, visited) for each in _arguments_of(owner, key)
                )
            case ast.BinOp(left=left, op=ast.BitOr(), right=right) | ast.IfExp(body=left, orelse=right):
                return self.are_written(left, visited) and self.are_written(right, visited)
            case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Dict(values=items):
                return all(self.are_written(each, visited) for each in items)
            case ast.Starred(value=value):
                return self.are_written(value, visited)
            case ast.Call(func=function, args=arguments):
                if isinstance(function, ast.Name) and function.id == "type":
                    return len(arguments) == 1 or isinstance(arguments[0], ast.Constant)
                made = self._origin(function).partition(".")[0] in _MAKERS
                return made and all(self.are_written(each, visited) for each in arguments)
            case _:
                return False

    def _is_type(self, name: str, node: ast.expr, visited: frozenset[str]) -> bool:
        """Return whether a name is given nothing but types where it can be seen from a node."""
        scope = self._scopes.get(id(node), ())
        if name in visited:
            return True
        if (name, scope) not in self._known:
            values = [value for outer, value in self._values.get(name, []) if outer == scope[: len(outer)]]
            self._known[name, scope] = len(visited) < _MAX_ALIASES and all(
                value is not None and self.are_written(value, visited | {name}) for value in values
            )
        return self._known[name, scope]


def _with_scope(node: ast.AST, scope: _Scope) -> Iterator[tuple[ast.AST, _Scope]]:
    """Yield all nodes, each with the functions around it; types and defaults of parameters are outside of theirs."""
    yield node, scope
    inner = (*scope, id(node)) if isinstance(node, Function) else scope
    for child in ast.iter_child_nodes(node):
        if isinstance(node, Function) and isinstance(child, ast.arguments):
            yield child, inner
            for part in ast.iter_child_nodes(child):
                if isinstance(part, ast.arg):
                    yield part, inner
                    yield from (each for inside in ast.iter_child_nodes(part) for each in _with_scope(inside, scope))
                else:
                    yield from _with_scope(part, scope)
        else:
            is_body = isinstance(node, ast.Lambda) or isinstance(child, ast.stmt)
            yield from _with_scope(child, inner if is_body else scope)


def texts_in(node: ast.expr) -> Iterator[ast.Constant]:
    """Yield the texts that stand for types: not those of `Literal`, nor what describes a field."""
    match node:
        case ast.Constant(value=str()):
            yield node
        case ast.Subscript(value=owner, slice=key):
            for each in _arguments_of(owner, key):
                yield from texts_in(each)
        case ast.Call(args=arguments):
            for each in arguments:
                yield from texts_in(each)
        case _:
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.expr):
                    yield from texts_in(part)


def _arguments_of(owner: ast.expr, key: ast.expr) -> list[ast.expr]:
    """Return the types among the arguments of a generic one."""
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    items = key.elts if isinstance(key, ast.Tuple) else [key]
    return {"Literal": [], "Annotated": items[:1]}.get(name, items)
