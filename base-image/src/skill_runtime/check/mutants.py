"""Mutants: variants of a program, each with one small mistake of the kinds that people and models make.

A mutant is made in the text: the mistake takes the place of one expression or statement, and all else stays as it was.
"""

from __future__ import annotations

import ast
import copy
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import accumulate
from typing import Final, NamedTuple, TypeVar

Node = TypeVar("Node", bound=ast.AST)
MAX_MUTANTS = 40
_NEAR_OPERATORS: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.And: ast.Or, ast.Or: ast.And, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPPOSITE_ORDER: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE,
}  # fmt: skip
_NEAR_NAMES: Final = {
    one: other
    for pair in (
        ("min", "max"), ("any", "all"), ("floor", "ceil"), ("lower", "upper"), ("startswith", "endswith"),
        ("lstrip", "rstrip"), ("find", "rfind"), ("isdigit", "isalpha"), ("append", "extend"), ("keys", "values"),
    )
    for one, other in (pair, pair[::-1])
}  # fmt: skip
_DROPPED_FUNCTIONS: Final = frozenset(
    ("abs", "dict", "float", "int", "len", "list", "reversed", "round", "set", "sorted", "str", "sum", "tuple")
)
"""Functions for which a mutant has their first argument."""
_DROPPED_METHODS: Final = frozenset(
    ("capitalize", "casefold", "copy", "lower", "lstrip", "rstrip", "strip", "title", "upper")
)
"""Methods for which a mutant has the object that they are called on."""


class Mutant(NamedTuple):
    """Mutant is a program with one mistake, which is on `line` of the original."""

    line: int
    source: str
    is_outside: bool
    """The mistake is in no function, so it is made when the program is loaded."""


class _Change(NamedTuple):
    """_Change puts another node in the place of one."""

    node: ast.expr | ast.stmt
    other: ast.expr | ast.stmt
    is_outside: bool
    """The node is in no function, so it runs when the program is loaded."""


