"""Code that knows an example by its input: a comparison or lookup with constants that are all of that input.

Such code passes its examples whatever the description says, so an example that contradicts the others would never be
noticed. What is judged are constants, not their spelling: a literal of the input or of its texts, fields compared one
by one, keys of a table, patterns, digests. Constants of everyday use are left alone: an empty list, 0 and 1, "EUR".
So are a table that has more than the examples, a bound, and words that the input schema lists.
The gate runs as a program of its own, with limits, as the policy does.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice, pairwise
from typing import Any

from skill_runtime.check.constants import ConstantEvaluator, bound_values
from skill_runtime.check.findings import GateFinding
from skill_runtime.check.information import MIN_INFORMATION, count_information, equality_key, find_leaves, is_trivial
from skill_runtime.text import one_line


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DIGESTS = _words("hash crc32 adler32 md5 hexdigest digest file_digest uuid3 uuid5")
_LOOKUPS = _words(
    "get pop setdefault index count contains eq ne is_ isclose compare_digest fullmatch match search"
    " __getitem__ __contains__ __eq__ __ne__"
)
_MIN_INFORMATION_OF_ONE = 6
"""As MIN_INFORMATION, where the input is a single number or text, which code may well treat apart: the year 1582."""
_MIN_DIGEST_CHARACTERS, _MIN_DIGEST_NUMBER = 8, 65_536
_MAX_COMPARISONS, _MAX_NAMES = 20_000, 200
_MIN_OTHER_ROWS, _MAX_ROWS = 2, 200
"""Rows of a table that no visible example has, before it is a table of the task. As many rows are looked at."""
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
"""What an order is called from its other side."""
_COMPLEMENTS: tuple[set[type[ast.cmpop]], ...] = ({ast.Lt, ast.GtE}, {ast.Gt, ast.LtE})
"""Orders that part all values in two: with others, or with both parts, code can single out the bound itself."""


@dataclass(frozen=True)
class _Comparison:
    """_Comparison holds constants that decide together what the code does, and what they are compared with."""

    line: int
    constants: tuple[Any, ...]
    others: tuple[ast.expr, ...] = ()
    rows: tuple[Any, ...] = ()
    """The table that it is a row of, or its keys; of two and more, each says less."""

    @property
    def is_one_of_many(self) -> bool:
        """Return whether its table has other rows."""
        return len(self.rows) > 1


def check(source: str, visible: Sequence[tuple[str, Any]], schema: Any = None) -> GateFinding | None:
    """Return the first place that knows an example by its input, in a source that the policy has parsed.

    `visible` has the names and inputs of visible examples, `schema` is the one of the input.
    """
    tree = _ProgramTree(ast.parse(source))
    listed = frozenset(map(equality_key, _listed_by(schema)))
    shown = [(name, _ExampleInput.of(value, listed)) for name, value in visible]
    comparisons = islice(tree.comparisons(), _MAX_COMPARISONS)
    for comparison in sorted(comparisons, key=lambda each: each.line):
        name = next((name for name, known in shown if known.is_named_by(comparison)), None)
        if name is not None and not _is_table_of_the_task(comparison.rows, [known for _, known in shown]):
            return _finding(comparison.line, f"the input of the example {one_line(name, 80)!r}")
        if tree.is_digest(comparison):
            return _finding(comparison.line, "a digest of certain values")
    return None


def _is_table_of_the_task(rows: tuple[Any, ...], examples: Sequence[_ExampleInput]) -> bool:
    """Return whether a table has rows of its own, beside those that visible examples have.

    A table of whole inputs is none, nor is one that holds every example and fewer other rows: it may be padded.
    """
    named, others = set[int](), 0
    for row in rows[:_MAX_ROWS]:
        alone = _Comparison(0, (row,), rows=rows)
        by = {number for number, example in enumerate(examples) if example.is_named_by(alone)}
        if any(examples[number].is_written_out(row) for number in by):
            return False
        named |= by
        others += not by and not is_trivial(row)
    return others >= _MIN_OTHER_ROWS and (len(named) < len(examples) or others >= len(examples))


def _finding(line: int, what: str) -> GateFinding:
    message = (
        f"line {line}: the code compares its input with {what}, to treat it apart. The output must follow from the "
        "description, by the same rules for every input. Where an example contradicts the description, follow the "
        "description: people are told of the example then."
    )
    return GateFinding("examples", message, line)


@dataclass(frozen=True)
class _ExampleInput:
    """_ExampleInput is the input of an example, in the forms in which constants may name it."""

    input: Any
    leaves: tuple[Any, ...]
    """Its values, but for those of everyday use."""
    needed: Counter[str]
    """These values, as equality_key has them."""
    every: Counter[str]
    """All values."""
    information: int
    is_listed: bool
    """The schema lists these values, so the code has to know them."""

    @classmethod
    def of(cls, value: Any, listed: frozenset[str]) -> _ExampleInput:
        """Make it of an input, and the values that the schema lists."""
        leaves = tuple(leaf for leaf in find_leaves(value) if not is_trivial(leaf))
        every = Counter(map(equality_key, find_leaves(value)))
        needed = Counter(map(equality_key, leaves))
        information = sum(1 if equality_key(leaf) in listed else count_information(leaf) for leaf in leaves)
        return cls(value, leaves, needed, every, information, needed.keys() <= listed)

    def is_named_by(self, comparison: _Comparison) -> bool:
        """Return whether the constants, together or one of them, are all of the input."""
        constants = list(comparison.constants)
        constants += [text for constant in constants for text in _spelt_by_numbers(constant)]
        if any(self._is_whole(constant) for constant in constants):
            return True
        if self.is_listed:
            return False
        found = Counter(
            equality_key(form) for constant in constants for leaf in find_leaves(constant) for form in _forms(leaf)
        )
        if len(self.needed) > len(found) or self.needed - found:
            return False
        is_one = len(self.leaves) == 1 and bool(self.every - found or self.every.total() == 1)
        information = self.information + (0 if comparison.is_one_of_many else sum(map(_count_listed, constants)))
        return information >= (_MIN_INFORMATION_OF_ONE if is_one else MIN_INFORMATION)

    def is_written_out(self, constant: Any) -> bool:
        """Return whether a constant is the whole object, or a text of it: no key that a task would have."""
        if isinstance(constant, list):
            return any(map(self.is_written_out, constant))
        is_object = isinstance(constant, dict) or (isinstance(constant, str) and constant.lstrip().startswith("{"))
        return is_object and self._is_whole(constant)

    def _is_whole(self, constant: Any) -> bool:
        if isinstance(constant, dict):
            return constant == self.input and any(leaf not in (None, "") for leaf in find_leaves(constant))
        if isinstance(constant, list) and isinstance(self.input, dict) and self.leaves:
            pairs = [[key, value] for key, value in self.input.items()]
            return len(constant) == len(pairs) and all(pair in constant for pair in pairs)
        if isinstance(constant, str):
            return any(self._is_text(text) for text in _decoded(constant))
        return False

    def _is_text(self, text: str) -> bool:
        """Return whether a text has all the input's values, one after the other, as JSON or `repr` write them."""
        if not self.leaves or (len(self.leaves) == 1 and text == self.leaves[0]):
            return False  # a text that is compared with a field
        if _parsed(text) == self.input:
            return True
        at = 0
        for leaf in self.leaves:
            at = text.find(str(leaf), at)
            if at < 0:
                return False
            at += len(str(leaf))
        names = isinstance(self.input, dict) and all(f'"{name}"' in text.replace("'", '"') for name in self.input)
        rest = len(text) - sum(len(str(leaf)) for leaf in self.leaves)
        is_joined = len(self.leaves) > 1 and rest <= 2 * (len(self.leaves) + 1)
        return names or (is_joined and self.information >= MIN_INFORMATION)


