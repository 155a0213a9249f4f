"""Fingerprints: what is the same program, and what is not, whatever its names."""

from __future__ import annotations

import ast
import itertools
from collections import defaultdict
from symtable import SymbolTable, symtable
from typing import Any

import pytest

from skill_operator.generation.fingerprint import fingerprint

BASE = """
import math
LIMIT = 10

def helper(a, b=2):
    return a + b + LIMIT

def run(input):
    total = 0
    for line in input["lines"]:
        total += helper(line["qty"], b=math.floor(line["price"]))
    squares = [n * n for n in range(total)]
    try:
        return {"total": total, "n": sum(squares)}
    except ValueError as error:
        raise KeyError(str(error)) from error
"""
SAME = {
    "comments and spacing": BASE.replace("total = 0", "total   =  (0)   # start").replace("\n\n", "\n# c\n\n\n"),
    "docstrings": '"""Module."""\n' + BASE.replace("def run(input):", 'def run(input):\n    """Doc."""\n    "note"'),
    "local names": BASE.replace("total ", "acc ").replace(": total", ": acc").replace("(total)", "(acc)"),
    "comprehension": BASE.replace("n * n for n in", "k * k for k in"),
    "exception": BASE.replace("error", "problem"),
    "quotes": BASE.replace('"lines"', "'lines'"),
    "parameter": BASE.replace("def run(input)", "def run(data)").replace("input[", "data["),
}  # fmt: skip
DIFFERENT = {
    "constant": BASE.replace("= 10", "= 11"),
    "key": BASE.replace('"lines"', '"rows"'),
    "operator": BASE.replace("a + b", "a - b"),
    "swapped": BASE.replace("a + b + LIMIT", "b + a + LIMIT"),
    "global name": BASE.replace("LIMIT", "BOUND"),
    "called function": BASE.replace("math.floor", "math.ceil"),
    "exception class": BASE.replace("KeyError", "TypeError"),
    "default": BASE.replace("b=2", "b=3"),
    "more code": BASE + "\nX = 1\n",
    "statement": BASE.replace("total += ", "total -= "),
}


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_what_does_not_count_in_a_fingerprint(source: str) -> None:
    assert source != BASE
    assert fingerprint(source) == fingerprint(BASE)


@pytest.mark.parametrize("source", DIFFERENT.values(), ids=DIFFERENT)
def test_what_counts_in_a_fingerprint(source: str) -> None:
    assert source != BASE
    assert fingerprint(source) != fingerprint(BASE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def run(a, b):\n return a - b", "def run(b, a):\n return a - b"),
        ("def run(i):\n x = 1\n y = 2\n return x - y", "def run(i):\n x = 1\n y = 2\n return y - x"),
        ("def run(i):\n global x\n x = 1", "def run(i):\n x = 1"),
        ("def run(i):\n x = 1\n return y", "def run(i):\n y = 1\n return y"),
        ("def run(i):\n import json\n return json", "def run(i):\n import math\n return math"),
        ("def run(i):\n import json as m\n return m", "def run(i):\n import math as m\n return m"),
        ("def run(i):\n from a import b\n return b", "def run(i):\n from a import c\n return c"),
    ],
)
def test_renaming_hides_no_difference(one: str, other: str) -> None:
    assert fingerprint(one) != fingerprint(other)


def test_a_fingerprint_does_not_need_python() -> None:
    assert fingerprint("def run(") != fingerprint("def run((")


