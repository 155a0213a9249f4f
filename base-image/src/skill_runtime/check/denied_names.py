"""The names that a skill must not use: built-ins, members, members of one module alone, and texts that name such."""

from __future__ import annotations

from collections.abc import Iterator

from skill_runtime.check.syntax import by_name, is_dunder, words
from skill_runtime.check.text_lookups import BY_NAME, FRAME_METHODS, PACKAGES

DENIED_NAMES = frozenset(
    ["eval", "exec", "compile", "__import__", "globals", "breakpoint", "__builtins__", "__loader__", "__spec__"]
)
FRAMES = (
    "f_back f_builtins f_code f_globals f_locals tb_frame gi_frame gi_code cr_frame cr_code ag_frame ag_code"
    " _getframe _current_frames _current_exceptions currentframe getouterframes getinnerframes walk_stack walk_tb"
    " call_tracing settrace setprofile settrace_all_threads setprofile_all_threads"
)
DENIED_MEMBERS = by_name(
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
        "a frame reaches everything: pass on what is needed as an argument": FRAMES,
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
DENIED_PATHS = by_name(
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
EVERYDAY_MEMBERS = words("system kill fork")
"""Denied members of `os` that classes of a file may have as well, such as the system of a measure."""
OS = words("os posix")
SAFE_LOADERS = frozenset(f"yaml.{name}Loader" for name in ("Safe", "CSafe", "Base", "CBase"))
YAML_LOADS = frozenset(("yaml.load", "yaml.load_all"))
ROOTS = frozenset(path.partition(".")[0] for path in DENIED_PATHS) | PACKAGES
GUARDED_MODULES = ROOTS | words("asyncio operator resource signal sqlite3 threading traceback types typing")
"""Modules with members that are denied."""
COMPUTED_MEMBERS_OF = frozenset(("cmath", "datetime", "hashlib", "math", "operator"))
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
SANDBOX_CHECKS = frozenset(("is_safe_attribute", "is_safe_callable"))
"""Methods by which the sandbox of jinja2 decides: who defines them anew opens it."""
SANDBOX_STEPS = words("_generate _compile _parse")
"""Methods by which jinja2 makes code of a template."""
DENIED_TEXTS = SANDBOX_CHECKS | words(
    "__builtins__ __globals__ __import__ __subclasses__ __loader__ __spec__ allow_pickle eval_str"
    " PY_SAX_PARSER PYTHON_DOM"
)
"""Texts that are of use only as the name of a key, member or argument."""
GETTERS = frozenset(("attrgetter", "methodcaller", "itemgetter"))
GETTER_PATHS = frozenset(f"operator.{name}" for name in GETTERS)
EVALUATORS = frozenset(("query", "eval"))
"""Methods of a frame that evaluate a text."""
ONLY_CALLED = EVALUATORS | FRAME_METHODS - {"filter"}
"""Methods of a frame that are never passed on; `filter` is as well a function of Python."""


def is_denied_dunder(name: str) -> bool:
    """Return whether Python gives a name a meaning that is not for skills."""
    return is_dunder(name) and name not in ALLOWED_DUNDERS


def denied_in(path: str, line: int, by: str, *, of_frames: bool) -> Iterator[tuple[int, str]]:
    """Yield a violation for each denied name of a dotted one; `of_frames` adds what frames look up by texts."""
    for name in path.split("."):
        is_lookup = name in BY_NAME or (of_frames and name in ONLY_CALLED)
        if name in DENIED_MEMBERS or is_lookup or is_denied_dunder(name):
            yield line, f"`{by}` must not be used to reach `{name}`: {DENIED_MEMBERS.get(name, 'do without it')}"


def denied_path(path: str, line: int) -> Iterator[tuple[int, str]]:
    """Yield a violation if a dotted name is, or begins with, a denied one."""
    steps = path.split(".")
    for length in range(2, len(steps) + 1):
        if (prefix := ".".join(steps[:length])) in DENIED_PATHS:
            yield line, f"`{prefix}` must not be used: {DENIED_PATHS[prefix]}"
            return
