"""The policy gate: what a skill may name. It is hygiene and an early, cheap message for the model.

It judges names that are written out: modules by a list of what is allowed, members by a list of what is denied,
wherever they stand. A name that the code computes while it runs is out of its sight: the security boundary is the pod.
The gate runs as a program of its own, with limits, since parsing foreign text can take all the memory there is: source
on standard input, path of the manifest as argument, finding as JSON on standard output.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skill_runtime.check.findings import GateFinding
from skill_runtime.check.main_block import find_main_blocks
from skill_runtime.check.own_members import OwnMembers, candidates
from skill_runtime.check.syntax import (
    annotating,
    assignments,
    bound_names,
    deleted_names,
    is_dunder,
    items_of,
    literal_text,
    mentions,
    names_with_scope,
    words,
    written_texts,
)
from skill_runtime.check.text_lookups import (
    BY_NAME,
    FRAME_EVALUATORS,
    FRAME_METHODS,
    LOOKUPS,
    PACKAGES,
    Takes,
    arguments,
    frame_functions,
    function_of,
    gives_more_than_a_function,
    is_unpacked,
    lookup_of,
)
from skill_runtime.check.written_types import WrittenTypes, texts_in


def _by_name(groups: Mapping[str, str]) -> dict[str, str]:
    return {name: advice for advice, names in groups.items() for name in names.split()}


ALLOWED_STANDARD = words(
    "abc argparse array ast asyncio atexit base64 binascii bisect bz2 calendar cmath codecs collections "
    "colorsys concurrent configparser contextlib contextvars copy csv dataclasses datetime decimal "
    "difflib email enum errno fcntl filecmp fileinput fnmatch fractions ftplib functools getopt getpass "
    "glob graphlib gzip hashlib heapq hmac html http imaplib io ipaddress itertools json keyword "
    "linecache locale logging lzma math mimetypes mmap netrc ntpath numbers operator os pathlib platform "
    "plistlib poplib posixpath pprint queue quopri random re reprlib resource sched secrets select "
    "selectors shlex shutil signal smtplib socket sqlite3 ssl stat statistics string stringprep struct "
    "sys tarfile tempfile textwrap threading time token tokenize tomllib traceback types typing "
    "unicodedata unittest urllib uuid warnings wave weakref xml xmlrpc zipfile zlib zoneinfo"
)
"""The modules of the standard library that a skill can import. Other modules come from the base image."""
DENIED_MODULES = frozenset(("cloudpickle", "dill", "joblib"))
"""Libraries that a base image may hold and that run what they read."""
SUBSTITUTES = _by_name(
    {
        "json": "pickle cPickle marshal shelve dill cloudpickle joblib orjson ujson simplejson rapidjson jsonpickle",
        "tomllib": "toml tomli tomlkit rtoml",
        "zoneinfo": "pytz tzlocal",
        "dateutil": "dateparser arrow pendulum maya ciso8601 iso8601 isodate",
        "requests": "httpx aiohttp urllib3 urllib2 httplib2 pycurl",
        "re": "regex re2",
        "dataclasses": "attr attrs",
        "pydantic": "marshmallow cerberus voluptuous msgspec",
        "time": "timeit",
        "concurrent.futures": "multiprocessing gevent eventlet trio ray dask celery",
        "numpy": "scipy sklearn statsmodels numexpr numba cupy jax",
        "pandas": "polars modin vaex",
        "bs4": "BeautifulSoup html5lib pyquery selectolax parsel",
        "lxml": "xmltodict untangle defusedxml",
        "openpyxl": "xlrd xlwt xlsxwriter",
        "yaml": "ruamel oyaml strictyaml",
        "jinja2": "mako chevron pystache",
        "tabulate": "prettytable texttable rich",
        "difflib": "Levenshtein rapidfuzz fuzzywuzzy thefuzz jellyfish editdistance",
        "unicodedata": "unidecode slugify ftfy",
        "urllib.parse": "urlparse furl yarl",
        "html": "HTMLParser",
        "io": "StringIO cStringIO",
        "queue": "Queue",
        "configparser": "ConfigParser configobj",
        "hashlib": "xxhash mmh3",
        "secrets": "shortuuid nanoid",
        "fractions": "gmpy2 mpmath sympy",
        "graphlib": "networkx toposort",
        "heapq": "sortedcontainers",
        "itertools": "more_itertools toolz funcy",
        "collections": "bidict addict munch",
        "logging": "loguru structlog",
        "argparse": "click typer docopt optparse",
        "zlib": "zstandard lz4 snappy brotli",
    }
)
"""Modules that code asks for by habit, with one for skills that does the same, or enough of it."""
DENIED_NAMES = frozenset(
    ["eval", "exec", "compile", "__import__", "globals", "breakpoint", "__builtins__", "__loader__", "__spec__"]
)
_FRAMES = (
    "f_back f_builtins f_code f_globals f_locals tb_frame gi_frame gi_code cr_frame cr_code ag_frame ag_code"
    " _getframe _current_frames _current_exceptions currentframe getouterframes getinnerframes walk_stack walk_tb"
    " call_tracing settrace setprofile settrace_all_threads setprofile_all_threads"
)
DENIED_MEMBERS = _by_name(
    {
        "a skill starts and ends no processes: compute the result in Python": (
            "system popen fork forkpty kill killpg pidfd_open pidfd_send_signal pthread_kill raise_signal ptrace"
            " prlimit execl execle execlp execlpe execv execve execvp execvpe"
            " spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe posix_spawn posix_spawnp"
            " subprocess subprocess_exec subprocess_shell create_subprocess_exec create_subprocess_shell"
            " fork_exec _fork_exec _execvpe _spawnvef _make_subprocess_transport IMAP4_stream"
            " multiprocessing ProcessPoolExecutor register_at_fork unshare setns"
            " open_in_browser read_clipboard to_clipboard"
        ),
        "a frame reaches everything: pass on what is needed as an argument": _FRAMES,
        "import what is needed by name, at the top of the file": (
            "meta_path path_hooks path_importer_cache importlib import_module load_module exec_module runpy run_module"
            " run_path builtins bltns pkgutil ImportString loadTestsFromName loadTestsFromNames import_string"
            " import_optional_dependency _convert_ getattr_static getclosurevars global_enum well_known_modules"
            " default_parser_list babel_extract PackageLoader"
        ),
        "use the libraries as they are: native code cannot be loaded": (
            "ctypes ctypeslib load_library f2py load_extension enable_load_extension"
        ),
        "it executes text: write out what is to be computed": (
            "get_type_hints ForwardRef evaluate_forward_ref dictConfig fileConfig runctx rundocs FunctionType"
            " LambdaType CodeType c2py _evaluate _eval_type get_annotations code_generator_class from_custom_template"
        ),
        "it reads objects that execute code: use JSON, CSV or `yaml.safe_load`": (
            "unsafe_load unsafe_load_all full_load full_load_all UnsafeLoader FullLoader CUnsafeLoader CFullLoader"
            " UnsafeConstructor FullConstructor pickle Unpickler read_pickle to_pickle HDFStore read_hdf"
            " NpzFile npyio"
        ),
        "its formats reach members: use `str.format` or an f-string": "get_field vformat",
        "the sandbox of jinja2 relies on it: leave it as it is": "is_safe_attribute is_safe_callable",
    }
)
"""Members that nothing may be asked for, by name, with what to do instead."""
DENIED_PATHS = _by_name(
    {
        "raise an exception instead": "os.abort os._exit posix.abort posix._exit",
        "a skill is one file, and no folder holds more of it: drop the line": "sys.path",
        "import what is needed by name": "sys.modules sys.breakpointhook sys.monitoring",
        "use `logging.basicConfig`": "logging.config",
        "use a `ThreadPoolExecutor`": "concurrent.futures.process",
        "a skill serves no requests of its own: return the result from `run`": "http.server xmlrpc.server",
        "test doubles replace what others rely on: pass arguments": (
            "unittest.mock unittest.main unittest.loader unittest.TestLoader unittest.defaultTestLoader"
            " unittest.TestProgram"
        ),
        "use `str.format` or an f-string": "string.Formatter logging.StrFormatter",
        "use `yaml.safe_load`": "yaml.Loader yaml.CLoader yaml.loader yaml.constructor yaml.cyaml",
        "use `jinja2.sandbox.SandboxedEnvironment`": (
            "jinja2.Template jinja2.Environment jinja2.environment jinja2.nativetypes jinja2.compiler"
            " jinja2.bccache jinja2.ModuleLoader jinja2.loaders.ModuleLoader jinja2.sandbox.Environment"
            " jinja2.ext.Environment jinja2.nodes jinja2.ext.nodes jinja2.parser.nodes jinja2.sandbox.nodes"
        ),
        "nothing of a skill loads modules by name: leave it out": (
            "pandas.options.plotting pandas.io.clipboard pandas.io.clipboards"
        ),
        "write the computation in Python": (
            "numpy.testing numpy.distutils numpy.lib.format pandas.eval pandas.core.computation pandas.io.pickle"
            " pandas.compat.pickle_compat"
        ),
        "use the present API of pydantic": "pydantic.v1 pydantic.deprecated pydantic.PyObject",
    }
)
"""Members with names of everyday use, which are denied of their module alone."""
_EVERYDAY_MEMBERS = words("system kill fork")
"""Denied members of `os` that classes of a file may have as well, such as the system of a measure."""
_OS = words("os posix")
_SAFE_LOADERS = frozenset(f"yaml.{name}Loader" for name in ("Safe", "CSafe", "Base", "CBase"))
_YAML_LOADS = frozenset(("yaml.load", "yaml.load_all"))
_ROOTS = frozenset(path.partition(".")[0] for path in DENIED_PATHS) | PACKAGES
_GUARDED_MODULES = _ROOTS | words("asyncio operator resource signal sqlite3 threading traceback types typing")
"""Modules with members that are denied."""
_HIDDEN_MODULES = sys.stdlib_module_names - ALLOWED_STANDARD - words("cmd code profile site test this trace")
"""Modules that cannot be imported, nor reached as members of others; without names that other members bear, too."""
_COMPUTED_MEMBERS_OF = frozenset(("cmath", "datetime", "hashlib", "math", "operator"))
"""Modules without a way to others: `getattr(math, name)` is a usual table of functions."""
ALLOWED_DUNDERS = frozenset(
    f"__{name}__"
    for name in words(
        "abs add aenter aexit aiter and anext annotations args await bool bytes call cause ceil class "
        "class_getitem complex contains context copy dataclass_fields deepcopy defaults del delattr delete "
        "delitem dict dir divmod doc enter eq exit float floor floordiv format fspath func ge get getattr "
        "getattribute getitem gt hash iadd iand ifloordiv ilshift imatmul imod imul index init init_subclass "
        "instancecheck int invert ior ipow irshift isub iter itruediv ixor kwdefaults le len length_hint "
        "lshift lt match_args matmul members missing mod module mul name ne neg new next notes or origin "
        "parameters pos post_init pow qualname radd rand rdivmod repr reversed rfloordiv rlshift rmatmul rmod "
        "rmul ror round rpow rrshift rshift rsub rtruediv rxor set set_name setattr setitem sizeof slots str "
        "sub subclasscheck suppress_context traceback truediv trunc type_params version wrapped xor"
    )
)
_SANDBOX_CHECKS = frozenset(("is_safe_attribute", "is_safe_callable"))
"""Methods by which the sandbox of jinja2 decides: who defines them anew opens it."""
_DENIED_TEXTS = _SANDBOX_CHECKS | words(
    "__builtins__ __globals__ __import__ __subclasses__ __loader__ __spec__ allow_pickle eval_str"
    " PY_SAX_PARSER PYTHON_DOM"
)
"""Texts that are of use only as the name of a key, member or argument."""
_REFLECTION = frozenset(("getattr", "setattr", "delattr", "hasattr"))
_REFLECTING_DUNDERS = frozenset(("__getattribute__", "__getattr__", "__setattr__", "__delattr__"))
_DISPATCHERS = ("singledispatch", "singledispatchmethod")
"""Decorators that evaluate texts in the place of types, as pydantic does."""
_READ_ARGUMENTS_OF = _REFLECTION | _REFLECTING_DUNDERS | {"vars"}
_NEVER_PASSED_ON = frozenset(("getattr", "setattr", "delattr", "vars"))
_GETTERS = frozenset(("attrgetter", "methodcaller", "itemgetter"))
_GETTER_PATHS = frozenset(f"operator.{name}" for name in _GETTERS)
_EXECUTING_KEYWORDS = frozenset(("allow_pickle", "eval_str"))
_FORMAT_FIELD = re.compile(r"\{([^{}]*)")
_FORMAT_SPEC = re.compile(r":(?![^\[]*\])")
"""The colon that ends the name of a field: not one in the brackets of a key, as in `{a[x:y]}`."""
_FORMAT_STEP = re.compile(r"[.\[]\s*(\w+)")
_SANDBOX_STEPS = words("_generate _compile _parse")
"""Methods by which jinja2 makes code of a template."""
_OF_NAMED_TUPLES = words("_replace _asdict _fields _make _field_defaults")
_OWN_MODULES = frozenset(("skill", "skill_runtime"))
"""Modules that are there, but not for skills: what loads a skill, and the skill itself."""
_READS_MEMBERS = "from_attributes"
"""What makes pydantic read members by the names of fields."""
_ALIASES = words("alias validation_alias alias_generator")
_EVALUATORS = frozenset(("query", "eval"))
"""Methods of a frame that evaluate a text."""
_ONLY_CALLED = _EVALUATORS | FRAME_METHODS - {"filter"}
"""Methods of a frame that are never passed on; `filter` is as well a function of Python."""
_DENIED_IN_QUERIES = DENIED_MEMBERS.keys() | FRAME_EVALUATORS | FRAME_METHODS | {"map", "pipe"}
_STEP = re.compile(r"\.\s*(\w+)")
_OWN_NAMES = (
    frozenset(DENIED_MEMBERS) | _EVALUATORS | FRAME_METHODS | frozenset(BY_NAME) | words("sys read_array env")
) - words(_FRAMES)
"""Names that members of a class of the file may have."""
_WRITE_TYPES = "`__annotations__` must not be changed: write the types where they belong"
_OF_TEXTS = frozenset(name for name in dir(str) if not is_dunder(name))
_URL_PARSERS = words("urlparse urlsplit")
_TYPES = "skill_types"
_TYPESHED = "_typeshed"
"""Exists for type checkers alone, under `if TYPE_CHECKING`."""
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
        standard = ALLOWED_STANDARD.intersection(manifest["standard"])
        modules = (frozenset(manifest["modules"]) | standard) - DENIED_MODULES
        by_distribution = {_normalize(by): module for module, by in sorted(manifest["modules"].items(), reverse=True)}
        return cls(modules, by_distribution)

    def suggest(self, name: str) -> str:
        """Return what does the same here, as a hint in a message; empty where nothing is known to.

        The nearest spelling would mislead: of matplotlib it is smtplib.
        """
        if (module := self.by_distribution.get(_normalize(name))) is not None:
            return f"; it is imported as {module!r}"
        substitute = SUBSTITUTES.get(name, "")
        is_there = substitute.partition(".")[0] in self.modules
        return f"; use `{substitute}` instead" if is_there else ""


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
    """_PolicyVisitor visits a tree once, with the names that imports bound."""

    def __init__(self, available: AvailableModules, tree: ast.Module) -> None:
        self._available, self._tree = available, tree
        self._modules, self._imported = _bindings(tree)
        nodes = list(ast.walk(tree))
        for name, value in assignments(nodes):
            if isinstance(value, ast.Name) and value.id in self._modules:
                self._modules.setdefault(name, self._modules[value.id])
        self._called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        self._called |= {id(owner) for node in nodes if (owner := _generic(node)) is not None}
        self._used_in_place = self._called | {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
        self._all_texts = written_texts(nodes)
        self._used_in_place |= {id(owner) for owner in _asked_by_name(nodes, self._all_texts)}
        self._changed = {id(node.target) for node in nodes if isinstance(node, ast.AugAssign)}
        self._deleted = set(deleted_names(nodes))
        self._optional = {id(each) for node in nodes for each in _guarded_imports(node)}
        self._assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        self._assigned |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        self._bound_names = dict(names_with_scope(tree, frozenset()))
        self._passes_modules = any(self._is_passed_module(node) for node in nodes)
        certain = [] if self._passes_modules else OwnMembers(tree, nodes, self._origin).certain(_OWN_NAMES)
        self._own_members = {id(node) for node in certain}
        self._own_names = _everyday_names(nodes) if self._keeps_os(nodes) else frozenset[str]()
        self._texts: dict[str, list[str]] = {}
        for name, value in assignments(nodes):
            if (text := literal_text(value)) is not None:
                self._texts.setdefault(name, []).append(text)
        self._annotation_names = {name for name, value in assignments(nodes) if mentions(value, "__annotations__")}
        self._classes_of = {name for name, value in assignments(nodes) if _is_class_of(value)}
        self._class_names = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
        self._namespaces = {name for name, value in assignments(nodes) if _is_namespace(value)}
        self._safe_loads = {id(node.func) for node in nodes if isinstance(node, ast.Call) and self._loads_safely(node)}
        used = {path.partition(".")[0] for path in self._imported_paths()}
        self._uses_pandas, self._uses_numpy, self._uses_jinja = (each in used for each in ("pandas", "numpy", "jinja2"))
        self._used_as_text = {id(text) for node in nodes for text in self._texts_used_by(node)}
        self._urls = {name for name, value in assignments(nodes) if _is_url(value)}
        self._urls -= {name for name, value in assignments(nodes) if not _is_url(value)}
        self._urls -= {node.arg for node in nodes if isinstance(node, ast.arg)}
        self._evaluates_annotations = mentions(tree, *_DISPATCHERS) or any(
            path.partition(".")[0] == "pydantic" or path.rpartition(".")[2] in _DISPATCHERS
            for path in self._imported_paths()
        )
        self._reads_members = self._evaluates_annotations and any(_reads_members(node) for node in nodes)
        self._annotated = {id(each) for root in annotating(nodes) for each in ast.walk(root)}
        self._types = WrittenTypes(tree, self._origin)
        self._uses_locals = mentions(tree, "locals")
        self._defines_help = any("help" in bound_names(node) for node in tree.body)

    def violations(self) -> Iterator[tuple[int, str]]:
        """Yield each violation as its line and message."""
        for node in ast.walk(self._tree):
            yield from self._check(node)
        if self._evaluates_annotations:
            for annotation in annotating(list(ast.walk(self._tree))):
                yield from self._type(annotation)

    def _check(self, node: ast.AST) -> Iterator[tuple[int, str]]:
        match node:
            case ast.Import():
                yield from self._import(node)
            case ast.ImportFrom():
                yield from self._import_from(node)
            case ast.Name():
                yield from self._name(node)
            case ast.Attribute():
                yield from self._attribute(node)
            case ast.Call(func=function, args=arguments):
                yield from self._call(node)
                if isinstance(function, ast.Attribute) and self._holds_members(function.value):
                    yield from self._key(*arguments[:1])  # of `get` or `pop`
            case ast.MatchClass():
                yield from self._class_pattern(node)
            case ast.FunctionDef() | ast.Assign() | ast.AnnAssign() | ast.ClassDef():
                yield from self._definition(node)
            case ast.Subscript():
                yield from self._subscript(node)
            case ast.Dict(keys=keys) if any(key and literal_text(key) == "__annotations__" for key in keys):
                yield node.lineno, _WRITE_TYPES
            case ast.Constant() | ast.BinOp() if text := literal_text(node):
                yield from self._text(node, text)
            case _:
                pass

    def _subscript(self, node: ast.Subscript) -> Iterator[tuple[int, str]]:
        if self._holds_members(node.value):
            yield from self._check(node.value)
            yield from self._key(node.slice)
        elif isinstance(node.ctx, ast.Store) and self._is_annotations(node.value):
            yield node.lineno, _WRITE_TYPES
        elif self._evaluates_annotations and self._is_generic(node.value):
            yield from self._type(node.slice)

    def _name(self, node: ast.Name) -> Iterator[tuple[int, str]]:
        name = node.id
        if name in DENIED_NAMES:
            if not self._is_imported_above(node):
                yield node.lineno, f"`{name}` must not be used: write out what is to be computed"
        elif self._imported.get(name) in _YAML_LOADS and id(node) not in self._safe_loads:
            yield node.lineno, f"`{name}` must not be used: use `yaml.safe_load`"
        elif name == "help" and not self._defines_help and not self._is_bound(node):
            yield node.lineno, "`help` must not be used: it loads modules by name"
        elif name in _SANDBOX_CHECKS:
            yield from self._denied_in(name, node.lineno, "a name")
        elif not isinstance(node.ctx, ast.Load):
            yield from self._bound_name(node)
        elif lookup := self._lookup(node):
            yield from self._value(node, lookup)
        elif id(node) in self._called:
            return
        elif self._path(node) in _GETTER_PATHS or (name in _NEVER_PASSED_ON and not self._is_bound(node)):
            yield node.lineno, f"`{name}` must not be passed on: call it where the member is needed"
        elif id(node) in self._used_in_place:
            return
        elif name in self._modules and not self._is_bound(node):
            yield from self._passed_module(node.lineno, name)

    def _bound_name(self, node: ast.Name) -> Iterator[tuple[int, str]]:
        if node.id == "__annotations__":
            yield node.lineno, _WRITE_TYPES
        elif node.id == "__module__" and self._evaluates_annotations:
            yield node.lineno, "`__module__` must not be assigned: texts for types are evaluated in that module"

    def _passed_module(self, line: int, name: str) -> Iterator[tuple[int, str]]:
        """Refuse to pass on a module with members that are denied of it alone, or where texts may name any member."""
        module = self._modules[name]
        if module in _ROOTS - {"os"}:
            yield line, f"module `{name}` must not be passed on: use its members where they are needed"
        elif (self._uses_jinja or self._reads_members) and module not in _COMPUTED_MEMBERS_OF:
            yield line, f"module `{name}` must not be passed on: pass the values that are needed of it"

    def _value(self, node: ast.expr, lookup: str) -> Iterator[tuple[int, str]]:
        """Refuse to pass on what takes names as texts: its arguments could not be read."""
        is_type = lookup.rpartition(".")[2][0].isupper() and id(node) in self._annotated
        if id(node) not in self._called and not is_type:
            name = lookup.rpartition(".")[2]
            yield node.lineno, f"`{name}` must only be called, with its arguments written out: it takes names as texts"

    def _lookup(self, node: ast.expr) -> str:
        """Return the callable that takes names as texts which an expression means; empty for others."""
        if id(node) in self._own_members or not isinstance(getattr(node, "ctx", None), ast.Load):
            return ""
        name = node.attr if isinstance(node, ast.Attribute) else ""
        return "jinja2.overlay" if self._uses_jinja and name == "overlay" else lookup_of(self._origin(node), name)

    def _origin(self, node: ast.expr) -> str:
        """Return the dotted name of what is imported, or of a member of it; empty for others."""
        node = node.value if isinstance(node, ast.Subscript) else node
        return self._path(node)

    def _definition(
        self, node: ast.FunctionDef | ast.Assign | ast.AnnAssign | ast.ClassDef
    ) -> Iterator[tuple[int, str]]:
        """Check definitions by which libraries or the language reach members."""
        match node:
            case ast.FunctionDef(name=name) if name in _SANDBOX_CHECKS:
                yield from self._denied_in(name, node.lineno, "def")
            case ast.ClassDef(bases=bases) if any(self._is_class_of(base) for base in bases):
                yield node.lineno, "a class must inherit from a class by its name: not from that of an object"
            case ast.ClassDef() if self._reads_members:
                fields = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
                for name in (
                    each.id for each in fields if isinstance(each, ast.Name) and each.id not in self._own_names
                ):
                    yield from self._denied_in(name, node.lineno, _READS_MEMBERS)
            case (
                ast.Assign(targets=[ast.Name(id="__match_args__") | ast.Attribute(attr="__match_args__")], value=value)
                | ast.AnnAssign(target=ast.Name(id="__match_args__"), value=ast.expr() as value)
            ):
                items = [each for each in ast.walk(value) if isinstance(each, ast.expr)]
                for name in (text for item in items for text in self._known_texts(item)):
                    yield from self._denied_in(name, node.lineno, "__match_args__")
            case _:
                pass

    def _is_class_of(self, node: ast.expr) -> bool:
        return _is_class_of(node) or (isinstance(node, ast.Name) and node.id in self._classes_of)

    def _class_pattern(self, node: ast.MatchClass) -> Iterator[tuple[int, str]]:
        for name, pattern in zip(node.kwd_attrs, node.kwd_patterns, strict=True):
            yield from self._denied_in(name, node.lineno, "match")
            if name == "sys":
                yield node.lineno, "`match` must not be used to reach `sys`: import it and name its members"
            if isinstance(pattern, ast.MatchClass):
                for member in pattern.kwd_attrs:
                    yield from self._denied_path(f"{name}.{member}", node.lineno)

    def _is_bound(self, node: ast.Name) -> bool:
        """Return whether code gives the name a value of its own where it stands: as a variable or a parameter."""
        return node.id in self._bound_names.get(id(node), ())

    def _is_imported_above(self, node: ast.Name) -> bool:
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

    def _call(self, node: ast.Call) -> Iterator[tuple[int, str]]:
        for keyword in node.keywords:
            yield from self._keyword(keyword, keyword.arg or "")
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        path = self._path(node.func)
        match node.args:
            case given if called in _READ_ARGUMENTS_OF and any(isinstance(each, ast.Starred) for each in given):
                yield node.lineno, f"`{called}` must be given its arguments one by one"
            case [owner, attribute, *_] if called in _REFLECTION | _REFLECTING_DUNDERS:
                yield from self._reflection(called, owner, attribute)
            case [attribute] if called in _REFLECTING_DUNDERS and isinstance(node.func, ast.Attribute):
                yield from self._reflection(called, node.func.value, attribute)
            case [] if called == "vars":
                yield node.lineno, "`vars` must not be used without an object: name the variables"
            case [owner] if called == "vars" and (root := self._root(owner)) is not None:
                yield node.lineno, f"`vars` must not be used on a module such as `{root}`: name the member"
            case [_, _, third, *_] if called == "load" and "numpy" in self._modules.values() and not _is_false(third):
                yield node.lineno, "`allow_pickle` must not be used: what is read would execute code"
            case _:
                pass
        if path in _GETTER_PATHS or called in _GETTERS:
            yield from self._getter(node, path.rpartition(".")[2] if path else called)
        yield from self._library_call(node, called)

    def _library_call(self, node: ast.Call, called: str) -> Iterator[tuple[int, str]]:
        """Check a call that makes a library look up, load or evaluate what a text names."""
        if lookup := self._lookup(node.func):
            yield from self._lookup_call(node, lookup)
        if self._changes_annotations(node, called):
            yield node.lineno, _WRITE_TYPES
        if self._uses_pandas and isinstance(node.func, ast.Attribute) and id(node.func) not in self._own_members:
            yield from self._frame_call(node, called)

    def _keyword(self, keyword: ast.keyword, name: str) -> Iterator[tuple[int, str]]:
        line = keyword.value.lineno
        if name in _EXECUTING_KEYWORDS and not _is_false(keyword.value):
            yield line, f"`{name}` must not be used: what is read would execute code"
        elif name == "__annotations__":
            yield line, _WRITE_TYPES
        elif name.startswith("co_"):
            yield line, f"`{name}` must not be used: code is written, and not put together"
        elif name in _ALIASES and self._reads_members:
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
                    yield from self._type(argument)
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
                yield from self._type(value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value)
                if self._reads_members:
                    yield from self._denied_in(name or "", line, _READS_MEMBERS)

    def _is_harmless(self, argument: ast.expr, takes: Takes) -> bool:
        """Return whether an argument is what a parameter may be given; the names in it are checked apart."""
        match takes:
            case Takes.FALSE:
                return _is_false(argument)
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
        if self._origin(node).startswith("functools.WRAPPER_"):
            return True
        return isinstance(node, ast.Tuple | ast.List) and all(literal_text(each) is not None for each in node.elts)

    def _is_extension(self, node: ast.expr) -> bool:
        text = literal_text(node)
        return (self._path(node) if text is None else text).startswith("jinja2.ext.")

    def _names_given(self, argument: ast.expr, by: str) -> Iterator[tuple[int, str]]:
        for each in ast.walk(argument):
            if isinstance(each, ast.expr) and (text := literal_text(each)) is not None:
                yield from self._denied_in(text, argument.lineno, by)

    def _is_alias(self, node: ast.expr) -> bool:
        """Return whether an alias of a field is written out: a text, or several in a class of pydantic."""
        if isinstance(node, ast.Call):
            return self._path(node.func).startswith("pydantic.") and all(self._is_alias(each) for each in node.args)
        return isinstance(node, ast.Constant) or literal_text(node) is not None

    def _type(self, node: ast.expr) -> Iterator[tuple[int, str]]:
        """Check what is evaluated if it is a text, as pydantic and `singledispatch` do with types."""
        if not self._types.are_written(node):
            yield node.lineno, "a type must be written out here: a text in its place would be evaluated"
        for text in texts_in(node):
            yield from self._code(text, str(text.value))

    def _frame_call(self, node: ast.Call, called: str) -> Iterator[tuple[int, str]]:
        """Check a call that may be one of a method of a frame."""
        if called in _EVALUATORS and not _is_harmless_query(node):
            yield node.lineno, f"`.{called}` of a DataFrame takes a written text without `@`: or select rows in Python"
        elif called in FRAME_METHODS:
            for each in frame_functions(node):
                for name in FRAME_EVALUATORS.intersection(self._known_texts(each)):
                    yield node.lineno, f"`.{called}` must not be used to reach `{name}`: pass a function"
            is_written = all(self._is_function(each) for each in function_of(node, called))
            if not is_written and gives_more_than_a_function(node, called):
                yield node.lineno, f"`.{called}` with further arguments takes a written name, or a function by its name"
        texts = [text for each in node.args for text in self._known_texts(each)]
        sets_backend = called in ("set_option", "option_context") and any("backend" in text for text in texts)
        if sets_backend or any(keyword.arg == "backend" for keyword in node.keywords):
            yield node.lineno, "`backend` must not be used: it loads a module by its name, and there is none to plot"

    def _is_function(self, node: ast.expr) -> bool:
        """Return whether an expression is a function, or the written name of one, and no text that is computed."""
        match node:
            case ast.Name(id=name):
                return name not in self._assigned or name in self._texts
            case ast.Attribute():
                return bool(self._path(node))
            case ast.Call(func=function):
                return self._path(function) == "functools.partial"
            case _:
                return isinstance(node, ast.Lambda) or literal_text(node) is not None

    def _is_annotations(self, node: ast.expr) -> bool:
        """Return whether an expression is the dictionary of annotations, of which libraries make code."""
        match node:
            case ast.Name(id=name):
                return name == "__annotations__" or name in self._annotation_names
            case ast.Subscript(slice=key):
                return literal_text(key) == "__annotations__"
            case _:
                return isinstance(node, ast.Attribute) and node.attr == "__annotations__"

    def _changes_annotations(self, node: ast.Call, called: str) -> bool:
        if called in ("setattr", "__setattr__"):
            return any("__annotations__" in self._known_texts(each) for each in node.args)
        changes = called in ("update", "setdefault", "__setitem__", "__ior__")
        return changes and isinstance(node.func, ast.Attribute) and self._is_annotations(node.func.value)

    def _is_generic(self, node: ast.expr) -> bool:
        """Return whether what follows in brackets is a type: after a name of pydantic, or a class of the file."""
        return self._path(node).partition(".")[0] == "pydantic" or (
            isinstance(node, ast.Name) and node.id in self._class_names and node.id not in self._assigned
        )

    def _is_passed_module(self, node: ast.AST) -> bool:
        """Return whether a module is a value: an argument, an item, or what a variable is given."""
        return (
            isinstance(node, ast.Name)
            and node.id in self._modules
            and isinstance(node.ctx, ast.Load)
            and id(node) not in self._used_in_place
        )

    def _key(self, *keys: ast.expr) -> Iterator[tuple[int, str]]:
        for key in keys:
            for text in self._known_texts(key):
                yield from self._denied_in(text, key.lineno, "__dict__")

    def _holds_members(self, node: ast.expr) -> bool:
        """Return whether an expression is the dictionary of an object's members, or a variable that was given one."""
        return _is_namespace(node) or (isinstance(node, ast.Name) and node.id in self._namespaces)

    def _getter(self, node: ast.Call, name: str) -> Iterator[tuple[int, str]]:
        """Check the members that a getter of `operator` names; of `methodcaller` the first argument is one."""
        for argument in node.args[:1] if name == "methodcaller" else node.args:
            texts = self._known_texts(argument)
            for text in texts:
                yield from self._denied_in(text, node.lineno, name)
                if text.rpartition(".")[2] in _REFLECTING_DUNDERS:
                    yield node.lineno, f"`{name}` must not be used to reach `{text}`: use `getattr`"
            named = argument.value if isinstance(argument, ast.Starred) else argument
            if not texts and name != "itemgetter" and not isinstance(named, ast.Name):
                yield node.lineno, f"`{name}` must be given the written name of a member: or use a lambda"

    def _reflection(self, function: str, owner: ast.expr, attribute: ast.expr) -> Iterator[tuple[int, str]]:
        """Treat `getattr(os, "system")` as `os.system`; on most modules the name must be written out."""
        text, root = literal_text(attribute), self._root(owner)
        if text is not None:
            as_written = ast.Attribute(value=owner, attr=text, ctx=ast.Load(), lineno=owner.lineno)
            if not is_dunder(text):
                yield from self._attribute(as_written)
            yield from self._denied_in(text, owner.lineno, function)
            return
        written = self._all_texts.get(attribute.id, []) if isinstance(attribute, ast.Name) else []
        for known in written:
            yield from self._reflection(function, owner, ast.Constant(known))
        if written:
            return
        for known in self._known_texts(attribute):
            yield from self._denied_in(known, owner.lineno, function)
        if root is not None and root not in _COMPUTED_MEMBERS_OF:
            yield owner.lineno, f"`{function}` must not be used on `{root}` with a computed name: write the name"

    def _known_texts(self, node: ast.expr) -> list[str]:
        """Return the texts that an expression is known to have: written out, or assigned to its name."""
        match node:
            case ast.Name(id=name):
                return self._texts.get(name, [])
            case ast.NamedExpr(value=value):
                return self._known_texts(value)
            case ast.Starred(value=value):
                return [text for item in items_of(value) for text in self._known_texts(item)]
            case _:
                return [] if (text := literal_text(node)) is None else [text]

    def _denied_in(self, path: str, line: int, by: str) -> Iterator[tuple[int, str]]:
        for name in path.split("."):
            is_lookup = name in BY_NAME or (self._uses_pandas and name in _ONLY_CALLED)
            if name in DENIED_MEMBERS or is_lookup or _is_denied_dunder(name):
                yield line, f"`{by}` must not be used to reach `{name}`: {DENIED_MEMBERS.get(name, 'do without it')}"

    def _text(self, node: ast.expr, text: str) -> Iterator[tuple[int, str]]:
        if text in _DENIED_TEXTS:
            yield node.lineno, f"`{text}` must not be used, as a text neither"
        if self._uses_jinja and text in _SANDBOX_STEPS:
            yield node.lineno, f"`{text}` must not be used, as a text neither: the sandbox of jinja2 relies on it"
        for field in _FORMAT_FIELD.findall(text):
            steps = _FORMAT_STEP.findall(_FORMAT_SPEC.split(field, maxsplit=1)[0])
            for step, following in zip(steps, [*steps[1:], ""], strict=False):
                harmless = step != "__class__" or following in ("__name__", "__qualname__")
                if _is_denied_dunder(step) or step in _FRAMES.split() or not harmless:
                    yield node.lineno, f"a format must not be used to reach `{step}`: pass the value itself"
        if self._evaluates_annotations and "(" in text:
            yield from self._code(node, text)

    def _code(self, node: ast.expr, text: str) -> Iterator[tuple[int, str]]:
        """Check a text that may be evaluated as if it stood there as code."""
        try:
            expression = ast.parse(text, mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return
        for inner in ast.walk(expression):
            if isinstance(inner, ast.Attribute) or (isinstance(inner, ast.Name) and inner.id in DENIED_NAMES):
                yield from ((node.lineno, message) for _, message in self._check(inner))

    def _import(self, node: ast.Import) -> Iterator[tuple[int, str]]:
        for alias in node.names:
            yield from self._module(alias.name, node)

    def _import_from(self, node: ast.ImportFrom) -> Iterator[tuple[int, str]]:
        if node.level or not node.module:
            yield node.lineno, "relative imports have nothing to refer to: a skill is one file"
            return
        yield from self._module(node.module, node)
        top = node.module.partition(".")[0]
        if top in ("__future__", _TYPES, _TYPESHED):
            return
        for alias in node.names:
            path = f"{node.module}.{alias.name}"
            if alias.name == "*" and top in _GUARDED_MODULES:
                yield node.lineno, f"`from {node.module} import *` must not be used: import what is needed by name"
            elif alias.name.startswith("_"):
                yield node.lineno, f"`{path}` is private: use what the module documents"
            elif alias.name in DENIED_MEMBERS:
                yield node.lineno, f"`{path}` must not be used: {DENIED_MEMBERS[alias.name]}"
            elif alias.name in _HIDDEN_MODULES:
                yield self._hidden(path, node.lineno)
            else:
                yield from self._denied_path(path, node.lineno)

    def _hidden(self, path: str, line: int) -> tuple[int, str]:
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
            yield from self._denied_path(name, line)

    def _attribute(self, node: ast.Attribute) -> Iterator[tuple[int, str]]:
        name, root = node.attr, self._root(node)
        if is_dunder(name):
            yield from self._dunder(node)
            return
        path = self._path(node)
        if denied := next(self._denied_path(path, node.lineno), None):
            yield denied
        elif name in DENIED_MEMBERS and self._is_foreign(node) and path != "platform.system":
            yield node.lineno, f"`{path or name}` must not be used: {DENIED_MEMBERS[name]}"
        elif path in _YAML_LOADS and id(node) not in self._safe_loads:
            yield node.lineno, f"`{path}` must not be used: use `yaml.safe_load`"
        elif name.startswith("_") and root is not None:
            yield node.lineno, f"`{root}.{name}` is private: use what the module documents"
        elif self._is_private_of_an_import(node):
            yield node.lineno, f"`{path or name}` is private: use what the module documents"
        elif path in _GETTER_PATHS and id(node) not in self._called:
            yield node.lineno, f"`{name}` must not be passed on: call it where the member is needed"
        elif path and name in _HIDDEN_MODULES:
            yield self._hidden(path, node.lineno)
        elif name in _SANDBOX_CHECKS:
            yield from self._denied_in(name, node.lineno, "a member")
        elif of_a_library := [*self._library_member(node)]:
            yield from of_a_library
        elif ((path and name in _ROOTS) or self._is_sys(node)) and id(node) not in self._used_in_place:
            yield node.lineno, f"module `{path or name}` must not be passed on: use its members where they are needed"

    def _library_member(self, node: ast.Attribute) -> Iterator[tuple[int, str]]:
        """Check a member by which a library looks up, loads or evaluates what a text names."""
        name = node.attr
        if lookup := self._lookup(node):
            yield from self._value(node, lookup)
        elif id(node) in self._own_members:
            return
        elif self._uses_pandas and id(node) not in self._called and self._is_frame_method(node):
            of_url = ", and that of a URL given to `parse_qs`" if name == "query" else ""
            yield node.lineno, f"`.{name}` of a DataFrame must only be called{of_url}: it takes names as texts"
        elif self._uses_pandas and name == "env" and self._is_foreign(node) and self._root(node) is None:
            yield node.lineno, "`.env` of a Styler must not be used: use `jinja2.sandbox.SandboxedEnvironment`"
        elif self._uses_numpy and name == "read_array" and self._is_foreign(node):
            yield node.lineno, "`read_array` must not be used: use `numpy.load`"
        elif self._uses_jinja and self._opens_sandbox(node):
            yield node.lineno, f"`.{name}` must not be used: the sandbox of jinja2 relies on it"

    def _is_private_of_an_import(self, node: ast.Attribute) -> bool:
        name, owner = node.attr, node.value
        usual = name.endswith("_") or name in _OF_NAMED_TUPLES or not name.startswith("_")
        return not usual and isinstance(owner, ast.Name) and owner.id in self._imported and not self._is_bound(owner)

    def _is_frame_method(self, node: ast.Attribute) -> bool:
        """Return whether a member may be a method of a frame that takes names, and no part of a URL."""
        if not self._is_foreign(node) or not isinstance(node.ctx, ast.Load):
            return False
        is_of_url = _is_url(node.value) or getattr(node.value, "id", "") in self._urls
        if node.attr == "query" and (is_of_url or id(node) in self._used_as_text):
            return False
        return node.attr in _ONLY_CALLED

    def _texts_used_by(self, node: ast.AST) -> list[ast.expr]:
        """Return what a node uses as only a text can be used, such as the query of a URL."""
        match node:
            case ast.Attribute(value=value, attr=name) if name in _OF_TEXTS:
                return [value]
            case ast.Call(func=function, args=arguments) if self._path(function).startswith("urllib.parse."):
                return arguments
            case ast.If(test=value) | ast.IfExp(test=value) | ast.FormattedValue(value=value):
                return [value]
            case ast.Compare(left=value, comparators=[ast.Constant()]):
                return [value]
            case _:
                return []

    def _opens_sandbox(self, node: ast.Attribute) -> bool:
        changes = node.attr in _SANDBOX_STEPS and not isinstance(node.ctx, ast.Load)
        return changes or (node.attr == "compile" and self._path(node) != "re.compile" and self._is_foreign(node))

    def _dunder(self, node: ast.Attribute) -> Iterator[tuple[int, str]]:
        name = node.attr
        if name == "__dict__" and self._root(node.value) is not None:
            yield node.lineno, f"`{self._root(node)}.__dict__` must not be used: name the member"
        elif name in _REFLECTING_DUNDERS and isinstance(node.ctx, ast.Load) and id(node) not in self._called:
            yield node.lineno, f"`{name}` must not be passed on: call it where the member is needed"
        elif name == "__annotations__" and isinstance(node.ctx, ast.Store):
            yield node.lineno, _WRITE_TYPES
        elif name == "__class__" and not isinstance(node.ctx, ast.Load):
            yield node.lineno, "`__class__` must not be assigned: make an object of the other class"
        elif name not in ALLOWED_DUNDERS:
            yield node.lineno, f"attribute `{name}` must not be used"

    def _is_foreign(self, node: ast.Attribute) -> bool:
        """Return whether the member is read, or set in a module, and not one that a class of the file defines.

        Whose member it is shows in methods that ask their own object. Elsewhere the chain may begin at no import.
        """
        start: ast.expr = node
        while isinstance(start, ast.Attribute):
            start = start.value
        is_imported = isinstance(start, ast.Name) and (start.id in self._modules or start.id in self._imported)
        is_read = isinstance(node.ctx, ast.Load) or id(node) in self._changed or is_imported
        if not is_read or id(node) in self._own_members:
            return False
        return is_imported or node.attr not in self._own_names

    def _keeps_os(self, nodes: list[ast.AST]) -> bool:
        """Return whether `os` is only ever asked for its members: then no variable, parameter or item can be it."""
        owners = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
        return not any(
            (isinstance(node, ast.Name) and self._is_os(node.id) and id(node) not in owners) or _names_os(node)
            for node in nodes
        )

    def _is_os(self, name: str) -> bool:
        return bool(_OS.intersection((self._modules.get(name) or self._imported.get(name) or "").split(".")))

    def _is_sys(self, node: ast.Attribute) -> bool:
        """Return whether the member may be the module `sys`, which most modules import."""
        return node.attr == "sys" and self._is_foreign(node)

    def _denied_path(self, path: str, line: int) -> Iterator[tuple[int, str]]:
        steps = path.split(".")
        for length in range(2, len(steps) + 1):
            if (prefix := ".".join(steps[:length])) in DENIED_PATHS:
                yield line, f"`{prefix}` must not be used: {DENIED_PATHS[prefix]}"
                return

    def _loads_safely(self, node: ast.Call) -> bool:
        loaders = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "Loader")]
        return len(loaders) == 1 and self._path(loaders[0]) in _SAFE_LOADERS

    def _imported_paths(self) -> Iterator[str]:
        yield from self._modules.values()
        yield from self._imported.values()

    def _path(self, node: ast.expr) -> str:
        """Return the dotted name of a member of a module, from the last module on the way; empty for others."""
        steps: list[str] = []
        while isinstance(node, ast.Attribute):
            steps.append(node.attr)
            node = node.value
        steps.reverse()
        root = (self._modules.get(node.id) or self._imported.get(node.id)) if isinstance(node, ast.Name) else None
        if root is not None:
            steps = [*root.split("."), *steps]
        elif not any(step.lstrip("_") in ("os", "sys") for step in steps[:-1]):
            return ""
        start = max((at for at, step in enumerate(steps[:-1]) if step.lstrip("_") in _ROOTS), default=0)
        return ".".join(steps[start:]).lstrip("_")

    def _root(self, node: ast.expr) -> str | None:
        """Return the module that a chain of attributes starts at."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return self._modules.get(node.id) if isinstance(node, ast.Name) else None


def _bindings(tree: ast.Module) -> tuple[dict[str, str], dict[str, str]]:
    """Return what imports bind: names of modules, and names of what comes from them, which may be modules, too."""
    modules, members = dict[str, str](), dict[str, str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                if modules.get(bound, "").partition(".")[0] not in _GUARDED_MODULES:  # another scope may still use it
                    modules[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                bound = alias.asname or alias.name
                if alias.name in _GUARDED_MODULES:  # `from shutil import os`
                    modules[bound] = alias.name
                elif not _takes_names(members.get(bound, "")):  # another scope may still use it
                    members[bound] = f"{node.module}.{alias.name}"
    if "*" in members:  # it may bring the modules that its module imports
        modules = {name: name for name in _GUARDED_MODULES & ALLOWED_STANDARD} | modules
    return modules, members


def _takes_names(path: str) -> bool:
    return path in _YAML_LOADS | _GETTER_PATHS or bool(lookup_of(path, ""))


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
    return _EVERYDAY_MEMBERS & names


def _names_os(node: ast.AST) -> bool:
    """Return whether a node asks something else for `os`: as a member, in a pattern, or by a text."""
    match node:
        case ast.Attribute(attr=name):
            return name.lstrip("_") in _OS
        case ast.MatchClass(kwd_attrs=names):
            return any(name.lstrip("_") in _OS for name in names)
        case ast.Constant() | ast.BinOp() if text := literal_text(node):
            return any(step.lstrip("_") in _OS for step in text.split("."))
        case ast.ImportFrom(names=aliases):
            return any(alias.name == "*" for alias in aliases)
        case _:
            return False


def _is_namespace(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(attr="__dict__") | ast.Call(func=ast.Name(id="vars"), args=[_]):
            return True
        case _:
            return False


def _is_harmless_query(node: ast.Call) -> bool:
    """Return whether a frame is asked by a written text that reaches no variables, and no method that does harm."""
    given = [*node.args[:1], *(each.value for each in node.keywords if each.arg == "expr")]
    text = literal_text(given[0]) if given else None
    return text is not None and not (
        "@" in text or "__" in text or _DENIED_IN_QUERIES.intersection(_STEP.findall(text))
    )


def _generic(node: ast.AST) -> ast.expr | None:
    """Return what is called with its types in brackets, as in `TypeAdapter[int](int)`."""
    return node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript) else None


def _is_url(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and mentions(node.func, *_URL_PARSERS)


def _is_class_of(node: ast.expr) -> bool:
    """Return whether an expression is the class of an object, which may be any."""
    match node:
        case ast.Call(func=ast.Name(id="type"), args=[_]) | ast.Attribute(attr="__class__"):
            return True
        case _:
            return False


def _reads_members(node: ast.AST) -> bool:
    """Return whether pydantic is told to read members of objects."""
    match node:
        case ast.keyword(arg=name, value=value):
            return name == _READS_MEMBERS and not _is_false(value)
        case ast.Constant() | ast.BinOp():
            return literal_text(node) == _READS_MEMBERS
        case _:
            return False


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_denied_dunder(name: str) -> bool:
    return is_dunder(name) and name not in ALLOWED_DUNDERS


def main() -> None:
    """Run the gate as a program."""
    manifest = json.loads(Path(sys.argv[1]).read_bytes())
    source = sys.stdin.buffer.read().decode("utf-8")
    finding = check(source, AvailableModules.from_manifest(manifest))
    sys.stdout.write(json.dumps(asdict(finding) if finding else None))


if __name__ == "__main__":
    main()
