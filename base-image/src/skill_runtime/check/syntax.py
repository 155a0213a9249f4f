"""The syntax of a file, as it tells of names: where they are bound, and to which written values."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def by_name(groups: Mapping[str, str]) -> dict[str, str]:
    """Return the advice for each name, from names that are grouped by it."""
    return {name: advice for advice, names in groups.items() for name in names.split()}


def mentions(node: ast.AST, *names: str) -> bool:
    """Return whether a name or a member of one of these names occurs."""
    return any(
        (isinstance(each, ast.Name) and each.id in names) or (isinstance(each, ast.Attribute) and each.attr in names)
        for each in ast.walk(node)
    )


def names_with_scope(
    scope: ast.Module | ast.ClassDef | Function, outer: frozenset[str]
) -> Iterator[tuple[int, frozenset[str]]]:
    """Yield the names that stand in a scope, by identity, with the names that assignments and parameters bind there."""
    body: list[ast.AST] = [scope.body] if isinstance(scope, ast.Lambda) else [*scope.body]
    inside, scopes = list[ast.Name](), list[ast.ClassDef | Function]()
    while body:
        node = body.pop()
        if isinstance(node, ast.Name):
            inside.append(node)
        if isinstance(node, ast.ClassDef | Function):
            scopes.append(node)
            body += signature(node)
        else:
            body += ast.iter_child_nodes(node)
    bound = outer | {node.id for node in inside if isinstance(node.ctx, ast.Store)}
    if isinstance(scope, Function):
        bound |= {node.arg for node in ast.walk(scope.args) if isinstance(node, ast.arg)}
    yield from ((id(node), bound) for node in inside)
    for each in scopes:  # functions do not see the names of the class around them
        yield from names_with_scope(each, outer if isinstance(scope, ast.ClassDef) else bound)


def signature(scope: ast.ClassDef | Function) -> list[ast.AST]:
    """Return what is evaluated around a function or class and not in it: defaults, bases, decorators."""
    if isinstance(scope, ast.Lambda):
        return [scope.args]
    return [child for child in ast.iter_child_nodes(scope) if not isinstance(child, ast.stmt)]


def deleted_names(nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the names that lose their value again: by `del`, or at the end of `except ... as name`."""
    for node in nodes:
        if isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
            yield node.id


def assignments(nodes: list[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    """Yield names with the values that they are given."""
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                pairs = zip(targets, values, strict=False)
                yield from ((target.id, value) for target, value in pairs if isinstance(target, ast.Name))
            case ast.Assign(targets=targets, value=value):
                yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case (
                ast.For(target=ast.Name(id=name), iter=values)
                | ast.comprehension(target=ast.Name(id=name), iter=values)
            ):
                yield from ((name, value) for value in items_of(values))
            case ast.arguments(posonlyargs=first, args=others, defaults=values):
                arguments = [*first, *others][::-1]
                yield from ((each.arg, value) for each, value in zip(arguments, values[::-1], strict=False))
                by_name = zip(node.kwonlyargs, node.kw_defaults, strict=True)
                yield from ((each.arg, value) for each, value in by_name if value is not None)
            case _:
                pass


def items_of(node: ast.expr) -> list[ast.expr]:
    """Return what a loop over an expression yields, as far as it is written out."""
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return items
        case ast.Dict(keys=keys):
            return [key for key in keys if key is not None]
        case _:
            return []


def literal_text(node: ast.expr) -> str | None:
    """Return a string that is written out, in one piece or as a sum."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=[ast.Constant(value=str(text))]):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            one, other = literal_text(left), literal_text(right)
            return None if one is None or other is None else one + other
        case _:
            return None


def is_false(node: ast.expr) -> bool:
    """Return whether an expression is `False`, written out."""
    return isinstance(node, ast.Constant) and node.value is False


def is_dunder(name: str) -> bool:
    """Return whether a name is one that Python itself gives a meaning."""
    return name.startswith("__") and name.endswith("__") and len(name) > 4


def bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds or deletes, in whatever form the language has for it."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(name=name, asname=other):
            yield other or name.partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            yield from names
        case _:
            pass


def written_texts(nodes: list[ast.AST]) -> dict[str, list[str]]:
    """Return the texts of those names that have no other values, wherever they are bound."""
    values = dict[str, list[ast.expr]]()
    for name, value in assignments(nodes):
        values.setdefault(name, []).append(value)
    tables = {name: only for name, [only, *others] in values.items() if not others and isinstance(only, ast.Tuple)}
    bound = Counter(name for node in nodes for name in bound_names(node))
    texts, sites = dict[str, list[str]](), dict[str, int]()
    for name, value in _sites(nodes):
        known = tables.get(value.id, value) if isinstance(value, ast.Name) and bound[value.id] == 1 else value
        written = [literal_text(each) for each in (items_of(known) or [known])]
        if all(text is not None for text in written):
            sites[name] = sites.get(name, 0) + 1
            texts.setdefault(name, []).extend(text for text in written if text is not None)
    return {name: found for name, found in texts.items() if bound[name] == sites[name]}


def _sites(nodes: list[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that are bound to one text, or to each text of a table."""
    for node in nodes:
        match node:
            case (
                ast.For(target=ast.Name(id=name), iter=value) | ast.comprehension(target=ast.Name(id=name), iter=value)
            ):
                yield name, value
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if literal_text(value) is not None:
                yield name, value
            case _:
                pass


def annotating(nodes: list[ast.AST]) -> Iterator[ast.expr]:
    """Yield the expressions that annotate: parameters, variables, fields, results."""
    for node in nodes:
        match node:
            case ast.arg(annotation=ast.expr() as annotation) | ast.AnnAssign(annotation=annotation):
                yield annotation
            case ast.FunctionDef(returns=ast.expr() as result) | ast.AsyncFunctionDef(returns=ast.expr() as result):
                yield result
            case _:
                pass