ALPHABET = ("a", "b", "c")
HEAD = "a, b, c = 'global a', 'global b', 'global c'\n"
SHAPES = {
    "parameters": "def run(i, {0}=1, {1}=2):\n return [{2}, {3}]",
    "keyword": "def run(i):\n def f({0}, {1}): return [{2}, {3}]\n return f({4}=1, b=2)",
    "double star": "def run(i):\n def f({0}, {1}): return [{2}, {3}]\n return f(**{{'a': 1, 'b': 2}})",
    "default": "def run(i):\n {0} = 1\n {1} = 2\n return (lambda {2}={3}: {4})()",
    "default of a function": "def run(i):\n {0} = 1\n {1} = 2\n def f({2}={3}): return {4}\n return f()",
    "comprehension": "def run(i):\n {0} = [[1], [2]]\n {1} = 3\n return [{2} for {3} in {4}]",
    "two loops": "def run(i):\n {0} = [[1], [2]]\n return [{1} for {2} in {3} for {4} in {5}]",
    "dictionary": "def run(i):\n {0} = 7\n return {{{1}: {2} for {3}, {4} in [(1, 2)]}}",
    "walrus": "def run(i):\n {0} = 0\n {1} = [({2} := x) for x in [1, 2]]\n return [{3}, {4}]",
    "walrus in a lambda": "def run(i):\n {0} = 1\n f = lambda: [({1} := 2), {2}]\n return [f(), {3}]",
    "nonlocal": "def run(i):\n {0} = 1\n {1} = 2\n def f():\n  nonlocal {2}\n  {3} = 3\n f()\n return [{4}, {5}]",
    "global": "def run(i):\n {0} = 1\n def f():\n  global {1}\n  {2} = 2\n f()\n return [{3}, {4}]",
    "global for those inside": "def run(i):\n global {0}\n {1} = 1\n def f(): return [{2}, {3}]\n return f()",
    "closure": "def run(i):\n {0} = 1\n def f():\n  {1} = 2\n  def g(): return [{2}, {3}]\n  return g()\n return f()",
    "match": "def run(i):\n match [1, 2]:\n  case [{0}, {1}]: return [{2}, {3}]",
    "match rest": "def run(i):\n match {{'k': 1, 'l': 2}}:\n  case {{'k': {0}, **{1}}}: return [{2}, {3}]",
    "match star": "def run(i):\n match [1, 2, 3]:\n  case [{0}, *{1}] as {2}: return [{3}, {4}]",
    "exception": "def run(i):\n {0} = 1\n try: 1 / 0\n except Exception as {1}: {2} = 2\n return [{3}]",
    "class": "def run(i):\n {0} = 1\n class K:\n  {1} = 2\n  def m(self): return {2}\n return [K.a, K().m(), {3}]",
    "class member": "def run(i):\n {0} = 1\n class K:\n  {1} = {2}\n return [K.{3}, {4}]",
    "loop in a class": "def run(i):\n {0} = [1]\n class K:\n  {1} = [2]\n  z = [{2} for {3} in {4}]\n return K.z",
    "method": "class K:\n {0} = 5\n def m(self, {1}): return [{2}, {3}]\ndef run(i): return K().m(1)",
    "import": "def run(i):\n import math as {0}\n import cmath as {1}\n return [{2}.__name__, {3}.__name__]",
    "dotted import": "def run(i):\n import os.path as {0}\n import os.path\n return [{1}.sep, os.sep]",
    "import from": "def run(i):\n from math import pi as {0}, e as {1}\n return [{2}, {3}]",
    "deleted": "def run(i):\n {0} = 1\n {1} = 2\n del {2}\n return [{3}]",
    "loop": "def run(i):\n {0} = 0\n for {1} in [1, 2]: {2} = {3}\n return [{4}]",
    "with": "import io\ndef run(i):\n {0} = 1\n with io.StringIO('x') as {1}: {2} = {3}\n return str(type({4}))",
    "augmented": "def run(i):\n {0} = 1\n {1} = 2\n {2} += {3}\n return [{4}]",
    "locals": "def run(i):\n {0} = 1\n {1} = 2\n return locals().get('a')",
    "name of a function": "def run(i):\n def {0}(): return 1\n return [{1}.__name__, {2}()]",
    "names in a text": "def run(i):\n {0} = 1\n {1} = 2\n return f'{{{2}=}} {{{3}}}'",
    "annotation": "def run(i):\n {0} = 1\n {1}: int = 2\n return [{2}, {3}]",
    "starred": "def run(i):\n {0}, *{1} = [1, 2, 3]\n return [{2}, {3}]",
    "helper": "def f({0}, *, {1}=2): return [{2}, {3}]\ndef run(i): return [f(1), f(3, {4}=4)]",
    "async": "import asyncio\nasync def f({0}, {1}): return [{2}, {3}]\ndef run(i): return asyncio.run(f(1, 2))",
}  # fmt: skip


def behaviour(source: str) -> str:
    """Return what the program does; how an exception is worded may depend on names."""
    space: dict[str, Any] = {}
    try:
        exec(compile(source, "skill.py", "exec"), space)  # noqa: S102 - written here
        outcome = repr(space["run"]({}))
    except Exception as error:  # noqa: BLE001 - many of them raise
        outcome = type(error).__name__
    return f"{outcome}, {[space.get(name) for name in ALPHABET]}"


def fillings(shape: str) -> list[str]:
    """Return the programs of a shape with each choice of names, without those that do not compile."""
    holes = max(int(hole) for hole in "0123456" if f"{{{hole}}}" in shape) + 1
    programs = [shape.format(*names) for names in itertools.product(ALPHABET, repeat=holes)]
    compiled = []
    for program in programs:
        try:
            compile(program, "skill.py", "exec")
        except SyntaxError:
            continue
        compiled.append(program)
    return compiled


