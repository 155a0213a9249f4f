"""The policy gate: what a skill may name. It is hygiene and an early, cheap message for the model.

The security boundary is the pod, not this gate. It runs as a program of its own, with limits, since parsing foreign
text can take all the memory there is: source on standard input, path of the manifest as argument, finding as JSON on
standard output.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skill_runtime.check.findings import GateFinding

DENIED_MODULES = frozenset(
    [
        "bdb",
        "builtins",
        "code",
        "codeop",
        "ctypes",
        "ensurepip",
        "faulthandler",
        "gc",
        "imp",
        "importlib",
        "marshal",
        "modulefinder",
        "multiprocessing",
        "pdb",
        "pickle",
        "pkgutil",
        "posix",
        "pty",
        "pydoc",
        "runpy",
        "shelve",
        "site",
        "subprocess",
        "sysconfig",
        "timeit",
        "trace",
        "tracemalloc",
        "venv",
        "webbrowser",
        "zipapp",
        "zipimport",
    ]
)
DENIED_NAMES = frozenset(
    ["eval", "exec", "compile", "__import__", "globals", "breakpoint", "__builtins__", "__loader__", "__spec__"]
)
DENIED_MEMBERS = {
    "os": frozenset(
        [
            "system",
            "popen",
            "fork",
            "forkpty",
            "kill",
            "killpg",
            "abort",
            "_exit",
            "execl",
            "execle",
            "execlp",
            "execlpe",
            "execv",
            "execve",
            "execvp",
            "execvpe",
            "spawnl",
            "spawnle",
            "spawnlp",
            "spawnlpe",
            "spawnv",
            "spawnve",
            "spawnvp",
            "spawnvpe",
            "posix_spawn",
            "posix_spawnp",
            "pidfd_open",
            "ptrace",
        ]
    ),
    "asyncio": frozenset(("create_subprocess_exec", "create_subprocess_shell", "subprocess")),
    "concurrent": frozenset(("ProcessPoolExecutor", "process")),
    "futures": frozenset(("ProcessPoolExecutor", "process")),
    "logging": frozenset(("config",)),  # calls whatever its dictionary names
    "types": frozenset(("CodeType",)),
    "sys": frozenset(["modules", "settrace", "setprofile", "meta_path", "path_hooks", "path_importer_cache"]),
    "signal": frozenset(["pidfd_send_signal", "pthread_kill", "raise_signal"]),
    "threading": frozenset(["settrace", "setprofile"]),
    "yaml": frozenset(
        ["load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all", "UnsafeLoader", "Loader"]
    ),
    "numpy": frozenset(("ctypeslib",)),
    "pandas": frozenset(("read_pickle", "to_pickle", "eval")),
}
ALLOWED_DUNDERS = frozenset(
    [
        "__abs__",
        "__add__",
        "__and__",
        "__annotations__",
        "__bool__",
        "__call__",
        "__ceil__",
        "__class__",
        "__contains__",
        "__delitem__",
        "__divmod__",
        "__doc__",
        "__enter__",
        "__eq__",
        "__exit__",
        "__float__",
        "__floor__",
        "__floordiv__",
        "__format__",
        "__ge__",
        "__getitem__",
        "__gt__",
        "__hash__",
        "__iadd__",
        "__init__",
        "__init_subclass__",
        "__int__",
        "__invert__",
        "__isub__",
        "__iter__",
        "__le__",
        "__len__",
        "__lt__",
        "__members__",
        "__mod__",
        "__mul__",
        "__name__",
        "__ne__",
        "__neg__",
        "__new__",
        "__next__",
        "__or__",
        "__pos__",
        "__post_init__",
        "__pow__",
        "__qualname__",
        "__radd__",
        "__repr__",
        "__reversed__",
        "__rmul__",
        "__round__",
        "__rsub__",
        "__rtruediv__",
        "__set_name__",
        "__setitem__",
        "__str__",
        "__sub__",
        "__truediv__",
        "__trunc__",
        "__version__",
        "__xor__",
    ]
)
DENIED_ATTRIBUTES = frozenset(
    [
        *("f_back", "f_builtins", "f_code", "f_globals", "f_locals", "tb_frame"),
        *("gi_frame", "gi_code", "cr_frame", "cr_code", "ag_frame", "ag_code"),
    ]
)
"""A frame gives access to everything."""
_REFLECTION = frozenset(("getattr", "setattr", "delattr", "hasattr"))
_GETTERS = frozenset(("attrgetter", "methodcaller"))
_IN_FORMAT = re.compile(r"\{[^{}]*[.\[](__\w+__)")
_TYPES = "skill_types"
_MAX_DEPTH = 100


@dataclass(frozen=True)
class AvailableModules:
    """AvailableModules holds the modules that can be imported."""

    modules: frozenset[str]
    by_distribution: Mapping[str, str]
    """The module of a distribution, by the distribution's name."""

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any]) -> AvailableModules:
        """Read the modules from the manifest of the base image."""
        modules = (frozenset(manifest["modules"]) | frozenset(manifest["standard"])) - DENIED_MODULES
        by_distribution = {_normalize(by): module for module, by in sorted(manifest["modules"].items(), reverse=True)}
        return cls(modules, by_distribution)

    def suggest(self, name: str) -> str:
        """Return the module that may have been meant, as a hint in a message."""
        if (module := self.by_distribution.get(_normalize(name))) is not None:
            return f"; it is imported as {module!r}"
        close = difflib.get_close_matches(name, sorted(self.modules), 1, 0.6)
        return f"; the nearest available is {close[0]!r}" if close else ""


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def check(source: str, available: AvailableModules) -> GateFinding | None:
    """Return the first violation in the file, from the top."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, "skill.py")
        _refuse_depth(tree)
    except SyntaxError as error:
        return GateFinding("ruff", f"line {error.lineno}: SyntaxError: {error.msg}", error.lineno)
    except (MemoryError, RecursionError):
        return GateFinding("size", "the file is nested too deeply to be parsed")
    except ValueError as error:
        return GateFinding("size", f"the file cannot be parsed: {error}")
    violations = [*_PolicyVisitor(available, tree).violations(), *_check_entry_point(tree)]
    if not violations:
        return None
    line, message = min(violations)
    return GateFinding("policy", f"line {line}: {message}", line)


def _refuse_depth(tree: ast.AST) -> None:
    """Raise RecursionError for deep nesting, over which later tools recurse."""
    level: list[ast.AST] = [tree]
    for _ in range(_MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise RecursionError


def _check_entry_point(tree: ast.Module) -> Iterator[tuple[int, str]]:
    defined = [node for node in tree.body if getattr(node, "name", None) == "run"]
    if not defined:
        yield 1, "there is no function `run` at the top level; define `def run(input: Input) -> Output`"
        return
    last = defined[-1]
    if not isinstance(last, ast.FunctionDef):
        yield last.lineno, "`run` must be a plain function: `def run(input: Input) -> Output`"
        return
    spec = last.args
    required = len(spec.posonlyargs + spec.args) - len(spec.defaults)
    unset = [argument.arg for argument, value in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if value is None]
    if len(spec.posonlyargs + spec.args) < 1 or required > 1 or unset:
        yield last.lineno, "`run` must take one parameter: `def run(input: Input) -> Output`"


class _PolicyVisitor:
    """_PolicyVisitor visits a tree once, with the names that modules were bound to."""

    def __init__(self, available: AvailableModules, tree: ast.Module) -> None:
        self._available, self._tree = available, tree
        self._modules = dict(_bindings(tree))
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=[ast.Name(id=new)], value=ast.Name(id=old)) if old in self._modules:
                    self._modules.setdefault(new, self._modules[old])
                case _:
                    pass

    def violations(self) -> Iterator[tuple[int, str]]:
        """Yield each violation as its line and message."""
        for node in ast.walk(self._tree):
            match node:
                case ast.Import():
                    yield from self._import(node)
                case ast.ImportFrom():
                    yield from self._import_from(node)
                case ast.Name(id=name) if name in DENIED_NAMES:
                    yield node.lineno, f"`{name}` must not be used"
                case ast.Attribute():
                    yield from self._attribute(node)
                case ast.Call(func=ast.Name(id=name), args=[owner, attribute, *_]) if name in _REFLECTION:
                    yield from self._reflection(name, owner, attribute)
                case ast.Call(func=ast.Name(id="vars"), args=[ast.Name(id=name)]) if name in self._modules:
                    yield node.lineno, f"`vars` must not be used on a module such as `{self._modules[name]}`"
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=names) if name in _GETTERS:
                    for text in filter(None, map(_literal_text, names)):
                        yield from self._denied_in(text, node.lineno, name)
                case ast.Constant(value=str(text)) if match := _IN_FORMAT.search(text):
                    if match[1] not in ALLOWED_DUNDERS:
                        yield node.lineno, f"a format must not be used to reach `{match[1]}`"
                case _:
                    pass

    def _reflection(self, function: str, owner: ast.expr, attribute: ast.expr) -> Iterator[tuple[int, str]]:
        """Treat `getattr(os, "system")` as `os.system`; on a module like `os` the name must be a literal."""
        text, root = _literal_text(attribute), self._root(owner)
        if text is not None:
            yield from self._denied_in(text, owner.lineno, function)
            as_written = ast.Attribute(value=owner, attr=text, ctx=ast.Load(), lineno=owner.lineno)
            if not _is_dunder(text):
                yield from self._attribute(as_written)
        elif root is not None and root.partition(".")[0] in DENIED_MEMBERS:
            yield owner.lineno, f"`{function}` must not be used on `{root}` with a computed name"

    def _denied_in(self, path: str, line: int, by: str) -> Iterator[tuple[int, str]]:
        for name in path.split("."):
            if name in DENIED_ATTRIBUTES or (_is_dunder(name) and name not in ALLOWED_DUNDERS):
                yield line, f"`{by}` must not be used to reach `{name}`"

    def _import(self, node: ast.Import) -> Iterator[tuple[int, str]]:
        for alias in node.names:
            yield from self._module(alias.name, node.lineno)

    def _import_from(self, node: ast.ImportFrom) -> Iterator[tuple[int, str]]:
        if node.level or not node.module:
            yield node.lineno, "relative imports have nothing to refer to: a skill is one file"
            return
        yield from self._module(node.module, node.lineno)
        top = node.module.partition(".")[0]
        for alias in node.names:
            if alias.name == "*" and top in DENIED_MEMBERS:
                yield node.lineno, f"`from {node.module} import *` must not be used: import what is needed by name"
            elif alias.name in DENIED_MEMBERS.get(top, ()):
                yield node.lineno, f"`{node.module}.{alias.name}` must not be used"
            elif alias.name.startswith("_") and top not in ("__future__", _TYPES):
                yield node.lineno, f"`{node.module}.{alias.name}` is private"

    def _module(self, name: str, line: int) -> Iterator[tuple[int, str]]:
        top = name.partition(".")[0]
        if top in ("__future__", _TYPES):
            return
        if any(part.startswith("_") for part in name.split(".")):
            yield line, f"module `{name}` is private"
        elif top in self._available.modules:
            return
        elif top in DENIED_MODULES:
            yield line, f"module `{top}` must not be used{self._available.suggest(top)}"
        else:
            yield line, f"there is no module `{top}` here{self._available.suggest(top)}"

    def _attribute(self, node: ast.Attribute) -> Iterator[tuple[int, str]]:
        name = node.attr
        if _is_dunder(name):
            if name not in ALLOWED_DUNDERS:
                yield node.lineno, f"attribute `{name}` must not be used"
            return
        if name in DENIED_ATTRIBUTES:
            yield node.lineno, f"attribute `{name}` must not be used"
        owner = node.value
        holder = owner.attr if isinstance(owner, ast.Attribute) else self._modules.get(getattr(owner, "id", ""), "")
        if name in DENIED_MEMBERS.get(holder.partition(".")[0], ()):
            yield node.lineno, f"`{holder}.{name}` must not be used"
        elif name.startswith("_") and self._root(node) is not None:
            yield node.lineno, f"`{self._root(node)}.{name}` is private"

    def _root(self, node: ast.expr) -> str | None:
        """Return the module that a chain of attributes starts at."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return self._modules.get(node.id) if isinstance(node, ast.Name) else None


def _bindings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if alias.name in DENIED_MEMBERS:  # `from shutil import os`
                    yield alias.asname or alias.name, alias.name


def _literal_text(node: ast.expr) -> str | None:
    """Return a string that is written out, in one piece or as a sum."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            one, other = _literal_text(left), _literal_text(right)
            return None if one is None or other is None else one + other
        case _:
            return None


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and len(name) > 4


def main() -> None:
    """Run the gate as a program."""
    manifest = json.loads(Path(sys.argv[1]).read_bytes())
    source = sys.stdin.buffer.read().decode("utf-8")
    finding = check(source, AvailableModules.from_manifest(manifest))
    sys.stdout.write(json.dumps(asdict(finding) if finding else None))


if __name__ == "__main__":
    main()
