"""Ways to members by their names: `getattr` and its like, `vars`, getters, patterns, formats."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial

from skill_runtime.check.denied_names import (
    COMPUTED_MEMBERS_OF,
    FRAMES,
    GETTER_PATHS,
    GETTERS,
    denied_in,
    denied_path,
    is_denied_dunder,
)
from skill_runtime.check.name_resolution import NameResolution
from skill_runtime.check.syntax import assignments, is_dunder, literal_text

_REFLECTION = frozenset(("getattr", "setattr", "delattr", "hasattr"))
REFLECTING_DUNDERS = frozenset(("__getattribute__", "__getattr__", "__setattr__", "__delattr__"))
_READ_ARGUMENTS_OF = _REFLECTION | REFLECTING_DUNDERS | {"vars"}
NEVER_PASSED_ON = frozenset(("getattr", "setattr", "delattr", "vars"))
_FORMAT_FIELD = re.compile(r"\{([^{}]*)")
_FORMAT_SPEC = re.compile(r":(?![^\[]*\])")
"""The colon that ends the name of a field: not one in the brackets of a key, as in `{a[x:y]}`."""
_FORMAT_STEP = re.compile(r"[.\[]\s*(\w+)")


class Reflection:
    """Reflection checks the calls, keys and patterns that reach a member by its name."""

    def __init__(self, names: NameResolution, check: Callable[[ast.AST], Iterator[tuple[int, str]]]) -> None:
        self._names, self._check = names, check
        self._denied_in = partial(denied_in, of_frames=names.uses_pandas)
        self._namespaces = {name for name, value in assignments(names.nodes) if _is_namespace(value)}

    def call(self, node: ast.Call, called: str) -> Iterator[tuple[int, str]]:
        """Check a call that may reach members of what it is given."""
        path = self._names.path(node.func)
        match node.args:
            case given if called in _READ_ARGUMENTS_OF and any(isinstance(each, ast.Starred) for each in given):
                yield node.lineno, f"`{called}` must be given its arguments one by one"
            case [owner, attribute, *_] if called in _REFLECTION | REFLECTING_DUNDERS:
                yield from self._reflection(called, owner, attribute)
            case [attribute] if called in REFLECTING_DUNDERS and isinstance(node.func, ast.Attribute):
                yield from self._reflection(called, node.func.value, attribute)
            case [] if called == "vars":
                yield node.lineno, "`vars` must not be used without an object: name the variables"
            case [owner] if called == "vars" and (root := self._names.root(owner)) is not None:
                yield node.lineno, f"`vars` must not be used on a module such as `{root}`: name the member"
            case _:
                pass
        if path in GETTER_PATHS or called in GETTERS:
            yield from self._getter(node, path.rpartition(".")[2] if path else called)

    def key(self, *keys: ast.expr) -> Iterator[tuple[int, str]]:
        """Check the keys that a dictionary of members is asked for."""
        for key in keys:
            for text in self._names.known_texts(key):
                yield from self._denied_in(text, key.lineno, "__dict__")

    def holds_members(self, node: ast.expr) -> bool:
        """Return whether an expression is the dictionary of an object's members, or a variable that was given one."""
        return _is_namespace(node) or (isinstance(node, ast.Name) and node.id in self._namespaces)

    def class_pattern(self, node: ast.MatchClass) -> Iterator[tuple[int, str]]:
        """Check the members that a pattern of `match` asks for."""
        for name, pattern in zip(node.kwd_attrs, node.kwd_patterns, strict=True):
            yield from self._denied_in(name, node.lineno, "match")
            if name == "sys":
                yield node.lineno, "`match` must not be used to reach `sys`: import it and name its members"
            if isinstance(pattern, ast.MatchClass):
                for member in pattern.kwd_attrs:
                    yield from denied_path(f"{name}.{member}", node.lineno)

    def _getter(self, node: ast.Call, name: str) -> Iterator[tuple[int, str]]:
        """Check the members that a getter of `operator` names; of `methodcaller` the first argument is one."""
        for argument in node.args[:1] if name == "methodcaller" else node.args:
            texts = self._names.known_texts(argument)
            for text in texts:
                yield from self._denied_in(text, node.lineno, name)
                if text.rpartition(".")[2] in REFLECTING_DUNDERS:
                    yield node.lineno, f"`{name}` must not be used to reach `{text}`: use `getattr`"
            named = argument.value if isinstance(argument, ast.Starred) else argument
            if not texts and name != "itemgetter" and not isinstance(named, ast.Name):
                yield node.lineno, f"`{name}` must be given the written name of a member: or use a lambda"

    def _reflection(self, function: str, owner: ast.expr, attribute: ast.expr) -> Iterator[tuple[int, str]]:
        """Treat `getattr(os, "system")` as `os.system`; on most modules the name must be written out."""
        text, root = literal_text(attribute), self._names.root(owner)
        if text is not None:
            as_written = ast.Attribute(value=owner, attr=text, ctx=ast.Load(), lineno=owner.lineno)
            if not is_dunder(text):
                yield from self._check(as_written)
            yield from self._denied_in(text, owner.lineno, function)
            return
        written = self._names.written.get(attribute.id, []) if isinstance(attribute, ast.Name) else []
        for known in written:
            yield from self._reflection(function, owner, ast.Constant(known))
        if written:
            return
        for known in self._names.known_texts(attribute):
            yield from self._denied_in(known, owner.lineno, function)
        if root is not None and root not in COMPUTED_MEMBERS_OF:
            yield owner.lineno, f"`{function}` must not be used on `{root}` with a computed name: write the name"


def format_fields(node: ast.expr, text: str) -> Iterator[tuple[int, str]]:
    """Check the members that a text reaches if it is a format."""
    for field in _FORMAT_FIELD.findall(text):
        steps = _FORMAT_STEP.findall(_FORMAT_SPEC.split(field, maxsplit=1)[0])
        for step, following in zip(steps, [*steps[1:], ""], strict=False):
            harmless = step != "__class__" or following in ("__name__", "__qualname__")
            if is_denied_dunder(step) or step in FRAMES.split() or not harmless:
                yield node.lineno, f"a format must not be used to reach `{step}`: pass the value itself"


def _is_namespace(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(attr="__dict__") | ast.Call(func=ast.Name(id="vars"), args=[_]):
            return True
        case _:
            return False