class _ProgramTree:
    """_ProgramTree finds the comparisons with constants in what `run` reaches."""

    def __init__(self, tree: ast.Module) -> None:
        self._nodes = list(ast.walk(tree))
        self._parents = {id(child): node for node in self._nodes for child in ast.iter_child_nodes(node)}
        self._values: dict[str, list[ast.expr | None]] = {}
        for node in self._nodes:
            for name, value in bound_values(node):
                self._values.setdefault(name, []).append(value)
        self._constant_of = ConstantEvaluator(self._values).value_or_none
        self._reached = list(_reach(tree))
        self._bounds = self._orders_bybound_values()
        self._equated = self._constants_by_side()

    def comparisons(self) -> Iterator[_Comparison]:
        """Yield each comparison, lookup, pattern and condition that has constants."""
        for node in self._reached:
            match node:
                case ast.Compare():
                    yield from self._compared(node)
                case ast.Subscript(value=table, slice=key, lineno=line):
                    yield from self._looked_up(line, table, key)
                    yield from self._keys_beside_others(line, table, key)
                case ast.Call():
                    yield from self._called(node)
                case ast.For(target=target, iter=table):
                    yield from self._iterated(node.lineno, table, [target, *ast.iter_child_nodes(node)])
                case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                    for part in node.generators:
                        yield from self._iterated(node.lineno, part.iter, [node])
                case ast.Match(cases=cases):
                    yield from self._matched(cases)
                case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                    yield from self._conditions(test.lineno, test, node)
                case ast.BinOp(left=left, op=ast.Mult() | ast.BitAnd(), right=right) if _compare(left, right):
                    yield self._together(node.lineno, [left, right])
                case ast.BoolOp(values=values, lineno=line):
                    yield self._together(line, values)
                case _:
                    pass

    def _called(self, node: ast.Call) -> Iterator[_Comparison]:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("filter", "map") and len(node.args) > 1:
            yield from self._iterated(node.lineno, node.args[1], node.args[:1])
        if name not in _LOOKUPS:
            return
        owners = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        for owner in owners:
            for argument in node.args:
                yield from self._looked_up(node.lineno, owner, argument)
                yield from self._looked_up(node.lineno, argument, owner)
        parts = [part for part in (*owners, *node.args) if not isinstance(self._constant_of(part), list | dict)]
        yield self._together(node.lineno, parts)

    def is_digest(self, comparison: _Comparison) -> bool:
        """Return whether a digest is compared with a constant that may be one."""
        return any(_may_be_digest(constant) for constant in comparison.constants) and any(
            not _DIGESTS.isdisjoint(self._names_behind(other)) for other in comparison.others
        )

    def _compared(self, node: ast.Compare) -> Iterator[_Comparison]:
        sides = [node.left, *node.comparators]
        for (one, other), operator in zip(pairwise(sides), node.ops, strict=True):
            for literal, side in ((one, other), (other, one)):
                value = self._constant_of(literal)
                if value is None or self._constant_of(side) is not None or not self._varies(side):
                    continue
                if isinstance(operator, ast.In | ast.NotIn):
                    members = tuple(value) if isinstance(value, list | dict) else (value,)
                    yield from (_Comparison(node.lineno, (member,), (side,), members) for member in members)
                    yield from [_Comparison(node.lineno, (value,), (side,))] if literal is one else []
                elif type(operator) not in _MIRRORED:
                    yield _Comparison(node.lineno, (value,), (side,), self._rows_of(node))
                elif self._is_singled_out(value):
                    yield _Comparison(node.lineno, (value,), (side,))

    def _orders_bybound_values(self) -> dict[str, set[type[ast.cmpop]]]:
        """Return in which orders values stand to each constant."""
        bounds: dict[str, set[type[ast.cmpop]]] = {}
        for node in self._reached:
            if not isinstance(node, ast.Compare):
                continue
            for (one, other), operator in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
                order = type(operator)
                if order not in _MIRRORED:
                    continue
                for literal, reading in ((other, order), (one, _MIRRORED[order])):
                    if (value := self._constant_of(literal)) is not None:
                        bounds.setdefault(_identity(value), set()).add(reading)
        return bounds

    def _is_singled_out(self, bound: Any) -> bool:
        """Return whether the orders to a bound, taken together, may be an equality: `n >= 17 and n <= 17`."""
        orders = self._bounds.get(_identity(bound), set())
        return len(orders) > 1 and not any(orders <= complement for complement in _COMPLEMENTS)

    def _constants_by_side(self) -> dict[tuple[int, str], tuple[Any, ...]]:
        """Return the constants that an expression of a function is compared with: a chain of `if` is a table."""
        equated: dict[tuple[int, str], list[Any]] = {}
        for node in self._reached:
            if isinstance(node, ast.Compare) and (pair := self._equality(node)) is not None:
                side, value = pair
                equated.setdefault(side, []).append(value)
        return {side: tuple(values) for side, values in equated.items()}

    def _equality(self, node: ast.expr) -> tuple[tuple[int, str], Any] | None:
        """Return the varying side of `side == constant`, as its function and text, and the constant."""
        match node:
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                for side, literal in ((left, right), (right, left)):
                    value = self._constant_of(literal)
                    if value is not None and self._constant_of(side) is None:
                        return (self._function_around(node), ast.unparse(side)), value
            case _:
                pass
        return None

    def _function_around(self, node: ast.AST) -> int:
        parent = self._parents.get(id(node))
        while parent is not None and not isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            parent = self._parents.get(id(parent))
        return id(parent)

    def _rows_of(self, node: ast.expr) -> tuple[Any, ...]:
        """Return the constants that stand in the place of this one elsewhere; nothing where there is no other."""
        pair = self._equality(node)
        rows = self._equated.get(pair[0], ()) if pair else ()
        return rows if len(rows) > 1 else ()

    def _looked_up(self, line: int, table: ast.expr, key: ast.expr) -> Iterator[_Comparison]:
        """Yield the keys of a table of constants, or the items that a list of them is searched for."""
        value = self._constant_of(table)
        if isinstance(value, dict | list) and self._constant_of(key) is None and self._varies(key):
            rows = tuple(value)
            yield from (_Comparison(line, (member,), (key,), rows) for member in rows)

    def _keys_beside_others(self, line: int, table: ast.expr, key: ast.expr) -> Iterator[_Comparison]:
        """Yield the constant keys of a table that has the looked-up key itself, too: they replace its value."""
        found = (each for part in ast.walk(table) if isinstance(part, ast.Dict) for each in part.keys if each)
        keys = list(islice(found, _MAX_ROWS))
        if ast.unparse(key) not in map(ast.unparse, keys):
            return
        rows = tuple(constant for each in keys if (constant := self._constant_of(each)) is not None)
        yield from (_Comparison(line, (member,), (key,), rows) for member in rows)

    def _iterated(self, line: int, table: ast.expr, users: Sequence[ast.AST]) -> Iterator[_Comparison]:
        """Yield the rows of a table of constants that a loop compares with something."""
        compares = any(
            isinstance(inner, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq | ast.Is) for op in inner.ops)
            for user in users
            for inner in ast.walk(user)
        )
        if not compares:
            return
        if isinstance(table, ast.Call) and isinstance(table.func, ast.Attribute) and table.func.attr == "items":
            value = self._constant_of(table.func.value)
            if isinstance(value, dict):
                yield _Comparison(line, (value,))
                yield from (_Comparison(line, (key,), rows=tuple(value)) for key in value)
            return
        value = self._constant_of(table)
        if not isinstance(value, list | dict):
            return
        rows = tuple(value)
        yield from (_Comparison(line, (row,), rows=rows) for row in rows)
        for column in _columns(rows):
            yield from (_Comparison(line, (cell,), rows=column) for cell in column)

    def _matched(self, cases: Sequence[ast.match_case]) -> Iterator[_Comparison]:
        """Yield the constants of each pattern and its guard: cases are the rows of a table."""
        found = [
            (part.lineno, (*self._pattern_constants(part), *(self._constants_of(case.guard) if case.guard else ())))
            for case in cases
            for part in (case.pattern.patterns if isinstance(case.pattern, ast.MatchOr) else [case.pattern])
        ]
        rows = tuple(list(constants) if len(constants) > 1 else constants[0] for _, constants in found if constants)
        yield from (_Comparison(line, constants, rows=rows) for line, constants in found)

    def _pattern_constants(self, pattern: ast.pattern) -> Iterator[Any]:
        """Yield the constants of a pattern: all of it as one where nothing is left open."""
        match pattern:
            case ast.MatchValue(value=value):
                yield self._constant_of(value)
            case ast.MatchSingleton(value=value):
                yield value
            case ast.MatchSequence(patterns=parts):
                inside = [list(self._pattern_constants(part)) for part in parts]
                is_closed = all(len(values) == 1 for values in inside)
                yield from [[values[0] for values in inside]] if is_closed else (each for v in inside for each in v)
            case ast.MatchAs(pattern=part) if part is not None:
                yield from self._pattern_constants(part)
            case ast.MatchMapping(patterns=parts):
                for part in parts:
                    yield from self._pattern_constants(part)
            case _:
                pass

    def _conditions(self, line: int, test: ast.expr, node: ast.AST) -> Iterator[_Comparison]:
        """Yield the constants of a condition, with those of the conditions around it."""
        own = list(self._constants_of(test))
        if not own:
            return
        child, parent, outer = node, self._parents.get(id(node)), list[Any]()
        while parent is not None and not isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            if isinstance(parent, ast.If) and (child in parent.body or _is_negative(parent.test)):
                outer += self._constants_of(parent.test)
            child, parent = parent, self._parents.get(id(parent))
        yield _Comparison(line, (*own, *outer), rows=() if outer else self._rows_of(test))

    def _together(self, line: int, parts: Sequence[ast.expr]) -> _Comparison:
        return _Comparison(line, tuple(constant for part in parts for constant in self._constants_of(part)))

    def _constants_of(self, test: ast.expr) -> Iterator[Any]:
        """Yield the largest constants in an expression, but the names of fields."""
        value = self._constant_of(test)
        if value is not None:
            yield value
            return
        if isinstance(test, ast.Compare) and any(isinstance(op, ast.In | ast.NotIn) for op in test.ops):
            members = self._constant_of(test.comparators[-1])
            yield from members if isinstance(members, list) and len(members) == 1 else ()
            return
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or) and not _is_negative(test):
            return  # one of them is enough, so they are not one input
        is_order = isinstance(test, ast.Compare) and all(type(operator) in _MIRRORED for operator in test.ops)
        for child in ast.iter_child_nodes(test):
            if isinstance(test, ast.Subscript) and child is test.slice:
                continue
            if is_order and (bound := self._constant_of(child)) is not None and not self._is_singled_out(bound):
                continue
            if isinstance(test, ast.Call) and child in test.args and getattr(test.func, "attr", "") in ("get", "pop"):
                continue
            if isinstance(child, ast.expr | ast.comprehension):
                yield from self._constants_of(child)  # type: ignore[arg-type]

    def _varies(self, node: ast.expr) -> bool:
        """Return whether an expression has a variable, and so may have to do with the input."""
        return any(isinstance(each, ast.Name) for each in ast.walk(node))

    def _names_behind(self, node: ast.expr) -> set[str]:
        """Return names in an expression and in the values of its variables, up to _MAX_NAMES."""
        names, waiting = set[str](), [node]
        while waiting and len(names) < _MAX_NAMES:
            for each in ast.walk(waiting.pop()):
                if isinstance(each, ast.Attribute):
                    names.add(each.attr)
                elif isinstance(each, ast.Name) and each.id not in names:
                    names.add(each.id)
                    waiting += [value for value in self._values.get(each.id, ())[:_MAX_NAMES] if value is not None]
        return names


