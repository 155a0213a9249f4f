"""The policy: what a skill may name, and what it is told if it may not."""

import json
from pathlib import Path

import pytest

from skill_runtime import manifest
from skill_runtime.check import policy
from tests.unit.runtime.harness import GOOD, MANIFEST

AVAILABLE = policy.AvailableModules.from_manifest(MANIFEST)
RUN = "\ndef run(input):\n    return input\n"


def check(source):
    return policy.check(source, AVAILABLE)


@pytest.mark.parametrize(
    "source",
    [
        GOOD,
        "from __future__ import annotations" + RUN,
        "import os.path, re, json, socket, urllib.request\nimport pandas as pd, numpy.linalg\nfrom yaml import safe_load"
        + RUN,
        "import re\nX = re.compile('a')" + RUN,
        "class A:\n    def __init__(self): self._x = 1\n    def __eq__(self, o): return self._x == o._x" + RUN,
        "from collections import namedtuple\nP = namedtuple('P', 'a')\nQ = P(1)._replace(a=2)" + RUN,
        "def run(data, *, scale=2, **rest):\n    return {'class': type(data).__name__, 'os': data['system']}\n",
        "def run(input):\n    return input\ndef run(input):\n    return {}\n",
        "import os\nX = os.environ, os.path.join('a', 'b'), os.getcwd()" + RUN,
        "X = getattr(1, 'real'), hasattr([], '__len__')" + RUN,
        "if __name__ == '__main__':\n    print('x')" + RUN,
        "import math\nX = [getattr(math, name)(1) for name in ('sin', 'cos')]" + RUN,
        "import operator\nX = operator.attrgetter('a.b'), operator.itemgetter('__class__')" + RUN,
        "X = '{0.real} {a[b]} __init__ {{__x__}}'.format(1, a={'b': 1})" + RUN,
        "import argparse\nX = vars(argparse.Namespace(a=1))" + RUN,
        "import concurrent.futures\nX = concurrent.futures.ThreadPoolExecutor" + RUN,
        "import asyncio, types, logging\nX = asyncio.run, types.SimpleNamespace, logging.getLogger" + RUN,
        "from math import *" + RUN,
    ],
)
def test_ordinary_code_passes(source):
    assert check(source) is None


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("import pandsa" + RUN, 1, "no module `pandsa` here; the nearest available is 'pandas'"),
        ("\nfrom nump.linalg import inv" + RUN, 2, "no module `nump` here; the nearest available is 'numpy'"),
        ("import qqqqqqqq" + RUN, 1, "no module `qqqqqqqq` here"),
        ("import subprocess" + RUN, 1, "module `subprocess` must not be used"),
        ("import ctypes.util as u" + RUN, 1, "module `ctypes` must not be used"),
        ("from importlib import import_module" + RUN, 1, "module `importlib`"),
        ("import multiprocessing.pool" + RUN, 1, "module `multiprocessing`"),
        ("import builtins" + RUN, 1, "module `builtins`"),
        ("import _ctypes" + RUN, 1, "module `_ctypes` is private"),
        ("from . import x" + RUN, 1, "relative imports"),
        ("x = eval('1')" + RUN, 1, "`eval` must not be used"),
        ("e = exec" + RUN, 1, "`exec` must not be used"),
        ("compile('1', '', 'eval')" + RUN, 1, "`compile`"),
        ("__import__('os')" + RUN, 1, "`__import__`"),
        ("globals()['x']" + RUN, 1, "`globals`"),
        ("breakpoint()" + RUN, 1, "`breakpoint`"),
        ("__builtins__['eval']" + RUN, 1, "`__builtins__`"),
        ("import os\nos.system('x')" + RUN, 2, "`os.system`"),
        ("import os as o\no.execv('x', [])" + RUN, 2, "`os.execv`"),
        ("from os import fork" + RUN, 1, "`os.fork`"),
        ("from os import popen as p" + RUN, 1, "`os.popen`"),
        ("import os\nos.kill(1, 9)" + RUN, 2, "`os.kill`"),
        ("import random\nrandom._os.system('x')" + RUN, 2, "`os.system`|is private|`random._os`"),
        ("import random\nrandom._os.environ" + RUN, 2, "`random._os` is private"),
        ("from random import _os" + RUN, 1, "`random._os` is private"),
        ("import shutil\nshutil.os.system('x')" + RUN, 2, "`os.system`"),
        ("from shutil import os as x\nx.system('x')" + RUN, 2, "`os.system`"),
        ("import sys\nsys.modules['os']" + RUN, 2, "`sys.modules`"),
        ("().__class__.__base__.__subclasses__()" + RUN, 1, "`__subclasses__`|`__base__`"),
        ("(lambda: 0).__globals__" + RUN, 1, "`__globals__`"),
        ("getattr((), '__subclasses__')" + RUN, 1, "`__subclasses__`"),
        ("import yaml\nyaml.load('x', yaml.UnsafeLoader)" + RUN, 2, "`yaml.load`|UnsafeLoader"),
        ("import pickle" + RUN, 1, "module `pickle`"),
        ("import PyYAML" + RUN, 1, "it is imported as 'yaml'"),
        ("import os\ngetattr(os, 'system')('x')" + RUN, 2, "`os.system`"),
        ("import os\ngetattr(os, 'sys' + 'tem')('x')" + RUN, 2, "`os.system`"),
        ("import os\nname = input\ngetattr(os, name)('x')" + RUN, 3, "`getattr` must not be used on `os`"),
        ("import random\ngetattr(random, '_os')" + RUN, 2, "`random._os` is private"),
        ("getattr(1, '__' + 'class__.__base__')" + RUN, 1, "`__base__`"),
        ("import os\nvars(os)['system']('x')" + RUN, 2, "`vars` must not be used on a module"),
        ("import os\ns = os\ns.system('x')" + RUN, 3, "`os.system`"),
        ("from os import *" + RUN, 1, "`from os import *`"),
        ("'{0.__class__.__mro__}'.format(1)" + RUN, 1, "a format must not be used to reach `__mro__`|`__class__`"),
        ("'{a.b[__globals__]}'.format(a=1)" + RUN, 1, "`__globals__`"),
        ("import operator\noperator.attrgetter('a.__globals__')" + RUN, 2, "`__globals__`"),
        (
            "from operator import methodcaller as m, attrgetter\nattrgetter('__subclasses__')" + RUN,
            2,
            "`__subclasses__`",
        ),
        ("def g(): yield\ng().gi_frame.f_builtins['eval']" + RUN, 2, "`f_builtins`|`gi_frame`"),
        ("try: 1 / 0\nexcept Exception as e: e.__traceback__.tb_frame" + RUN, 2, "`__traceback__`|`tb_frame`"),
        ("import asyncio\nasyncio.create_subprocess_shell('x')" + RUN, 2, "`asyncio.create_subprocess_shell`"),
        ("from asyncio import subprocess" + RUN, 1, "`asyncio.subprocess`"),
        ("from concurrent.futures import ProcessPoolExecutor" + RUN, 1, "ProcessPoolExecutor"),
        ("import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()" + RUN, 2, "ProcessPoolExecutor"),
        ("import logging.config\nlogging.config.dictConfig({})" + RUN, 2, "`logging.config`"),
        ("import timeit" + RUN, 1, "module `timeit`"),
        ("x = 1\n", 1, "no function `run`"),
        ("class A:\n    def run(self, input): return 1\n", 1, "no function `run`"),
        ("async def run(input):\n    return 1\n", 1, "plain function"),
        ("run = lambda input: 1\n", 1, "no function `run`"),
        ("def run():\n    return 1\n", 1, "one parameter"),
        ("def run(a, b):\n    return 1\n", 1, "one parameter"),
        ("def run(a, *, b):\n    return 1\n", 1, "one parameter"),
        ("import os\ndef run(input):\n    def inner():\n        import pty\n    return input\n", 4, "module `pty`"),
    ],
)
def test_what_must_not_be_there_is_named_with_its_line(source, line, said):
    finding = check(source)
    assert finding.gate == "policy"
    assert finding.line == line
    assert any(part in finding.message for part in said.split("|"))
    assert finding.message.startswith(f"line {line}: ")


