"""The mypy gate: a complaint counts where a crash follows from it, and nowhere else."""

import json
import subprocess
from textwrap import dedent

import pytest

from skill_runtime.check import mypy_gate
from skill_runtime.check.certain_errors import CandidateTree, ImportedMember
from tests.unit.runtime.harness import tools

TYPES = """
from typing import Any, Literal, NotRequired, TypedDict

class InputItem(TypedDict):
    name: str
    qty: int

class Circle(TypedDict):
    kind: Literal["circle"]
    radius: float

class Square(TypedDict):
    kind: Literal["square"]
    side: float

InputOdd = TypedDict("InputOdd", {"two words": int})

class Input(TypedDict):
    n: int
    items: NotRequired[list[InputItem]]
    shape: NotRequired[Circle | Square]
    odd: NotRequired[InputOdd]

Output = dict[str, Any]
"""
# Each runs as it should. Most are what models and people write every day.
ORDINARY = {
    "dict of mixed values": """
        report = {"count": 0, "by_name": {}, "errors": []}
        def run(input: Input) -> Output:
            report["errors"].append("x")
            report["by_name"].setdefault("a", 0)
            return report
        """,
    "dict filled step by step": """
        def run(input: Input) -> Output:
            result = {}
            result["count"] = 0
            result["names"] = []
            result["names"].append("x")
            return result
        """,
    "nested constants": """
        CONFIG = {"rates": {"a": 1}, "default": 2}
        def run(input: Input) -> Output:
            return {"r": CONFIG["rates"].get("a", CONFIG["default"])}
        """,
    "table of dicts": """
        STATES = {"a": {"name": "A", "rates": {"base": 0.1}}}
        def run(input: Input) -> Output:
            return {"names": [s["name"].lower() for s in STATES.values()], "t": [s["rates"].get("base") for s in STATES.values()]}
        """,
    "rows of mixed cells": """
        def run(input: Input) -> Output:
            rows = [["name", 1], ["x", [1, 2]]]
            rows[1][1].append(3)
            return {"v": rows[1][1]}
        """,
    "memo on a function": """
        def fib(n):
            if n not in fib.memo:
                fib.memo[n] = n if n < 2 else fib(n - 1) + fib(n - 2)
            return fib.memo[n]
        fib.memo = {}
        def run(input: Input) -> Output:
            return {"f": fib(input["n"])}
        """,
    "count on a typed function": """
        def visit(n: int) -> int:
            visit.calls += 1
            return visit.calls
        visit.calls = 0
        def run(input: Input) -> Output:
            return {"f": visit(1)}
        """,
    "namedtuple of computed fields": """
        from collections import namedtuple
        F = "a b"
        P = namedtuple("P", F.split())
        def run(input: Input) -> Output:
            return {"v": P(1, 2).a, "w": P(a=1, b=2).b, "x": P(1, 2)._replace(a=3).a}
        """,
    "class on top of such a namedtuple": """
        from collections import namedtuple
        class P(namedtuple("P", ["a", "b"] + ["c"])):
            def total(self):
                return self.a + self.b + self.c
        def run(input: Input) -> Output:
            return {"v": P(1, 2, 3).total()}
        """,
    "class made by a call": """
        Base = type("Base", (), {"x": 1, "__init__": lambda self, y: None})
        class Derived(Base):
            pass
        def run(input: Input) -> Output:
            return {"v": Base.x, "w": Base(1).x, "d": Derived(2).x}
        """,
    "enum of computed names": """
        from enum import Enum
        NAMES = ["RED", "BLUE"]
        Color = Enum("Color", NAMES)
        def run(input: Input) -> Output:
            return {"v": Color.RED.name, "w": [c.name for c in Color]}
        """,
    "enum made of an enum": """
        from enum import Enum
        class Base(str, Enum):
            pass
        Color = Base("Color", ["RED"])
        def run(input: Input) -> Output:
            return {"v": Color.RED.name}
        """,
    "members from a dict": """
        class P:
            def __init__(self, **kw):
                self.__dict__.update(kw)
        def run(input: Input) -> Output:
            return {"v": P(a=1).a}
        """,
    "members by setattr": """
        class P:
            pass
        def run(input: Input) -> Output:
            p = P()
            setattr(p, "a", 1)
            p.b = 2
            return {"v": p.a + p.b}
        """,
    "members set on a class": """
        class Registry:
            pass
        Registry.known = {}
        def run(input: Input) -> Output:
            Registry.known["a"] = 1
            return Registry.known
        """,
    "class with a decorator that makes its init": """
        def record(cls):
            names = list(cls.__annotations__)
            def init(self, *values):
                for name, value in zip(names, values):
                    setattr(self, name, value)
            cls.__init__ = init
            return cls
        @record
        class P:
            a: int
            b: int
        def run(input: Input) -> Output:
            return {"v": P(1, 2).a}
        """,
    "a variable that starts as None": """
        _table = None
        def load():
            global _table
            _table = {"a": 1}
        def run(input: Input) -> Output:
            load()
            return {"v": _table.get("a")}
        """,
    "nodes that start as None": """
        class Node:
            def __init__(self, key=0):
                self.key = key
                self.prev = self.next = None
        class Line:
            def __init__(self):
                self.head, self.tail = Node(), Node()
                self.head.next = self.tail
                self.tail.prev = self.head
            def add(self, node):
                last = self.tail.prev
                last.next = node
                node.prev, node.next = last, self.tail
                self.tail.prev = node
        def run(input: Input) -> Output:
            line = Line()
            line.add(Node(1))
            return {"v": line.head.next.key}
        """,
    "a default argument that loops": """
        def letters(known=[chr(i) for i in range(97, 100)], more={j: j for j in "ab"}):
            return known + list(more)
        def run(input: Input) -> Output:
            return {"v": letters()}
        """,
    "a walrus in a condition of a comprehension": """
        def run(input: Input) -> Output:
            return {"v": [half for n in (1, 2) if (half := n / 2)]}
        """,
    "an optional key that is asked for": """
        def run(input: Input) -> Output:
            if "debug" in input:
                return {"d": input["debug"]}
            return {"d": input.get("trace"), "n": input["n"]}
        """,
    "an optional key by its value": """
        def run(input: Input) -> Output:
            if input.get("debug"):
                return {"d": input["debug"]}
            return {"n": 1}
        """,
    "an additional key that is caught": """
        def run(input: Input) -> Output:
            try:
                return {"d": input["debug"]}
            except KeyError:
                return {"d": None}
        """,
    "a key that the code sets": """
        def run(input: Input) -> Output:
            input["total"] = 1
            return {"d": input["total"]}
        """,
    "a key of one alternative": """
        def run(input: Input) -> Output:
            shape = input.get("shape")
            if shape is None:
                return {}
            kind = shape["kind"]
            if kind == "circle":
                return {"d": shape["radius"]}
            return {"d": shape["side"]}
        """,
    "an alternative by match": """
        def run(input: Input) -> Output:
            shape = input.get("shape", {"kind": "square", "side": 1})
            match shape["kind"]:
                case "circle":
                    return {"d": shape["radius"]}
                case _:
                    return {"d": shape["side"]}
        """,
    "functions of different arity in a table": """
        def add(a, b):
            return a + b
        def neg(a):
            return -a
        OPS = {}
        OPS["add"] = add
        OPS["neg"] = neg
        def run(input: Input) -> Output:
            return {"v": OPS["neg"](1), "w": OPS["add"](1, 2)}
        """,
    "objects of two classes in a table": """
        class Circle:
            def scale(self, by):
                return by
        class Box:
            def scale(self, by, deep):
                return by * deep
        SHAPES = {}
        SHAPES["c"] = Circle()
        SHAPES["b"] = Box()
        def run(input: Input) -> Output:
            b = SHAPES["b"]
            return {"v": b.scale(1, 2)}
        """,
    "a function in two versions": """
        import sys
        if len(sys.argv) > 100:
            def f(a):
                return a
        else:
            def f(a, b):
                return a + b
        def run(input: Input) -> Output:
            return {"v": f(1, 2)}
        """,
    "a class that is defined again": """
        class P:
            def __init__(self, a):
                self.a = a
        Old = P
        class P(Old):
            def __init__(self, a, b):
                Old.__init__(self, a)
                self.b = b
        def run(input: Input) -> Output:
            return {"v": P(1, 2).b}
        """,
    "a method that a subclass takes more for": """
        class Visitor:
            def go(self, node):
                return self.visit(node, 1)
            def visit(self, node):
                return node
        class Deep(Visitor):
            def visit(self, node, depth):
                return node + depth
        def run(input: Input) -> Output:
            return {"v": Deep().go(1)}
        """,
    "a method that is replaced": """
        class P:
            def f(self):
                return 1
        p = P()
        p.f = lambda more: more
        def run(input: Input) -> Output:
            return {"v": p.f(2)}
        """,
    "an import with a substitute": """
        try:
            from json import fast_loads as loads
        except ImportError:
            from json import loads
        try:
            import xml.fastest as fast
        except ImportError:
            fast = None
        def run(input: Input) -> Output:
            return {"v": loads("1")}
        """,
    "a member that may not be there": """
        import math
        import os
        def run(input: Input) -> Output:
            try:
                f = math.newest
            except AttributeError:
                f = math.floor
            cores = os.process_cores() if hasattr(os, "process_cores") else 1
            return {"v": f(1.5), "w": cores}
        """,
    "the older name of a member, where the newer one is asked for": """
        import math
        import os
        if not hasattr(math, "floor"):
            g = math.older
        elif hasattr(math, "ceil"):
            g = math.ceil
        else:
            g = math.oldest
        def run(input: Input) -> Output:
            f = math.floor if hasattr(math, "floor") else math.old_floor
            return {"v": f(1.5), "w": g(1.5)}
        """,
    "types for the checker alone": """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from _typeshed.nothing import SupportsRead
            from json import Nothing
        def read(file: SupportsRead) -> Nothing:
            return file
        def run(input: Input) -> Output:
            return {"v": read(1)}
        """,
    "a name of a module for something else": """
        import json
        def dump(json):
            return json.get("a")
        def run(input: Input) -> Output:
            return {"v": dump({"a": 1})}
        """,
    "a module, or nothing": """
        try:
            import json as fast
        except ImportError:
            fast = None
        def run(input: Input) -> Output:
            return {"v": fast.dumps(1) if fast else ""}
        """,
    "a submodule that others import": """
        import concurrent
        import xml.etree.ElementTree as ET
        def run(input: Input) -> Output:
            return {"v": ET.fromstring("<a><b>1</b></a>").find("b").text, "t": concurrent.futures.__name__}
        """,
    "a node of object": """
        def run(input: Input) -> Output:
            node: object = {"a": 1}
            return {"v": node.get("a")}
        """,
    "one of two types": """
        def run(input: Input) -> Output:
            value = "5" if input["n"] > 100 else [1]
            if input["n"] <= 100:
                value.append(2)
            return {"v": value}
        """,
    "a variable of two types in turn": """
        def run(input: Input) -> Output:
            for value in ("a,b", "c"):
                parts = value
                parts = parts.split(",")
                parts.append("x")
            return {"v": parts}
        """,
    "a partial, and a function that counts its calls": """
        from functools import lru_cache, partial, wraps
        def counted(f):
            @wraps(f)
            def inner(*args, **kw):
                inner.calls += 1
                return f(*args, **kw)
            inner.calls = 0
            return inner
        @counted
        def power(a, b):
            return a ** b
        square = partial(power, b=2)
        @lru_cache
        def once(a):
            return a
        def run(input: Input) -> Output:
            return {"v": square(3), "c": power.calls, "h": once(1), "i": once.cache_info().hits}
        """,
    "a decorator that gives an argument": """
        from collections.abc import Callable
        from typing import Any, TypeVar, cast
        F = TypeVar("F", bound=Callable[..., Any])
        def given(f: F) -> F:
            return cast(F, lambda *args: f(1, *args))
        def given_second(f: F) -> F:
            return cast(F, lambda self, *args: f(self, 1, *args))
        @given
        def add(a: int, b: int) -> int:
            return a + b
        class Adder:
            @given_second
            def add(self, a: int, b: int) -> int:
                return a + b
        def run(input: Input) -> Output:
            return {"v": add(2), "w": Adder().add(2)}
        """,
    "a metaclass that makes objects otherwise": """
        class Meta(type):
            def __call__(cls, *args, **kw):
                return super().__call__()
        class Thing(metaclass=Meta):
            pass
        def run(input: Input) -> Output:
            return {"v": str(Thing(1, 2))}
        """,
    "an import for older versions": """
        try:
            from zoneinfo import ZoneInfo
        except ImportError:
            from backports.zoneinfo import ZoneInfo
        try:
            from json import dumps
        except (ModuleNotFoundError, OSError):
            from xml.nothing import dumps
        try:
            from json import loads
        except:
            import xml.nothing
        def run(input: Input) -> Output:
            return {"v": ZoneInfo("UTC").key}
        """,
    "a block that only a program runs": """
        def run(input: Input) -> Output:
            return {"v": 1}
        if __name__ == "__main__":
            import datetime
            print(run({"n": 1})["v"], run(1, 2), datetime.now())
        """,
}
# Each raises where it runs: the code of the complaint, and what it names.
FAULTS = {
    "too many arguments": ("call-arg", "def f(a):\n    return a\n", "f(1, 2)"),
    "too few": ("call-arg", "def f(a, b):\n    return a\n", "f(1)"),
    "an unknown keyword": ("call-arg", "def f(a):\n    return a\n", "f(a=1, c=2)"),
    "an async function": ("call-arg", "async def f(a):\n    return a\n", "f()"),
    "a function with a decorator": ("call-arg", "from functools import lru_cache, wraps\n@wraps(len)\ndef f(a):\n    return a\n", "f()"),
    "a static method": ("call-arg", "class P:\n    @staticmethod\n    def f(a): return a\n", "P().f()"),
    "a class with a metaclass of Python": ("call-arg", "from abc import ABCMeta\nclass P(metaclass=ABCMeta):\n    pass\n", "P(1)"),
    "a class without init": ("call-arg", "class P:\n    pass\n", "P(1)"),
    "a dataclass": ("call-arg", "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass P:\n    a: int\n", "P()"),
    "a named tuple": ("call-arg", "from typing import NamedTuple\nclass P(NamedTuple):\n    a: int\n", "P(1, 2)"),
    "a derived class": ("call-arg", "class A:\n    def __init__(self, a): pass\nclass P(A):\n    pass\n", "P()"),
    "a method of a new object": ("call-arg", "class P:\n    def f(self): pass\n", "P().f(1)"),
    "a method of a variable": ("call-arg", "class P:\n    def f(self): pass\np = P()\n", "p.f(1)"),
    "a method of its own": ("call-arg", "class P:\n    def f(self): pass\n    def g(self):\n        return self.f(1)\n", "P().g()"),
    "a function of Python": ("call-arg", "", "len()"),
    "a function of a module": ("call-arg", "import json\n", "json.loads(1, 2, 3)"),
    "one that is imported by name": ("call-arg", "from json import dumps as d\n", "d()"),
    "a member of a module": ("attr-defined", "import math\n", "math.square(2)"),
    "the module for its class": ("attr-defined", "import datetime\n", "datetime.now()"),
    "the class for its module": ("attr-defined", "from datetime import datetime\n", "datetime.datetime.now()"),
    "a member of a submodule": ("attr-defined", "import os.path\n", "os.path.joined('a')"),
    "a class method that is not there": ("attr-defined", "from pathlib import Path\n", "Path.current()"),
    "something else from a module": ("attr-defined", "", "from math import square"),
    "a submodule that is not there": ("import-not-found", "", "import xml.nothing"),
    "from one that is not there": ("import-not-found", "", "from xml.nothing import x"),
    "a fallback for something else": ("import-not-found", "", "try:\n        1 / 0\n    except ZeroDivisionError:\n        import xml.nothing"),
    "a fallback where no import can fail": ("import-not-found", "", "try:\n        1 / 0\n    except:\n        import xml.nothing"),
    "a field that is not in the schema": ("typeddict-item", "", "input['itmes']"),
    "one of an item": ("typeddict-item", "", "[item['price'] for item in input.get('items', [])]"),
    "one that is only asked for elsewhere": ("typeddict-item", "", "('x' in input, input['y'])"),
    "one that another exception is caught for": ("typeddict-item", "", "try:\n        input['y']\n    except IndexError:\n        pass"),
}  # fmt: skip
OLD_CODES = {"name-defined", "attr-defined", "call-arg", "import-not-found", "typeddict-item"}
HEAD = "from skill_types import Input, Output\n"


