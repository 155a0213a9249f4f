"""Constants of a program: what an expression is that no input has a part in, as JSON has it. Nothing of it is run.

Texts and numbers that are put together count as well: sums, slices, formats, `join`, `chr`, encodings.
"""

from __future__ import annotations

import ast
import base64
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MAX_NODES: Final = 2000
_MAX_SIZE: Final = 10_000
"""Characters of a text, items of a list and bits of a number that are computed."""
_MAX_RANGE: Final = 100
_SIGNS: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.BitXor: operator.xor,
}
_TEXT_METHODS: Final = _words(
    "join format replace lower upper title casefold swapcase capitalize strip lstrip rstrip removeprefix removesuffix"
    " split rsplit"
)
_SAME: Final = _words("tuple list set frozenset sorted str MappingProxyType encode decode")
"""Names of what makes another type of a value, of which JSON has one."""
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "int": int,
    "float": float,
    "chr": chr,
    "ord": ord,
    "reversed": lambda value: value[::-1],
    "range": lambda *limits: list(range(*limits)[:_MAX_RANGE]),
    "dict": lambda value: dict(value) if isinstance(value, list) else value,
    "items": lambda value: [[key, each] for key, each in value.items()],
    "keys": lambda value: value,
    "bytes": lambda value: bytes(value).decode("latin-1"),
    "fromhex": lambda value: bytes.fromhex(value).decode(),
    "unhexlify": lambda value: bytes.fromhex(value).decode(),
    "b64decode": lambda value: base64.b64decode(value).decode(),
    "loads": json.loads,
    "dumps": json.dumps,
    "repr": json.dumps,
    "Decimal": float,
}
_WIDE_FIELD: Final = re.compile(r"\d{4}")
"""A width or precision in a format, which makes a long text of a short one."""


class _NoConstantError(Exception):
    """The expression is not made of constants alone."""


class ConstantEvaluator:
    """ConstantEvaluator returns what expressions of constants are, by the values that the program gives its names."""

    def __init__(self, values: Mapping[str, Sequence[ast.expr | None]]) -> None:
        self._values = values
        self._budget = 0

    def value_or_none(self, node: ast.AST | None) -> Any:
        """Return the value of an expression of constants, or None."""
        self._budget = _MAX_NODES
        try:
            return self._value(node, {})
        except (_NoConstantError, ValueError, TypeError, ArithmeticError, LookupError, SyntaxError, RecursionError):
            return None

    def _value(self, node: ast.AST | str | None, local: Mapping[str, Any]) -> Any:
        """Return the value of constants; `local` has the variables of comprehensions. Raises _NoConstantError."""
        self._budget -= 1
        if self._budget < 0:
            raise _NoConstantError
        match node:
            case ast.Constant(value=value):
                return _as_json(value)
            case ast.Name(id=name) if name in local:
                return local[name]
            case ast.Name(id=name) if len(self._values.get(name, ())) == 1:
                return self._value(self._values[name][0], {})
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner not in self._values:
                return self._value(ast.Name(name, ast.Load()), {})  # of a class
            case ast.List() | ast.Tuple() | ast.Set() | ast.Dict() | ast.GeneratorExp() | ast.ListComp():
                return self._collected(node, local)
            case ast.Call(func=function, args=arguments, keywords=keywords):
                return self._made_by(function, arguments, keywords, local)
            case _:
                return self._computed(node, local)

    def _collected(self, node: ast.expr, local: Mapping[str, Any]) -> Any:
        """Return a list or dict of constants, as a display or a plain comprehension writes it."""
        match node:
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return [self._value(item, local) for item in items]
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return {_as_key(self._value(key, local)): self._value(value, local) for key, value in pairs}
            case (
                ast.GeneratorExp(elt=item, generators=[ast.comprehension(ast.Name(id=name), members, ifs=[])])
                | ast.ListComp(elt=item, generators=[ast.comprehension(ast.Name(id=name), members, ifs=[])])
            ):
                return [self._value(item, {**local, name: each}) for each in self._value(members, local)]
            case _:
                raise _NoConstantError

    def _computed(self, node: ast.AST | str | None, local: Mapping[str, Any]) -> Any:
        """Return what operators, formats and slices make of constants."""
        match node:
            case str():  # a part of an f-string
                return node
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand, local)
            case ast.BinOp(left=left, op=sign, right=right):
                return _combine(sign, self._value(left, local), self._value(right, local))
            case ast.JoinedStr(values=parts):
                return "".join(str(self._value(getattr(part, "value", part), local)) for part in parts)
            case ast.Subscript(value=whole, slice=ast.Slice(lower=lower, upper=upper, step=step)):
                limits = (None if limit is None else self._value(limit, local) for limit in (lower, upper, step))
                return self._value(whole, local)[slice(*limits)]
            case _:
                raise _NoConstantError

    def _made_by(
        self,
        function: ast.expr,
        arguments: list[ast.expr],
        keywords: list[ast.keyword],
        local: Mapping[str, Any],
    ) -> Any:
        is_method = isinstance(function, ast.Attribute)
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name == "dict" and not arguments:
            return {word.arg: self._value(word.value, local) for word in keywords if word.arg}
        if name == "map" and len(arguments) == 2:
            called = arguments[0].id if isinstance(arguments[0], ast.Name) else ""
            return [_call(called, [each]) for each in self._value(arguments[1], local)]
        if name == "literal_eval":
            return self._value(ast.parse(self._value(arguments[0], local), mode="eval").body, local)
        values = [self._value(argument, local) for argument in arguments]
        if isinstance(function, ast.Attribute) and name in _TEXT_METHODS:
            return _call_text(self._value(function.value, local), name, values)
        if isinstance(function, ast.Attribute) and name in ("items", "keys", "encode", "decode"):
            values = [self._value(function.value, local)]
        return _call(name, values[:1] if name in ("dumps", "loads") or is_method else values)


