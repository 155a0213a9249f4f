"""The policy: what looks members up, loads modules or evaluates by a text that it is given."""

import time

import pytest

from tests.unit.runtime.check.test_policy import RUN, check

WRITTEN = {
    "functools.update_wrapper": "(W(), f, ('__doc__',))",
    "functools.wraps": "(f, assigned=['__name__', '__doc__'])",
    "xml.sax.make_parser": "()",
    "numpy.load": "('x', None, False)",
    "pydantic.TypeAdapter": "(list[int])",
    "pydantic.create_model": "('M', a=(int, ...), b=(dict[str, 'int'] | None, None))",
}
"""Callables that take names as texts, each with a call that says all of them."""
HIDDEN = {
    "functools.update_wrapper": ["(W(), f, input)", "(W(), f, assigned=('x', input))", "(W(), f, updated=('system',))"],
    "functools.wraps": ["(f, input)", "(f, assigned=('sys' + 'tem',))", "(f, ('__globals__',))"],
    "xml.sax.make_parser": ["(['rules'])", "(parser_list=input)"],
    "numpy.load": ["('x', None, True)", "('x', None, input)", "('x', allow_pickle=1)"],
    "pydantic.TypeAdapter": [
        "(input)",
        "(type=input)",
        "('a' + input)",
        "(f'{input}')",
        "(''.join('ab'))",
        "('eval')",
        "(list['a' + input])",
        "(dict[str, input])",
        "(f('x'))",
        "(TEXT)",
        "(list[TEXT])",
        "('os.popen')",
    ],
    "pydantic.create_model": [
        "('M', a=('a' + input, 1))",
        "('M', a=(input, 1))",
        "('M', a=input)",
        "('M', **input)",
        "('M', **{'a': ('b' + input, 1)})",
        "('M', a=('os.popen', 1))",
        "('M', a=('x', 1), __module__='os')",
    ],
}
"""The same with names that are computed, denied or passed along."""
NAMED = {
    "member": "import MODULE\nX = MODULE.NAME",
    "member of another name": "import MODULE as m\nX = m.NAME",
    "imported": "from MODULE import NAME\nX = NAME",
    "imported by another name": "from MODULE import NAME as g\nX = g",
    "shadowed elsewhere": "from MODULE import NAME as g\ndef h():\n    from json import loads as g\nX = g",
    "through another module": "import shutil\nX = shutil.MODULE.NAME",
}
AS_VALUE = {
    "variable": "\ng = X\ng",
    "walrus": "\n(g := X)",
    "item": "\n[X][0]",
    "partial": "\nimport functools as ft\nft.partial(X)",
    "argument": "\nmap(X, [1])",
    "default": "\ndef h(g=X):\n    g()",
    "member of its own": "\nX.__call__",
    "base": "\nclass B(X):\n    pass\nB",
}
HEAD = "class W: pass\ndef f(x): return x\nTEXT = f('a')\ninput = f('b')\n"


@pytest.mark.parametrize("path", WRITTEN)
@pytest.mark.parametrize("named", NAMED)
def test_a_callable_that_takes_names_is_given_written_names(path, named):
    before, _, use = NAMED[named].replace("MODULE", path.rpartition(".")[0]).rpartition("X = ")
    use = use.replace("NAME", path.rpartition(".")[2])
    source = f"{HEAD}{before.replace('NAME', path.rpartition('.')[2])}Y = {use}"
    assert check(source + WRITTEN[path] + RUN) is None
    for arguments in HIDDEN[path]:
        assert check(source + arguments + RUN) is not None, source + arguments
    for arguments in ("(*input)", "('x', *[1, 2])", "(**input)", "(**{'x': 1})"):
        assert check(source + arguments + RUN) is not None, source + arguments


@pytest.mark.parametrize("path", WRITTEN)
@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("way", AS_VALUE)
def test_a_callable_that_takes_names_is_no_value(path, named, way):
    module, _, name = path.rpartition(".")
    before, _, use = NAMED[named].replace("MODULE", module).replace("NAME", name).rpartition("X = ")
    source = HEAD + before + AS_VALUE[way].replace("X", use) + RUN
    assert check(source) is not None, source
    assert check(HEAD + f"import {module}\nX = getattr({module}, '{name}')" + RUN) is not None


