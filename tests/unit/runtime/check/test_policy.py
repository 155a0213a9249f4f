"""The policy: what a skill may name, and what it is told if it may not."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from skill_runtime import manifest
from skill_runtime.check import allowed_modules, denied_names, policy
from tests.unit.runtime.harness import GOOD, MANIFEST

LIBRARIES = ("numpy", "pandas", "yaml", "jinja2", "lxml", "pydantic", "requests", "joblib")
AVAILABLE = allowed_modules.AvailableModules.from_manifest(
    MANIFEST | {"modules": MANIFEST["modules"] | {name: name for name in LIBRARIES if name not in MANIFEST["modules"]}}
)
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
        "try:\n    import orjson as json\nexcept (ImportError, OSError):\n    import json" + RUN,
        "try:\n    import regex as re\nexcept Exception:\n    import re" + RUN,
        "try:\n    import regex as re\nexcept:\n    import re" + RUN,
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import orjson" + RUN,
        "import typing\nif typing.TYPE_CHECKING:\n    from absent.types import Thing\nelse:\n    Thing = object" + RUN,
        "from yaml import load, SafeLoader\nX = load('a: 1', Loader=SafeLoader)" + RUN,
        "from yaml import load_all as read, CSafeLoader as L\nX = read('a: 1', L)" + RUN,
        "import yaml\ntry:\n    from yaml import CSafeLoader as L\nexcept ImportError:\n    from yaml import SafeLoader as L\nX = yaml.load('', L)"
        + RUN,
    ],
)
def test_ordinary_code_passes(source):
    assert check(source) is None


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("import pandsa" + RUN, 1, "no module `pandsa` here"),
        ("\nfrom scipy.linalg import inv" + RUN, 2, "no module `scipy` here; use `numpy` instead"),
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
        ("import logging.config\nlogging.config.dictConfig({})" + RUN, 1, "`logging.config`"),
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


@pytest.mark.parametrize(("name", "instead"), sorted(allowed_modules.SUBSTITUTES.items()))
def test_a_substitute_is_named_where_it_is_there(name, instead):
    top = instead.partition(".")[0]
    libraries = {
        "requests",
        "dateutil",
        "pydantic",
        "numpy",
        "pandas",
        "bs4",
        "lxml",
        "openpyxl",
        "yaml",
        "jinja2",
        "tabulate",
    }
    assert top in allowed_modules.ALLOWED_STANDARD | libraries
    assert name not in allowed_modules.ALLOWED_STANDARD | libraries
    everything = MANIFEST | {"modules": {each: each for each in libraries}}
    message = policy.check(f"import {name}" + RUN, allowed_modules.AvailableModules.from_manifest(everything)).message
    assert message.endswith(f"; use `{instead}` instead")
    nothing = allowed_modules.AvailableModules(frozenset(), {})
    assert "instead" not in policy.check(f"import {name}" + RUN, nothing).message


@pytest.mark.parametrize(
    "name", ["matplotlib", "redis", "tiktoken", "importlib", "runpy", "ctypes", "nltk", "qqqqqqqq"]
)
def test_where_nothing_is_known_to_do_it_nothing_is_named(name):
    """The nearest spelling misleads: smtplib, dis, token, imaplib, numpy, types."""
    message = check(f"import {name}" + RUN).message
    assert not [word for word in ("nearest", "instead", "imported as") if word in message]


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


MEMBERS = {
    "os": "system popen kill killpg fork execv spawnl posix_spawn pidfd_open",
    "asyncio": "create_subprocess_exec create_subprocess_shell subprocess",
    "signal": "pthread_kill raise_signal pidfd_send_signal",
    "typing": "get_type_hints ForwardRef",
    "types": "FunctionType CodeType",
    "numpy": "ctypeslib f2py",
    "pandas": "read_pickle to_pickle",
    "yaml": "unsafe_load full_load UnsafeLoader",
    "sys": "settrace setprofile _getframe meta_path",
    "traceback": "walk_stack walk_tb",
    "resource": "prlimit",
}
WAYS = {
    "member": "X.NAME",
    "getattr": "getattr(X, 'NAME')",
    "getattr with a default": "getattr(X, 'NAME', None)",
    "getattr of a sum": "getattr(X, 'NA' + 'ME')",
    "attrgetter": "operator.attrgetter('NAME')(X)",
    "attrgetter of more": "operator.attrgetter('real', 'a.NAME')(X)",
    "attrgetter of a list": "operator.attrgetter(*['NAME'])(X)",
    "attrgetter of a variable": "operator.attrgetter(n := 'NAME')(X), operator.attrgetter(n)(X)",
    "getattr of a variable": "[getattr(X, n) for n in ('real', 'NAME')]",
    "attrgetter by another name": "ag('NAME')(X)",
    "methodcaller": "operator.methodcaller('NAME', 1)(X)",
    "__getattribute__": "object.__getattribute__(X, 'NAME')",
    "its own __getattribute__": "X.__getattribute__('NAME')",
    "vars": "vars(X)['NAME']",
    "__dict__": "X.__dict__['NAME']",
}
ALIASES = {
    "itself": ("", "module"),
    "another name": ("m = module\n", "m"),
    "walrus": ("", "(m := module)"),
    "item of a list": ("", "[module][0]"),
    "value of a dict": ("D = {'m': module}\n", "D['m']"),
    "parameter": ("def f(m):\n    return USE\nf(module)\n", "m"),
    "default of a parameter": ("def f(m=module):\n    return USE\n", "m"),
    "member of a class": ("class A:\n    m = module\n", "A.m"),
    "loop": ("for m in (module,):\n    pass\n", "m"),
    "conditional": ("", "(module if True else None)"),
    "lambda": ("", "(lambda: module)()"),
}
USED_BY_NAME = (*(f"{module}.{name}" for module, names in MEMBERS.items() for name in names.split()),)


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("way", WAYS)
def test_a_denied_member_is_denied_by_every_way_and_under_every_name(way, alias):
    for path in USED_BY_NAME:
        module, _, name = path.partition(".")
        before, owner = (text.replace("module", module) for text in ALIASES[alias])
        half = len(name) // 2
        use = WAYS[way].replace("'NA' + 'ME'", f"{name[:half]!r} + {name[half:]!r}").replace("NAME", name)
        use = use.replace("X", owner)
        head = f"import {module}\nimport operator\nfrom operator import attrgetter as ag\n"
        source = f"{head}{before.replace('USE', use)}Y = {use}{RUN}"
        assert check(source) is not None, source
    assert check(source.replace(use, "1").replace(before, "")) is None


@pytest.mark.parametrize("path", sorted(denied_names.DENIED_PATHS))
def test_a_denied_path_is_denied_by_import_and_by_member(path):
    module, _, name = path.rpartition(".")
    for source in (
        f"from {module} import {name}",
        f"from {module} import {name} as n",
        f"import {module}\nX = {path}",
        f"import {module} as m\nX = m.{name}",
        f"import {module} as m\nX = m.{name}.more(1)",
        f"import {module} as m\nX = getattr(m, '{name}')",
        f"import shutil\nX = shutil.{path}",
        f"from shutil import {path.partition('.')[0]} as n\nX = n.{path.partition('.')[2]}",
    ):
        assert check(source + RUN) is not None, source


@pytest.mark.parametrize("module", sorted(sys.stdlib_module_names - allowed_modules.ALLOWED_STANDARD - {"__future__"}))
def test_a_module_that_is_not_on_the_list_is_refused(module):
    for statement in (f"import {module}", f"import {module} as m", f"from {module} import x", f"import {module}.x"):
        assert check(statement + RUN).gate == "policy"
        assert check(f"try:\n    {statement}\nexcept ImportError:\n    pass" + RUN).gate == "policy"


@pytest.mark.parametrize(
    "source",
    [
        "g = getattr",
        "import functools, os\nX = functools.partial(getattr, os)",
        "X = list(map(getattr, [1], ['real']))",
        "v = vars",
        "X = vars()",
        "G = vars()['__buil' + 'tins__']",
        "import operator\nX = operator.attrgetter(input['what'])",
        "import operator\nX = operator.attrgetter(f'{input}')",
        "import operator\nX = operator.methodcaller(''.join('ab'))",
        "import operator\nag = operator.attrgetter",
        "from operator import attrgetter\nag = attrgetter",
        "from operator import *",
        "f = object.__getattribute__",
        "import os\nmatch os:\n    case object(system=s):\n        pass",
        "import typing\nX = typing.sys.modules",
        "import typing\ns = typing.sys",
        "import typing\ns = getattr(typing, 'sys')",
        "import sys\nX = hasattr(sys, 'modules')",
        "import sys\nX = getattr(1, 'real', sys)",
        "import sys\ndef getattr(m, name):\n    return m\nX = getattr(sys, 'path')",
        "import sys\nfrom json import loads as hasattr\nX = hasattr(sys, 'path')",
        "import numpy as np\nX = getattr(np, 'testing')",
        "import typing\nX = [typing][0].sys.modules['os']",
        "import sys\nX = [sys][0]",
        "from sys import modules",
        "X = {}['__builtins__']",
        "import yaml\nX = yaml.load('x', Loader=yaml.Loader)",
        "import yaml\nX = yaml.load('x')",
        "import yaml\nload = yaml.load",
        "from yaml import load\nX = load('x')",
        "from yaml import load, Loader\nX = load('x', Loader=Loader)",
        "from yaml import load\nX = load('x', Loader=input)",
        "from yaml import load, SafeLoader\nX = load('x', Loader=SafeLoader)\nread = load",
        "from yaml import load as read\nX = map(read, ['x'])",
        "from yaml import load, SafeLoader\nfrom yaml import Loader as SafeLoader\nX = load('x', Loader=SafeLoader)",
        "try:\n    import subprocess\nexcept Exception:\n    pass",
        "import sys\nif sys.version_info >= (3, 11):\n    import tomllib\nelse:\n    import subprocess",
        "import sys\nif sys.version_info >= (3, 11):\n    from os import system",
        "import sys\nif sys.platform:\n    import tomli",
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import ctypes",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import subprocess",
        "TYPE_CHECKING = True\nif TYPE_CHECKING:\n    from os import system",
        "try:\n    from os import popen\nexcept:\n    pass",
        "import numpy as np\nX = np.load('x', allow_pickle=True)",
        "import numpy as np\nX = np.load('x', None, True)",
        "import numpy as np\nX = np.load('x', **{'allow_pickle': True})",
        "import numpy.ctypeslib as c",
        "import functools\nX = functools.partial(print, eval_str=True)",
        "import pandas as pd\nX = pd.DataFrame().query('@os.x')",
        "import pandas as pd\nX = pd.DataFrame().query(input)",
        "import pandas as pd\nX = pd.DataFrame().eval('a.__class__')",
        "import pandas as pd\nX = getattr(pd.DataFrame(), 'query')",
        "import jinja2\nX = jinja2.Template('x')",
        "from jinja2 import Environment as E",
        "import string\nX = string.Formatter().format('{0.a}', 1)",
        "X = '{0.__class__.__mro__}'.format(1)",
        "X = ('{0.__cl' + 'ass__}').format(1)",
        "X = '{0:{1.gi_frame}}'.format(1, 2)",
        "X = type(help)",
        "import pydantic\nclass M(pydantic.BaseModel):\n    a: \"__import__('os')\"",
        "from pydantic import TypeAdapter\nX = TypeAdapter(\"eval('1')\")",
        "from pydantic import ImportString",
        "import joblib",
        "eval('1')\nfrom re import compile as eval",
        "from re import compile\ndel compile",
        "def f():\n    from re import compile\ncompile('1', '', 'eval')",
    ],
)
def test_what_evaluates_text_or_hides_a_member_is_refused(source):
    finding = check(source + RUN)
    assert finding is not None
    assert finding.gate == "policy"


@pytest.mark.parametrize(
    "source",
    [
        "from re import compile\nP = compile('a')",
        (
            "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass A:\n    a: int\n"
            "    def __post_init__(self):\n        object.__setattr__(self, 'a', 1)"
        ),
        "class A:\n    def d(self):\n        return self.__dict__['name']",
        "class A:\n    def __getattribute__(self, n):\n        return super().__getattribute__(n)",
        "try:\n    import tomllib\nexcept ImportError:\n    import tomli as tomllib",
        "try:\n    import orjson as json\nexcept ModuleNotFoundError:\n    import json",
        "import sys\nif sys.version_info >= (3, 11):\n    import tomllib\nelse:\n    import tomli as tomllib",
        "import numpy as np\nX = np.trapezoid if hasattr(np, 'trapezoid') else np.trapz, getattr(np, 'trapezoid', None)",
        "from sys import version_info as v, version_info\nif version_info < (3, 11):\n    import tomli\nelse:\n    import tomllib",
        "import yaml\nX = yaml.load('a: 1', Loader=yaml.SafeLoader), yaml.load_all('a', yaml.CSafeLoader)",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from _typeshed import SupportsRead",
        "X = (5).__index__(), (5).__lshift__(1)",
        "try:\n    pass\nexcept ValueError as e:\n    X = e.__cause__, e.with_traceback(e.__traceback__)",
        "class A:\n    pass\nX = vars(A()), locals()",
        "T = 'def {name}(): {self.__doc}'\nU = '{\"a\": {obj.__len__}}'\nV = '{0.__class__.__name__}'.format(1)",
        (
            "class Tank:\n    def __init__(self, system):\n        self.system = system\n    def kill(self):\n"
            "        return self.system\n    def end(self):\n        return self.kill()"
        ),
        "import platform\nX = platform.system()",
        "from urllib.parse import urlparse\nX = urlparse('a').query",
        "import pandas as pd\nX = pd.DataFrame({'a': [1]}).query('a > 0')",
        "class Parser:\n    def eval(self, node):\n        return self.eval(node)\nX = Parser().eval(1)",
        "import numpy as np\nX = np.load('x', allow_pickle=False), np.trace(np.eye(2))",
        "from jinja2.sandbox import SandboxedEnvironment\nX = SandboxedEnvironment().from_string('{{ a }}')",
        "import string, jinja2\nX = string.Template('$a'), string.ascii_letters\ndef f(string):\n    return len(string)",
        "import logging\nclass A:\n    def f(self):\n        self.config = 1\n        return self.config",
        "import operator\nX = sorted([], key=operator.itemgetter(*['a'])), [operator.attrgetter(*f) for f in [('a',)]]",
        "import hashlib\nX = getattr(hashlib, 'sha' + str(256))",
        "import types, typing\nX = types.MappingProxyType({}), typing.cast(int, 1)",
        "import pydantic\nT = 'Total (EUR)', 'eval is a word'",
        "from collections.abc import Mapping\nimport xml.etree.ElementTree as ET\nX = ET.fromstring, Mapping",
        "vars = {'a': 1}\nX = vars['a'], list(vars)",
    ],
)
def test_usual_code_costs_no_attempt(source):
    assert check(source + RUN) is None


OWN = {
    "field of a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass M:\n    system: str\n",
        "def f(m: M):\n    return m.system == 'metric'",
    ),
    "field of a named tuple": (
        "from typing import NamedTuple\nclass M(NamedTuple):\n    system: str = 'metric'\n",
        "X = [m.system for m in [M()]], M('a').system",
    ),
    "method": (
        "class M:\n    def kill(self):\n        return 1\n    def fork(self):\n        return M()\n",
        "m = M()\nX = m.kill(), M().fork().kill(), [m][0].fork",
    ),
    "field that a method sets": (
        "class M:\n    def __init__(self, n):\n        self.system = n\n    def get(self):\n        return self.system\n",
        "X = M(1).system",
    ),
    "member of an enum": (
        "from enum import Enum\nclass M(Enum):\n    kill = 1\n",
        "X = M.kill.value, M(1) is M.kill",
    ),
}


@pytest.mark.parametrize("kind", OWN)
def test_members_of_own_objects_may_have_everyday_names(kind):
    defined, used = OWN[kind]
    assert check(defined + used + RUN) is None
    assert check(f"import os\nY = os.getcwd()\n{defined}{used}{RUN}") is None
    assert check(used + RUN) is not None


OWN_NAMES = "class M:\n    system: str\n    def kill(self): pass\n    def fork(self): pass\n    def popen(self): pass\n"


@pytest.mark.parametrize("name", ["system", "kill", "fork", "popen"])
@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("way", WAYS)
def test_own_members_open_no_way_to_those_of_a_module(way, alias, name):
    before, owner = (text.replace("module", "os") for text in ALIASES[alias])
    half = len(name) // 2
    use = WAYS[way].replace("'NA' + 'ME'", f"{name[:half]!r} + {name[half:]!r}").replace("NAME", name)
    use = use.replace("X", owner)
    source = f"import os\nimport operator\nfrom operator import attrgetter as ag\n{OWN_NAMES}{before.replace('USE', use)}Y = {use}{RUN}"
    assert check(source) is not None, source


@pytest.mark.parametrize(
    "source",
    [
        "import shutil\ndef f(m):\n    return m.os\nX = f(shutil).system('x')",
        "import shutil\ndef f(m):\n    return m.system('x')\nX = f(shutil.os)",
        "from shutil import os as o\ndef f(m):\n    return m.system('x')\nX = f(o)",
        "import shutil\nX = getattr(shutil, 'os')\nX.system('x')",
        "import shutil\nX = vars(shutil)['os']\nX.system('x')",
        "import shutil\nmatch shutil:\n    case object(os=x):\n        x.system('x')",
        "from shutil import *\nos.system('x')",
        "from operator import attrgetter\nimport shutil\nX = attrgetter('os')(shutil).system('x')",
        "import random\nfor m in [random]:\n    X = m._os.system('x')",
        "import shutil\ndef f(m):\n    return getattr(m, 'o' + 's')\nX = f(shutil).system('x')",
        "import os.path as p\nX = (lambda m: m.os)(p).system('x')",
        "import os\ndef f():\n    return os\nX = f().system('x')",
        "import os\nclass N:\n    o = os\nX = N.o.system('x')",
        "import os\nX = os.system('x')",
        "from os import path\nX = path.os.system('x')",
    ],
)
def test_own_members_open_no_way_to_os(source):
    assert check(OWN_NAMES + source + RUN) is not None


def test_the_examples_of_the_repository_pass():
    found = 0
    for path in (Path(__file__).parents[4] / "examples").rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if code := document.get("spec", {}).get("source", {}).get("inline"):
                assert check(code) is None
                found += 1
    assert found


def test_what_is_refused_comes_with_what_to_do_instead():
    for advice in {*denied_names.DENIED_MEMBERS.values(), *denied_names.DENIED_PATHS.values()}:
        assert len(advice.split()) <= 20
    assert check("import os\nos.popen('id')" + RUN).message.startswith(
        "line 2: `os.popen` must not be used: a skill starts and ends no processes: compute the result in Python"
    )


MAIN = "if __name__ == '__main__':\n    "


@pytest.mark.parametrize(
    "source",
    [
        MAIN + "import doctest\n    doctest.testmod()",
        MAIN + "import timeit\n    print(timeit.timeit(lambda: run(1)))",
        "import unittest\n" + MAIN + "unittest.main()",
        "if '__main__' == __name__:\n    import pdb",
        "print(__name__)\n" + MAIN + "import doctest",
        "class A:\n    pass\nA.__name__ = 'B'\n" + MAIN + "import doctest",
    ],
)
def test_what_runs_only_as_a_program_is_left_alone(source):
    assert check(RUN + source + "\n") is None


@pytest.mark.parametrize(
    "source",
    [
        MAIN + "pass\nelse:\n    import doctest",
        MAIN + "pass\nelif True:\n    import doctest",
        "if __name__ != '__main__':\n    import doctest",
        "if __name__ == '__main__' or True:\n    import doctest",
        "if __name__ == 'skill':\n    import doctest",
        "if __name__ == '__main__' == __name__:\n    import doctest",
        "def f():\n    " + MAIN.replace("\n", "\n    ") + "import doctest",
        "while __name__ == '__main__':\n    import doctest",
        "__name__ = '__main__'\n" + MAIN + "import doctest",
        "(__name__ := '__main__')\n" + MAIN + "import doctest",
        "def __name__(): pass\n" + MAIN + "import doctest",
        "import json as __name__\n" + MAIN + "import doctest",
        "from json import *\n" + MAIN + "import doctest",
        "try:\n    import skill as s\n    s.__name__ = '__main__'\nexcept ImportError:\n    pass\n"
        + MAIN
        + "import doctest",
        "def f():\n    global __name__\n    __name__ = '__main__'\nf()\n" + MAIN + "import doctest",
        "match '__main__':\n    case __name__:\n        pass\n" + MAIN + "import doctest",
        "locals()['__na' + 'me__'] = '__main__'\n" + MAIN + "import doctest",
        "try:\n    1 / 0\nexcept Exception as __name__:\n    pass\n" + MAIN + "import doctest",
    ],
)
def test_what_may_run_in_a_skill_is_refused_under_any_condition(source):
    assert check(RUN + source + "\n") is not None


METACLASS = "class M(type):\n    def __instancecheck__(cls, other): return True\nclass P(metaclass=M):\n"


@pytest.mark.parametrize(
    "source",
    [
        "import enum\nX = enum.bltns.eval(input)",
        "from enum import bltns as b\nX = b.eval(input)",
        "import sys\nsys.path.insert(0, '/tmp')\ntry:\n    import rules\nexcept ImportError:\n    pass",
        "import sys, contextlib\nsys.path += ['/tmp']\nwith contextlib.suppress(ImportError):\n    import rules",
        "import imaplib\nX = imaplib.IMAP4_stream('true')",
        "from typing import List\nX = List[input].__args__[0]._evaluate({}, {}, recursive_guard=frozenset())",
        "B = locals()['__buil' + 'tins__']",
        "X = {}.get('__glo' + 'bals__')",
        "import numpy as np\nX = np.load('x', **{'allow_' + 'pickle': True})",
        "from re import compile as eval\ntry:\n    1 / 0\nexcept ZeroDivisionError as eval:\n    pass\nX = eval(input)",
        "from re import compile as eval\nx = eval('a')\ndel eval\nX = eval(input)",
        "from uuid import *\nX = sys.modules['builtins'].eval(input)",
        "from uuid import *\nX = [sys][0]",
        "import sys as s\ndef f():\n    import math as s\nX = s.modules['builtins']",
        "import sys\nX = sys.__getattribute__('modules')",
        "import os\nX = os.__getattribute__(input)",
        "import operator, os\nX = operator.methodcaller('__getattribute__', input)(os)",
        "import typing\ns = [typing][0].sys",
        "import typing\nmatch typing:\n    case object(sys=s):\n        pass",
        "import typing\nmatch typing:\n    case object(sys=object(modules=m)):\n        pass",
        "import shutil\nmatch shutil:\n    case object(os=object(abort=a)):\n        pass",
        "import os\nX = getattr(*(os, 'system'))",
        "import os\nX = getattr(os, *['system'])",
        "import os\nX = getattr([os][0], *['system'], None)",
        "import os\nX = vars(*[os]).get('system')",
        "import os\nX = getattr.__call__(os, 'system')",
        "import os\ng = getattr.__call__",
        "import os\nX = vars.__call__(os)['system']",
        "def f(getattr): return getattr\ng = getattr",
        "def f(getattr, g=getattr): return g",
        "class A:\n    getattr = 1\n    def f(self, o): return map(getattr, o, o)",
        "import sys\ndef f(sys): return sys\nX = [sys][0].modules['builtins']",
        METACLASS + "    __match_args__ = ('__self__',)\nmatch print:\n    case P(b):\n        X = b.eval(input)",
        METACLASS + "    __match_args__ = ('real',) + ('system',)",
        METACLASS + "    __match_args__: tuple = ('tb_frame',)",
        METACLASS + "    pass\nP.__match_args__ = ['sys' + 'tem']",
        "class A:\n    execv = None\n    @staticmethod\n    def f(self): return self.execv",
        "import os\nclass A:\n    popen = None\n    def f(self):\n        self = os\n        return self.popen",
        "import os\nclass A:\n    def f(self):\n        fork = 0\n        return [self.fork for self in [os]]",
        "class A:\n    tb_frame = None\n    def f(self): return self.tb_frame",
        "import os\nos.system += input",
        "X = getattr([1][0], f'system')",
        "def f(m, *, n='system'): return getattr(m, n)",
        "def f(m, n='system', /): return getattr(m, n)",
        "n, k = 'system', 1\nX = getattr([1][0], n)",
        "import operator\nX = [operator.attrgetter(n) for n in {'system'}]",
        "import operator\nX = [operator.attrgetter(n) for n in {'system': 1}]",
        "import operator\nX = operator.attrgetter(*{'system'})",
        "import dataclasses\nX = dataclasses.inspect.stack()",
        "import dataclasses\ni = dataclasses.inspect",
        "from dataclasses import inspect",
        "from uuid import ctypes",
        "from unittest import case\nX = case.pickle",
        "import asyncio\nX = asyncio.base_events.subprocess",
        "import shutil\nX = shutil.posix.abort",
        "from enum import Enum\nX = Enum._convert_('X', 'os', print)",
        "def f(loop): return loop._make_subprocess_transport",
        "def f(m): return m._execvpe, m._spawnvef",
        "X = '{a[x:y].__globals__}'.format(a={'x:y': print})",
        "X = '{a[x:y].tb_frame.f_globals}'",
        "import jinja2\nX = jinja2.utils.import_string('builtins.eval')",
        "from jinja2.ext import Environment",
        "from jinja2.sandbox import Environment",
        "import jinja2.bccache as c",
        "import jinja2\nX = jinja2.ModuleLoader('x')",
        "import jinja2.filters\nX = jinja2.filters.getattr_static(1, 'real')",
        "from jinja2.sandbox import SandboxedEnvironment as S\nclass E(S):\n    def is_safe_attribute(self, *a): return True",
        "from jinja2.sandbox import SandboxedEnvironment as S\nclass E(S):\n    is_safe_callable = print",
        "from jinja2.sandbox import SandboxedEnvironment as S\nS.is_safe_callable = print",
        "X = type('E', (), {'is_safe_attribute': print})",
        "from yaml.cyaml import CLoader",
        "import yaml\nX = yaml.cyaml.CLoader('')",
        "import yaml.cyaml as c",
        "from pandas.io.common import import_optional_dependency as get",
        "import concurrent.futures.process\nX = [concurrent.futures][0].process.mp",
        "import logging.config, asyncio\nX = [asyncio.log][0].logging.config",
        "def g(x): return x\ng.__annotations__ = {'x': input}",
        "from functools import singledispatch as d\n@d\ndef f(x): return x\ndef g(x: \"eval('1')\"): return x",
        "import functools\nclass A:\n    @functools.singledispatchmethod\n    def f(self, x: \"int or exec('1')\"): return x",
        "import os\nm = [os]\nX = vars(m[0]).get('system')",
        "import os\nm = [os]\nX = m[0].__dict__.get('execv')",
        "import os\nm = [os]\nd = m[0].__dict__\nX = d['system']",
        "import os\nm = [os]\nn = 'system'\nX = (d := vars(m[0])).get(n), d.pop(n)",
    ],
)
def test_a_roundabout_way_to_what_is_denied_is_refused(source):
    finding = check(source + RUN)
    assert finding is not None
    assert finding.gate == "policy"


def test_a_module_that_another_one_imports_is_refused_with_what_to_use():
    assert check("from unittest import pickle" + RUN).message.endswith("CSV or `yaml.safe_load`")
    assert check("import yaml.representer\nX = yaml.representer.copyreg" + RUN).message == (
        "line 2: `yaml.representer.copyreg` must not be used: `copyreg` is not among the modules for skills"
    )
    assert check("from typing import timeit" + RUN).message.endswith("modules for skills; use `time` instead")


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    X = str(e)",
        "import re\nclass A:\n    def compile(self): return re.compile('a')\nX = A().compile()",
        "from math import *\ndef f(string, types):\n    return len(string), [types], sqrt(4)",
        "from math import *\nfrom urllib.parse import urlparse\nX = urlparse('a').query, 'Total (EUR)'",
        "import string\ndef f(words):\n    return [len(string) for string in words]",
        "import string\ndef f(string):\n    return (lambda: len(string))()",
        "def f(vars):\n    return sorted(vars), [*vars]",
        "def f():\n    x = 1\n    return locals()",
        "import sys\nX = sys.argv, sys.maxsize, sys.stdout.write, sys.version_info >= (3, 11)",
        "X = [print][0]\ndef f(answer):\n    return answer.sys.country",
        "class A:\n    def __init__(self):\n        self.sys = 1\n    def f(self):\n        return self.sys",
        "class A:\n    __match_args__ = ('x', 'y')\n    def __init__(self): self.x = self.y = 1",
        "def f(machine):\n    match machine:\n        case object(os=name, path=p):\n            return name, p",
        "class A:\n    def kill(self): return 1\n    @classmethod\n    def make(cls): return cls.kill",
        "class A:\n    def __init__(self): self.system = 0\n    def add(self): self.system += 1",
        "class A:\n    def _evaluate(self, n): return n\n    def f(self): return self._evaluate(1)",
        "class A:\n    def __getattribute__(self, name): return object.__getattribute__(self, name)",
        "class A:\n    def __getattr__(self, name): return super().__getattribute__(name)",
        "X = '{:%H:%M} {a[b]:>10}'",
        "import requests\ndef f(r): return r.code, requests.codes.ok",
        "import yaml\nX = yaml.safe_dump({'a': 1}), yaml.YAMLError",
        "from jinja2 import DictLoader, StrictUndefined\nfrom jinja2.sandbox import SandboxedEnvironment as S\nX = S()",
        "def f(*args): return max(*args), print(*args)",
        "class A:\n    def f(self):\n        d = vars(self)\n        return d['name'], d.get('kind'), self.__dict__.items()",
        "from functools import singledispatch\n@singledispatch\ndef f(x: 'int'): return 'Total (EUR)', f.__annotations__",
        "import concurrent.futures, logging.handlers, xml.etree.ElementTree, urllib.request\nX = concurrent.futures",
        "a, b = 'x', 'y'\nX = [getattr(1, n) for n in {'real': 1, 'imag': 2}]",
    ],
)
def test_ordinary_counterparts_of_roundabout_ways_pass(source):
    assert check(source + RUN) is None
