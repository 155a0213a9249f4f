"""Which complaints of mypy mean that the line raises when it runs.

mypy infers the type of a variable from its first value, so what it says of members and calls of *variables* is often
untrue: a dict of mixed values is `dict[str, object]` to it. What it says of modules, of their classes, of functions
that are defined once and of fields that no schema has does not depend on what it inferred.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from skill_runtime.check.main_block import find_main_blocks

Span = tuple[int, int, int, int]
"""First line and column of an expression, then those of its end, as `ast` counts them."""
ImportPath = tuple[str, ...]
"""Name of a module, then the members that lead from there to something."""

_OF_MODULE = re.compile(r'^Module (?:"[\w.]+" )?has no attribute|^"type\[[\w.]+\]" has no attribute')
_NO_KEY = re.compile(r'^TypedDict ".*" has no key')
"""The one error about a TypedDict that is no matter of habit: there is no such field in the schema."""
_TOP_MODULE = re.compile(r'named "\w+"')
"""A module that the policy has judged: it may be absent where the code catches ImportError."""
_CAUGHT = {
    "import-not-found": {"ImportError", "ModuleNotFoundError"},
    "attr-defined": {"AttributeError", "ImportError"},
    "call-arg": {"TypeError"},
    "typeddict-item": {"KeyError", "LookupError"},
}
"""The codes of complaints that may count, with the exceptions that follow from them."""
_PARTIAL = {"partial", "partialmethod"}
_IMPORTS = (ast.Import, ast.ImportFrom)
_CATCH_ALL = {"Exception", "BaseException"}
_KEY_METHODS = {"get", "pop", "setdefault"}


@dataclass(frozen=True)
class MypyError:
    """MypyError is an error in the candidate's file."""

    code: str
    message: str
    hint: str
    span: Span


@dataclass(frozen=True)
class ImportedMember:
    """ImportedMember is something that a module is said not to have, so that the module itself can be asked."""

    path: ImportPath