FRAMES = {
    "frame": "import pandas as pd\ndf = pd.DataFrame()\nX = df.",
    "group": "import pandas as pd\ng = pd.DataFrame().groupby('a')\nX = g.",
    "item": "from pandas import DataFrame as D\nX = [D()][0].",
    "class": "import pandas as pd\nX = pd.DataFrame.",
    "parameter": "import pandas\ndef f(df):\n    return df.",
}
METHODS = ["agg", "aggregate", "apply", "transform", "filter", "pivot_table"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("frame", FRAMES)
def test_a_method_of_frames_that_takes_names_reaches_no_denied_member(frame, method):
    for arguments in (
        "('eval', 0, '@os')",
        "('query')",
        "('to_pickle', 0, 'x')",
        "(func='eval')",
        "(['mean', 'ev' + 'al'])",
        "({'a': ['to_pickle']})",
        "(a=('b', 'to_pickle'))",
        "(**{'func': 'to_pickle'})",
        "(n := 'eval')",
        "(input, 0, '@os')",
        "(*[f'{input}', 0, '@os'])",
        "(input, expr='@os')",
        "(input, *['@os'])",
        "('a', aggfunc=input, expr='@os')",
        "(func=input, expr='@os')",
        "('load', 0, 'x', None, True)",
    ):
        if method != "pivot_table" or not arguments.startswith(("(input, ", "(*[")):  # columns come first
            assert check(f"{FRAMES[frame]}{method}{arguments}{RUN}") is not None, arguments
    if method != "filter":
        assert check(f"{FRAMES[frame]}{method}\nh = X{RUN}") is not None
        assert check(f"{FRAMES[frame]}{method}.__call__('x'){RUN}") is not None


@pytest.mark.parametrize("name", ["query", "eval"])
@pytest.mark.parametrize("frame", FRAMES)
def test_the_evaluators_of_a_frame_are_called_with_a_written_text(frame, name):
    for use in ("", "('@os')", "(input)", "('a' + input)", "('a.to_pickle(1)')", "('a.agg(\"eval\")')", "(expr=input)"):
        assert check(f"{FRAMES[frame]}{name}{use}{RUN}") is not None, use
    assert check(f"{FRAMES[frame]}{name}('a > 0 and b == \"x\"'){RUN}") is None


@pytest.mark.parametrize(
    "source",
    [
        "df.agg('mean'), df.agg(['mean', 'sum']), df.agg({'a': 'sum'}), df.groupby('a').agg(n=('b', 'count'))",
        "df.agg(input), df.groupby('a').agg(input), df.groupby('a').transform('cumsum')",
        "df.groupby('a').agg(**{'Total (EUR)': ('b', 'sum')})",
        "df.apply(lambda row: row['a'], axis=1), df.apply(len), df.apply(f, axis=1, result_type='expand')",
        "df.apply(f, args=(1,)), df.apply(f, axis=1, scale=2), df.apply(np.mean, 1), df.apply(lambda r, n: n, n=2)",
        "df.filter(like='a', axis=1), df.pivot_table(index='a', values='b', aggfunc='sum')",
        "pd.pivot_table(df, index='a', aggfunc={'b': 'sum'}), pd.crosstab(df.a, df.b, aggfunc=input, values=df.c)",
        "df.query('a > 0'), df.eval('c = a + b'), urlparse('a').query, parse_qs(urlparse('a').query)",
        "urllib.parse.urlsplit('a').query, (u := urlparse('a')), parse_qs(u.query)",
        "[(u.query.split('&'), parse_qs(u.query), f'?{u.query}' if u.query else '') for u in map(urlparse, input)]",
        "df.rolling(2).apply(np.mean, raw=True), df['a'].apply(str), df['a'].map(f).apply(pd.Series)",
        "df.to_dict(orient='records'), df.set_index('a').sort_values('b').pipe(f)",
    ],
)
def test_ordinary_work_with_frames_passes(source):
    head = "import urllib.parse\nfrom urllib.parse import urlparse, parse_qs\nimport numpy as np\nimport pandas as pd\n"
    head += "def f(x, n=1, scale=1): return x\ndf = pd.DataFrame()\n"
    assert check(f"{head}X = {source}{RUN}") is None


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nX = np.lib.format.read_array(open('x', 'rb'), True)",
        "from numpy.lib import format as fmt\nX = fmt.read_array(open('x', 'rb'), True)",
        "import numpy as np\nl = np.lib\nX = l.format.read_array(open('x', 'rb'), True)",
        "import numpy as np\nX = getattr(np, 'load')",
        "import numpy as np\nX = [getattr(np, n) for n in ('mean', 'load')]",
        "import numpy as np\nX = [getattr(np, n) for n in ('mean', input)]",
        "import numpy as np\nX = [getattr(np, n) for n in input for n in ('mean',)]",
        "import numpy as np\ndef f(n):\n    return getattr(np, n)\nn = 'mean'",
        "import numpy as np\nOPS = ['mean']\nOPS.append('lo' + input)\nX = [getattr(np, n) for n in OPS]",
        "import os\nX = [getattr(os, n) for n in ('getcwd', 'system')]",
        "import pandas as pd\nX = pd.DataFrame().plot(backend='rules')",
        "import pandas as pd\npd.set_option('plotting.backend', 'rules')",
        "import pandas as pd\npd.options.plotting.backend = 'rules'",
        "import pandas as pd\nX = pd.DataFrame().style.env.from_string('x')",
        "import pandas as pd\nX = pd.io.formats.style.Styler.from_custom_template('/tmp', 'x')",
        "import pandas as pd\nX = pd.read_clipboard()",
        "import pandas.io.clipboard as c\nX = c.determine_clipboard()",
        "import lxml.html\nX = lxml.html.open_in_browser",
        "import jinja2\nX = jinja2.PackageLoader('os')",
        "from jinja2.loaders import PackageLoader",
        "import jinja2.nodes",
        "from jinja2 import nodes",
        "from jinja2.ext import nodes",
        "from jinja2.ext import babel_extract",
        "from jinja2.sandbox import SandboxedEnvironment as S\nX = S(extensions=['rules.X'])",
        "from jinja2.sandbox import SandboxedEnvironment as S\nX = S(extensions=input)",
        "from jinja2.sandbox import SandboxedEnvironment as S\nX = S(**{'extensions': ['rules.X']})",
        "from jinja2.sandbox import SandboxedEnvironment as S\nX = S().add_extension('rules.X')",
        "from jinja2.sandbox import SandboxedEnvironment as S\nX = S().overlay(extensions=['jinja2.' + input])",
        "from jinja2.sandbox import SandboxedEnvironment as S\nX = S().compile('x')",
        "from jinja2.sandbox import SandboxedEnvironment as S\nclass E(S):\n    def _generate(self, *a): return 'import this'",
        "from jinja2.sandbox import SandboxedEnvironment as S\ne = S()\ne._generate = print",
        "from jinja2.sandbox import SandboxedEnvironment as S\nclass G(S.code_generator_class): pass",
        "import os\nfrom jinja2.sandbox import SandboxedEnvironment as S\nX = S().compile_expression('o.system')(o=os)",
        "import json\nfrom jinja2.sandbox import SandboxedEnvironment as S\nS().globals['json'] = json",
        "def f(code): return code.replace(co_consts=())",
        "import logging\nclass F(logging.StrFormatter): pass",
        "import xml.dom.domreg as d\nd.well_known_modules['x'] = 'subprocess'",
        "import xml.sax\nxml.sax.default_parser_list = ['rules']",
        "import os\nos.environ['PY_SAX_PARSER'] = 'this'",
        "import os\nos.environ['PYTHON_' + 'DOM'] = 'this'",
        "import enum\n@enum.global_enum\nclass C(enum.Enum):\n    __module__ = 'json'\n    A = 1",
        "try:\n    import skill_runtime.spawn as s\nexcept ImportError:\n    pass",
        "try:\n    import skill\nexcept ImportError:\n    pass",
        "from asyncio import unix_events as u\nX = u._UnixSubprocessTransport",
        "from pydantic import fields as f\nX = f._typing_extra",
        "from functools import *",
        "from re import compile as eval\nlocals().pop('eval')\nX = eval(input)",
        "from re import compile\n(d := locals()).pop('comp' + input)\nX = compile(input)",
        "from re import compile\ndef f():\n    global compile\n    compile = 1\n    del compile",
        "def f(help): return help\nhelp('this')",
        "import pandas as pd\nfrom operator import methodcaller\nX = methodcaller('agg', 'eval', 0, '@os')(pd.DataFrame())",
        "import pandas as pd\nmatch pd.DataFrame():\n    case object(agg=a): X = a('eval', 0, '@os')",
        "from operator import attrgetter\nimport functools\nX = attrgetter('update_wrapper')",
        "from jinja2.sandbox import SandboxedEnvironment as S\nT = type(S())\nclass E(T):\n    def _generate(self, *a): return '1'",
        "from pydantic import TypeAdapter\nclass A: pass\nA.T = input\nX = TypeAdapter(A.T)",
        (
            "import pydantic\nclass T:\n    @classmethod\n    def __get_pydantic_core_schema__(cls, source, handler):\n"
            "        return handler.generate_schema('a' + source)"
        ),
        "class A:\n    def help(self): return 1\nhelp('this')",
    ],
)
def test_what_loads_modules_or_evaluates_by_a_text_is_refused(source):
    finding = check(source + RUN)
    assert finding is not None
    assert finding.gate == "policy"


