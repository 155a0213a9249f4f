"""Members that a class of the file defines, asked for by its methods: they may bear names that are denied elsewhere.

They count only where the object is certain. So no method is taken from its class, which may then be given anything,
and the class inherits from nothing that could answer in its place.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from skill_runtime.check.syntax import annotating, bound_names, items_of, mentions, words

_Method = ast.FunctionDef | ast.AsyncFunctionDef
_PLAIN_BASES = words(
    "abc.ABC enum.Enum enum.IntEnum enum.StrEnum enum.Flag enum.IntFlag typing.NamedTuple typing.TypedDict"
    " typing.Protocol typing.Generic pydantic.BaseModel"
)
"""Classes without a member that is denied."""
_BUILT_IN = frozenset(name for name, value in vars(builtins).items() if isinstance(value, type))
_KEEPING_THE_OBJECT = words("property cached_property classmethod abstractmethod override final")
_OF_PROPERTIES = words("setter getter deleter")
_KEEPING_THE_CLASS = words("dataclass total_ordering unique final runtime_checkable")
_WAYS_TO_METHODS = words("__dict__ mro __getattribute__")
_OF_CLASSES = words("__new__ __init_subclass__ __class_getitem__")


def candidates(cls: ast.ClassDef) -> list[ast.Attribute]:
    """Return the members that methods ask their own object for and that its class defines somewhere."""
    methods = [each for each in cls.body if isinstance(each, _Method) and _keeps_its_object(each)]
    own = [node for method in methods for node in ast.walk(method) if _is_asked_of(node, _parameters(method)[0].arg)]
    defined = {each.name for each in methods}
    defined |= {each.id for each in ast.walk(cls) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    defined |= {node.attr for node in own if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    return [node for node in own if isinstance(node, ast.Attribute) and node.attr in defined]


@dataclass(frozen=True)
class _Use:
    """_Use says how the code of a file uses one of its classes."""

    methods: frozenset[str]
    body: frozenset[str]
    """Names that the body of the class evaluates itself."""
    class_members: frozenset[str]
    """Members that the class is asked for, and not an object of it."""
    is_taken: bool


class OwnMembers:
    """OwnMembers tells which members are certain to be those of a class of the file."""

    def __init__(self, tree: ast.Module, nodes: list[ast.AST], origin: Callable[[ast.expr], str]) -> None:
        """Take the dotted name of what is imported from `origin`."""
        self._origin = origin
        classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        self._classes = {cls.name: cls for cls in classes}
        self._repeated = {cls.name for cls in classes if self._classes[cls.name] is not cls}
        self._bound = {name for node in nodes for name in bound_names(node)}
        self._parents = {id(child): node for node in nodes for child in ast.iter_child_nodes(node)}
        self._annotations = {id(each) for root in annotating(nodes) for each in ast.walk(root)}
        self._references = dict[str, list[ast.expr]]()
        for node in nodes:
            if isinstance(node, ast.Name | ast.Attribute) and (name := _last(node)) in self._classes:
                self._references.setdefault(name, []).append(node)
        self._heirs = dict[str, list[str]]()
        for cls in classes:
            for base in cls.bases:
                self._heirs.setdefault(_last(base), []).append(cls.name)
        self._uses = {name: self._use(cls) for name, cls in self._classes.items()}
        takes_some = mentions(tree, "locals") or any(self._takes_some_class(node) for node in nodes)
        self._readable = [] if takes_some else [*self._classes.values()]

    def certain(self, denied: frozenset[str]) -> Iterator[ast.Attribute]:
        """Yield the members with a denied name that are certain to be those of a class of the file."""
        for cls in self._readable:
            own = [node for node in candidates(cls) if node.attr in denied]
            if own and not self._is_taken_apart(cls):
                always = {name for each in cls.body for name in _defined_by(each)}
                closed = self._is_closed(cls)
                yield from (node for node in own if closed or node.attr in always)

    def _is_closed(self, cls: ast.ClassDef) -> bool:
        """Return whether all that a class inherits is in the file, or known to have no denied members."""
        bases = [base for name in _reached(cls.name, self._bases) for base in self._classes[name].bases]
        return all(
            _last(base) in self._classes
            or self._origin(base) in _PLAIN_BASES
            or (_last(base) in _BUILT_IN and _last(base) not in self._bound)
            for base in bases
        )

    def _bases(self, name: str) -> list[str]:
        return [base for each in self._classes[name].bases if (base := _last(each)) in self._classes]

    def _is_taken_apart(self, cls: ast.ClassDef) -> bool:
        """Return whether code could call a method of a class, or of one that inherits it, with another object."""
        uses = [self._uses[name] for name in _reached(cls.name, lambda name: self._heirs.get(name, []))]
        methods = frozenset[str]().union(*(use.methods for use in uses)) | _WAYS_TO_METHODS
        return any(use.is_taken or use.class_members & methods or use.body & methods for use in uses)

    def _use(self, cls: ast.ClassDef) -> _Use:
        references = [*self._references.get(cls.name, []), *_own_class(cls)]
        parents = [self._parents[id(node)] for node in references]
        return _Use(
            frozenset(each.name for each in cls.body if isinstance(each, _Method) and not _is_static(each)),
            frozenset(name for each in cls.body for node in _outside_methods(each) for name in self._loads(node)),
            frozenset(parent.attr for parent in parents if isinstance(parent, ast.Attribute)),
            bool(cls.keywords)
            or cls.name in self._repeated
            or any(_last(each) not in _KEEPING_THE_CLASS for each in cls.decorator_list)
            or any(self._is_taken(node) for node in references),
        )

    def _is_taken(self, node: ast.expr) -> bool:
        """Return whether a class is used otherwise than to make objects, to annotate, to compare or to inherit."""
        parent = self._parents[id(node)]
        is_item = isinstance(parent, ast.Tuple)
        if isinstance(parent, ast.Tuple):
            node, parent = parent, self._parents[id(parent)]
        match parent:
            case ast.Call(func=function, args=arguments):
                tests = isinstance(function, ast.Name) and function.id in ("isinstance", "issubclass")
                makes = isinstance(function, ast.Attribute) and function.attr == "__new__"
                asks = (tests and node in arguments[1:]) or (makes and node in arguments[:1])
                return node is not function and not asks
            case ast.Attribute():  # which member it is asked for counts, above
                return False
            case ast.Subscript(value=owner, slice=key):
                generic = isinstance(owner, ast.Name) and owner.id not in self._classes
                return node is key and id(node) not in self._annotations and not generic
            case ast.ClassDef() | ast.ExceptHandler() | ast.Raise() | ast.MatchClass():
                return False
            case ast.keyword(arg="default_factory"):
                return is_item
            case ast.Compare():
                return not self._asks_nothing(parent)
            case ast.For(iter=values) | ast.comprehension(iter=values):  # the members of an enum
                return is_item or node is not values
            case _:
                return id(node) not in self._annotations

    def _takes_some_class(self, node: ast.AST) -> bool:
        """Return whether an expression yields the class of an object, for more than its name."""
        match node:
            case ast.Attribute(attr="__class__") | ast.Call(func=ast.Name(id="type"), args=[_]):
                match self._parents[id(node)]:
                    case ast.Attribute(attr="__name__" | "__qualname__" | "__module__" | "__doc__"):
                        return False
                    case ast.Compare() as comparison:
                        return not self._asks_nothing(comparison)
                    case ast.Call(func=function):
                        return function is not node
                    case _:
                        return True
            case _:
                return False

    def _asks_nothing(self, comparison: ast.Compare) -> bool:
        """Return whether a comparison calls no code of the file: by identity, or with types of Python."""
        others = [each for value in comparison.comparators for each in (items_of(value) or [value])]
        return all(isinstance(each, ast.Is | ast.IsNot) for each in comparison.ops) or all(
            isinstance(each, ast.Name) and each.id in _BUILT_IN and each.id not in self._bound for each in others
        )

    def _loads(self, node: ast.AST) -> Iterator[str]:
        """Yield a name that is a value, and not the property of which `@name.setter` makes another."""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            parent = self._parents[id(node)]
            if not isinstance(parent, ast.Attribute) or parent.attr not in _OF_PROPERTIES:
                yield node.id


def _reached(start: str, following: Callable[[str], list[str]]) -> set[str]:
    """Return the names that are reached from one, with itself."""
    reached, waiting = {start}, [start]
    while waiting:
        found = set(following(waiting.pop())) - reached
        reached |= found
        waiting += found
    return reached


def _own_class(cls: ast.ClassDef) -> Iterator[ast.expr]:
    """Yield where methods that get the class itself name it."""
    for method in (each for each in cls.body if isinstance(each, _Method) and _is_of_class(each)):
        name = _parameters(method)[0].arg if _parameters(method) else ""
        yield from (node for node in ast.walk(method) if isinstance(node, ast.Name) and node.id == name)


def _parameters(method: _Method) -> list[ast.arg]:
    return [*method.args.posonlyargs, *method.args.args]


def _is_asked_of(node: ast.AST, owner: str) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == owner


def _keeps_its_object(method: _Method) -> bool:
    """Return whether the first parameter of a method is its object, and stays so."""
    if not _parameters(method) or not all(_keeps(each) for each in method.decorator_list):
        return False
    own = _parameters(method)[0]
    return not any(own.arg in bound_names(node) for node in ast.walk(method) if node is not own)


def _keeps(decorator: ast.expr) -> bool:
    return _last(decorator) in _KEEPING_THE_OBJECT | _OF_PROPERTIES


def _is_static(method: _Method) -> bool:
    return any(_last(each) in ("staticmethod", "classmethod") for each in method.decorator_list)


def _is_of_class(method: _Method) -> bool:
    return method.name in _OF_CLASSES or any(_last(each) == "classmethod" for each in method.decorator_list)


def _defined_by(statement: ast.stmt) -> Iterator[str]:
    """Yield what a statement in the body of a class defines for certain."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            yield name
        case _:
            pass


def _outside_methods(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield what the body of a class evaluates itself: not the bodies of its methods."""
    if not isinstance(statement, _Method):
        yield from ast.walk(statement)
        return
    for part in (*statement.decorator_list, statement.args):
        yield from ast.walk(part)


def _last(node: ast.expr) -> str:
    """Return the last name of a dotted one, of what is called or of what is subscripted."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return _last(inner)
        case _:
            return ""
