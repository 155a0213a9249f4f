"""Comments change no verdict: type checkers and linters take orders from them, and never see one."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

from skill_runtime.check import comments, static
from skill_runtime.check.request import EncodedRequest
from skill_runtime.settings import RuntimeSettings
from tests.unit.runtime.harness import GOOD, HEAD, check_environment, environment

ORDERS = (
    "# mypy: ignore-errors",
    "# mypy: disable-error-code=name-defined",
    "#mypy:ignore-errors",
    "# MyPy: ignore-errors",
    "# type: ignore",
    "#type:ignore",
    "#  type:\tignore[attr-defined]",
    "# TYPE: IGNORE",
    "# type: int",
    "# noqa",
    "#NOQA: F821",
    "# ruff: noqa",
    "# ruff: noqa: F821",
    "# flake8: noqa",
    "# pyright: ignore",
    "# pyre-ignore-all-errors",
    "# pylint: skip-file",
    "# fmt: off",
    "# isort: skip_file",
    "# -*- coding: utf-7 -*-",
    "# vim: set fileencoding=latin-1 :",
    "# /// script\n# requires-python = '>=2.7'\n# ///",
)
PLACES = {
    "alone, first": "{order}\nX = 1\n",
    "after a line": "X = 1  {order}\n",
    "close after a line": "X = 1{order}\n",
    "indented": "if True:\n    {order}\n    X = 1\n",
    "after a form feed": "\f{order}\nX = 1\n",
    "after a lone carriage return": "X = 1\r{order}\rY = 1\n",
    "with the ends of lines of DOS": "X = 1\r\n{order}\r\nY = 1\r\n",
    "within brackets": "X = [  {order}\n    1,  {order}\n]\n",
    "after a continued line": "X = 1 + \\\n    1  {order}\n",
    "after a text that looks alike": "X = '# type: ignore'  {order}\n",
    "after wide characters": "X = 'äöü\U0001f600'  {order}\n",
    "after a docstring": "'''It has\nlines.'''  {order}\n",
    "twice": "X = 1  {order} {order}\n",
    "at the very end": "X = 1\n{order}",
}


@pytest.mark.parametrize("place", PLACES)
def test_no_comment_is_left_and_nothing_else_is_changed(place):
    for order in ORDERS:
        source = PLACES[place].replace("{order}", order)
        bare = comments.blank_comments(source)
        tokens = list(tokenize.generate_tokens(io.StringIO(bare).readline))
        assert not [token for token in tokens if token.type == tokenize.COMMENT], bare
        assert ast.dump(ast.parse(bare), include_attributes=True) == ast.dump(
            ast.parse(source), include_attributes=True
        )


def test_texts_stay_what_they_are():
    source = f"X = {list(ORDERS)!r}\nY = '''\n" + "\n".join(ORDERS).replace("'", '"') + "\n'''\n"
    assert comments.blank_comments(source) == source


def gates(folder: Path, source: str):
    """The gates that only read."""
    request = EncodedRequest.take(check_environment(source)).decode()
    return static.run_gates(request, RuntimeSettings.read(environment(folder)), folder)


EVERYWHERE = "\n".join(ORDERS) + "\n"


@pytest.mark.parametrize(
    ("body", "gate"),
    [
        ("    return {'n': undefined}  # noqa  # type: ignore\n", "ruff"),
        ("    import math; return {'n': math.nothing(input)}  # type: ignore\n", "mypy"),
        ("    return {'n': input['m']}  # type: ignore[typeddict-item]\n", "mypy"),
        ("    X = '''\n# mypy: ignore-errors\n'''\n    return {'n': input['m'], 'X': X}\n", "mypy"),
    ],
)
def test_orders_to_tools_change_no_verdict(tmp_path, body, gate):
    finding = gates(tmp_path, EVERYWHERE + HEAD + body)
    assert finding.gate == gate
    assert ">" in finding.message


def test_orders_are_no_offence(tmp_path):
    text = "X = '''\n" + EVERYWHERE.replace("'", '"') + "'''\n"
    assert gates(tmp_path, EVERYWHERE + text + GOOD) is None


def test_a_module_that_may_be_absent_may_be_absent(tmp_path):
    fallback = "try:\n    import tomllib\nexcept ImportError:\n    import tomli as tomllib\nX = tomllib.loads\n"
    assert gates(tmp_path, fallback + GOOD) is None