ANNOTATED = {
    "model": "import pydantic\nclass M(pydantic.BaseModel):\n    a: HINT",
    "model, imported": "from pydantic import BaseModel\nclass M(BaseModel):\n    a: HINT = 1",
    "call": "from pydantic import validate_call\n@validate_call\ndef g(a: HINT): return a",
    "dispatch": "from functools import singledispatch\n@singledispatch\ndef g(a): return a\n@g.register\ndef h(a: HINT): return a",
    "adapter": "from pydantic import TypeAdapter\nX = TypeAdapter(HINT)",
    "generic": "import pydantic\nX = pydantic.RootModel[HINT]",
}
HINTS = [
    "'eval'",
    "'os.popen'",
    "\"Annotated[int, os.system, __builtins__['eval']]\"",
    "list['a' + input]",
    "f'{input}'",
    "TEXT",
    "list[TEXT] | None",
    "f('x')",
    "''.join('ab')",
    "json.loads('x')",
    "A.T",
]


@pytest.mark.parametrize("way", ANNOTATED)
@pytest.mark.parametrize("hint", HINTS)
def test_an_annotation_that_is_evaluated_is_no_computed_text(way, hint):
    head = "import os, json\nfrom typing import Annotated, Any\n" + HEAD + "class A:\n    T = f('x')\n"
    assert check(head + ANNOTATED[way].replace("HINT", hint) + RUN) is not None


