"""Code out of a reply. The text is parsed, never run; it may be anything, a parser bomb included."""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
from typing import Final, Literal, NamedTuple

from skill_operator import runtime_contract
from skill_operator.generation.autofix import autofix, parse, without_unused_imports

ENTRY: Final = "run"
LARGEST_REPLY: Final = 1 << 20
LARGEST_SOURCE: Final = runtime_contract.MAX_SOURCE_BYTES
MOST_BLOCKS: Final = 32
MOST_ENDS: Final = 8
MOST_PARSED: Final = 8 * LARGEST_SOURCE

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
    """`longer`: the same with what follows, up to each fence that may close it instead: code may hold fences itself."""

    text: str
    closed: bool
    longer: tuple[str, ...] = ()


def extract(text: str, finish_reason: str) -> Reply:
    """The last block that parses and defines the entry point; the whole text where there is no block at all."""
    if len(text) > LARGEST_REPLY:
        return _flawed("too-large")
    if not text.strip():
        return _flawed("cut-off" if finish_reason == "length" else "empty")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    blocks = _blocks(text.split("\n")) or [_Block(text, closed=False)]
    reader = _Reader()
    for block in reversed(blocks):
        if not block.closed and finish_reason == "length":
            continue
        for candidate in (block.text, *block.longer):
            source = reader.read(candidate)
            if source is None:
                continue
            if source:
                return Reply(source)
            break
    if finish_reason == "length":
        return _flawed("cut-off")
    if reader.oversized:
        return _flawed("too-large")
    if reader.parsed:
        return _flawed("no-entry")
    return _flawed("no-code", reader.why)


class _Reader:
    """Reads blocks, and remembers what was wrong with those that were of no use."""

    def __init__(self) -> None:
        self.oversized = self.parsed = False
        self.why = ""
        self._left = MOST_PARSED

    def read(self, text: str) -> str | None:
        """The file; empty for Python that does not define the entry point, None for what is no Python."""
        source = textwrap.dedent(text).strip("\n") + "\n"
        size = len(source.encode("utf-8", "surrogatepass"))
        if size > LARGEST_SOURCE:
            self.oversized = True
            return None
        self._left -= size
        if self._left < 0:
            return None
        source = autofix(source)
        tree = parse(source)
        if tree is None:
            self.why = self.why or _complaint(source)
            return None
        if any(isinstance(node, ast.FunctionDef) and node.name == ENTRY for node in tree.body):
            return without_unused_imports(source)
        self.parsed = self.parsed or bool(tree.body)
        return ""


def _complaint(source: str) -> str:
    """What the parser says, if it is about something that was meant to be the file."""
    if f"def {ENTRY}(" not in source:
        return ""
    try:
        ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()[:200]
        return f"; line {error.lineno} of the last block is wrong: {error.msg}: {line}"
    except (ValueError, RecursionError, MemoryError):
        return ""
    return ""


def fingerprint(source: str) -> str:
    """Equal for programs that differ in comments, docstrings, spacing or names inside functions alone."""
    tree = parse(source)
    try:
        text = f"text:{source}" if tree is None else ast.dump(_Normal().module(tree))
    except RecursionError:
        text = f"text:{source}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _flawed(flaw: Flaw, more: str = "") -> Reply:
    return Reply("", flaw, _FLAWS[flaw] + more)


class _Fence(NamedTuple):
    at: int
    mark: str
    info: str

    def closes(self, opening: _Fence) -> bool:
        return self.mark.startswith(opening.mark) and not self.info


def _blocks(lines: list[str]) -> list[_Block]:
    """The last fenced blocks as Markdown has them: closed by a fence that is at least as long and says nothing else."""
    found = ((at, _FENCE.fullmatch(line)) for at, line in enumerate(lines))
    fences = [_Fence(at, fence["mark"], fence["info"].strip()) for at, fence in found if fence]
    pairs, opening = list[tuple[int, int | None]](), None
    for number, fence in enumerate(fences):
        if opening is None:
            opening = number
        elif fence.closes(fences[opening]):
            pairs.append((opening, number))
            opening = None
    if opening is not None:
        pairs.append((opening, None))
    return [_block(lines, fences, *pair) for pair in pairs[-MOST_BLOCKS:]]


def _block(lines: list[str], fences: list[_Fence], first: int, last: int | None) -> _Block:
    opening = fences[first]
    if last is None:
        return _Block("\n".join(lines[opening.at + 1 :]), closed=False)
    ends = [fence.at for fence in fences[last : last + 4 * MOST_ENDS] if fence.closes(opening)][:MOST_ENDS]
    text, *longer = ("\n".join(lines[opening.at + 1 : end]) for end in ends)
    return _Block(text, closed=True, longer=tuple(longer))


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