class CandidateTree:
    """CandidateTree knows what the names of a candidate stand for. `types` is the text of the module of its types."""

    def __init__(self, source: str, types: str) -> None:
        self._tree = ast.parse(source)
        self._fields = set(_fields(ast.parse(types)))
        self._main_blocks = find_main_blocks(self._tree)
        self._nodes = list(ast.walk(self._tree))
        self._parents = {id(child): node for node in self._nodes for child in ast.iter_child_nodes(node)}

    def is_certain(self, error: MypyError) -> bool | ImportedMember:
        """Return whether the place of the error raises when it runs, or the member on which that depends."""
        if error.code not in _CAUGHT:
            return False
        for node in self._at(error.span):
            if not self._may_be_skipped(node, _CAUGHT[error.code] | _CATCH_ALL) and (
                certain := self._is_certain_at(node, error)
            ):
                return certain
        return False

    def _is_certain_at(self, node: ast.AST, error: MypyError) -> bool | ImportedMember:
        match node:
            case ast.Import(names=[alias]) if error.code == "import-not-found" and not _TOP_MODULE.search(
                error.message
            ):
                return ImportedMember((alias.name,))
            case ast.ImportFrom(module=str(module)) if error.code == "import-not-found":
                return not _TOP_MODULE.search(error.message) and ImportedMember((module,))
            case ast.ImportFrom(module=str(module), names=names) if _OF_MODULE.search(error.message):
                named = [
                    alias.name for alias in names if f'"{alias.name}"' in error.message.split(" has no attribute ")[-1]
                ]
                return ImportedMember((module, named[0])) if named else False
            case ast.Attribute(ctx=ast.Load()) if error.code == "attr-defined" and _OF_MODULE.search(error.message):
                path = self._import_path(node)
                return ImportedMember(path) if path and node.attr not in self._members_asked_for else False
            case ast.Call() if error.code == "call-arg":
                return self._is_known(node.func)
            case ast.Constant(value=str(key)) if _NO_KEY.search(error.message):
                return self._is_lookup(node) and key not in self._fields and key not in self._keys_asked_for
            case _:
                return False

    def _at(self, span: Span) -> list[ast.AST]:
        """Return the nodes at a place; of an import mypy may know the line alone."""
        return [*self._by_place.get(span, ()), *self._by_place.get(span[0], ())]

    @cached_property
    def _by_place(self) -> dict[Span | int, list[ast.AST]]:
        places: dict[Span | int, list[ast.AST]] = {}
        for node in self._nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                places.setdefault(node.lineno, []).append(node)
            elif isinstance(node, ast.expr):
                places.setdefault(_span(node), []).append(node)
        return places

    def _may_be_skipped(self, node: ast.AST, exceptions: set[str]) -> bool:
        """Return whether what follows is caught, or the place does not run in a skill."""
        child, parent = node, self._parents.get(id(node))
        while parent is not None:
            match parent:
                case ast.Try(body=body, handlers=handlers) if child in body:
                    if any(each.type is None or exceptions & _names(each.type) for each in handlers):
                        return True
                case ast.Try(body=body, handlers=handlers) if child in handlers and isinstance(node, _IMPORTS):
                    if _is_fallback(body, child):
                        return True
                case ast.If(test=test) if "TYPE_CHECKING" in _names(test) or parent in self._main_blocks:
                    return True
                case ast.With(items=items) if any("suppress" in _names(item.context_expr) for item in items):
                    return True
                case ast.If(test=test) | ast.IfExp(test=test) if child is not test and isinstance(node, ast.Attribute):
                    if "hasattr" in _names(test):  # one arm has the newer name of a member, and the other the older
                        return True
                case _:
                    pass
            child, parent = parent, self._parents.get(id(parent))
        return False

    @cached_property
    def _bindings(self) -> dict[str, list[ast.AST]]:
        """All places that give a name a value, wherever they are in the file."""
        bindings: dict[str, list[ast.AST]] = {}
        for node in self._nodes:
            parent = self._parents.get(id(node))
            place = parent if isinstance(parent, ast.Assign) and parent.targets == [node] else node
            for name in _bound(node):
                bindings.setdefault(name, []).append(place)
        return bindings

    def _only_binding(self, name: str) -> ast.AST | None:
        places = self._bindings.get(name, [])
        return places[0] if len(places) == 1 else None

    def _import_path(self, node: ast.expr) -> ImportPath:
        """Return what a chain of members leads to, if it begins at a name that is only ever imported; else nothing."""
        steps: list[str] = []
        while isinstance(node, ast.Attribute):
            steps.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ()
        imported = {_imported(place, node.id) for place in self._bindings.get(node.id, ())}
        return (*imported.pop(), *steps) if len(imported) == 1 and () not in imported else ()

    @cached_property
    def _members_asked_for(self) -> set[object]:
        """Members for which the code asks whether they are there."""
        return {
            argument.value
            for node in self._nodes
            if isinstance(node, ast.Call) and _names(node.func) & {"hasattr", "getattr"}
            for argument in node.args
            if isinstance(argument, ast.Constant)
        }

    @cached_property
    def _members_set(self) -> set[str]:
        """Members that the code sets or deletes, on whatever object."""
        members = (node for node in self._nodes if isinstance(node, ast.Attribute))
        return {node.attr for node in members if not isinstance(node.ctx, ast.Load)}

    @cached_property
    def _keys_asked_for(self) -> set[object]:
        """Keys for which the code asks, or which it sets."""
        keys = set[object]()
        for node in self._nodes:
            match node:
                case ast.Compare(left=ast.Constant(value=key), ops=[ast.In() | ast.NotIn()]):
                    keys.add(key)
                case ast.Call(func=ast.Attribute(attr=method), args=[ast.Constant(value=key), *_]):
                    keys |= {key} if method in _KEY_METHODS else set()
                case ast.Subscript(slice=ast.Constant(value=key), ctx=ast.Store()):
                    keys.add(key)
                case _:
                    pass
        return keys

    def _is_lookup(self, key: ast.Constant) -> bool:
        parent = self._parents.get(id(key))
        return isinstance(parent, ast.Subscript) and parent.slice is key and isinstance(parent.ctx, ast.Load)

    def _is_known(self, function: ast.expr) -> bool:
        """Return whether it is certain which function a call means: one of Python, or one of the file."""
        if path := self._import_path(function):
            return path[0].partition(".")[0] in sys.stdlib_module_names
        match function:
            case ast.Name(id=name) if name not in self._bindings:
                return hasattr(builtins, name)
            case ast.Name(id=name):
                place = self._only_binding(name)
                is_method = isinstance(self._parents.get(id(place)), ast.ClassDef)
                return (not is_method and self._is_plain_function(place)) or self._is_plain_class(place)
            case ast.Attribute(value=owner, attr=method):
                cls = self._class_of(owner)
                return cls is not None and self._is_plain_class(cls) and self._defines_alone(cls, method)
            case _:
                return False

    def _class_of(self, owner: ast.expr) -> ast.ClassDef | None:
        """Return the class of the file whose object this certainly is, but for classes that inherit from it."""
        match owner:
            case ast.Call(func=ast.Name(id=name)):
                place = self._only_binding(name)
                return place if isinstance(place, ast.ClassDef) else None
            case ast.Name(id=name):
                place = self._only_binding(name)
                if isinstance(place, ast.Assign) and isinstance(place.value, ast.Call):
                    return self._class_of(place.value)
                return self._class_of_self(owner)
            case _:
                return None

    def _class_of_self(self, name: ast.Name) -> ast.ClassDef | None:
        node = self._parents.get(id(name))
        while node is not None and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            node = self._parents.get(id(node))
        cls = self._parents.get(id(node))
        if not isinstance(node, ast.FunctionDef) or not isinstance(cls, ast.ClassDef) or node.decorator_list:
            return None
        return cls if node.args.args and node.args.args[0].arg == name.id else None

    def _is_plain_function(self, function: ast.AST | None) -> bool:
        """Return whether the file's text says what the function takes: no decorator that hands it more, or less."""
        return isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and all(
            self._keeps_arguments(each.func if isinstance(each, ast.Call) else each) for each in function.decorator_list
        )

    def _keeps_arguments(self, decorator: ast.expr) -> bool:
        if isinstance(decorator, ast.Name) and decorator.id not in self._bindings:
            return hasattr(builtins, decorator.id)
        return self._is_plain_import(decorator) and not _names(decorator) & _PARTIAL

    def _is_plain_class(self, cls: ast.AST | None) -> bool:
        """Return whether the file's text says what the class takes: no base or decorator that adds to it."""
        if not isinstance(cls, ast.ClassDef):
            return False
        metaclasses = [word.value for word in cls.keywords if word.arg == "metaclass"]
        others = [word.value for word in cls.keywords if word.arg != "metaclass"]
        return (
            all(self._is_plain_base(base) for base in (*cls.bases, *others))
            and all(self._is_plain_import(each) for each in metaclasses)
            and all(
                self._is_plain_import(each.func if isinstance(each, ast.Call) else each) for each in cls.decorator_list
            )
        )

    def _is_plain_base(self, base: ast.expr) -> bool:
        if isinstance(base, ast.Subscript):
            return self._is_plain_base(base.value)
        if isinstance(base, ast.Name) and isinstance(place := self._only_binding(base.id), ast.ClassDef):
            return self._is_plain_class(place)
        is_builtin = isinstance(base, ast.Name) and base.id not in self._bindings
        return is_builtin or isinstance(base, ast.Constant) or self._is_plain_import(base)

    def _is_plain_import(self, node: ast.expr) -> bool:
        """Return whether this is of the standard library, but for enumerations, which a call may make.

        Models of pydantic take what their configuration says: other names, more fields.
        """
        module = (self._import_path(node) or ("",))[0].partition(".")[0]
        return module in sys.stdlib_module_names and module != "enum"

    def _defines_alone(self, cls: ast.ClassDef, method: str) -> bool:
        """Return whether the class defines the method, and nothing else in the file could stand in its place."""
        defined = [node for node in self._bindings.get(method, ()) if isinstance(node, ast.FunctionDef)]
        if len(defined) != 1 or defined[0] not in cls.body or method in self._members_set:
            return False
        return self._is_plain_function(defined[0])