@pytest.mark.parametrize("way", ANNOTATED)
@pytest.mark.parametrize(
    "hint",
    [
        "int",
        "'int'",
        "list[int] | None",
        "date",
        "dt.date",
        "Annotated[int, Field(gt=0, description='eval of a system')]",
        "Literal['eval', 'os.popen']",
        "Optional[Union[Own, Alias]]",
        "Callable[[int], str]",
        "conint(gt=0)",
        "tuple[int, ...]",
        "Kind.A",
        "T",
    ],
)
def test_ordinary_annotations_pass(way, hint):
    head = (
        "import datetime as dt\nfrom datetime import date\nfrom enum import Enum\n"
        "from typing import Annotated, Any, Callable, Literal, Optional, Union, TypeVar\n"
        "from pydantic import Field, conint\nT = TypeVar('T')\nAlias = dict[str, int] | list['Own']\n"
        "class Own: pass\nclass Kind(Enum):\n    A = 1\ndef at(date: date) -> date: return date\n"
    )
    assert check(head + ANNOTATED[way].replace("HINT", hint) + RUN) is None


@pytest.mark.parametrize(
    "source",
    [
        "class M(BaseModel):\n    x: Any = Field(alias='popen')\nX = M.model_validate(1, from_attributes=True)",
        "class M(BaseModel):\n    x: Any = Field(validation_alias='tb_frame')\n    model_config = {'from_attributes': True}",
        "class M(BaseModel):\n    f_globals: Any\n    model_config = ConfigDict(from_attributes=True)",
        "class M(BaseModel):\n    x: Any = Field(alias='a' + input)\n    model_config = ConfigDict(from_attributes=True)",
        "class M(BaseModel):\n    x: Any = 1\n    model_config = ConfigDict(from_attributes=True, alias_generator=print)",
        "import os\nclass M(BaseModel):\n    x: Any = 1\nX = M.model_validate(os, from_attributes=True)",
        "class M(BaseModel):\n    __module__ = 'os'\n    a: 'system'",
    ],
)
def test_pydantic_reads_no_denied_members_of_objects(source):
    head = "from typing import Any\nfrom pydantic import BaseModel, ConfigDict, Field\n"
    assert check(head + source + RUN) is not None
    ordinary = (
        "class M(BaseModel):\n    x: Any = Field(alias='name')\n    system: str\nX = M.model_validate({'name': 1})"
    )
    assert check(head + ordinary + RUN) is None
    assert check(head + ordinary.replace("({'name': 1})", "(1, from_attributes=True)") + RUN) is None