def _call(name: str, values: list[Any]) -> Any:
    """Return what a function of Python makes of constants. Raises _NoConstantError."""
    if name in _SAME and len(values) == 1:
        return values[0]
    if name not in _FUNCTIONS or not values:
        raise _NoConstantError
    return _FUNCTIONS[name](*values)


def _call_text(text: Any, name: str, values: list[Any]) -> Any:
    """Return what a method of a text makes of it, where that is not too long. Raises _NoConstantError."""
    if not isinstance(text, str) or (name == "format" and _WIDE_FIELD.search(text)):
        raise _NoConstantError
    if len(text) * sum(len(str(value)) for value in values) > _MAX_SIZE**2 // 100:
        raise _NoConstantError
    return getattr(text, name)(*values)


def _combine(sign: ast.operator, left: Any, right: Any) -> Any:
    """Return what an operator makes of two constants, where that is not too long. Raises _NoConstantError."""
    if isinstance(sign, ast.Mod) and isinstance(left, str) and not _WIDE_FIELD.search(left):
        return left % (tuple(right) if isinstance(right, list) else right)
    if type(sign) not in _SIGNS:
        raise _NoConstantError
    if isinstance(sign, ast.Mult) and _size(left) * _size(right) > _MAX_SIZE:
        raise _NoConstantError
    return _SIGNS[type(sign)](left, right)


def _size(value: Any) -> int:
    """Return how long a constant is, or how often it repeats another one."""
    if isinstance(value, str | list):
        return len(value) + 1
    return min(abs(int(value)), 1 << 62) if isinstance(value, int | float) else 1


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str | int | float | bool | None):
        return value
    raise _NoConstantError


def _as_key(value: Any) -> Any:
    """Return a key of a dict of constants: a list is none, so its JSON stands for it."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def bound_values(node: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the names that a node gives a value, with the value where it is plain."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _assigned(target, value)
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            yield name, value
        case ast.NamedExpr(target=ast.Name(id=name), value=value):
            yield name, value
        case ast.AugAssign(target=ast.Name(id=name)):
            yield name, None
        case ast.For(target=target) | ast.comprehension(target=target):
            yield from ((each.id, None) for each in ast.walk(target) if isinstance(each, ast.Name))
        case ast.arg(arg=name):
            yield name, None
        case _:
            pass


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the names of one target of an assignment; those of a tuple each have a part of a written tuple."""
    match target, value:
        case ast.Name(id=name), _:
            yield name, value
        case ast.Tuple(elts=targets), ast.Tuple(elts=values) if len(targets) == len(values) and not any(
            isinstance(each, ast.Starred) for each in (*targets, *values)
        ):
            for one, its_value in zip(targets, values, strict=True):
                yield from _assigned(one, its_value)
        case _:
            yield from ((each.id, None) for each in ast.walk(target) if isinstance(each, ast.Name))
