"""A fingerprint is equal for programs that differ only in comments, docstrings, spacing or the names of locals.

Names are compared by what binds them: each name that a function, a lambda or a comprehension binds becomes the number
of its scope and its number in there. A name stays as it is where its spelling may count: for the checks, for a caller
by keyword, or for code that looks at names. The program is parsed, never run.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from skill_operator.generation.python_text import bound_names, parse

_REFLECTION: Final = re.compile(
    r"locals|vars|dir|eval|exec|compile|globals|(get|set|del|has)attr|attrgetter|methodcaller|inspect|signature"
    r"|get_type_hints|__(name|qualname|code|dict|annotations|defaults|kwdefaults|doc)__"
)
"""Whatever uses one of these may see how a name is spelled, or what a docstring says."""
_CHECKED_NAMES: Final = frozenset({"breakpoint", "help", "super", "type", "run"})
"""Names that the checks read wherever they stand; those with two underscores come to them."""
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def fingerprint(source: str) -> str:
    """Return a hash that is equal for programs that differ only in comments, docstrings, spacing or local names."""
    tree = parse(source)
    if tree is None:
        return text_fingerprint(source)
    try:
        if not _looks_at_names(tree):
            tree = _NameNormalizer(tree).visit(tree)
        text = ast.dump(tree)
    except RecursionError:
        return text_fingerprint(source)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def text_fingerprint(source: str) -> str:
    """Return a fingerprint that only the same text has. It costs no parsing."""
    return hashlib.sha256(f"text:{source}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _looks_at_names(tree: ast.Module) -> bool:
    """Return whether the program may depend on the spelling of its own names, or has scopes of a rare kind."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) if _REFLECTION.fullmatch(name):
                return True
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if getattr(node, "type_params", ()):  # since Python 3.12
                    return True
            case _ if hasattr(node, "type_params"):  # an alias of a type
                return True
    return False


@dataclass
class _Scope:
    """_Scope is the part of a program in which names are bound. `labels` has what stands for each of them."""

    kind: Literal["class", "function"]  # a lambda and a comprehension are functions here
    number: int
    names: frozenset[str]
    globals: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    labels: dict[str, str] = field(default_factory=dict)

    def label(self, name: str) -> str:
        """Return what stands for a name that this scope binds."""
        if self.kind == "class" or name in self.kept:
            return name
        return self.labels.setdefault(name, f"#{self.number}.{len(self.labels)}")


