"""The policy gate: what a skill may name. It is hygiene and an early, cheap message for the model.

It judges names that are written out: modules by a list of what is allowed, members by a list of what is denied,
wherever they stand. A name that the code computes while it runs is out of its sight: the security boundary is the pod.
The gate runs as a program of its own, with limits, since parsing foreign text can take all the memory there is: source
on standard input, path of the manifest as argument, finding as JSON on standard output.
"""

from __future__ import annotations

import ast
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from skill_runtime.check.allowed_modules import HIDDEN_MODULES, AvailableModules
from skill_runtime.check.denied_names import (
    ALLOWED_DUNDERS,
    COMPUTED_MEMBERS_OF,
    DENIED_MEMBERS,
    DENIED_NAMES,
    DENIED_TEXTS,
    GETTER_PATHS,
    ROOTS,
    SAFE_LOADERS,
    SANDBOX_CHECKS,
    SANDBOX_STEPS,
    YAML_LOADS,
    denied_in,
    denied_path,
)
from skill_runtime.check.evaluated_texts import READS_MEMBERS, WRITE_TYPES, EvaluatedTexts
from skill_runtime.check.findings import GateFinding
from skill_runtime.check.import_statements import ImportStatements
from skill_runtime.check.main_block import find_main_blocks
from skill_runtime.check.name_resolution import NameResolution
from skill_runtime.check.reflection import NEVER_PASSED_ON, REFLECTING_DUNDERS, Reflection, format_fields
from skill_runtime.check.syntax import annotating, assignments, bound_names, is_dunder, literal_text, words

