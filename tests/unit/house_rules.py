"""The house rules judge the project's source by its names and docstrings.

Every rule is a pure function over modules and returns one line for each breach, so that the tests can try it on
small planted sources.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

UNIT_SUFFIXES = ("SECONDS", "MILLISECONDS", "DAYS", "BYTES", "RATIO", "RATIOS", "TEMPERATURE")
SIZE_SUFFIXES = ("BYTES", "CHARACTERS")
HTTP_METHODS = frozenset(["get", "head", "post", "put", "patch", "delete", "request"])
MINIMUM_WORDS = 3
FRAGMENT_STARTS = frozenset(
    [
        "Of",
        "At",
        "For",
        "As",
        "What",
        "Who",
        "Whether",
        "Where",
        "Whom",
        "How",
        "Since",
        "Until",
        "Than",
        "To",
        "By",
        "From",
        "In",
        "With",
        "None",
        "Its",
    ]
)

# The left column of the glossary, by how certain a match is.
# A part of any identifier (split at underscores and capitals); these words name nothing else here.
OLD_PARTS = frozenset({
    "books", "cage", "caged", "cages", "census", "doorman", "gatekeeper", "offspring", "uncaged", "waker",
})  # fmt: skip
# A whole identifier of the product and of hack, in upper case or lower, with underscores around it or a unit behind it.
OLD_IDENTIFIERS = frozenset({
    "anybody", "around", "asked", "judged", "knock", "lit", "patience", "picture", "rouse", "said", "seen", "shut",
    "stays_shut", "ticket", "told", "turned",
})  # fmt: skip
# A class, public or private.
OLD_CLASSES = frozenset({
    "Account", "Answers", "Anybody", "Books", "Calls", "Caps", "Census", "Finding", "Front", "Gatekeeper", "Gateways",
    "Hearing", "Judge", "Kubernetes", "Listener", "Note", "Out", "Over", "Picture", "Pool", "Question", "Ranges",
    "Shut", "Sink", "Ticket", "Trouble", "Upstream", "Verdict", "Waker", "Watch",
})  # fmt: skip
# A module or a package.
OLD_MODULES = frozenset({
    "account", "behaviour", "books", "bounds", "breaker", "cage", "callers", "calls", "documents", "doorman", "ending",
    "front", "hearing", "judge", "launch", "mend", "offspring", "pages", "promises", "proof", "question", "ranges",
    "registry_credentials", "registry_login", "registry_storage", "registry_sweep", "relay", "slots", "summary",
    "surroundings", "told", "types_text", "upstream",
})  # fmt: skip
# A word of any text: code with its comments and messages, docs, the chart.
OLD_WORDS = re.compile(r"\b(cages?|caged|doorman|gatekeeper|waker|stays_shut)\b", re.IGNORECASE)
# Public strings that were renamed before the first release.
OLD_PUBLIC = re.compile(
    r"(?<![\w-])(pod-broke-off|strange-answer|too-many-at-once|too-many-a-minute|head-too-large|foreign-host|"
    r"foreign-origin|api-server-away|not-answering|unknown-path|unknown-skill|wrong-method|slow-body|encoded-body|"
    r"answer-too-large|cannot-authorize|wake-refused|pods-refused|pod-fails|http-1[.]1-needed|CageUnproven|"
    r"skill_operator_(queue_depth|queue_wait_seconds|pass_seconds|passes_total|pass_failures_total|model_calls_total|"
    r"model_circuit|build_seconds|sleeps_total)|skill_gateway_(call_seconds|cold_start_seconds|refused_total|"
    r"review_seconds|skill_call_seconds|wakes_total))(?![\w-])"
)


@dataclass(frozen=True)
class Vocabulary:
    """The words that no name may bear: parts of identifiers, whole identifiers, classes, modules."""

    parts: frozenset[str]
    identifiers: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()

    def forbids(self, name: str) -> bool:
        """Return whether an identifier is, or has in it, an old word."""
        whole = name.strip("_").lower().removesuffix("_seconds")
        return whole in self.identifiers or not self.parts.isdisjoint(parts(name))


# The product speaks the new language alone. Tests may say what was seen and told, and name doubles as they like.
OF_PRODUCT = Vocabulary(OLD_PARTS, OLD_IDENTIFIERS, OLD_CLASSES, OLD_MODULES)
OF_TESTS = Vocabulary(OLD_PARTS)


@dataclass(frozen=True)
class Source:
    """One file of Python: its path below the root of the project, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Return the syntax tree."""
        return ast.parse(self.text, self.path)

    @property
    def module(self) -> str:
        """Return the module's own name; a package goes by the name of its folder."""
        path = Path(self.path)
        return path.parent.name if path.name in {"__init__.py", "__main__.py"} else path.stem


