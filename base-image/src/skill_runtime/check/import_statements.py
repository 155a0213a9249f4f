"""The rules for import statements: which module one may name, and which of its members."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from skill_runtime.check.allowed_modules import DENIED_MODULES, HIDDEN_MODULES, AvailableModules
from skill_runtime.check.denied_names import DENIED_MEMBERS, GUARDED_MODULES, denied_path
from skill_runtime.check.syntax import mentions

_OWN_MODULES = frozenset(("skill", "skill_runtime"))
"""Modules that are there, but not for skills: what loads a skill, and the skill itself."""
_TYPES = "skill_types"
_TYPESHED = "_typeshed"
"""Exists for type checkers alone, under `if TYPE_CHECKING`."""


class ImportStatements:
    """ImportStatements checks what a file imports, by the modules that are there."""

    def __init__(self, available: AvailableModules, nodes: list[ast.AST]) -> None:
        self._available = available
        self._optional = {id(each) for node in nodes for each in _guarded_imports(node)}

    def plain(self, node: ast.Import) -> Iterator[tuple[int, str]]:
        """Check `import a.b`."""
        for alias in node.names:
            yield from self._module(alias.name, node)

    def from_module(self, node: ast.ImportFrom) -> Iterator[tuple[int, str]]:
        """Check `from a.b import c`."""
        if node.level or not node.module:
            yield node.lineno, "relative imports have nothing to refer to: a skill is one file"
            return
        yield from self._module(node.module, node)
        top = node.module.partition(".")[0]
        if top in ("__future__", _TYPES, _TYPESHED):
            return
        for alias in node.names:
            path = f"{node.module}.{alias.name}"
            if alias.name == "*" and top in GUARDED_MODULES:
                yield node.lineno, f"`from {node.module} import *` must not be used: import what is needed by name"
            elif alias.name.startswith("_"):
                yield node.lineno, f"`{path}` is private: use what the module documents"
            elif alias.name in DENIED_MEMBERS:
                yield node.lineno, f"`{path}` must not be used: {DENIED_MEMBERS[alias.name]}"
            elif alias.name in HIDDEN_MODULES:
                yield self.hidden(path, node.lineno)
            else:
                yield from denied_path(path, node.lineno)

    def hidden(self, path: str, line: int) -> tuple[int, str]:
        """Return the violation of reaching a module that skills cannot import."""
        name = path.rpartition(".")[2]
        advice = f"`{name}` is not among the modules for skills{self._available.suggest(name)}"
        return line, f"`{path}` must not be used: {advice}"

    def _module(self, name: str, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[int, str]]:
        top, line = name.partition(".")[0], node.lineno
        if top in ("__future__", _TYPES, _TYPESHED):
            return
        denied = next((part for part in name.split(".") if part in DENIED_MEMBERS), None)
        if any(part.startswith("_") for part in name.split(".")):
            yield line, f"module `{name}` is private: use what is documented"
        elif top in sys.stdlib_module_names | DENIED_MODULES and top not in self._available.modules:
            advice = DENIED_MEMBERS.get(top, "it is not among the modules for skills")
            yield line, f"module `{top}` must not be used: {advice}{self._available.suggest(top)}"
        elif denied is not None:
            yield line, f"module `{name}` must not be used: {DENIED_MEMBERS[denied]}"
        elif top not in self._available.modules and (id(node) not in self._optional or top in _OWN_MODULES):
            yield line, f"there is no module `{top}` here{self._available.suggest(top)}"
        else:
            yield from denied_path(name, line)


def _guarded_imports(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the imports that may fail: the code says what then, or other readers and versions have them."""
    match node:
        case ast.Try(body=body, handlers=handlers) if any(
            each.type is None or mentions(each.type, "ImportError", "ModuleNotFoundError", "Exception")
            for each in handlers
        ):
            guarded = [*body, *handlers]
        case ast.With(items=items, body=body) if any(mentions(item, "suppress") for item in items):
            guarded = [*body]
        case ast.If(test=test, body=body) if mentions(test, "TYPE_CHECKING"):
            guarded = [*body]
        case ast.If(test=test, body=body, orelse=orelse) if mentions(test, "version_info"):
            guarded = [*body, *orelse]
        case _:
            return
    for statement in guarded:
        yield from (inner for inner in ast.walk(statement) if isinstance(inner, ast.Import | ast.ImportFrom))
