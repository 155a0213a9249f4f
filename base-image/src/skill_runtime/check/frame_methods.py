"""The rules for methods of a pandas frame, which evaluate texts and look up functions by name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from skill_runtime.check.denied_names import DENIED_MEMBERS, EVALUATORS, ONLY_CALLED
from skill_runtime.check.name_resolution import NameResolution
from skill_runtime.check.syntax import assignments, is_dunder, literal_text, mentions, words
from skill_runtime.check.text_lookups import (
    FRAME_EVALUATORS,
    FRAME_METHODS,
    frame_functions,
    function_of,
    gives_more_than_a_function,
)

_DENIED_IN_QUERIES = DENIED_MEMBERS.keys() | FRAME_EVALUATORS | FRAME_METHODS | {"map", "pipe"}
_STEP = re.compile(r"\.\s*(\w+)")
_OF_TEXTS = frozenset(name for name in dir(str) if not is_dunder(name))
_URL_PARSERS = words("urlparse urlsplit")


class FrameMethods:
    """FrameMethods checks what a file that uses pandas may ask of a frame. Any object may be one."""

    def __init__(self, names: NameResolution) -> None:
        self._names, nodes = names, names.nodes
        self._used_as_text = {id(text) for node in nodes for text in self._texts_used_by(node)}
        self._urls = {name for name, value in assignments(nodes) if _is_url(value)}
        self._urls -= {name for name, value in assignments(nodes) if not _is_url(value)}
        self._urls -= {node.arg for node in nodes if isinstance(node, ast.arg)}

    def member(self, node: ast.Attribute) -> Iterator[tuple[int, str]]:
        """Check a member that may be one of a frame."""
        name = node.attr
        if not self._names.uses_pandas:
            return
        if id(node) not in self._names.called and self._is_frame_method(node):
            of_url = ", and that of a URL given to `parse_qs`" if name == "query" else ""
            yield node.lineno, f"`.{name}` of a DataFrame must only be called{of_url}: it takes names as texts"
        elif name == "env" and self._names.is_foreign(node) and self._names.root(node) is None:
            yield node.lineno, "`.env` of a Styler must not be used: use `jinja2.sandbox.SandboxedEnvironment`"

    def call(self, node: ast.Call, called: str) -> Iterator[tuple[int, str]]:
        """Check a call that may be one of a method of a frame."""
        if called in EVALUATORS and not _is_harmless_query(node):
            yield node.lineno, f"`.{called}` of a DataFrame takes a written text without `@`: or select rows in Python"
        elif called in FRAME_METHODS:
            for each in frame_functions(node):
                for name in FRAME_EVALUATORS.intersection(self._names.known_texts(each)):
                    yield node.lineno, f"`.{called}` must not be used to reach `{name}`: pass a function"
            is_written = all(self._is_function(each) for each in function_of(node, called))
            if not is_written and gives_more_than_a_function(node, called):
                yield node.lineno, f"`.{called}` with further arguments takes a written name, or a function by its name"
        texts = [text for each in node.args for text in self._names.known_texts(each)]
        sets_backend = called in ("set_option", "option_context") and any("backend" in text for text in texts)
        if sets_backend or any(keyword.arg == "backend" for keyword in node.keywords):
            yield node.lineno, "`backend` must not be used: it loads a module by its name, and there is none to plot"

    def _is_frame_method(self, node: ast.Attribute) -> bool:
        """Return whether a member may be a method of a frame that takes names, and no part of a URL."""
        if not self._names.is_foreign(node) or not isinstance(node.ctx, ast.Load):
            return False
        is_of_url = _is_url(node.value) or getattr(node.value, "id", "") in self._urls
        if node.attr == "query" and (is_of_url or id(node) in self._used_as_text):
            return False
        return node.attr in ONLY_CALLED

    def _texts_used_by(self, node: ast.AST) -> list[ast.expr]:
        """Return what a node uses as only a text can be used, such as the query of a URL."""
        match node:
            case ast.Attribute(value=value, attr=name) if name in _OF_TEXTS:
                return [value]
            case ast.Call(func=function, args=arguments) if self._names.path(function).startswith("urllib.parse."):
                return arguments
            case ast.If(test=value) | ast.IfExp(test=value) | ast.FormattedValue(value=value):
                return [value]
            case ast.Compare(left=value, comparators=[ast.Constant()]):
                return [value]
            case _:
                return []

    def _is_function(self, node: ast.expr) -> bool:
        """Return whether an expression is a function, or the written name of one, and no text that is computed."""
        match node:
            case ast.Name(id=name):
                return name not in self._names.assigned or name in self._names.texts
            case ast.Attribute():
                return bool(self._names.path(node))
            case ast.Call(func=function):
                return self._names.path(function) == "functools.partial"
            case _:
                return isinstance(node, ast.Lambda) or literal_text(node) is not None


def _is_harmless_query(node: ast.Call) -> bool:
    """Return whether a frame is asked by a written text that reaches no variables, and no method that does harm."""
    given = [*node.args[:1], *(each.value for each in node.keywords if each.arg == "expr")]
    text = literal_text(given[0]) if given else None
    return text is not None and not (
        "@" in text or "__" in text or _DENIED_IN_QUERIES.intersection(_STEP.findall(text))
    )


def _is_url(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and mentions(node.func, *_URL_PARSERS)