@pytest.mark.parametrize("head", ["", HEAD], ids=["free names are unknown", "free names are globals"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_programs_of_one_fingerprint_behave_alike_however_names_shadow_each_other(shape: str, head: str) -> None:
    """Every choice of names is tried: a name that is captured, shadowed or swapped is another program."""
    behaviours: defaultdict[str, set[str]] = defaultdict(set)
    programs = [head + program for program in fillings(shape)]
    for program in programs:
        behaviours[fingerprint(program)].add(behaviour(program))
    assert [found for found in behaviours.values() if len(found) > 1] == []
    assert len(behaviours) > 1


RENAMED = {name: shape for name, shape in SHAPES.items() if name not in {
    "keyword", "double star", "class", "class member", "loop in a class", "method", "global", "global for those inside",
    "locals", "name of a function", "names in a text", "helper", "import", "dotted import", "import from", "with",
}}  # fmt: skip


@pytest.mark.parametrize("shape", RENAMED.values(), ids=RENAMED)
def test_a_consistent_renaming_is_the_same_program(shape: str) -> None:
    """The names of a program that uses no globals are exchanged for others, one for one."""
    found = 0
    for program in fillings(shape):
        if uses_globals(symtable(program, "skill.py", "exec")):
            continue
        renamed = shape_renamed(program)
        assert renamed != program
        assert fingerprint(renamed) == fingerprint(program), program
        found += 1
    assert found > 1


def uses_globals(table: SymbolTable) -> bool:
    """Return whether one of the names is not bound where it is used, nor around it."""
    is_global = any(table.lookup(name).is_global() for name in table.get_identifiers() if name in ALPHABET)
    return is_global or any(uses_globals(inner) for inner in table.get_children())


class _Renamer(ast.NodeTransformer):
    """Renames a to x, b to y, c to z, wherever they stand."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for field in ("id", "arg", "name", "asname", "rest"):
            if isinstance(value := getattr(node, field, None), str) and value in ALPHABET:
                setattr(node, field, "xyz"[ALPHABET.index(value)] * 2)
        if isinstance(node, ast.Nonlocal):
            node.names = ["xyz"[ALPHABET.index(name)] * 2 for name in node.names]
        return super().generic_visit(node)


def shape_renamed(program: str) -> str:
    return ast.unparse(_Renamer().visit(ast.parse(program)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def run(i):\n match i:\n  case [a, b]: return a - b", "def run(i):\n match i:\n  case [a, b]: return b - a"),
        ("def f(a, b): return a - b\ndef run(i): return f(a=1, b=2)", "def f(b, a): return b - a\ndef run(i): return f(a=1, b=2)"),
        ("def f(a, b): return a - b\ndef run(i): return f(**i)", "def f(b, a): return b - a\ndef run(i): return f(**i)"),
        ("def run(i):\n import os.path\n return os.path", "def run(i):\n import os.path as os\n return os.path"),
        ("def run(i):\n class A(Exception): pass\n raise A", "def run(i):\n class B(Exception): pass\n raise B"),
        ("def run(i):\n compile = 1\n return compile", "def run(i):\n kept = 1\n return kept"),
        ("def run(i):\n __spec__ = 1\n return __spec__", "def run(i):\n spec = 1\n return spec"),
        ("import os\ndef run(i):\n os = i\n return os.system", "import os\ndef run(i):\n it = i\n return it.system"),
        ("def run(i):\n 'a'\n return run.__doc__", "def run(i):\n 'b'\n return run.__doc__"),
        ("def run[T](i: T) -> T:\n return i", "def run[U](i: U) -> T:\n return i"),
        ("def helper(i): return i\ndef run(i): return helper(i)", "def other(i): return i\ndef run(i): return other(i)"),
        ("import functools\n@functools.cache\ndef f(a, b): return a\ndef run(i): return f", "import functools\n@functools.cache\ndef f(b, a): return b\ndef run(i): return f"),
    ],
)  # fmt: skip
def test_a_name_whose_spelling_counts_is_not_renamed(one: str, other: str) -> None:
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    "lines", ["    if input:\n        'note'\n        total = 0", "    if input:\n        total = 0"]
)
def test_strings_that_stand_alone_do_not_count_in_any_block(lines: str) -> None:
    text = f"def run(input):\n{lines}\n    return 1\n"
    assert fingerprint(text) == fingerprint("def run(data):\n    if data:\n        acc = 0\n    return 1\n")


@pytest.mark.parametrize("depth", [50, 90, 400, 3000])
@pytest.mark.parametrize("part", ["lambda x: ", "[x for x in ", "-", "(x := "])
def test_deep_nesting_ends_with_a_fingerprint(part: str, depth: int) -> None:
    closing = {"[": "]", "(": ")"}.get(part[0], "")
    text = f"def run(input):\n    return {part * depth}input{closing * depth}\n"
    assert len(fingerprint(text)) == 32


@pytest.mark.parametrize(
    "statement", ["import json as {0}", "from json import loads as {0}", "import os.path as {0}", "{0} = 1"]
)
def test_the_name_that_a_statement_of_a_function_binds_does_not_count(statement: str) -> None:
    one, other = (
        f"def run(i):\n    {statement.format(name)}\n    return str({name})\n" for name in ("first", "second")
    )
    assert fingerprint(one) == fingerprint(other)