def read_sources(root: Path, folders: Iterable[str]) -> list[Source]:
    """Return every Python file below these folders, in the order of their paths."""
    paths = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
    return [Source(str(path.relative_to(root)), path.read_text(encoding="utf-8")) for path in paths]


def duplicate_classes(sources: Iterable[Source], allowed: Mapping[str, str]) -> list[str]:
    """Return the class names with more than one definition, and the permissions that nothing needs any more."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{source.path}:{node.lineno}")
    repeated = {name for name, where in places.items() if len(where) > 1}
    found = [f"class {name} is defined in {', '.join(places[name])}" for name in sorted(repeated - allowed.keys())]
    return found + [
        f"class {name} is permitted twice and is not there twice" for name in sorted(allowed.keys() - repeated)
    ]


def constants_without_unit(sources: Iterable[Source], allowed: Mapping[str, str]) -> list[str]:
    """Return the float constants and byte sizes, of modules and classes, whose names do not end in a unit."""
    found, used = [], set()
    for source in sources:
        for name, value in _constants(source.tree):
            if _has_float(value) and not _ends_in(name, UNIT_SUFFIXES):
                wanted = "a unit, such as _SECONDS or _RATIO"
            elif _is_byte_size(value) and not _ends_in(name, SIZE_SUFFIXES):
                wanted = "_BYTES, or _CHARACTERS of text"
            else:
                continue
            key = f"{source.path}:{name}"
            used.add(key)
            if key not in allowed:
                found.append(f"{source.path}:{value.lineno}: {name} must end in {wanted}")
    return found + [f"{key} is permitted and does not need it" for key in sorted(allowed.keys() - used)]


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield name and value of every upper-case assignment in a module or class body; tuples are taken apart."""
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for statement in (statement for body in bodies for statement in body):
        match statement:
            case ast.Assign(targets=targets, value=value):
                pairs = [pair for target in targets for pair in _pairs(target, value)]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                pairs = _pairs(target, value)
            case _:
                continue
        yield from ((name, value) for name, value in pairs if name.isupper())


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[str, ast.expr]]:
    match target, value:
        case ast.Name(id=name), _:
            return [(name, value)]
        case ast.Tuple(elts=names), ast.Tuple(elts=values) if len(names) == len(values):
            return [pair for one, other in zip(names, values, strict=True) for pair in _pairs(one, other)]
        case _:
            return []


def _has_float(value: ast.expr) -> bool:
    """Return whether the value is a float, arithmetic with one, or a collection of such."""
    match value:
        case ast.Constant(value=number):
            return isinstance(number, float)
        case ast.UnaryOp(operand=operand):
            return _has_float(operand)
        case ast.BinOp(left=left, right=right):
            return _has_float(left) or _has_float(right)
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            return any(map(_has_float, elements))
        case _:
            return False


def _is_byte_size(value: ast.expr) -> bool:
    """Return whether the value is written as `1 << n` or as a multiple of 1024."""
    match value:
        case ast.BinOp(left=ast.Constant(value=1), op=ast.LShift(), right=ast.Constant()):
            return True
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return any(isinstance(side, ast.Constant) and side.value == 1024 for side in (left, right)) or (
                _is_byte_size(left) or _is_byte_size(right)
            )
        case _:
            return False


def _ends_in(name: str, suffixes: Collection[str]) -> bool:
    return name.rpartition("_")[2] in suffixes