def _is_fallback(body: list[ast.stmt], handler: ast.AST) -> bool:
    """Return whether a handler runs only where an import failed, as those of other versions of Python do."""
    if not isinstance(handler, ast.ExceptHandler) or not any(isinstance(each, _IMPORTS) for each in body):
        return False
    return handler.type is None or bool(_names(handler.type) & _CAUGHT["import-not-found"])


def _span(node: ast.expr) -> Span:
    return (node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)


def _names(node: ast.AST) -> set[str]:
    """Return the names of an expression, the last one of each chain of members too."""
    return {
        each.id if isinstance(each, ast.Name) else each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Name | ast.Attribute)
    }


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node gives a value."""
    match node:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.arg(arg=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case _:
            pass


def _imported(node: ast.AST, name: str) -> ImportPath:
    """Return what an import binds to the name; nothing if the node is no import."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if (alias.asname or alias.name.partition(".")[0]) == name:
                return (alias.name if alias.asname else alias.name.partition(".")[0],)
    if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            if (alias.asname or alias.name) == name:
                return (node.module, alias.name)
    return ()


def _fields(types: ast.Module) -> Iterator[str]:
    """Yield the names of all fields in the module of types, of classes and of calls of TypedDict alike."""
    for node in ast.walk(types):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Dict):
            yield from (key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
