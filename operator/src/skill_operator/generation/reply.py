"""Extraction of a source from a model's reply.

The text is parsed, never run. It is untrusted and may be anything, a parser bomb included.
"""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
from typing import Final, Literal, NamedTuple

from skill_operator import runtime_contract
from skill_operator.generation.autofix import autofix, parse, without_unused_imports

ENTRY_POINT: Final = "run"
MAX_REPLY_CHARACTERS: Final = 1 << 20
MAX_SOURCE_BYTES: Final = runtime_contract.MAX_SOURCE_BYTES
MAX_BLOCKS: Final = 32
MAX_CLOSING_FENCES: Final = 8
MAX_PARSED_BYTES: Final = 8 * MAX_SOURCE_BYTES

Flaw = Literal["", "empty", "no-code", "no-entry", "cut-off", "too-large"]

_FENCE: Final = re.compile(r"[ \t]*(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)")
_FLAWS: Final[dict[Flaw, str]] = {
    "empty": "the reply was empty",
    "no-code": "the reply held no Python that parses; answer with one fenced python block that holds the whole file",
    "no-entry": f"no block of the reply defines {ENTRY_POINT}(input) at its top level",
    "cut-off": "the reply was cut off at its length limit; answer with the code alone, and keep it short",
    "too-large": f"the code is longer than {MAX_SOURCE_BYTES // 1024} KiB; make it shorter",
}


class ExtractedSource(NamedTuple):
    """ExtractedSource is the whole of skill.py, or the reason why the reply has none.

    Without a source, `flaw` names the reason and `message` explains it.
    """

    source: str
    flaw: Flaw = ""
    message: str = ""


class _CodeBlock(NamedTuple):
    """_CodeBlock is a fenced block.

    `longer`: the block extended to each later fence that may close it instead, since code may contain fences.
    """

    text: str
    closed: bool
    longer: tuple[str, ...] = ()


def extract_source(text: str, finish_reason: str) -> ExtractedSource:
    """Return the last block that parses and defines the entry point, or the whole text where it has no block."""
    if len(text) > MAX_REPLY_CHARACTERS:
        return _without_source("too-large")
    if not text.strip():
        return _without_source("cut-off" if finish_reason == "length" else "empty")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    blocks = _blocks(text.split("\n")) or [_CodeBlock(text, closed=False)]
    reader = _BlockReader()
    for block in reversed(blocks):
        if not block.closed and finish_reason == "length":
            continue
        for candidate in (block.text, *block.longer):
            source = reader.read(candidate)
            if source is None:
                continue
            if source:
                return ExtractedSource(source)
            break
    if finish_reason == "length":
        return _without_source("cut-off")
    if reader.has_oversized:
        return _without_source("too-large")
    if reader.has_parsed:
        return _without_source("no-entry")
    return _without_source("no-code", reader.complaint)


class _BlockReader:
    """_BlockReader reads blocks, and remembers what was wrong with the unusable ones."""

    def __init__(self) -> None:
        self.has_oversized = self.has_parsed = False
        self.complaint = ""
        self._remaining_bytes = MAX_PARSED_BYTES

    def read(self, text: str) -> str | None:
        """Return the file, an empty string for Python without the entry point, or None for what is no Python."""
        source = textwrap.dedent(text).strip("\n") + "\n"
        size = len(source.encode("utf-8", "surrogatepass"))
        if size > MAX_SOURCE_BYTES:
            self.has_oversized = True
            return None
        self._remaining_bytes -= size
        if self._remaining_bytes < 0:
            return None
        source = autofix(source)
        tree = parse(source)
        if tree is None:
            self.complaint = self.complaint or _describe_syntax_error(source)
            return None
        if any(isinstance(node, ast.FunctionDef) and node.name == ENTRY_POINT for node in tree.body):
            return without_unused_imports(source)
        self.has_parsed = self.has_parsed or bool(tree.body)
        return ""


