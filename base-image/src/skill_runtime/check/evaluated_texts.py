"""Texts that a library executes, loads or takes for members: its arguments, types and annotations."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import partial

from skill_runtime.check.denied_names import DENIED_NAMES, SANDBOX_STEPS, denied_in
from skill_runtime.check.frame_methods import FrameMethods
from skill_runtime.check.name_resolution import NameResolution
from skill_runtime.check.syntax import annotating, assignments, is_false, items_of, literal_text, mentions, words
from skill_runtime.check.text_lookups import LOOKUPS, Takes, arguments, is_unpacked, lookup_of
from skill_runtime.check.written_types import WrittenTypes, texts_in

_DISPATCHERS = ("singledispatch", "singledispatchmethod")
"""Decorators that evaluate texts in the place of types, as pydantic does."""
_EXECUTING_KEYWORDS = frozenset(("allow_pickle", "eval_str"))
READS_MEMBERS = "from_attributes"
"""What makes pydantic read members by the names of fields."""
_ALIASES = words("alias validation_alias alias_generator")
WRITE_TYPES = "`__annotations__` must not be changed: write the types where they belong"


class EvaluatedTexts:
    """EvaluatedTexts checks what a file gives to libraries that execute, load or look up what a text says."""

    def __init__(
        self, tree: ast.Module, names: NameResolution, check: Callable[[ast.AST], Iterator[tuple[int, str]]]
    ) -> None:
        self._names, self._check, nodes = names, check, names.nodes
        self._denied_in = partial(denied_in, of_frames=names.uses_pandas)
        self._frames = FrameMethods(names)
        self._annotation_names = {name for name, value in assignments(nodes) if mentions(value, "__annotations__")}
        self._class_names = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
        self.evaluates_annotations = mentions(tree, *_DISPATCHERS) or any(
            path.partition(".")[0] == "pydantic" or path.rpartition(".")[2] in _DISPATCHERS
            for path in names.imported_paths()
        )
        self.reads_members = self.evaluates_annotations and any(_reads_members(node) for node in nodes)
        """True where pydantic reads members of objects by the names of fields."""
        self._annotated = {id(each) for root in annotating(nodes) for each in ast.walk(root)}
        self._types = WrittenTypes(tree, names.origin)

    def lookup(self, node: ast.expr) -> str:
        """Return the callable that takes names as texts which an expression means; empty for others."""
        if id(node) in self._names.own_members or not isinstance(getattr(node, "ctx", None), ast.Load):
            return ""
        name = node.attr if isinstance(node, ast.Attribute) else ""
        if self._names.uses_jinja and name == "overlay":
            return "jinja2.overlay"
        return lookup_of(self._names.origin(node), name)

    def value(self, node: ast.expr, lookup: str) -> Iterator[tuple[int, str]]:
        """Refuse to pass on what takes names as texts: its arguments could not be read."""
        is_type = lookup.rpartition(".")[2][0].isupper() and id(node) in self._annotated
        if id(node) not in self._names.called and not is_type:
            name = lookup.rpartition(".")[2]
            yield node.lineno, f"`{name}` must only be called, with its arguments written out: it takes names as texts"

    def member(self, node: ast.Attribute) -> Iterator[tuple[int, str]]:
        """Check a member by which a library looks up, loads or evaluates what a text names."""
        name = node.attr
        if lookup := self.lookup(node):
            yield from self.value(node, lookup)
        elif id(node) in self._names.own_members:
            return
        elif of_a_frame := [*self._frames.member(node)]:
            yield from of_a_frame
        elif self._names.uses_numpy and name == "read_array" and self._names.is_foreign(node):
            yield node.lineno, "`read_array` must not be used: use `numpy.load`"
        elif self._names.uses_jinja and self._opens_sandbox(node):
            yield node.lineno, f"`.{name}` must not be used: the sandbox of jinja2 relies on it"

    def arguments(self, node: ast.Call, called: str) -> Iterator[tuple[int, str]]:
        """Check the arguments of any call that make a library execute what it reads."""
        for keyword in node.keywords:
            yield from self._keyword(keyword, keyword.arg or "")
        match node.args:
            case [_, _, third, *_] if (
                called == "load" and "numpy" in self._names.modules.values() and not is_false(third)
            ):
                yield node.lineno, "`allow_pickle` must not be used: what is read would execute code"
            case _:
                pass

    def call(self, node: ast.Call, called: str) -> Iterator[tuple[int, str]]:
        """Check a call that makes a library look up, load or evaluate what a text names."""
        if lookup := self.lookup(node.func):
            yield from self._lookup_call(node, lookup)
        if self._changes_annotations(node, called):
            yield node.lineno, WRITE_TYPES
        if (
            self._names.uses_pandas
            and isinstance(node.func, ast.Attribute)
            and id(node.func) not in self._names.own_members
        ):
            yield from self._frames.call(node, called)

    def written_type(self, node: ast.expr) -> Iterator[tuple[int, str]]:
        """Check what is evaluated if it is a text, as pydantic and `singledispatch` do with types."""
        if not self._types.are_written(node):
            yield node.lineno, "a type must be written out here: a text in its place would be evaluated"
        for text in texts_in(node):
            yield from self.code(text, str(text.value))

    def code(self, node: ast.expr, text: str) -> Iterator[tuple[int, str]]:
        """Check a text that may be evaluated as if it stood there as code."""
        try:
            expression = ast.parse(text, mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return
        for inner in ast.walk(expression):
            if isinstance(inner, ast.Attribute) or (isinstance(inner, ast.Name) and inner.id in DENIED_NAMES):
                yield from ((node.lineno, message) for _, message in self._check(inner))

    def is_annotations(self, node: ast.expr) -> bool:
        """Return whether an expression is the dictionary of annotations, of which libraries make code."""
        match node:
            case ast.Name(id=name):
                return name == "__annotations__" or name in self._annotation_names
            case ast.Subscript(slice=key):
                return literal_text(key) == "__annotations__"
            case _:
                return isinstance(node, ast.Attribute) and node.attr == "__annotations__"

    def is_generic(self, node: ast.expr) -> bool:
        """Return whether what follows in brackets is a type: after a name of pydantic, or a class of the file."""
        return self._names.path(node).partition(".")[0] == "pydantic" or (
            isinstance(node, ast.Name) and node.id in self._class_names and node.id not in self._names.assigned
        )

    def _keyword(self, keyword: ast.keyword, name: str) -> Iterator[tuple[int, str]]:
        line = keyword.value.lineno
        if name in _EXECUTING_KEYWORDS and not is_false(keyword.value):
            yield line, f"`{name}` must not be used: what is read would execute code"
        elif name == "__annotations__":
            yield line, WRITE_TYPES
        elif name.startswith("co_"):
            yield line, f"`{name}` must not be used: code is written, and not put together"
        elif name in _ALIASES and self.reads_members:
            yield from self._names_given(keyword.value, name)
            if not self._is_alias(keyword.value):
                yield line, f"`{name}` must be written out where pydantic reads members of objects"

    def _lookup_call(self, node: ast.Call, lookup: str) -> Iterator[tuple[int, str]]:
        """Check the arguments of a call that takes names as texts."""
        name = lookup.rpartition(".")[2]
        if is_unpacked(node):
            yield node.lineno, f"`{name}` must be given its arguments one by one: it takes names as texts"
        for parameter in LOOKUPS[lookup]:
            for argument in arguments(node, parameter):
                if not self._is_harmless(argument, parameter.takes):
                    what = f"`{parameter.keyword}` of `{name}`"
                    yield node.lineno, f"{what} must be {parameter.takes.value}"
                if parameter.takes is Takes.NAMES:
                    yield from self._names_given(argument, name)
                elif parameter.takes is Takes.TYPE:
                    yield from self.written_type(argument)
        for keyword in node.keywords if name == "create_model" else ():
            yield from self._field(keyword)

    def _field(self, keyword: ast.keyword) -> Iterator[tuple[int, str]]:
        """Check a field that is given to `create_model`, as a type or as a type with a default."""
        line = keyword.value.lineno
        match keyword:
            case ast.keyword(arg="__module__", value=ast.Name(id="__name__")):
                return
            case ast.keyword(arg="__module__"):
                yield line, "`__module__` must be `__name__`: texts for types are evaluated in that module"
            case ast.keyword(arg=None) | ast.keyword(arg="__base__" | "__config__" | "__doc__" | "__validators__"):
                return
            case ast.keyword(arg=name, value=value):
                yield from self.written_type(value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value)
                if self.reads_members:
                    yield from self._denied_in(name or "", line, READS_MEMBERS)

    def _is_harmless(self, argument: ast.expr, takes: Takes) -> bool:
        """Return whether an argument is what a parameter may be given; the names in it are checked apart."""
        match takes:
            case Takes.FALSE:
                return is_false(argument)
            case Takes.NOTHING:
                return isinstance(argument, ast.Constant) and not argument.value
            case Takes.TYPE:
                return True
            case Takes.EXTENSIONS:
                return all(self._is_extension(each) for each in items_of(argument) or [argument])
            case Takes.NAMES:
                return self._are_names(argument)

    def _are_names(self, node: ast.expr) -> bool:
        if isinstance(node, ast.BinOp):
            return self._are_names(node.left) and self._are_names(node.right)
        if self._names.origin(node).startswith("functools.WRAPPER_"):
            return True
        return isinstance(node, ast.Tuple | ast.List) and all(literal_text(each) is not None for each in node.elts)

    def _is_extension(self, node: ast.expr) -> bool:
        text = literal_text(node)
        return (self._names.path(node) if text is None else text).startswith("jinja2.ext.")

    def _names_given(self, argument: ast.expr, by: str) -> Iterator[tuple[int, str]]:
        for each in ast.walk(argument):
            if isinstance(each, ast.expr) and (text := literal_text(each)) is not None:
                yield from self._denied_in(text, argument.lineno, by)

    def _is_alias(self, node: ast.expr) -> bool:
        """Return whether an alias of a field is written out: a text, or several in a class of pydantic."""
        if isinstance(node, ast.Call):
            return self._names.path(node.func).startswith("pydantic.") and all(
                self._is_alias(each) for each in node.args
            )
        return isinstance(node, ast.Constant) or literal_text(node) is not None

    def _changes_annotations(self, node: ast.Call, called: str) -> bool:
        if called in ("setattr", "__setattr__"):
            return any("__annotations__" in self._names.known_texts(each) for each in node.args)
        changes = called in ("update", "setdefault", "__setitem__", "__ior__")
        return changes and isinstance(node.func, ast.Attribute) and self.is_annotations(node.func.value)

    def _opens_sandbox(self, node: ast.Attribute) -> bool:
        changes = node.attr in SANDBOX_STEPS and not isinstance(node.ctx, ast.Load)
        return changes or (
            node.attr == "compile" and self._names.path(node) != "re.compile" and self._names.is_foreign(node)
        )


def _reads_members(node: ast.AST) -> bool:
    """Return whether pydantic is told to read members of objects."""
    match node:
        case ast.keyword(arg=name, value=value):
            return name == READS_MEMBERS and not is_false(value)
        case ast.Constant() | ast.BinOp():
            return literal_text(node) == READS_MEMBERS
        case _:
            return False