class _NameNormalizer(ast.NodeTransformer):
    """_NameNormalizer drops strings that stand alone, and puts labels in the place of local names."""

    def __init__(self, tree: ast.Module) -> None:
        nodes = list(ast.walk(tree))
        self._scopes: list[_Scope] = []
        self._count = 0
        keywords = {node.arg for node in nodes if isinstance(node, ast.keyword)}
        self._keeps_parameters = None in keywords  # the keys of a dictionary may be names of parameters
        self._keywords = keywords - {None}
        classes = {node.name for node in nodes if isinstance(node, ast.ClassDef)}  # which exceptions show
        self._kept = _CHECKED_NAMES | _Bindings(tree.body).names | classes | _ambiguous_imports(nodes)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = self._statements(node.body)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._visit_function(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self._visit_outer_parts(node.args)
        names = frozenset(argument.arg for argument in _arguments(node.args))
        self._enter("function", names | _Bindings([node.body]).names, self._kept_parameters(node.args))
        self._label_arguments(node.args)
        node.body = self.visit(node.body)
        self._scopes.pop()
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Visit a class; its name and those of its members stay."""
        node.decorator_list = [self.visit(part) for part in node.decorator_list]
        node.bases = [self.visit(part) for part in node.bases]
        node.keywords = [self.visit(part) for part in node.keywords]
        bindings = _Bindings(node.body)
        self._enter("class", bindings.names, global_names=bindings.global_names)
        node.body = self._statements(node.body)
        self._scopes.pop()
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        return self._visit_comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        return self._visit_comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        return self._visit_comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        return self._visit_comprehension(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._resolve(node.id)
        return node

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.AST:
        """Label the target in the scope around all comprehensions, which is where it is bound."""
        node.value = self.visit(node.value)
        node.target.id = self._resolve(node.target.id)
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        node.names = [self._resolve(name) for name in node.names]
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = node.name and self._resolve(node.name)
        return self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> ast.AST:
        node.name = node.name and self._resolve(node.name)
        return self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> ast.AST:
        node.name = node.name and self._resolve(node.name)
        return node

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        node.rest = node.rest and self._resolve(node.rest)
        return self.generic_visit(node)

    def visit_alias(self, node: ast.alias) -> ast.AST:
        """Label the name that an import binds; what it imports stays. `import a.b` binds the `a` of its text."""
        bound = node.asname or node.name
        label = self._resolve(bound)
        if label != bound:
            node.asname = label
        elif node.asname == node.name:
            node.asname = None
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Visit the parts of a node, with strings that stand alone dropped from its blocks."""
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, name, self._statements(value))
            elif isinstance(value, list):
                setattr(node, name, [self.visit(part) if isinstance(part, ast.AST) else part for part in value])
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
        return node

    def _statements(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """Return the statements of a block; a string that stands alone does nothing, wherever it stands."""
        kept = [self.visit(statement) for statement in body if not _is_lone_string(statement)]
        return kept or [ast.Pass()]

    def _visit_function(self, node: _Function) -> ast.AST:
        node.name = self._resolve(node.name)
        node.decorator_list = [self.visit(part) for part in node.decorator_list]
        self._visit_outer_parts(node.args)
        node.returns = node.returns and self.visit(node.returns)
        bindings = _Bindings(node.body)
        parameters = frozenset(argument.arg for argument in _arguments(node.args))
        kept = parameters if node.decorator_list else self._kept_parameters(node.args)
        self._enter("function", bindings.names | parameters, kept, bindings.global_names)
        self._label_arguments(node.args)
        node.body = self._statements(node.body)
        self._scopes.pop()
        return node

    def _visit_outer_parts(self, args: ast.arguments) -> None:
        """Visit defaults and annotations, which belong to the scope around the function."""
        args.defaults = [self.visit(part) for part in args.defaults]
        args.kw_defaults = [part and self.visit(part) for part in args.kw_defaults]
        for argument in _arguments(args):
            argument.annotation = argument.annotation and self.visit(argument.annotation)

    def _visit_comprehension(self, node: _Comprehension) -> ast.AST:
        """Visit the first iterable in the scope around the comprehension, and the rest in its own."""
        first = node.generators[0]
        first.iter = self.visit(first.iter)
        self._enter("function", frozenset(_stored_names(generator.target for generator in node.generators)))
        for generator in node.generators:
            generator.target = self.visit(generator.target)
            if generator is not first:
                generator.iter = self.visit(generator.iter)
            generator.ifs = [self.visit(part) for part in generator.ifs]
        for name in ("elt", "key", "value"):
            if hasattr(node, name):
                setattr(node, name, self.visit(getattr(node, name)))
        self._scopes.pop()
        return node

    def _enter(
        self,
        kind: Literal["class", "function"],
        names: frozenset[str],
        kept: frozenset[str] = frozenset(),
        global_names: frozenset[str] = frozenset(),
    ) -> None:
        self._count += 1
        checked = {name for name in names if name in self._kept or name.startswith("__")}
        self._scopes.append(_Scope(kind, self._count, names, global_names, kept | checked))

    def _kept_parameters(self, args: ast.arguments) -> frozenset[str]:
        """Return the parameters that a caller may name."""
        names = frozenset(argument.arg for argument in _arguments(args))
        return names if self._keeps_parameters else names & self._keywords

    def _label_arguments(self, args: ast.arguments) -> None:
        for argument in _arguments(args):
            argument.arg = self._resolve(argument.arg)

    def _resolve(self, name: str) -> str:
        """Return what stands for a name here, by Python's rules for scopes: a class hides nothing from its methods."""
        for scope in reversed(self._scopes):
            if scope.kind == "class" and scope is not self._scopes[-1]:
                continue
            if name in scope.globals:
                return name
            if name in scope.names:
                return scope.label(name)
        return name


class _Bindings:
    """_Bindings holds the names that a block binds itself, and those that it declares as global."""

    def __init__(self, body: Sequence[ast.AST]) -> None:
        names, global_names, nonlocal_names = set[str](), set[str](), set[str]()
        for node in _walk_scope(body):
            match node:
                case ast.Global(names=declared):
                    global_names.update(declared)
                case ast.Nonlocal(names=declared):
                    nonlocal_names.update(declared)
                case _:
                    names.update(bound_names(node))
        self.names = frozenset(names - global_names - nonlocal_names)
        self.global_names = frozenset(global_names)


def _walk_scope(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of a block without those of scopes inside it; a comprehension's `:=` binds around it."""
    pending = list(body)
    while pending:
        node = pending.pop()
        yield node
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                pending += [*node.decorator_list, *_outer_parts(node.args), *([node.returns] if node.returns else [])]
            case ast.Lambda():
                pending += _outer_parts(node.args)
            case ast.ClassDef():
                pending += [*node.decorator_list, *node.bases, *node.keywords]
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                pending += _assigned_inside(node)
            case _:
                pending += ast.iter_child_nodes(node)


def _outer_parts(args: ast.arguments) -> list[ast.AST]:
    annotations = [argument.annotation for argument in _arguments(args)]
    return [part for part in (*args.defaults, *args.kw_defaults, *annotations) if part is not None]


def _assigned_inside(comprehension: ast.AST) -> list[ast.AST]:
    """Return the targets of `:=` in a comprehension and in those inside it."""
    targets, pending = list[ast.AST](), [comprehension]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.NamedExpr):
            targets.append(node.target)
        if not isinstance(node, ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return targets


def _stored_names(targets: Iterator[ast.expr]) -> Iterator[str]:
    for target in targets:
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _ambiguous_imports(nodes: list[ast.AST]) -> set[str]:
    """Return the names that an import binds and something else too: the policy knows a module by its name alone.

    Those that an `import a.b` binds are among them, since no label can stand for a part of its text.
    """
    aliases = [node for node in nodes if isinstance(node, ast.alias)]
    counts = Counter(name for alias in aliases for name in bound_names(alias))
    others = {node.arg for node in nodes if isinstance(node, ast.arg)}
    others |= {name for node in nodes if not isinstance(node, ast.alias) for name in bound_names(node)}
    dotted = {alias.name.partition(".")[0] for alias in aliases if not alias.asname and "." in alias.name}
    return {name for name, count in counts.items() if count > 1 or name in others} | dotted


def _arguments(args: ast.arguments) -> list[ast.arg]:
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *(arg for arg in (args.vararg, args.kwarg) if arg)]


def _is_lone_string(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