def test_the_first_offence_from_the_top_is_told():
    finding = check("x = 1\nimport subprocess\neval('1')\nimport ctypes" + RUN)
    assert finding.line == 2


@pytest.mark.parametrize(
    "source",
    [
        "def run(input:\n",
        "x = " + "(" * 5000,
        "x = '" + "a" * 100,
        "\tx\n y",
        "x = 0777" + RUN,
        "def run(input): return 1 +",
    ],
)
def test_what_is_no_python_is_told_as_such(source):
    assert check(source).gate == "ruff"


@pytest.mark.parametrize(
    "source",
    [
        "x = " + "-" * 50_000 + "1" + RUN,
        "x = " + "not " * 10_000 + "1" + RUN,
        "x = 1" + " + 1" * 20_000 + RUN,
        "a" + ".b" * 9_000 + RUN,
    ],
)
def test_nesting_bombs_are_refused_and_never_crash(source):
    assert check(source).gate in ("size", "ruff")


def test_the_manifest_of_this_environment_can_be_made():

    made = json.loads(json.dumps(manifest.describe(Path("/"))))
    assert made["modules"]["pydantic"] == "pydantic"
    assert "h11" not in made["modules"]
    assert "subprocess" not in made["standard"]
    assert "json" in made["standard"]
    assert "usr" in made["rootEntries"]
    assert "skill" not in made["rootEntries"]