def _reach(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of what `run` uses, by its name: functions, classes and variables of the file."""
    definitions: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            definitions.setdefault(node.name, []).append(node)
        for name, value in bound_values(node):
            if value is not None:
                definitions.setdefault(name, []).append(value)
    visited, waiting = set[int](), [*definitions.get("run", ())]
    while waiting:
        node = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        yield node
        waiting += ast.iter_child_nodes(node)
        named = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        waiting += definitions.get(named, ())


def _compare(*factors: ast.expr) -> bool:
    """Return whether each factor holds a comparison: their product is what `and` makes of them."""
    return all(any(isinstance(part, ast.Compare) for part in ast.walk(factor)) for factor in factors)


def _is_negative(test: ast.expr) -> bool:
    """Return whether a condition lets through what differs: the rest is what equals its constants."""
    if isinstance(test, ast.BoolOp):
        return all(_is_negative(value) for value in test.values)
    if isinstance(test, ast.UnaryOp):
        return isinstance(test.op, ast.Not)
    return isinstance(test, ast.Compare) and all(isinstance(op, ast.NotEq | ast.IsNot | ast.NotIn) for op in test.ops)


def _columns(rows: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the cells of rows that stand in the same place, or have the same name."""
    columns: dict[Any, list[Any]] = {}
    for row in rows:
        if isinstance(row, dict | list):
            for place, cell in row.items() if isinstance(row, dict) else enumerate(row):
                columns.setdefault(place, []).append(cell)
    yield from map(tuple, columns.values())


def _listed_by(schema: Any) -> Iterator[Any]:
    """Yield the values that a schema lists, at whatever place, as `enum` or `const`."""
    if isinstance(schema, dict):
        values = schema.get("enum")
        yield from find_leaves(values) if isinstance(values, list) else ()
        yield from find_leaves(schema["const"]) if "const" in schema else ()
    if isinstance(schema, dict | list):
        for part in schema.values() if isinstance(schema, dict) else schema:
            yield from _listed_by(part)


def _count_listed(value: Any) -> int:
    """Return how many values stand beside others in a list: that they do says more than each of them."""
    if isinstance(value, dict):
        return sum(map(_count_listed, value.values()))
    if not isinstance(value, list):
        return 0
    return sum(map(_count_listed, value)) + (len(value) if len(value) > 1 else 0)


@cache
def _parsed(text: str) -> Any:
    """Return what a text is as JSON or as Python, or None."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return None


def _forms(leaf: Any) -> list[Any]:
    """Return a value, and a text backwards, too."""
    return [leaf, leaf[::-1]] if isinstance(leaf, str) and leaf != leaf[::-1] else [leaf]


def _spelt_by_numbers(constant: Any) -> Iterator[str]:
    """Yield the text that a list of numbers is, character by character."""
    if isinstance(constant, list) and constant and all(type(item) is int and 0 <= item < 1 << 16 for item in constant):
        yield "".join(map(chr, constant))


def _identity(constant: Any) -> str:
    """Return what equal constants have in common, be they values or lists of them."""
    return repr([equality_key(leaf) for leaf in find_leaves(constant)])


def _decoded(text: str) -> Iterator[str]:
    """Yield a text, and what it may be an encoding of."""
    yield text
    yield text[::-1]
    for decode in (binascii.unhexlify, base64.b64decode):
        try:
            yield decode(text.encode()).decode()
        except ValueError:
            continue


def _may_be_digest(constant: Any) -> bool:
    if isinstance(constant, str):
        return len(constant) >= _MIN_DIGEST_CHARACTERS and not constant.strip("0123456789abcdefABCDEF-")
    return isinstance(constant, int) and abs(constant) >= _MIN_DIGEST_NUMBER


def main() -> None:
    """Run the gate as a program: source, inputs and schema as JSON on standard input, the finding on the output."""
    request = json.loads(sys.stdin.buffer.read())
    finding = check(request["source"], request["inputs"], request["schema"])
    sys.stdout.write(json.dumps(asdict(finding) if finding else None))


if __name__ == "__main__":
    main()