def ordinary(name):
    return HEAD + dedent(ORDINARY[name])


def faulty(name):
    _, before, use = FAULTS[name]
    return f"{HEAD}{before}def run(input: Input) -> Output:\n    {use}\n    return {{}}\n"


SOURCES = {name: ordinary(name) for name in ORDINARY} | {name: faulty(name) for name in FAULTS}


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """What mypy says of each source, all of them read by one mypy."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "skill_types.py").write_text(TYPES)
    files = {f"skill_{number}.py": name for number, name in enumerate(SOURCES)}
    for file, name in files.items():
        (folder / file).write_text(SOURCES[name])
    options = ("--config-file", mypy_gate.CONFIGURATION, "--output", "json", "--cache-dir", tools() / "cache")
    python = tools() / "bin" / "python3"
    printed = subprocess.run(
        [python, "-I", "-m", "mypy", *options, "--sqlite-cache", *files],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found = {name: [] for name in SOURCES}
    for line in printed.splitlines():
        file = json.loads(line)["file"]
        if file in files:
            found[files[file]] += mypy_gate._errors(line.replace(f'"{file}"', '"skill.py"'))
    return found


def run_of(name):
    """What the file defines when it is loaded."""
    space = {"Input": dict, "Output": dict}
    exec(compile(SOURCES[name].replace(HEAD, ""), "skill.py", "exec", dont_inherit=True), space)  # noqa: S102
    return space


def counted(name, errors, folder):
    """The complaints that count, as the gate decides."""
    tree = CandidateTree(SOURCES[name], TYPES)
    verdicts = [(error, tree.is_certain(error)) for error in errors]
    return [
        error
        for error, certain in verdicts
        if (not mypy_gate._may_exist(certain, tools(), folder) if isinstance(certain, ImportedMember) else certain)
    ]


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_code_is_not_refused(name, complaints, tmp_path):
    assert counted(name, complaints[name], tmp_path) == []


def test_most_of_it_gets_complaints_that_would_refuse_it(complaints):
    refused = [name for name in ORDINARY if any(error.code in OLD_CODES for error in complaints[name])]
    assert len(refused) > len(ORDINARY) / 2, refused


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_code_does_run(name):
    """The other half of the claim: no crash follows."""
    run_of(name)["run"]({"n": 2})


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_certain_to_raise_is_refused(name, complaints, tmp_path):
    code = FAULTS[name][0]
    assert code in [error.code for error in counted(name, complaints[name], tmp_path)], complaints[name]


@pytest.mark.parametrize("name", FAULTS)
def test_it_does_raise(name):
    """A fault of these that does not raise would be a false refusal."""
    space = run_of(name)
    if name != "an async function":
        with pytest.raises((TypeError, AttributeError, ImportError, KeyError)):
            space["run"]({"n": 2, "items": [{"name": "a", "qty": 1}]})
    else:
        with pytest.raises(TypeError):
            space["f"]()


def test_the_gate_names_the_line_and_what_is_wrong(tmp_path):
    finding = mypy_gate.check(faulty("the class for its module"), TYPES, tools(), tmp_path)
    assert (finding.gate, finding.line) == ("mypy", 4)
    assert finding.message == 'line 4: attr-defined: "type[datetime]" has no attribute "datetime"'


def test_stubs_that_lack_a_member_refuse_nobody(tmp_path):
    """The module itself is asked."""
    there, absent = ImportedMember(("os", "path", "join")), ImportedMember(("os", "path", "joined"))
    assert mypy_gate._may_exist(there, tools(), tmp_path)
    assert not mypy_gate._may_exist(absent, tools(), tmp_path)
    assert mypy_gate._may_exist(ImportedMember(("xml", "etree", "ElementTree", "Element")), tools(), tmp_path)


@pytest.mark.parametrize("base", ["pydantic.BaseModel", "BaseModel", "Own"])
@pytest.mark.parametrize("decorator", ["", "@pydantic.dataclasses.dataclass\n"])
def test_what_a_model_of_pydantic_takes_is_not_certain(base, decorator):
    """Its configuration may say that it takes more fields, or others."""
    head = f"import pydantic\nfrom pydantic import BaseModel\nclass Own(BaseModel):\n    pass\n{decorator}class P({base}):\n    a: int\n"
    source = f"{head}P(b=1)\n"
    line = source.count("\n")
    error = mypy_gate.MypyError("call-arg", 'Unexpected keyword argument "b" for "P"', "", (line, 0, line, 6))
    assert CandidateTree(source, TYPES).is_certain(error) is False
    assert (
        CandidateTree(source.replace(f"({base})", "").replace(decorator, "\n" * bool(decorator)), TYPES).is_certain(
            error
        )
        is True
    )
