"""Lookups by text: the library calls that look up a member, import or evaluate what a text names.

Such a callable is only called, where its arguments can be read: as a value it could be given anything later.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from skill_runtime.check.syntax import literal_text, words


class Takes(Enum):
    """Takes says what an argument may be, so that its texts do no harm."""

    NAMES = "written names of members"
    TYPE = "a written type"
    NOTHING = "nothing: leave it out"
    FALSE = "`False`"
    EXTENSIONS = "written names of `jinja2.ext`"


@dataclass(frozen=True)
class Parameter:
    """Parameter is one that takes names as texts."""

    position: int
    keyword: str
    takes: Takes


_ENVIRONMENT = (Parameter(12, "extensions", Takes.EXTENSIONS),)
LOOKUPS = {
    "functools.update_wrapper": (Parameter(2, "assigned", Takes.NAMES), Parameter(3, "updated", Takes.NAMES)),
    "functools.wraps": (Parameter(1, "assigned", Takes.NAMES), Parameter(2, "updated", Takes.NAMES)),
    "jinja2.SandboxedEnvironment": _ENVIRONMENT,
    "jinja2.ImmutableSandboxedEnvironment": _ENVIRONMENT,
    "jinja2.add_extension": (Parameter(0, "extension", Takes.EXTENSIONS),),
    "jinja2.overlay": _ENVIRONMENT,
    "numpy.load": (Parameter(2, "allow_pickle", Takes.FALSE),),
    "pydantic.TypeAdapter": (Parameter(0, "type", Takes.TYPE),),
    "pydantic.create_model": (),
    "pydantic.generate_schema": (Parameter(0, "source_type", Takes.TYPE),),
    "pydantic.parse_obj_as": (Parameter(0, "type_", Takes.TYPE),),
    "pydantic.schema_of": (Parameter(0, "type", Takes.TYPE),),
    "pydantic.schema_json_of": (Parameter(0, "type", Takes.TYPE),),
    "xml.make_parser": (Parameter(0, "parser_list", Takes.NOTHING),),
}
"""Callables that take names as texts, by the package and their own name, whichever module of it they are asked of."""
_EVERYDAY = frozenset(("load", "overlay", "wraps"))
BY_NAME = {name.partition(".")[2]: name for name in LOOKUPS if name.partition(".")[2] not in _EVERYDAY}
"""The same by their own name, where nothing else bears it."""
PACKAGES = frozenset(name.partition(".")[0] for name in LOOKUPS)

FRAME_METHODS = words("agg aggregate apply transform filter pivot_table crosstab")
"""Methods of pandas that look a text up as a method of what they work on, or as a function of numpy."""
FRAME_EVALUATORS = words("eval query to_pickle to_clipboard load")
"""Functions that those methods must not find."""
_TABLES = frozenset(("crosstab", "pivot_table"))
"""Methods among these that take columns first, and the function by a keyword."""
_FUNCTION_KEYWORDS = frozenset(("func", "aggfunc"))
_OTHER_KEYWORDS = words(
    "axis raw result_type engine engine_kwargs by_row include_groups values index columns fill_value margins dropna"
    " margins_name observed sort rownames colnames normalize items like regex"
)
_AXES = frozenset(("index", "columns", "rows"))


def lookup_of(path: str, own_name: str) -> str:
    """Return the callable of `LOOKUPS` that a dotted name or a member means; empty for others."""
    steps = path.split(".")
    name = f"{steps[0]}.{steps[-1]}"
    return name if len(steps) > 1 and name in LOOKUPS else BY_NAME.get(own_name, "")


def arguments(call: ast.Call, parameter: Parameter) -> Iterator[ast.expr]:
    """Yield what a call gives a parameter."""
    yield from call.args[parameter.position : parameter.position + 1]
    yield from (keyword.value for keyword in call.keywords if keyword.arg == parameter.keyword)


def is_unpacked(call: ast.Call) -> bool:
    """Return whether arguments come out of a collection, where they cannot be told apart."""
    return any(isinstance(each, ast.Starred) for each in call.args) or any(each.arg is None for each in call.keywords)


def frame_functions(call: ast.Call) -> Iterator[ast.expr]:
    """Yield what a method of a frame may take for the name of a function: not names of columns."""
    for each in call.args:
        yield from _functions_in(each)
    for keyword in call.keywords:
        match keyword:
            case ast.keyword(arg=None, value=ast.Dict(values=values)):
                yield from (found for value in values for found in _functions_in(_aggregation(value)))
            case ast.keyword(arg=name, value=value) if name not in _OTHER_KEYWORDS:
                yield from _functions_in(_aggregation(value))
            case _:
                pass


def _functions_in(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Dict(values=values):
            yield from (found for value in values for found in _functions_in(value))
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            yield from (found for item in items for found in _functions_in(item))
        case ast.NamedExpr(value=value) | ast.Starred(value=value):
            yield from _functions_in(value)
        case ast.IfExp(body=body, orelse=other):
            yield from (*_functions_in(body), *_functions_in(other))
        case _:
            yield node


def _aggregation(node: ast.expr) -> ast.expr:
    """Return the function of `(column, function)` or `NamedAgg(column, function)`."""
    match node:
        case ast.Tuple(elts=[_, function]) | ast.Call(args=[_, function]):
            return function
        case ast.Call(keywords=keywords):
            return next((each.value for each in keywords if each.arg == "aggfunc"), node)
        case _:
            return node


def function_of(call: ast.Call, method: str) -> list[ast.expr]:
    """Return the functions that a method of a frame is given, one or several of a list or a dict."""
    given = [] if method in _TABLES else call.args[:1]
    given = [*given, *(each.value for each in call.keywords if each.arg in _FUNCTION_KEYWORDS)]
    return [found for each in given for found in _functions_in(each)]


def gives_more_than_a_function(call: ast.Call, method: str) -> bool:
    """Return whether something is passed on to the function: without, no evaluator has the text that it needs."""
    further = [] if method in _TABLES else [each for each in call.args[1:] if literal_text(each) not in _AXES]
    further += [each for each in call.args if isinstance(each, ast.Starred)]
    allowed = _OTHER_KEYWORDS | _FUNCTION_KEYWORDS
    further += [each.value for each in call.keywords if each.arg not in allowed]
    return any(not isinstance(each, ast.Constant) or isinstance(each.value, str) for each in further)
