"""Autofix repairs what has one remedy; what has two meanings stays."""

from __future__ import annotations

import ast
import html

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_operator.generation.autofix import autofix, without_unused_imports
from skill_operator.generation.python_text import parse
from skill_operator.generation.reply import extract_source

GOOD = 'def run(input):\n    name = "it\'s"\n    return {"n": name}\n'


@pytest.mark.parametrize(
    "broken",
    [
        "\ufeff" + GOOD,
        GOOD.replace("name", "na\u200bme"),
        GOOD.replace("    ", "\u00a0\u00a0\u00a0\u00a0"),
        GOOD.replace(" = ", "\u2003=\u00a0"),
        GOOD.replace('"n"', "\u201cn\u201d"),
        GOOD.replace('"n"', "\u2018n\u2019"),
        GOOD.replace("    return", "\treturn"),
        "\ufeff" + GOOD.replace("    return", "\treturn").replace('"n"', "\u201cn\u201d"),
    ],
)
def test_what_has_one_remedy_is_repaired(broken: str) -> None:
    assert parse(broken) is None
    tree = parse(autofix(broken))
    assert tree is not None
    assert ast.dump(tree) == ast.dump(ast.parse(GOOD))
    assert extract_source(f"```python\n{broken}```", "stop").source


@pytest.mark.parametrize(
    "source",
    [
        GOOD,
        "x = '\u00a0\u201cquoted\u201d \ufeff'  # \u2019\n",
        'x = """\n\ttab\n    \u00a0\n"""\n',
        "if 1:\n\tx = 1\n",
        "def f():\n  return 1\n",
    ],
)
def test_what_parses_is_left_alone(source: str) -> None:
    assert autofix(source) == source


def test_strings_and_comments_are_left_alone_where_code_is_repaired() -> None:
    broken = "\u00a0\nx = '\u00a0\u201ca\u201d'  # \u00a0\u201cb\u201d\ny = \u201cc\u201d\n"
    assert autofix(broken) == " \nx = '\u00a0\u201ca\u201d'  # \u00a0\u201cb\u201d\ny = \"c\"\n"


@pytest.mark.parametrize(
    "source",
    [
        "def run(input)\n    return 1\n",
        'x = \u201csaid "so"\u201d\n',
        "x = \u201copen\n",
        "x = \u2018it\u2019s\u2019\n",
        "",
        "(" * 5000,
    ],
)
def test_what_has_no_one_remedy_is_left_to_the_model(source: str) -> None:
    assert autofix(source) == source


def test_tabs_that_could_mean_two_things_are_left_alone() -> None:
    both = "if x:\n    if y:\n        a = 1\n\tb = 2\n"  # of the inner block with eight columns, of the outer with four
    assert parse(both) is None
    assert autofix(both) == both


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("import os\nimport sys\nx = sys.argv\n", "import sys\nx = sys.argv\n"),
        ("import matplotlib.pyplot as plt\nx = 1\n", "x = 1\n"),
        ("from typing import List, Dict\nx: List = []\n", "from typing import List\nx: List = []\n"),
        ("from a import (\n    b,\n    c,\n)\nx = c\n", "from a import c\nx = c\n"),
        ("def f():\n    import os\n\nf()\n", "def f():\n    pass\n\nf()\n"),
        ("def f():\n    import os\n    return 1\n", "def f():\n    return 1\n"),
        ("import os  # for nothing\nx = 1\n", "x = 1\n"),
        ("if 1:\n    import a\n    import b\nelse:\n    import c\n", "if 1:\n    pass\nelse:\n    pass\n"),
        ("import a.b\nimport a.c\nx = 1\n", "x = 1\n"),
        ('é = "é"\nimport a, b\nx = b\n', 'é = "é"\nimport b\nx = b\n'),
    ],
)
def test_imports_that_nothing_uses_are_dropped(source: str, left: str) -> None:
    assert without_unused_imports(source) == left


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations\nx = 1\n",
        "from a import *\n",
        "import os\nx: 'os.PathLike'\n",
        "import os\n__all__ = ['os']\n",
        "import os\nx = f'{os.sep}'\n",
        "import a.b\nx = a.c\n",
        "try:\n    import fast\nexcept ImportError:\n    fast = None\n",
        "try:\n    import fast\nexcept ImportError:\n    import slow\n",
        "import a; x = 1\n",
        "if 1: import a\n",
        "x = 1\n",
        "def (\n",
    ],
)
def test_other_imports_stay(source: str) -> None:
    assert without_unused_imports(source) == source


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["import os\n", "from a import b, c\n", "x = b\n", "if x:\n", "    import d\n", "\t", "    ",
    "'''", '"', "#", "\u00a0", "\u201c", "\u201d", "\ufeff", "\n", "else:\n", "    y = d\n", "é"]), max_size=12))  # fmt: skip
def test_whatever_it_is_nothing_breaks_and_mending_ends(parts: list[str]) -> None:
    source = "".join(parts)
    once = autofix(source)
    assert autofix(once) == once
    if parse(source) is not None:
        made = without_unused_imports(source)
        assert parse(made) is not None
        assert without_unused_imports(made) == made


@pytest.mark.parametrize("quote", [True, False])
def test_entities_of_html_are_replaced_where_they_keep_a_file_from_being_python(quote: bool) -> None:
    source = 'def run(n) -> int:\n    return "a&amp;b" if n < 1 else {"n": "&lt;b&gt;"}\n'
    assert autofix(html.escape(source, quote=quote)) == source
    assert autofix(source) == source


def test_entities_in_strings_stay_if_something_else_is_the_defect() -> None:
    assert autofix("x = \u201ca\u201d + '&lt;'\n") == "x = \"a\" + '&lt;'\n"
    assert autofix("x = = '&lt;'\n") == "x = = '&lt;'\n"