@pytest.mark.parametrize(
    "source",
    [
        "class T:\n    __annotations__[input] = int",
        "class T:\n    __annotations__ = {input: int}",
        "class T: pass\nT.__annotations__[input] = int",
        "class T: pass\nT.__annotations__.update({input: int})",
        "class T: pass\na = T.__annotations__\na[input] = int",
        "class T: pass\nsetattr(T, '__annotations__', {input: int})",
        "X = type('T', (), {'__annotations__': {input: int}})",
        "X = type('T', (), dict(__annotations__={input: int}))",
        "X = type('T', (), {'__anno' + 'tations__': {input: int}})",
        "class T: pass\nvars(T)['__annotations__'][input] = int",
        "import os\nclass A(type(os)): pass\nos.__class__ = A",
    ],
)
def test_names_of_fields_are_written(source):
    assert check("from dataclasses import dataclass\n" + source + RUN) is not None


@pytest.mark.parametrize(
    "source",
    [
        "class A: pass\nX = A.__annotations__, A.__annotations__.items(), getattr(A, '__annotations__', {})",
        "class A: pass\nX = [n for n in A.__annotations__], A.__annotations__.get('x'), A.__annotations__['y']",
        "from collections import namedtuple\nX = namedtuple('P', input)",
        "from dataclasses import make_dataclass\nX = make_dataclass('P', ['a', ('b', int)])",
        "import functools\ndef d(f):\n    @functools.wraps(f)\n    def g(*a, **k): return f(*a, **k)\n    return g",
        "from functools import update_wrapper, WRAPPER_ASSIGNMENTS\nX = update_wrapper(print, len, WRAPPER_ASSIGNMENTS)",
        "import numpy as np\nX = [getattr(np, n)([1]) for n in ('mean', 'std')]",
        "import numpy as np\nOPS = ('mean', 'std')\nfor op in OPS:\n    X = getattr(np, op)([1])",
        "import numpy as np\nX = getattr(np, 'trapezoid', None), getattr(np.linalg, 'norm')",
        "import numpy as np\nX = np.load('x'), np.load('x', 'r'), np.load('x', allow_pickle=False)",
        "from jinja2.sandbox import SandboxedEnvironment as S\nX = S(extensions=['jinja2.ext.do'], trim_blocks=True)",
        (
            "import re\nfrom jinja2 import DictLoader\nfrom jinja2.sandbox import SandboxedEnvironment\nP = re.compile('a')\n"
            "env = SandboxedEnvironment(loader=DictLoader({}))\nenv.filters['f'] = len\nX = env.get_template('a').render(x=1)"
        ),
        "from pydantic import TypeAdapter\nA: TypeAdapter[int] = TypeAdapter[int](int)\ndef f(a: TypeAdapter) -> None: pass",
        "import pydantic\nItems = list[dict[str, int]]\nX = pydantic.TypeAdapter(Items).validate_python([])",
        "from pydantic import BaseModel\nclass M(BaseModel):\n    date: 'int'\n    x: int = 1\n    def f(self): return self.x",
        "import xml.sax\nX = xml.sax.make_parser().setContentHandler(1)",
        "import os\nX = os.environ.get('LANG'), os.environ['PATH']",
        "from re import compile\nX = compile('a')",
        "def help():\n    return 1\nX = help()",
        (
            "from ast import NodeVisitor\nfrom enum import Enum\nfrom typing import NamedTuple\n"
            "from json import JSONEncoder as J\nX = Enum._missing_"
        ),
    ],
)
def test_ordinary_counterparts_of_texts_pass(source):
    assert check(source + RUN) is None