def constants_defined_twice(sources: Iterable[Source]) -> list[str]:
    """Return a line for each constant that its module defines more than once."""
    found = []
    for source in sources:
        statements = [node for node in source.tree.body if not isinstance(node, ast.ClassDef)]
        counts = Counter(name for name, _ in _constants(ast.Module(statements, [])))
        found += [f"{source.path}: {name} is defined {count} times" for name, count in counts.items() if count > 1]
    return found


def followed_redirects(sources: Iterable[Source]) -> list[str]:
    """Return a line for each request of aiohttp that would follow a redirect: its headers may hold a credential."""
    return [
        f"{source.path}:{item.context_expr.lineno}: pass allow_redirects=False"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.AsyncWith)
        for item in node.items
        if _is_request(item.context_expr) and not _passes(item.context_expr, "allow_redirects", value=False)
    ]


def _is_request(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in HTTP_METHODS


def _passes(node: ast.expr, name: str, *, value: object) -> bool:
    keywords = node.keywords if isinstance(node, ast.Call) else []
    return any(
        word.arg == name and isinstance(word.value, ast.Constant) and word.value.value is value for word in keywords
    )


def unclear_modules(sources: Iterable[Source]) -> list[str]:
    """Return the modules whose docstring is missing, or whose first sentence does not say what they are for."""
    found = []
    for source in sources:
        doc = ast.get_docstring(source.tree)
        sentence = first_sentence(doc or "")
        if not doc:
            found.append(f"{source.path}: the module has no docstring")
        elif not sentence.endswith("."):
            found.append(f"{source.path}: the first sentence has no period: {sentence!r}")
        elif len(sentence.split()) < MINIMUM_WORDS:
            found.append(f"{source.path}: {sentence!r} does not say what the module is for")
    return found


def first_sentence(doc: str) -> str:
    """Return the text up to the first period that ends a sentence, or the first paragraph where none does."""
    paragraph = " ".join(doc.strip().partition("\n\n")[0].split())
    end = re.search(r"\.(?= [A-Z`\d]|$)", paragraph)
    return paragraph[: end.end()] if end else paragraph


def fragments(sources: Iterable[Source]) -> list[str]:
    """Return the docstrings that begin as a fragment and so make no sense without the name before them."""
    return [
        f"{source.path}:{getattr(node, 'lineno', 1)}: {getattr(node, 'name', 'module')}: {first_sentence(doc)!r}"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, Documented) and (doc := ast.get_docstring(node)) and _is_fragment(doc)
    ]


def _is_fragment(doc: str) -> bool:
    first = re.match(r"\w+", doc.strip())
    return first is not None and first[0] in FRAGMENT_STARTS


def old_names(sources: Iterable[Source], words: Vocabulary, allowed: Mapping[str, str]) -> list[str]:
    """Return the modules, classes and identifiers that bear a word of the glossary's left column."""
    found, used = [], set()
    for source in sources:
        names = {(source.module, 1)} if source.module in words.modules else set()
        names |= {
            (node.name, node.lineno)
            for node in ast.walk(source.tree)
            if isinstance(node, ast.ClassDef) and node.name.lstrip("_") in words.classes
        }
        names |= {(name, line) for name, line in _identifiers(source.tree) if words.forbids(name)}
        for name, line in sorted(names, key=lambda each: (each[1], each[0])):
            key = f"{source.path}:{name}"
            used.add(key)
            if key not in allowed:
                found.append(f"{source.path}:{line}: {name} is an old word: see the glossary")
    return found + [f"{key} is permitted and does not need it" for key in sorted(allowed.keys() - used)]


def parts(name: str) -> set[str]:
    """Return the words of an identifier in lower case: `_CagedPod` has `caged` and `pod`."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def _identifiers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                yield name, node.lineno
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node.lineno
            case ast.keyword(arg=str() as name):
                yield name, node.value.lineno
            case ast.alias(asname=str() as name):
                yield name, node.lineno
            case ast.MatchAs(name=str() as name) | ast.ExceptHandler(name=str() as name):
                yield name, node.lineno


def old_text(texts: Mapping[str, str], pattern: re.Pattern[str]) -> list[str]:
    """Return the lines of these texts, by path, that hold a word of the pattern."""
    return [
        f"{path}:{number}: {match[0]}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        for match in pattern.finditer(line)
    ]