def _describe_syntax_error(source: str) -> str:
    """Return the parser's error, if the block defines the entry point and so was meant to be the file."""
    if f"def {ENTRY_POINT}(" not in source:
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
    """Return a hash that is equal for programs that differ only in comments, docstrings, spacing or local names."""
    tree = parse(source)
    try:
        text = f"text:{source}" if tree is None else ast.dump(_NameNormalizer().normalize(tree))
    except RecursionError:
        text = f"text:{source}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _without_source(flaw: Flaw, detail: str = "") -> ExtractedSource:
    return ExtractedSource("", flaw, _FLAWS[flaw] + detail)


class _Fence(NamedTuple):
    line: int
    mark: str
    info: str

    def closes(self, opening: _Fence) -> bool:
        return self.mark.startswith(opening.mark) and not self.info


def _blocks(lines: list[str]) -> list[_CodeBlock]:
    """Return the last fenced code blocks (CommonMark): each closed by a bare fence that is at least as long."""
    matches = ((number, _FENCE.fullmatch(line)) for number, line in enumerate(lines))
    fences = [_Fence(number, match["mark"], match["info"].strip()) for number, match in matches if match]
    pairs, opening = list[tuple[int, int | None]](), None
    for number, fence in enumerate(fences):
        if opening is None:
            opening = number
        elif fence.closes(fences[opening]):
            pairs.append((opening, number))
            opening = None
    if opening is not None:
        pairs.append((opening, None))
    return [_block(lines, fences, *pair) for pair in pairs[-MAX_BLOCKS:]]


def _block(lines: list[str], fences: list[_Fence], first: int, last: int | None) -> _CodeBlock:
    opening = fences[first]
    if last is None:
        return _CodeBlock("\n".join(lines[opening.line + 1 :]), closed=False)
    ends = [fence.line for fence in fences[last : last + 4 * MAX_CLOSING_FENCES] if fence.closes(opening)][
        :MAX_CLOSING_FENCES
    ]
    text, *longer = ("\n".join(lines[opening.line + 1 : end]) for end in ends)
    return _CodeBlock(text, closed=True, longer=tuple(longer))


class _NameNormalizer(ast.NodeTransformer):
    """_NameNormalizer drops docstrings and numbers local names in the order of their appearance."""

    def __init__(self) -> None:
        self._scopes: list[dict[str, str]] = []
        self._count = 0

    def normalize(self, tree: ast.Module) -> ast.AST:
        """Return the module with its docstrings dropped and its local names numbered."""
        tree.body = _without_docstring(tree.body)
        return self.generic_visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._visit_function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._normal_name(node.name)
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._visit_scope(node, {arg.arg for arg in _arguments(node.args)})

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._normal_name(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._normal_name(node.arg)
        return self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = node.name and self._normal_name(node.name)
        return self.generic_visit(node)

    def visit_alias(self, node: ast.alias) -> ast.AST:
        """Number the name that an import binds; what it imports stays."""
        bound = node.asname or node.name.partition(".")[0]
        name = self._normal_name(bound)
        node.asname = name if name != bound else node.asname
        return node

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.name = self._normal_name(node.name)
        node.body = _without_docstring(node.body)
        return self._visit_scope(node, _bound_names(node))

    def _visit_scope(self, node: ast.AST, names: set[str]) -> ast.AST:
        self._scopes.append(dict.fromkeys(names, ""))
        result = self.generic_visit(node)
        self._scopes.pop()
        return result

    def _normal_name(self, name: str) -> str:
        """Return the number of a name that an enclosing function binds, given at its first use; others stay."""
        for scope in reversed(self._scopes):
            if name in scope:
                if not scope[name]:
                    self._count += 1
                    scope[name] = f"#{self._count}"
                return scope[name]
        return name


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the statements without strings that stand alone: they do nothing, wherever they stand."""
    statements = [
        statement
        for statement in body
        if not (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
    ]
    return statements or [ast.Pass()]


def _arguments(args: ast.arguments) -> list[ast.arg]:
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *(arg for arg in (args.vararg, args.kwarg) if arg)]


def _bound_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the names that a function binds itself; not those of functions and classes inside it."""
    names = {arg.arg for arg in _arguments(function.args)}
    outer: set[str] = set()
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
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
        pending.extend(ast.iter_child_nodes(node))
    return names - outer