_OF_NAMED_TUPLES = words("_replace _asdict _fields _make _field_defaults")
_MAX_DEPTH = 100


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
    for block in find_main_blocks(tree):
        block.body = [ast.Pass(lineno=block.lineno, col_offset=block.col_offset)]
    try:
        violations = [*_PolicyVisitor(available, tree).violations(), *_check_entry_point(tree)]
    except RecursionError:
        return GateFinding("size", "types stand for others too deep to be read")
    if not violations:
        return None
    line, message = min(violations, key=lambda violation: violation[0])
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
    """_PolicyVisitor visits a tree once, with what its names stand for."""

    def __init__(self, available: AvailableModules, tree: ast.Module) -> None:
        self._tree, self._names = tree, NameResolution(tree)
        nodes = self._names.nodes
        self._imports = ImportStatements(available, nodes)
        self._reflection = Reflection(self._names, self._check)
        self._evaluated = EvaluatedTexts(tree, self._names, self._check)
        self._denied_in = partial(denied_in, of_frames=self._names.uses_pandas)
        self._classes_of = {name for name, value in assignments(nodes) if _is_class_of(value)}
        self._safe_loads = {id(node.func) for node in nodes if isinstance(node, ast.Call) and self._loads_safely(node)}
        self._defines_help = any("help" in bound_names(node) for node in tree.body)

    def violations(self) -> Iterator[tuple[int, str]]:
        """Yield each violation as its line and message."""
        for node in ast.walk(self._tree):
            yield from self._check(node)
        if self._evaluated.evaluates_annotations:
            for annotation in annotating(list(ast.walk(self._tree))):
                yield from self._evaluated.written_type(annotation)

    def _check(self, node: ast.AST) -> Iterator[tuple[int, str]]:
        match node:
            case ast.Import():
                yield from self._imports.plain(node)
            case ast.ImportFrom():
                yield from self._imports.from_module(node)
            case ast.Name():
                yield from self._name(node)
            case ast.Attribute():
                yield from self._attribute(node)
            case ast.Call(func=function, args=arguments):
                yield from self._call(node)
                if isinstance(function, ast.Attribute) and self._reflection.holds_members(function.value):
                    yield from self._reflection.key(*arguments[:1])  # of `get` or `pop`
            case ast.MatchClass():
                yield from self._reflection.class_pattern(node)
            case ast.FunctionDef() | ast.Assign() | ast.AnnAssign() | ast.ClassDef():
                yield from self._definition(node)
            case ast.Subscript():
                yield from self._subscript(node)
            case ast.Dict(keys=keys) if any(key and literal_text(key) == "__annotations__" for key in keys):
                yield node.lineno, WRITE_TYPES
            case ast.Constant() | ast.BinOp() if text := literal_text(node):
                yield from self._text(node, text)
            case _:
                pass

    def _subscript(self, node: ast.Subscript) -> Iterator[tuple[int, str]]:
        if self._reflection.holds_members(node.value):
            yield from self._check(node.value)
            yield from self._reflection.key(node.slice)
        elif isinstance(node.ctx, ast.Store) and self._evaluated.is_annotations(node.value):
            yield node.lineno, WRITE_TYPES
        elif self._evaluated.evaluates_annotations and self._evaluated.is_generic(node.value):
            yield from self._evaluated.written_type(node.slice)

    def _name(self, node: ast.Name) -> Iterator[tuple[int, str]]:
        name = node.id
        if name in DENIED_NAMES:
            if not self._names.is_imported_above(node):
                yield node.lineno, f"`{name}` must not be used: write out what is to be computed"
        elif self._names.imported.get(name) in YAML_LOADS and id(node) not in self._safe_loads:
            yield node.lineno, f"`{name}` must not be used: use `yaml.safe_load`"
        elif name == "help" and not self._defines_help and not self._names.is_bound(node):
            yield node.lineno, "`help` must not be used: it loads modules by name"
        elif name in SANDBOX_CHECKS:
            yield from self._denied_in(name, node.lineno, "a name")
        elif not isinstance(node.ctx, ast.Load):
            yield from self._bound_name(node)
        elif lookup := self._evaluated.lookup(node):
            yield from self._evaluated.value(node, lookup)
        elif id(node) in self._names.called:
            return
        elif self._names.path(node) in GETTER_PATHS or (name in NEVER_PASSED_ON and not self._names.is_bound(node)):
            yield node.lineno, f"`{name}` must not be passed on: call it where the member is needed"
        elif id(node) in self._names.used_in_place:
            return
        elif name in self._names.modules and not self._names.is_bound(node):
            yield from self._passed_module(node.lineno, name)

    def _bound_name(self, node: ast.Name) -> Iterator[tuple[int, str]]:
        if node.id == "__annotations__":
            yield node.lineno, WRITE_TYPES
        elif node.id == "__module__" and self._evaluated.evaluates_annotations:
            yield node.lineno, "`__module__` must not be assigned: texts for types are evaluated in that module"

    def _passed_module(self, line: int, name: str) -> Iterator[tuple[int, str]]:
        """Refuse to pass on a module with members that are denied of it alone, or where texts may name any member."""
        module = self._names.modules[name]
        if module in ROOTS - {"os"}:
            yield line, f"module `{name}` must not be passed on: use its members where they are needed"
        elif (self._names.uses_jinja or self._evaluated.reads_members) and module not in COMPUTED_MEMBERS_OF:
            yield line, f"module `{name}` must not be passed on: pass the values that are needed of it"

    def _attribute(self, node: ast.Attribute) -> Iterator[tuple[int, str]]:
        name, root = node.attr, self._names.root(node)
        if is_dunder(name):
            yield from self._dunder(node)
            return
        path = self._names.path(node)
        if denied := next(denied_path(path, node.lineno), None):
            yield denied
        elif name in DENIED_MEMBERS and self._names.is_foreign(node) and path != "platform.system":
            yield node.lineno, f"`{path or name}` must not be used: {DENIED_MEMBERS[name]}"
        elif path in YAML_LOADS and id(node) not in self._safe_loads:
            yield node.lineno, f"`{path}` must not be used: use `yaml.safe_load`"
        elif name.startswith("_") and root is not None:
            yield node.lineno, f"`{root}.{name}` is private: use what the module documents"
        elif self._is_private_of_an_import(node):
            yield node.lineno, f"`{path or name}` is private: use what the module documents"
        elif path in GETTER_PATHS and id(node) not in self._names.called:
            yield node.lineno, f"`{name}` must not be passed on: call it where the member is needed"
        elif path and name in HIDDEN_MODULES:
            yield self._imports.hidden(path, node.lineno)
        elif name in SANDBOX_CHECKS:
            yield from self._denied_in(name, node.lineno, "a member")
        elif of_a_library := [*self._evaluated.member(node)]:
            yield from of_a_library
        elif ((path and name in ROOTS) or self._names.is_sys(node)) and id(node) not in self._names.used_in_place:
            yield node.lineno, f"module `{path or name}` must not be passed on: use its members where they are needed"

    def _is_private_of_an_import(self, node: ast.Attribute) -> bool:
        name, owner = node.attr, node.value
        usual = name.endswith("_") or name in _OF_NAMED_TUPLES or not name.startswith("_")
        return (
            not usual
            and isinstance(owner, ast.Name)
            and owner.id in self._names.imported
            and not self._names.is_bound(owner)
        )

    def _dunder(self, node: ast.Attribute) -> Iterator[tuple[int, str]]:
        name = node.attr
        if name == "__dict__" and self._names.root(node.value) is not None:
            yield node.lineno, f"`{self._names.root(node)}.__dict__` must not be used: name the member"
        elif name in REFLECTING_DUNDERS and isinstance(node.ctx, ast.Load) and id(node) not in self._names.called:
            yield node.lineno, f"`{name}` must not be passed on: call it where the member is needed"
        elif name == "__annotations__" and isinstance(node.ctx, ast.Store):
            yield node.lineno, WRITE_TYPES
        elif name == "__class__" and not isinstance(node.ctx, ast.Load):
            yield node.lineno, "`__class__` must not be assigned: make an object of the other class"
        elif name not in ALLOWED_DUNDERS:
            yield node.lineno, f"attribute `{name}` must not be used"

    def _call(self, node: ast.Call) -> Iterator[tuple[int, str]]:
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        yield from self._evaluated.arguments(node, called)
        yield from self._reflection.call(node, called)
        yield from self._evaluated.call(node, called)

    def _definition(
        self, node: ast.FunctionDef | ast.Assign | ast.AnnAssign | ast.ClassDef
    ) -> Iterator[tuple[int, str]]:
        """Check definitions by which libraries or the language reach members."""
        match node:
            case ast.FunctionDef(name=name) if name in SANDBOX_CHECKS:
                yield from self._denied_in(name, node.lineno, "def")
            case ast.ClassDef(bases=bases) if any(self._is_class_of(base) for base in bases):
                yield node.lineno, "a class must inherit from a class by its name: not from that of an object"
            case ast.ClassDef() if self._evaluated.reads_members:
                fields = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
                for name in (
                    each.id for each in fields if isinstance(each, ast.Name) and each.id not in self._names.own_names
                ):
                    yield from self._denied_in(name, node.lineno, READS_MEMBERS)
            case (
                ast.Assign(targets=[ast.Name(id="__match_args__") | ast.Attribute(attr="__match_args__")], value=value)
                | ast.AnnAssign(target=ast.Name(id="__match_args__"), value=ast.expr() as value)
            ):
                items = [each for each in ast.walk(value) if isinstance(each, ast.expr)]
                for name in (text for item in items for text in self._names.known_texts(item)):
                    yield from self._denied_in(name, node.lineno, "__match_args__")
            case _:
                pass

    def _is_class_of(self, node: ast.expr) -> bool:
        return _is_class_of(node) or (isinstance(node, ast.Name) and node.id in self._classes_of)

    def _text(self, node: ast.expr, text: str) -> Iterator[tuple[int, str]]:
        if text in DENIED_TEXTS:
            yield node.lineno, f"`{text}` must not be used, as a text neither"
        if self._names.uses_jinja and text in SANDBOX_STEPS:
            yield node.lineno, f"`{text}` must not be used, as a text neither: the sandbox of jinja2 relies on it"
        yield from format_fields(node, text)
        if self._evaluated.evaluates_annotations and "(" in text:
            yield from self._evaluated.code(node, text)

    def _loads_safely(self, node: ast.Call) -> bool:
        loaders = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "Loader")]
        return len(loaders) == 1 and self._names.path(loaders[0]) in SAFE_LOADERS


def _is_class_of(node: ast.expr) -> bool:
    """Return whether an expression is the class of an object, which may be any."""
    match node:
        case ast.Call(func=ast.Name(id="type"), args=[_]) | ast.Attribute(attr="__class__"):
            return True
        case _:
            return False


def main() -> None:
    """Run the gate as a program."""
    manifest = json.loads(Path(sys.argv[1]).read_bytes())
    source = sys.stdin.buffer.read().decode("utf-8")
    finding = check(source, AvailableModules.from_manifest(manifest))
    sys.stdout.write(json.dumps(asdict(finding) if finding else None))


if __name__ == "__main__":
    main()
