"""The meaning of the names in a file: a module, a member of one, a text, or a member of a class of the file."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from skill_runtime.check.allowed_modules import ALLOWED_STANDARD
from skill_runtime.check.denied_names import (
    DENIED_MEMBERS,
    EVALUATORS,
    EVERYDAY_MEMBERS,
    FRAMES,
    GETTER_PATHS,
    GUARDED_MODULES,
    OS,
    ROOTS,
    YAML_LOADS,
)
from skill_runtime.check.own_members import OwnMembers, candidates
from skill_runtime.check.syntax import (
    assignments,
    deleted_names,
    items_of,
    literal_text,
    mentions,
    names_with_scope,
    words,
    written_texts,
)
from skill_runtime.check.text_lookups import BY_NAME, FRAME_METHODS, lookup_of

_OWN_NAMES = (
    frozenset(DENIED_MEMBERS) | EVALUATORS | FRAME_METHODS | frozenset(BY_NAME) | words("sys read_array env")
) - words(FRAMES)
"""Names that members of a class of the file may have."""


class NameResolution:
    """NameResolution knows what the names of a file stand for: modules, members of modules, texts, own members."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self.modules, self.imported = _bindings(tree)
        """Names that imports bind: those of modules, and those of members with their dotted names."""
        self.nodes = nodes = list(ast.walk(tree))
        for name, value in assignments(nodes):
            if isinstance(value, ast.Name) and value.id in self.modules:
                self.modules.setdefault(name, self.modules[value.id])
        self.called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        self.called |= {id(owner) for node in nodes if (owner := _generic(node)) is not None}
        self.used_in_place = self.called | {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
        """Expressions that are called or asked for a member, and so are passed on to nothing else."""
        self.written = written_texts(nodes)
        self.used_in_place |= {id(owner) for owner in _asked_by_name(nodes, self.written)}
        self._changed = {id(node.target) for node in nodes if isinstance(node, ast.AugAssign)}
        self._deleted = set(deleted_names(nodes))
        self.assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        self.assigned |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        self._bound_names = dict(names_with_scope(tree, frozenset()))
        passes_modules = any(self._is_passed_module(node) for node in nodes)
        certain = [] if passes_modules else OwnMembers(tree, nodes, self.origin).certain(_OWN_NAMES)
        self.own_members = {id(node) for node in certain}
        self.own_names = _everyday_names(nodes) if self._keeps_os(nodes) else frozenset[str]()
        self.texts: dict[str, list[str]] = {}
        """The texts that are assigned to each name; other values may be, too."""
        for name, value in assignments(nodes):
            if (text := literal_text(value)) is not None:
                self.texts.setdefault(name, []).append(text)
        used = {path.partition(".")[0] for path in self.imported_paths()}
        self.uses_pandas, self.uses_numpy, self.uses_jinja = (each in used for each in ("pandas", "numpy", "jinja2"))
        self._uses_locals = mentions(tree, "locals")

    def path(self, node: ast.expr) -> str:
        """Return the dotted name of a member of a module, from the last module on the way; empty for others."""
        steps: list[str] = []
        while isinstance(node, ast.Attribute):
            steps.append(node.attr)
            node = node.value
        steps.reverse()
        root = (self.modules.get(node.id) or self.imported.get(node.id)) if isinstance(node, ast.Name) else None
        if root is not None:
            steps = [*root.split("."), *steps]
        elif not any(step.lstrip("_") in ("os", "sys") for step in steps[:-1]):
            return ""
        start = max((at for at, step in enumerate(steps[:-1]) if step.lstrip("_") in ROOTS), default=0)
        return ".".join(steps[start:]).lstrip("_")

    def root(self, node: ast.expr) -> str | None:
        """Return the module that a chain of attributes starts at."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return self.modules.get(node.id) if isinstance(node, ast.Name) else None

    def origin(self, node: ast.expr) -> str:
        """Return the dotted name of what is imported, or of a member of it; empty for others."""
        node = node.value if isinstance(node, ast.Subscript) else node
        return self.path(node)

    def imported_paths(self) -> Iterator[str]:
        """Yield the dotted names of what is imported."""
        yield from self.modules.values()
        yield from self.imported.values()

    def known_texts(self, node: ast.expr) -> list[str]:
        """Return the texts that an expression is known to have: written out, or assigned to its name."""
        match node:
            case ast.Name(id=name):
                return self.texts.get(name, [])
            case ast.NamedExpr(value=value):
                return self.known_texts(value)
            case ast.Starred(value=value):
                return [text for item in items_of(value) for text in self.known_texts(item)]
            case _:
                return [] if (text := literal_text(node)) is None else [text]

    def is_bound(self, node: ast.Name) -> bool:
        """Return whether code gives the name a value of its own where it stands: as a variable or a parameter."""
        return node.id in self._bound_names.get(id(node), ())

    def is_imported_above(self, node: ast.Name) -> bool:
        """Return whether a statement of the module gave the name another meaning, as `from re import compile` does."""
        return (
            not self._uses_locals
            and node.id not in self._deleted
            and any(
                isinstance(statement, ast.ImportFrom)
                and statement.lineno < node.lineno
                and any((alias.asname or alias.name) == node.id for alias in statement.names)
                for statement in self._tree.body
            )
        )

    def is_foreign(self, node: ast.Attribute) -> bool:
        """Return whether the member is read, or set in a module, and not one that a class of the file defines.

        Whose member it is shows in methods that ask their own object. Elsewhere the chain may begin at no import.
        """
        start: ast.expr = node
        while isinstance(start, ast.Attribute):
            start = start.value
        is_imported = isinstance(start, ast.Name) and (start.id in self.modules or start.id in self.imported)
        is_read = isinstance(node.ctx, ast.Load) or id(node) in self._changed or is_imported
        if not is_read or id(node) in self.own_members:
            return False
        return is_imported or node.attr not in self.own_names

    def is_sys(self, node: ast.Attribute) -> bool:
        """Return whether the member may be the module `sys`, which most modules import."""
        return node.attr == "sys" and self.is_foreign(node)

    def _keeps_os(self, nodes: list[ast.AST]) -> bool:
        """Return whether `os` is only ever asked for its members: then no variable, parameter or item can be it."""
        owners = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
        return not any(
            (isinstance(node, ast.Name) and self._is_os(node.id) and id(node) not in owners) or _names_os(node)
            for node in nodes
        )

    def _is_os(self, name: str) -> bool:
        return bool(OS.intersection((self.modules.get(name) or self.imported.get(name) or "").split(".")))

    def _is_passed_module(self, node: ast.AST) -> bool:
        """Return whether a module is a value: an argument, an item, or what a variable is given."""
        return (
            isinstance(node, ast.Name)
            and node.id in self.modules
            and isinstance(node.ctx, ast.Load)
            and id(node) not in self.used_in_place
        )


def _bindings(tree: ast.Module) -> tuple[dict[str, str], dict[str, str]]:
    """Return what imports bind: names of modules, and names of what comes from them, which may be modules, too."""
    modules, members = dict[str, str](), dict[str, str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                if modules.get(bound, "").partition(".")[0] not in GUARDED_MODULES:  # another scope may still use it
                    modules[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                bound = alias.asname or alias.name
                if alias.name in GUARDED_MODULES:  # `from shutil import os`
                    modules[bound] = alias.name
                elif not _takes_names(members.get(bound, "")):  # another scope may still use it
                    members[bound] = f"{node.module}.{alias.name}"
    if "*" in members:  # it may bring the modules that its module imports
        modules = {name: name for name in GUARDED_MODULES & ALLOWED_STANDARD} | modules
    return modules, members


def _takes_names(path: str) -> bool:
    return path in YAML_LOADS | GETTER_PATHS or bool(lookup_of(path, ""))


def _asked_by_name(nodes: list[ast.AST], texts: Mapping[str, list[str]]) -> Iterator[ast.expr]:
    """Yield what `hasattr` and `getattr` of Python are called on, with a written name: it goes nowhere else."""
    named = {name for node in nodes for name in (getattr(node, "name", ""), getattr(node, "asname", "")) if name}
    named |= {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    named |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    for node in nodes:
        match node:
            case ast.Call(func=ast.Name(id="hasattr" | "getattr" as name), args=[owner, attribute, *_]) if (
                name not in named and (literal_text(attribute) is not None or getattr(attribute, "id", "") in texts)
            ):
                yield owner
            case _:
                pass


def _generic(node: ast.AST) -> ast.expr | None:
    """Return what is called with its types in brackets, as in `TypeAdapter[int](int)`."""
    return node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript) else None


def _everyday_names(nodes: list[ast.AST]) -> frozenset[str]:
    """Return the members with everyday names that classes of the file define: fields, methods, members of an enum."""
    names = set[str]()
    for cls in (node for node in nodes if isinstance(node, ast.ClassDef)):
        names |= {each.name for each in cls.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        targets = [
            target
            for each in cls.body
            for target in (each.targets if isinstance(each, ast.Assign) else [getattr(each, "target", None)])
        ]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
        names |= {node.attr for node in candidates(cls)}
    return EVERYDAY_MEMBERS & names


def _names_os(node: ast.AST) -> bool:
    """Return whether a node asks something else for `os`: as a member, in a pattern, or by a text."""
    match node:
        case ast.Attribute(attr=name):
            return name.lstrip("_") in OS
        case ast.MatchClass(kwd_attrs=names):
            return any(name.lstrip("_") in OS for name in names)
        case ast.Constant() | ast.BinOp() if text := literal_text(node):
            return any(step.lstrip("_") in OS for step in text.split("."))
        case ast.ImportFrom(names=aliases):
            return any(alias.name == "*" for alias in aliases)
        case _:
            return False