def make_mutants(source: str, lines: Collection[int] | None, count: int = MAX_MUTANTS) -> Iterator[Mutant]:
    """Yield up to `count` different mutants, always the same ones; as many lines as possible have one.

    Changed is what stands on `lines` or outside of all functions; None stands for all lines. A source that cannot be
    parsed has no mutants. Some mutants cannot be parsed: not every place takes an expression in parentheses.
    """
    try:
        finder = _ChangeFinder()
        finder.visit(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    changes = [change for change in finder.changes if lines is None or _is_on(change, lines)]
    random.Random(sha256(source.encode("utf-8", "replace")).digest()).shuffle(changes)
    text, known = _SourceText(source), {source}
    for change in _spread(changes):
        if len(known) > count:
            break
        with suppress(ValueError, RecursionError, MemoryError):
            made = text.replace(change)
            if made not in known:
                known.add(made)
                yield Mutant(change.node.lineno, made, change.is_outside)


def _is_on(change: _Change, lines: Collection[int]) -> bool:
    """Return whether the change is on a line that runs.

    Python tells only one line of an expression over several, and of a compound statement the one of its head.
    """
    node = change.node
    return change.is_outside or any(line in lines for line in range(node.lineno, (node.end_lineno or node.lineno) + 1))


def _spread(changes: list[_Change]) -> Iterator[_Change]:
    """Yield the first change of each line, then the second of each, and so on."""
    before: Counter[int] = Counter()
    ranked = []
    for change in changes:
        ranked.append((before[change.node.lineno], change))
        before[change.node.lineno] += 1
    yield from (change for _, change in sorted(ranked, key=lambda each: each[0]))


class _SourceText:
    """_SourceText is the text of a program, in which each node has its place."""

    def __init__(self, source: str) -> None:
        self._text = source.encode("utf-8", "surrogatepass")
        lengths = (len(line) for line in self._text.splitlines(keepends=True))
        self._starts = [0, *accumulate(lengths)]

    def replace(self, change: _Change) -> str:
        """Return the program with the new text in the place of the node."""
        node = change.node
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        text = ast.unparse(change.other)
        new = (f"({text})" if isinstance(change.other, ast.expr) else text).encode("utf-8", "surrogatepass")
        return (self._text[:start] + new + self._text[end:]).decode("utf-8", "surrogatepass")


class _ChangeFinder(ast.NodeVisitor):
    """_ChangeFinder finds the mistakes that can be made in a program."""

    def __init__(self) -> None:
        self.changes: list[_Change] = []
        self._functions = 0

    def visit(self, node: ast.AST) -> None:
        """Visit a node, and what is in it."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._visit_function([*node.decorator_list, *_defaults(node.args)], node.body)
            case ast.Lambda():
                self._visit_function(_defaults(node.args), [node.body])
            case ast.AnnAssign():
                if node.value is not None:
                    self.visit(node.value)
            case ast.JoinedStr() | ast.Import() | ast.ImportFrom():
                pass  # what is inside a text has no place of its own before Python 3.12
            case ast.If() | ast.While():
                values = (False,) if isinstance(node, ast.While) else (False, True)
                self._add(node.test, map(ast.Constant, values))
                self.generic_visit(node)
            case ast.expr() | ast.stmt():
                self._add(node, _near_expressions(node) if isinstance(node, ast.expr) else _near_statements(node))
                self.generic_visit(node)
            case _:
                self.generic_visit(node)

    def _add(self, node: ast.expr | ast.stmt, others: Iterable[ast.expr | ast.stmt]) -> None:
        self.changes += (_Change(node, other, not self._functions) for other in others)

    def _visit_function(self, outside: Sequence[ast.AST], body: Sequence[ast.AST]) -> None:
        for node in outside:
            self.visit(node)
        self._functions += 1
        for node in body:
            self.visit(node)
        self._functions -= 1


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]


def _near_statements(node: ast.stmt) -> Iterator[ast.stmt]:
    match node:
        case ast.Raise() | ast.Break() | ast.Continue() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.AugAssign(op=operator):
            yield ast.Pass()
            if type(operator) in _NEAR_OPERATORS:
                yield _with(node, op=_NEAR_OPERATORS[type(operator)]())


def _near_expressions(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.BinOp(left, operator, right) if type(operator) in _NEAR_OPERATORS:
            yield _with(node, op=_NEAR_OPERATORS[type(operator)]())
            if not isinstance(operator, ast.Mult | ast.Add | ast.BitAnd | ast.BitOr):
                yield _with(node, left=right, right=left)
        case ast.BoolOp(operator, values):
            yield _with(node, op=_NEAR_OPERATORS[type(operator)]())
            yield from values
        case ast.Compare(ops=[operator, *others]):
            yield _with(node, ops=[_NEAR_OPERATORS[type(operator)](), *others])
            if type(operator) in _OPPOSITE_ORDER:
                yield _with(node, ops=[_OPPOSITE_ORDER[type(operator)](), *others])
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.IfExp(body=body, orelse=orelse):
            yield body
            yield orelse
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Call():
            yield from _near_calls(node)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            yield from _without_conditions(node)
        case ast.Subscript(slice=ast.Slice(), ctx=ast.Load()):
            yield node.value


def _near_calls(node: ast.Call) -> Iterator[ast.expr]:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in _DROPPED_FUNCTIONS:
            yield first
        case ast.Call(func=ast.Attribute(value=owner, attr=name)) if name in _DROPPED_METHODS:
            yield owner
    match node.func:
        case ast.Name(id=name) if name in _NEAR_NAMES:
            yield _with(node, func=ast.Name(_NEAR_NAMES[name]))
        case ast.Attribute(attr=name) if name in _NEAR_NAMES:
            yield _with(node, func=_with(node.func, attr=_NEAR_NAMES[name]))
    match node.args:
        case [first, second, *rest] if not any(isinstance(argument, ast.Starred) for argument in node.args):
            yield _with(node, args=[second, first, *rest])
    if node.keywords:
        yield _with(node, keywords=node.keywords[:-1])


def _without_conditions(node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> Iterator[ast.expr]:
    for number, loop in enumerate(node.generators):
        if loop.ifs:
            loops = [*node.generators[:number], _with(loop, ifs=[]), *node.generators[number + 1 :]]
            yield _with(node, generators=loops)


def _with(node: Node, **fields: object) -> Node:
    """Return a copy of the node with other fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed
