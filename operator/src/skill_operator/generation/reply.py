"""Code out of a reply. The text is parsed, never run; it may be anything, a parser bomb included."""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
import warnings
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

ENTRY: Final = "run"
LARGEST_REPLY: Final = 1 << 20
LARGEST_SOURCE: Final = 64 * 1024
MOST_BLOCKS: Final = 32

Flaw = Literal["", "empty", "no-code", "no-entry", "cut-off", "too-large"]

_FENCE: Final = re.compile(r"[ \t]*(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)")
_FLAWS: Final[dict[Flaw, str]] = {
    "empty": "the reply was empty",
    "no-code": "the reply held no Python that parses; answer with one fenced python block that holds the whole file",
    "no-entry": f"no block of the reply defines {ENTRY}(input) at its top level",
    "cut-off": "the reply was cut off at its length limit; answer with the code alone, and keep it short",
    "too-large": f"the code is longer than {LARGEST_SOURCE // 1024} KiB; make it shorter",
}


class Reply(NamedTuple):
    """`source` is the whole of skill.py, or empty; then `flaw` is why, and `message` says so to a reader."""

    source: str
    flaw: Flaw = ""
    message: str = ""


class _Block(NamedTuple):
    text: str
    closed: bool


def extract(text: str, finish_reason: str) -> Reply:
    """The last block that parses and defines the entry point; the whole text where there is no block at all."""
    if len(text) > LARGEST_REPLY:
        return _flawed("too-large")
    if not text.strip():
        return _flawed("cut-off" if finish_reason == "length" else "empty")
    blocks = list(_blocks(text.replace("\r\n", "\n").split("\n")))[-MOST_BLOCKS:]
    if not blocks:
        blocks = [_Block(text.replace("\r\n", "\n"), closed=False)]
    parsed, oversized = False, False
    for block in reversed(blocks):
        if not block.closed and finish_reason == "length":
            continue
        source = textwrap.dedent(block.text).strip("\n") + "\n"
        if len(source.encode("utf-8", "surrogatepass")) > LARGEST_SOURCE:
            oversized = True
            continue
        tree = parse(source)
        if tree is None:
            continue
        if any(isinstance(node, ast.FunctionDef) and node.name == ENTRY for node in tree.body):
            return Reply(source)
        parsed = parsed or bool(tree.body)
    if finish_reason == "length":
        return _flawed("cut-off")
    if oversized:
        return _flawed("too-large")
    return _flawed("no-entry" if parsed else "no-code")


def parse(source: str) -> ast.Module | None:
    """None for what is no Python, or is too much of it: deep nesting ends the parser in several ways."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a stranger's escapes and comparisons
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def fingerprint(source: str) -> str:
    """Equal for programs that differ in comments, docstrings, spacing or names inside functions alone."""
    tree = parse(source)
    try:
        text = f"text:{source}" if tree is None else ast.dump(_Normal().module(tree))
    except RecursionError:
        text = f"text:{source}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _flawed(flaw: Flaw) -> Reply:
    return Reply("", flaw, _FLAWS[flaw])


def _blocks(lines: list[str]) -> Iterator[_Block]:
    """Fenced blocks as Markdown has them: closed by a fence that is at least as long and says nothing else."""
    mark, held = "", list[str]()
    for line in lines:
        fence = _FENCE.fullmatch(line)
        if fence is None:
            if mark:
                held.append(line)
        elif not mark:
            mark, held = fence["mark"], []
        elif fence["mark"].startswith(mark) and not fence["info"].strip():
            yield _Block("\n".join(held), closed=True)
            mark = ""
        else:
            held.append(line)
    if mark:
        yield _Block("\n".join(held), closed=False)


class _Normal(ast.NodeTransformer):
    """Drops docstrings and numbers the names that functions bind for themselves, in the order of their appearance."""

    def __init__(self) -> None:
        self._scopes: list[dict[str, str]] = []
        self._count = 0

    def module(self, tree: ast.Module) -> ast.AST:
        tree.body = _without_docstring(tree.body)
        return self.generic_visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:  # noqa: N802: the name ast calls
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._new(node.name)
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._scoped(node, {arg.arg for arg in _arguments(node.args)})

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._new(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._new(node.arg)
        return self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = node.name and self._new(node.name)
        return self.generic_visit(node)

    def visit_alias(self, node: ast.alias) -> ast.AST:
        """An import keeps what it imports; only the name it is bound to is numbered."""
        bound = node.asname or node.name.partition(".")[0]
        new = self._new(bound)
        node.asname = new if new != bound else node.asname
        return node

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.name = self._new(node.name)
        node.body = _without_docstring(node.body)
        return self._scoped(node, _bound(node))

    def _scoped(self, node: ast.AST, names: set[str]) -> ast.AST:
        self._scopes.append(dict.fromkeys(names, ""))
        made = self.generic_visit(node)
        self._scopes.pop()
        return made

    def _new(self, name: str) -> str:
        """The number of a name that some enclosing function binds, given at its first use; any other name stays."""
        for scope in reversed(self._scopes):
            if name in scope:
                if not scope[name]:
                    self._count += 1
                    scope[name] = f"#{self._count}"
                return scope[name]
        return name


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Strings that stand alone do nothing, wherever they stand."""
    kept = [
        statement
        for statement in body
        if not (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
    ]
    return kept or [ast.Pass()]


def _arguments(args: ast.arguments) -> list[ast.arg]:
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *(arg for arg in (args.vararg, args.kwarg) if arg)]


def _bound(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The names that a function binds itself; not those of functions and classes inside it."""
    names = {arg.arg for arg in _arguments(function.args)}
    outer: set[str] = set()
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
                continue
            case ast.Lambda():
                continue
            case ast.Global(names=declared) | ast.Nonlocal(names=declared):
                outer.update(declared)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name.partition(".")[0])
        waiting.extend(ast.iter_child_nodes(node))
    return names - outer