DENIED = ["popen", "execv", "ptrace", "_evaluate", "builtins", "get_field"]
UNBOUND = {
    "class": "X = A.f(os)",
    "class by another name": "B = A\nX = B.f(os)",
    "class of an item": "X = [A][0].f(os)",
    "type": "X = type(A()).f(os)",
    "__class__": "X = A().__class__.f(os)",
    "subclass": "class B(A): pass\nX = B.f(os)",
    "value": "f = A.f\nX = f(os)",
    "map": "X = map(A.f, [os])",
    "getattr": "X = getattr(A, 'f')(os)",
    "__dict__": "X = A.__dict__['f'](os)",
    "vars": "X = vars(A)['f'](os)",
    "parameter": "def g(c): return c.f(os)\nX = g(A)",
    "returned": "def g(): return A\nX = g().f(os)",
    "default": "def g(c=A): return c.f(os)",
    "locals": "X = locals()['A'].f(os)",
    "decorated": "@print\nclass B(A): pass",
}
WITHIN = {
    "name in the class": "    g = f\n    X = f(os)",
    "classmethod": "    @classmethod\n    def g(cls): return cls.f(os)",
    "__new__": "    def __new__(cls): return cls.f(os)",
    "handler": "    def g(self):\n        try: pass\n        except OSError as self: return self.NAME",
    "import": "    def g(self):\n        import os as self\n        return self.NAME",
    "pattern": "    def g(self):\n        match os:\n            case self: return self.NAME",
    "loop": "    def g(self):\n        for self in [os]: return self.NAME",
    "function": "    def g(self):\n        def self(): pass\n        return self.NAME",
    "own decorator": "    @deco\n    def g(self): return self.NAME",
    "cache": "    @functools.lru_cache\n    def g(self): return self.NAME\nX = A().g.__wrapped__(os)",
}


@pytest.mark.parametrize("name", DENIED)
@pytest.mark.parametrize("way", [*UNBOUND, *WITHIN])
def test_a_method_that_asks_its_own_object_is_never_given_another(way, name):
    head = "import os, functools\ndef deco(g): return g\n"
    own = f"class A:\n    {name} = None\n    def f(self): return self.{name}\n"
    assert check(head + own + RUN) is None
    assert check(head + own + UNBOUND.get(way, WITHIN.get(way, "")).replace("NAME", name) + RUN) is not None


@pytest.mark.parametrize("name", DENIED)
@pytest.mark.parametrize(
    "base",
    [
        "class A(asyncio.Loop):\n    if 0:\n        NAME = 1",
        "class A(metaclass=M):\n    NAME = 1",
        "class A(os.X):\n    NAME: int",
    ],
)
def test_a_member_that_may_be_inherited_is_not_its_own(base, name):
    source = (
        f"import asyncio, os\nclass M(type): pass\n{base.replace('NAME', name)}\n    def f(self): return self.{name}"
    )
    assert check(source + RUN) is not None


@pytest.mark.parametrize("name", ["_evaluate", "builtins", "get_field", "system", "kill"])
@pytest.mark.parametrize(
    "use",
    [
        "X = A().f()",
        "def g(a: A) -> list[A]:\n    return [b.f() for b in [a] if isinstance(b, A)]",
        "class B(A):\n    def more(self): return super().f()\nX = B().f()",
        "@dataclass\nclass D:\n    a: A\n    def get(self): return self.a.f()",
        "try:\n    X = A.make().f\nexcept ValueError:\n    pass",
    ],
)
def test_classes_with_members_of_their_own_are_used_as_usual(name, use):
    own = (
        f"from dataclasses import dataclass\nclass A:\n    def __init__(self): self.{name} = 1\n    def f(self): return self.{name}\n"
        f"    @property\n    def twice(self): return self.{name}\n    @staticmethod\n    def make(): return A()\n"
    )
    assert check(own + use + RUN) is None


@pytest.mark.parametrize(
    "source",
    [
        "".join(f"class A{n}:\n popen = 1\n def f(self): return self.popen\n" for n in range(500)),
        "class A0: pass\n"
        + "".join(f"class A{n + 1}(A{n}):\n popen = 1\n def f(self): return self.popen\n" for n in range(500)),
        "".join(f"a{n + 1} = a{n} | a{n}\n" for n in range(1000))
        + "import pydantic\nX = pydantic.TypeAdapter(a1000)\n",
        "a0 = 1\n"
        + "".join(f"a{n + 1} = {'list[' * 80}a{n}{']' * 80}\n" for n in range(30))
        + "import pydantic\nX = pydantic.TypeAdapter(a30)\n",
    ],
)
def test_long_files_are_read_in_time(source):
    began = time.process_time()
    check(source + RUN)
    assert time.process_time() - began < 5
