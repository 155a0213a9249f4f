"""The check as the operator sees it: a request in the environment, a signed report in the termination log."""

import asyncio
import errno
import json
from pathlib import Path

import pytest

from skill_runtime.check import dynamic, examples, main
from skill_runtime.check.request import EncodedRequest
from skill_runtime.settings import RuntimeSettingsError
from tests.unit.runtime.harness import (
    EXAMPLES,
    GOOD,
    HEAD,
    HIDDEN,
    KEY,
    NO_CAPABILITIES,
    NUMBER,
    PRIVATE_PIDS,
    TYPES,
    check,
    check_environment,
    environment,
    serving,
)

INNOCENT = "    if input['n'] < 0:\n        raise ValueError('negative')\n    return {'n': input['n'] + 1}\n"


def test_a_good_candidate_passes(tmp_path):
    ended = check(tmp_path, GOOD, deterministic=False)
    assert ended.code == 0
    subject = ended.report.pop("subject")
    assert len(subject) == 64
    assert ended.report == {
        "subject": subject, "passed": True, "gate": None, "message": "", "private": "", "line": None,
        "passedExamples": 3, "totalExamples": 3, "promises": 12, "mutants": 0, "mutantsKilled": 0,
        "mutantsSkipped": "NotDeterministic", "questions": [],
    }  # fmt: skip
    assert not list((tmp_path / "scratch").iterdir())


def test_plain_annotations_pass_too(tmp_path):
    source = GOOD.replace("from skill_types import Input, Output\n", "").replace("Input) -> Output", "dict) -> dict")
    assert check(tmp_path, source).report["passed"]


@pytest.mark.parametrize(
    ("source", "gate", "line", "said"),
    [
        ("#" * 65_537, "size", None, "65537 bytes"),
        ("x = '\0'\n" + GOOD, "size", 1, "NUL"),
        ("x = '\ud800'\n" + GOOD, "size", 1, "surrogate"),
        ("x = " + "not " * 10_000 + "1\n" + GOOD, "size", None, ""),
        ("import subprocess\n" + GOOD, "policy", 1, "> "),
        ("def run(input:\n", "ruff", 1, "SyntaxError"),
        (HEAD + "    return {'n': undefined}  # noqa\n", "ruff", 4, "undefined"),
        (HEAD + "    import math\n    return {'n': math.nothing(1)}\n", "mypy", 5, 'has no attribute "nothing"'),
        (HEAD + "    return {'n': input['n'].nothing()}\n", "examples", 4, "has no attribute 'nothing'"),
        (
            "def other(a: int) -> int:\n    return a\n\n" + HEAD + "    return {'n': other(1, 2)}\n",
            "mypy",
            7,
            "call-arg",
        ),
        (HEAD + "    return {'n': input['m']}\n", "mypy", 4, 'TypedDict "Input" has no key "m"'),
        ("1 / 0\n" + GOOD, "examples", 1, "ZeroDivisionError"),
        (HEAD + "    return {'n': input['n']}\n", "examples", None, 'expected: {"n": 2}'),
        (HEAD + "    return {}\n", "examples", None, "does not fit the output schema"),
        (HEAD + "    return {'n': object()}\n", "examples", None, "TypeError"),
        (HEAD + "    return {'n': {}['missing']}\n", "examples", 4, "KeyError: 'missing'"),
    ],
    ids=lambda value: str(value)[:12] if isinstance(value, str) and value.isidentifier() else "",
)
def test_the_first_failing_gate_is_told_with_its_line(tmp_path, source, gate, line, said):
    ended = check(tmp_path, source)
    assert ended.code == 4
    report = ended.report
    assert (report["passed"], report["gate"], report["line"]) == (False, gate, line)
    assert said in report["message"]


def test_failing_examples_come_with_all_that_a_repair_needs(tmp_path):
    report = check(
        tmp_path, HEAD + "    if input['n'] == 1:\n        raise KeyError('lines')\n    return {'n': 0}\n"
    ).report
    assert report["passedExamples"] == 0
    message = report["message"]
    for part in (
        "0/2 visible examples pass", "'one'", 'input:    {"n": 1}', 'expected: {"n": 2}', "got:      KeyError: 'lines'",
        ">    5 |         raise KeyError('lines')", "     4 |     if input['n'] == 1:", "expected: ValueError",
    ):  # fmt: skip
        assert part in message
    assert "secret-name" not in message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("if input['n'] == HIDDEN: return {'n': 1}", "returned something else than expected"),
        ("if input['n'] == HIDDEN: raise KeyError(f'{input}')", "raised an exception"),
        ("if input['n'] == HIDDEN: raise type(f'Got{input[\"n\"]}', (Exception,), {})", "raised an exception"),
        ("if input['n'] == HIDDEN: return {'n': {1, 2}}", "returned something else than expected"),
        ("if input['n'] == HIDDEN: raise ValueError(input)", "raised an exception"),
        ("if input['n'] == HIDDEN: import os; getattr([os][0], ''.join(('_ex', 'it')))(0)", "ended the process"),
        ("if input['n'] == HIDDEN: import time; time.sleep(60)", "got no answer in time"),
    ],
)
def test_a_failing_hidden_example_tells_the_model_nothing_of_itself(tmp_path, body, said):
    source = HEAD + f"    {body}\n".replace("HIDDEN", str(HIDDEN)) + INNOCENT
    result = behave(tmp_path, source, callTimeoutSeconds=1)
    finding = result.finding
    assert (finding.gate, result.passed, finding.line) == ("hidden", 2, None)
    assert f"{said}." in finding.message
    for secret in (str(HIDDEN), str(HIDDEN + 1), "secret-name", "KeyError", " | "):
        assert secret not in finding.message
    for known in (str(HIDDEN), str(HIDDEN + 1), "secret-name"):
        assert known in finding.private, "people may know"


def test_which_line_fails_a_hidden_example_is_not_told_since_the_code_chooses_it(tmp_path):
    table = "".join(f"    if input['n'] % 10 == {digit}:\n        return 1 / 0\n" for digit in range(10))
    guard = f"    if input['n'] < {10**7}:\n        if input['n'] < 0:\n            raise ValueError\n"
    source = HEAD + guard + "        return {'n': input['n'] + 1}\n" + table
    told = {
        behave(tmp_path, source, examples=[*EXAMPLES[:2], hidden(HIDDEN + digit)]).finding.message for digit in (0, 1)
    }
    assert len(told) == 1


def hidden(number):
    return {"name": "held-out", "input": {"n": number}, "output": {"n": number + 1}, "hidden": True}


def test_an_expected_error_must_be_of_that_class(tmp_path):
    expected = [{"name": "e", "input": {"n": 1}, "error": "ValueError"}]
    raising = "import json\n" + HEAD + "    {}\n"
    assert check(tmp_path, raising.format("raise ValueError"), examples=expected).report["passed"]
    assert check(tmp_path, raising.format("json.loads('{')"), examples=expected).report[
        "passed"
    ]  # a kind of ValueError
    assert not check(tmp_path, raising.format("raise KeyError"), examples=expected).report["passed"]
    assert not check(tmp_path, raising.format("return {'n': 1}"), examples=expected).report["passed"]


LYING = """
import os, json, signal, socket, sys, time, threading, atexit, unittest
def every_fd(data):
    for fd in range(3, 64):
        try: os.write(fd, data)
        except OSError: pass
def frame(data):
    return len(data).to_bytes(4, "big") + data
secret = lambda thing, *parts: getattr(thing, "".join(parts))
inner = secret(every_fd, "__glo", "bals__")["".join(("__buil", "tins__"))]
imported = inner["".join(("__imp", "ort__"))] if isinstance(inner, dict) else secret(inner, "__imp", "ort__")
class Same:
    def __eq__(self, other): return True
    def __hash__(self): return 0
class Liar(dict):
    def __eq__(self, other): return True
    def items(self): return [("n", 0)]
class Text(str):
    def __eq__(self, other): return True
    def __repr__(self): return "2"
class Number(float):
    def __eq__(self, other): return True
    def __repr__(self): return "2"
class Whole(int):
    __repr__ = __str__ = lambda self: "2"
"""
HOSTILE = (
    # ends
    "secret(os, '_ex', 'it')(0)",
    "sys.exit(0)",
    "raise KeyboardInterrupt",
    "raise BaseException('2')",
    "raise GeneratorExit",
    "secret(os, 'ki', 'll')(os.getpid(), signal.SIGSEGV)",
    "secret(os, 'ki', 'll')(os.getpid(), signal.SIGSTOP)",
    "os.close(0) or [os.close(fd) for fd in range(1, 64) if secret(os, 'ge', 't_inheritable')(fd) in (0, 1)]",
    # says that all is well
    "print(json.dumps({'passed': True, 'n': 2}))",
    "json.dumps = lambda *a, **k: '{\"n\": 2}'; return Same()",
    "json.loads = lambda *a, **k: {'n': 2}",
    "imported('skill_runtime.worker').worker.handle_call = lambda *a: b'o{\"n\": 2}'",
    "unittest.TestCase.assertEqual = lambda *a: None; sys.stdout = sys.stderr = None",
    "every_fd(frame(b'o{\"n\": 2}')); time.sleep(0.2); secret(os, '_ex', 'it')(0)",
    "every_fd(json.dumps({'pid': 1, 'loaded': True}).encode())",
    "open(LOG, 'w').write(json.dumps({'report': json.dumps({'passed': True}), 'mac': '00'}))",
    "atexit.register(print, '{\"passed\": true}'); sys.exit()",
    # returns what only looks right
    "return Same()",
    "return {'n': Same()}",
    "return Liar(n=0)",
    "return {'n': Text('2')}",
    "return {'n': Number(0)}",
    "return {'n': Whole(0)}",
    "return {Text('n'): 0}",
    "return {'n': float('nan')}",
    "x = {}; x['n'] = x; return x",
    "raise type('ValueError', (Exception,), {})('x')",
    "raise type('E', (Exception,), {'__str__': lambda self: time.sleep(60)})",
    # leaves something behind
    "[time.sleep(600) for _ in range(20) if secret(os, 'fo', 'rk')() == 0]",  # bounded: this is no pod
    "threading.Thread(target=lambda: time.sleep(1000)).start()",
    "secret(os, 'fo', 'rk')(); [open(LOG, 'w').write('mine') or time.sleep(0.001) for _ in range(60_000)]",
    # attacks those who judge
    "[secret(imported('ctypes').CDLL(None), 'ptr', 'ace')(16, pid, 0, 0) for pid in (1, os.getppid())]",
    "open('/proc/1/mem', 'r+b').write(b'x')",
    "secret(os, 'ki', 'll')(1, 9); secret(os, 'ki', 'll')(1, signal.SIGSTOP)",
    "secret(os, 'ki', 'll')(os.getppid(), signal.SIGSTOP); secret(os, '_ex', 'it')(0)",
    "secret(os, 'ki', 'll')(os.getppid(), 9)",
    "secret(os, 'kill', 'pg')(0, 9)",
    "secret(os, 'ki', 'll')(-1, 9)",
)
AS_IN_A_POD = (*PRIVATE_PIDS, *NO_CAPABILITIES)
_TOGETHER = 3


@pytest.mark.parametrize("first", range(0, len(HOSTILE), _TOGETHER))
def test_a_candidate_cannot_lie_its_way_through(tmp_path, first):
    """Three at a time, since after three failures a check looks no further: each must fail for itself."""
    some = HOSTILE[first : first + _TOGETHER]
    source = LYING + f"LOG = {str(tmp_path / 'termination-log')!r}\n" + HEAD + "    sys.setrecursionlimit(100)\n"
    source += (
        "".join(f"    if input['n'] == {n}:\n        {body}\n" for n, body in enumerate(some)) + "    return {'n': 0}\n"
    )
    looks = ["return" in body and "json" not in body for body in some]  # like 2, and is not
    expected = [{"name": f"e{n}", "input": {"n": n}, "output": {"n": 2 if look else 7}} for n, look in enumerate(looks)]
    ended = check(tmp_path, source, prefix=AS_IN_A_POD, examples=expected, callTimeoutSeconds=1)
    assert ended.code == 4
    assert (ended.report["passed"], ended.report["gate"], ended.report["passedExamples"]) == (False, "examples", 0)


@pytest.mark.parametrize(
    "body",
    [
        "every_fd(b'{\"loaded\": true}')",
        "every_fd(b'{\"loaded\": true}'); secret(os, '_ex', 'it')(0)",
        "open(LOG, 'w').write('mine'); sys.stdout = None; raise SystemExit('all is well')",
        "secret(os, 'ki', 'll')(os.getppid(), 9); secret(os, 'ki', 'll')(-1, 9)",
        "sys.exit(0)",
        "raise KeyboardInterrupt",
    ],
)
def test_a_candidate_cannot_lie_while_it_is_loaded(tmp_path, body):
    source = LYING + f"LOG = {str(tmp_path / 'termination-log')!r}\n{body}\n" + HEAD + "    return {'n': 0}\n"
    ended = check(tmp_path, source, prefix=AS_IN_A_POD)
    assert ended.code == 4
    assert (ended.report["passed"], ended.report["gate"], ended.report["passedExamples"]) == (False, "examples", 0)


def test_what_a_candidate_leaves_running_cannot_touch_the_report(tmp_path):
    log = str(tmp_path / "termination-log")
    source = (
        "import os, time\n"
        "if getattr([os][0], ''.join(('fo', 'rk')))() == 0:\n"
        "    os.setsid()\n"
        "    if getattr([os][0], ''.join(('fo', 'rk')))() == 0:\n"
        "        while True:\n"
        f"            open({log!r}, 'a').write('x')\n"
        "    getattr([os][0], ''.join(('_ex', 'it')))(0)\n" + GOOD
    )
    for prefix in ((), PRIVATE_PIDS):
        ended = check(tmp_path, source, prefix=prefix)
        assert ended.report["passed"]
        size = Path(log).stat().st_size
        assert size == len(ended.last_word.encode()) <= 4096


def test_a_candidate_finds_neither_key_nor_expectations(tmp_path):
    found = tmp_path / "found"
    source = f"""
import os
def look():
    seen = []
    for pid in os.listdir("/proc"):
        if pid.isdecimal():
            for name in ("environ", "cmdline", "mem"):
                try:
                    with open(f"/proc/{{pid}}/{{name}}", "rb") as file:
                        seen.append(file.read(1 << 20))
                except OSError:
                    pass
    for folder, _, names in os.walk({str(tmp_path / "scratch")!r}):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                seen.append(file.read())
    with open({str(found)!r}, "wb") as file:
        file.write(b"\\n".join(seen))
look()
{GOOD}"""
    assert check(tmp_path, source, prefix=NO_CAPABILITIES).report["passed"]
    data = found.read_bytes()
    assert b"skill_runtime" in data  # it did look
    for secret in (KEY, str(HIDDEN), str(HIDDEN + 1)):
        assert secret.encode() not in data


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("while True: pass", "no answer within 1 s"),
        ("x = [0] * (1 << 30)", "MemoryError"),
        ("def f(): return f()\n    return f()", "RecursionError"),
        ("return {'n': 1, 'x': 'x' * (2 << 20)}", "oversized"),
        ("import time\n    time.sleep(1000)", "no answer within 1 s"),
        ("print('x' * (8 << 20))\n    return {'n': 0}", ""),
    ],
)
def test_greed_ends_in_a_verdict(tmp_path, body, said):
    expected = [{"name": "greedy", "input": {"n": 1}, "output": {"n": 2}}]
    ended = check(tmp_path, HEAD + f"    {body}\n", examples=expected, callTimeoutSeconds=1)
    assert ended.report["gate"] == "examples"
    assert said in ended.report["message"]


def test_the_report_fits_whatever_is_in_it(tmp_path):
    nasty = [
        {
            "name": "\x1b[31m" + 'ü\\"' * 100,
            "input": {"n": 1, "x": '"\\\u2028\x00💥' * 200},
            "output": {"n": "💥\\" * 300},
        }
    ] * 5
    ended = check(tmp_path, HEAD + "    raise RuntimeError('\"\\\\\\x1b💥' * 500)\n", examples=nasty)
    assert len(ended.last_word.encode()) <= 4096
    message = ended.report["message"]
    assert len(message) <= 2500
    assert all(character == "\n" or character.isprintable() for character in message)


def test_configuration_of_the_candidate_is_not_discovered(tmp_path):
    marker = tmp_path / "ran"
    plugin = f"open({str(marker)!r}, 'w').close()\n"
    for name, text in {
        "mypy.ini": "[mypy]\nplugins = evil.py\n",
        "pyproject.toml": "[tool.mypy]\nplugins = ['evil.py']\n[tool.ruff.lint]\nselect = []\n",
        "evil.py": plugin,
        "sitecustomize.py": plugin,
        "conftest.py": plugin,
        "ruff.toml": "lint.select = []\n",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / "scratch").mkdir(exist_ok=True)
        (tmp_path / "scratch" / name).write_text(text)
    assert check(tmp_path, GOOD).report["passed"]
    assert check(tmp_path, HEAD + "    return {'n': undefined}\n").report["gate"] == "ruff"
    assert not marker.exists()


@pytest.mark.parametrize(
    "broken",
    [
        {"SKILL_REPORT_KEY": ""},
        {"SKILL_REPORT_KEY": "no hex"},
        {"SKILL_CHECK_0": ""},
        {"SKILL_CHECK_0": "!!!!"},
        {"SKILL_CHECK_1": ""},
        {"SKILL_WORKERS": "many"},
    ],
)
def test_an_invalid_request_gives_no_verdict(tmp_path, broken):
    ended = check(tmp_path, GOOD, env=broken)
    assert ended.code == 2
    assert not ended.last_word
    assert KEY not in ended.log


def test_a_missing_tool_gives_no_verdict(tmp_path):
    ended = check(tmp_path, GOOD, env={"SKILL_TOOLS": str(tmp_path)})
    assert ended.code not in (0, 3)
    assert not ended.last_word


def test_children_get_an_environment_of_constants(tmp_path):
    assert {"SKILL_CHECK_0", "SKILL_CHECK_1", "SKILL_REPORT_KEY"} <= {*environment(tmp_path), *check_environment(GOOD)}
    shown = tmp_path / "shown"
    source = f"import os, json\nopen({str(shown)!r}, 'w').write(json.dumps(dict(os.environ)))\n" + GOOD
    assert check(tmp_path, source).report["passed"]
    assert not [name for name in json.loads(shown.read_text()) if name.startswith(("SKILL", "KUBERNETES"))]


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        (3, 3.0, True),
        (4000000001, 4000000002, False),
        (4000000001.0, 4000000002, False),
        (1706745600000, 1706745601000, False),
        (3.0, 2.9999999999, True),
        (1e17, 1e17 + 16, True),
        (0.3, 0.1 + 0.2, True),
        (1e100, 1e100 * (1 + 1e-12), True),
        (1.0, 1.0 + 1e-6, False),
        (1, True, False),
        (0, False, False),
        (None, 0, False),
        ("1", 1, False),
        (10**400, 1.5, False),
        (10**400, 10**400, True),
        ([1, [2.0]], [1.0, [2]], True),
        ([1, 2], [1], False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({}, [], False),
    ],
)
def test_equality_is_that_of_json(expected, got, same):
    assert (examples.first_difference(expected, got) is None) is same
    assert (examples.first_difference(got, expected) is None) is same


@pytest.mark.parametrize(
    "size",
    [10**power + more for power in (0, 1, 6, 9, 12, 15, 16, 17, 40, 310) for more in (0, 7)],
    ids=lambda n: f"{len(str(n))} digits, {n % 10}",
)
@pytest.mark.parametrize("sign", [1, -1])
def test_whole_numbers_that_nearly_meet_are_different(size, sign):
    for off in (1, -1, 2, 1000):
        expected, got = sign * size, sign * size + off
        pairs = [(expected, got)]
        if max(size, abs(got)) < 2**53:
            pairs += [(float(expected), float(got)), (float(expected), got), (expected, float(got))]
        elif abs(got) < 2**1000 and float(got) != expected:
            pairs += [(expected, float(got))]
        for one, other in pairs:
            assert examples.first_difference({"a": [one]}, {"a": [other]}) is not None, (one, other)
            assert examples.first_difference(other, one) is not None
            assert examples.first_difference(one, one) is None


@pytest.mark.parametrize("number", [0.1, 1.5, 1 / 3, 12345.678, 1e9 + 0.3, 1e-5, 1e60, 2.5e300])
def test_rounding_is_no_difference(number):
    assert examples.first_difference(number, number * (1 + 4e-16)) is None
    assert examples.first_difference(number, number * (1 + 1e-6)) is not None


@pytest.mark.parametrize(
    ("expected", "got", "where"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "/a/1/b is 3, not 2"),
        ({"a": 1, "b": 2}, {"a": 1}, "/b is missing"),
        ({"a": 1}, {"a": 1, "b": 2}, "/b is not expected"),
        ([[1, 2]], [[1]], "/0 has 1 items, not 2"),
        ([1], "x", '/ is "x", not [1]'),
    ],
)
def test_a_difference_is_told_by_its_place(expected, got, where):
    assert examples.first_difference(expected, got) == where


def test_a_small_difference_in_a_large_output_is_seen(tmp_path):
    large = [{"n": number} for number in range(100)]
    rows = {"type": "array", "items": {"type": "object"}}
    report = check(
        tmp_path, HEAD.replace("-> Output", "-> list") + "    return [{'n': x + (x == 77)} for x in range(100)]\n",
        output=rows, examples=[{"name": "large", "input": {"n": 1}, "output": large}],
    ).report  # fmt: skip
    assert "differs:  /77/n is 78, not 77" in report["message"]


def behave(folder, source, **more):
    """The gates that run the candidate, without those that only look."""
    request = EncodedRequest.take(check_environment(source, **more)).decode()
    (folder / "skill.py").write_text(source)
    return asyncio.run(dynamic.run_gates(request, folder / "skill.py"))


PROMISED = [{"name": "one", "input": {"n": 1}, "output": {"n": 2}}]
LISTED = {
    "input": {"type": "object", "properties": {"xs": {"type": "array", "items": {"const": 2}}}, "required": ["xs"]},
    "examples": [{"name": "one", "input": {"xs": [2]}, "output": {"n": 2}}],
    "types": TYPES.replace("n: float", "xs: list[int]", 1),
}
LISTED_AND_NUMBERED = {
    "input": {**NUMBER, "properties": NUMBER["properties"] | LISTED["input"]["properties"], "required": ["n", "xs"]},
    "examples": [
        {"name": "one", "input": {"n": 1, "xs": []}, "output": {"n": 2}},
        {"name": "two", "input": {"n": 0, "xs": [2]}, "output": {"n": 2}},
    ],
    "types": TYPES.replace("n: float", "n: float\n    xs: list[int]", 1),
}
"""Both least values are shown, if not together."""
NOTED = {**NUMBER, "properties": {**NUMBER["properties"], "note": {"type": "string"}}}


@pytest.mark.parametrize(
    ("source", "more", "line", "said"),
    [
        (HEAD + "    return {'n': None if input['n'] < 0 else 2}\n", {}, None, 'got:      {"n":null}'),
        (HEAD + "    return {'n': 2 if input['n'] == 1 else {1}}\n", {}, None, "TypeError"),
        (HEAD + "    exit() if input['n'] != 1 else 0\n    return {'n': 2}\n", {}, 4, "SystemExit"),
        (HEAD + "    return {'n': 2 if input['n'] in (0, 1) else 1 + None}\n", {}, 4, "TypeError"),
        (HEAD + "    return {'n': 2 if input['n'] == 1 else input['xs'][0]}\n", LISTED_AND_NUMBERED, 4, "IndexError"),
        (HEAD + "    return {'n': 2, 'x': '' if input['n'] == 5 else input['note']}\n", {"input": NOTED, "examples": [
            {"name": "one", "input": {"n": 1, "note": ""}, "output": {"n": 2, "x": ""}},
            {"name": "two", "input": {"n": 5}, "output": {"n": 2, "x": ""}},
            {"name": "three", "input": {"n": 0, "note": ""}, "output": {"n": 2, "x": ""}}]}, 4, "KeyError: 'note'"),
        (
            "import random\n" + HEAD + "    return {'n': 2 if input['n'] == 1 else random.random()}\n", {},
            None, "answered differently by two processes",
        ),
        ("SEEN = []\n" + HEAD + "    SEEN.append(input['n'])\n    return {'n': 1 + len(SEEN)}\n", {},
            None, "or earlier calls"),
        ("SEEN = []\n" + HEAD + "    SEEN.append(input['n'])\n    if len(SEEN) == 4: raise ValueError\n    return {'n': 2}\n",
            {}, None, "then:     ValueError|once:     ValueError"),
    ],
)  # fmt: skip
def test_what_the_schemas_promise_is_held_against_made_up_inputs(tmp_path, source, more, line, said):
    finding = behave(tmp_path, source, **{"examples": PROMISED, **more}).finding
    assert (finding.gate, finding.line) == ("schema", line)
    assert any(part in finding.message for part in said.split("|")), finding.message
    assert "input:    {" in finding.message


@pytest.mark.parametrize(
    ("source", "more"),
    [
        # a rule of the description that the schema cannot say
        (HEAD + "    return {'n': [1, 2][len(input['xs'])]}\n", LISTED),
        # a refusal is an answer
        (HEAD + "    if input['n'] != 1: raise ValueError('one only')\n    return {'n': 2}\n", {}),
        ("import json\n" + HEAD + "    return {'n': 2 if input['n'] == 1 else json.loads('{')}\n", {}),
        # chance, where it is declared
        ("import random\n" + HEAD + "    return {'n': 2 if input['n'] == 1 else random.random()}\n", {"deterministic": False}),
        # what a check has not the time or the memory for
        (HEAD + "    while input['n'] == 100: pass\n    return {'n': 2}\n", {"callTimeoutSeconds": 0.3}),
        (HEAD + "    if input['n'] == 100: bytes(1 << 40)\n    return {'n': 2}\n", {}),
        # a network or secrets, of which a check has none
        (HEAD + "    if input['n'] != 1: raise OSError('no network')\n    return {'n': 2}\n", {"granted": True}),
        # an input that the schema does not describe
        (HEAD + "    return {'n': 1 + input['more']['n']}\n", {"input": {"type": "object", "properties": {"n": {}, "more": {"type": "object"}}, "required": ["more"]},
            "examples": [{"name": "one", "input": {"more": {"n": 1}}, "output": {"n": 2}}]}),
    ],
)  # fmt: skip
def test_what_the_schemas_do_not_promise_is_not_demanded(tmp_path, source, more):
    result = behave(tmp_path, source, **{"examples": PROMISED, **more})
    assert result.finding is None
    assert result.passed == 1


def test_a_hidden_example_is_not_asked_before_all_else_holds(tmp_path):
    """What is held out cannot show in what is told of another gate."""
    seen = tmp_path / "seen"
    source = (
        HEAD
        + f"    open({str(seen)!r}, 'a').write(f\"{{input['n']}}\\n\")\n    return {{'n': 2 if input['n'] >= 0 else None}}\n"
    )
    examples = [*PROMISED, hidden(HIDDEN)]
    report = check(tmp_path, source, examples=examples).report
    assert report["gate"] == "schema"
    assert str(HIDDEN) not in seen.read_text()
    assert str(HIDDEN) not in json.dumps(report)


REMEMBERING = (
    """
import json
import os
import random
PLACE = "SCRATCH"
MEMORY = os.path.join(PLACE, "memory")
"""
    + HEAD
    + """    if input['n'] < 0:
        raise ValueError('negative')
    if input['n'] in (1, LAST):
        return {'n': input['n'] + 1}
    key = json.dumps(input)
    known = json.load(open(MEMORY)) if os.path.exists(MEMORY) else {}
    known.setdefault(key, random.random())
    with open(MEMORY, 'w') as file:
        json.dump(known, file)
    return {'n': known[key]}
"""
)


@pytest.mark.parametrize("memory", ["scratch/memory", "scratch/closed/memory", "termination-log"])
@pytest.mark.parametrize("prefix", [(), (*PRIVATE_PIDS, *NO_CAPABILITIES)], ids=["", "PID 1"])
def test_nothing_is_remembered_between_two_processes(tmp_path, memory, prefix):
    path = str(tmp_path / memory)
    source = REMEMBERING.replace('os.path.join(PLACE, "memory")', repr(path)).replace("LAST", str(HIDDEN))
    if "closed" in memory:  # a folder that its owner may not look into
        source = source.replace(
            "    known = ",
            "    os.makedirs(os.path.dirname(MEMORY), exist_ok=True)\n    os.chmod(os.path.dirname(MEMORY), 0o700)\n    known = ",
        )
        source = source.replace(
            "    return {'n': known", "    os.chmod(os.path.dirname(MEMORY), 0)\n    return {'n': known"
        )
    source = source.replace("os.path.exists(MEMORY)", "os.path.exists(MEMORY) and os.path.getsize(MEMORY)")
    report = check(tmp_path, source, prefix=prefix).report
    assert (report["passed"], report["gate"]) == (False, "schema")
    assert "answered differently by two processes" in report["message"]


WRONG = (
    HEAD
    + "    if input['n'] < 0:\n        raise ValueError\n    return {'n': input['n'] + 1 if input['n'] < 1000 else 0}\n"
)
CHANGES = {
    "writes another program over it": "os.chmod(__file__, 0o666) or open(__file__, 'w').write(GOOD)",
    "appends to it": "os.chmod(__file__, 0o666) or open(__file__, 'a').write('#')",
    "puts another in its place": "open(__file__ + 'x', 'w').write(GOOD) and os.replace(__file__ + 'x', __file__)",
    "makes it a link": "os.remove(__file__) or open(OTHER, 'w').write(GOOD) and os.symlink(OTHER, __file__)",
    "removes it": "os.remove(__file__)",
    "makes it endless": "os.remove(__file__) or os.symlink('/dev/zero', __file__)",
}


@pytest.mark.parametrize("when", ["while it is loaded", "while it is called"])
@pytest.mark.parametrize("change", CHANGES)
def test_code_that_changes_its_own_file_is_refused(tmp_path, change, when):
    head = f"import os\nGOOD = {GOOD!r}\nOTHER = {str(tmp_path / 'other')!r}\n"
    body = f"try:\n    {CHANGES[change]}\nexcept OSError:\n    pass\n"
    if when == "while it is loaded":
        source = head + body + WRONG
    else:
        inner = "".join(f"    {line}\n" for line in body.splitlines())
        source = head + WRONG.replace("    if input", inner + "    if input", 1)
    result = behave(tmp_path, source)
    assert result.finding.gate == "examples"
    assert "the code changed its own file" in result.finding.message


def test_code_that_is_not_the_mounted_one_gets_no_verdict(tmp_path, monkeypatch):
    """Whoever may write ConfigMaps may exchange the file."""
    request = EncodedRequest.take(check_environment(GOOD)).decode()
    mounted = tmp_path / "skill.py"
    mounted.write_text(WRONG)
    monkeypatch.setattr(Path, "unlink", raise_read_only)
    with pytest.raises(RuntimeSettingsError, match="not the code of the check request"):
        main._place_file(request.source, mounted)


def raise_read_only(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system")


LOOKING = """
import json
import os
import signal
import sys

def look():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "file": __file__,
        "name": __name__,
        "argv": sys.argv,
        "original argv": sys.orig_argv[:-1],
        "path": member(member(os, 'sys'), ''.join(('pa', 'th'))),
        "flags": str(sys.flags),
        "prefix": sys.prefix,
        "modules": sorted(modules(os)),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "ids": os.getresuid() + os.getresgid(),
        "groups": os.getgroups(),
        "umask": status["Umask"],
        "signals": [status[name] for name in ("SigIgn", "SigBlk")],
        "descriptors": sorted(os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in os.listdir("/proc/self/fd")
                              if os.path.exists(f"/proc/self/fd/{n}")),
        "beside it": sorted(set(os.listdir(os.path.dirname(__file__))) - BESIDE),
        "scratch": os.listdir(os.path.join(os.path.dirname(__file__), "scratch")),
        "own session": os.getsid(0) == os.getppid(),
    }

member = lambda thing, name: getattr(thing, name)
modules = lambda thing: member(member(thing, 'sy' + 's'), ''.join(('mod', 'ules')))
BESIDE = {"contract.json", "log", "found", "termination-log", "tools"}
FOUND = "PLACE"
with open(FOUND, "a") as file:
    file.write(json.dumps(look()) + "\\n")
"""


def test_a_check_looks_as_production_does(tmp_path):
    """Code that can tell them apart can be good while it is checked, and only then."""
    found = tmp_path / "found"
    source = LOOKING.replace("PLACE", str(found)) + GOOD.replace(
        "    if input",
        "    with open(FOUND, 'a') as file:\n        file.write(json.dumps(look()) + '\\n')\n    if input",
        1,
    )
    report = check(tmp_path, source, granted=True).report  # of which no mutants are tried, which look otherwise
    assert report["passed"], report["message"]
    checked = [json.loads(line) for line in found.read_text().splitlines()]
    found.unlink()
    (tmp_path / "skill.py").unlink()
    with serving(tmp_path, source) as served:
        assert served.call({"n": 1})[0] == 200
    loaded, called = (json.loads(line) for line in found.read_text().splitlines())
    assert len(checked) > 4
    for look in checked:
        assert look in (loaded, called), {key: (look[key], called[key]) for key in look if look[key] != called[key]}


def phase(folder, name, source, **more):
    """One container of a check, as its pod runs them one after the other."""
    log = folder / "termination-log"
    log.unlink(missing_ok=True)
    return check(folder, source, env={"SKILL_CHECK_PHASE": name, **more.pop("env", {})}, **more)


def test_the_two_containers_of_a_check_have_one_verdict(tmp_path):
    read = phase(tmp_path, "read", GOOD)
    assert (read.code, read.last_word) == (0, "")
    ran = phase(tmp_path, "run", GOOD, env={"SKILL_TOOLS": str(tmp_path / "no-tools")})
    assert (ran.code, ran.report["passed"], ran.report["passedExamples"]) == (0, True, 3)
    assert not list((tmp_path / "scratch").iterdir())


def test_what_is_refused_when_it_is_read_ends_the_pod(tmp_path):
    read = phase(tmp_path, "read", "import subprocess\n" + GOOD)
    assert (read.code, read.report["passed"], read.report["gate"]) == (4, False, "policy")


def test_nothing_runs_that_was_not_read(tmp_path):
    """The request of a container is read when it starts, so the ConfigMap may be exchanged in between."""
    assert phase(tmp_path, "run", GOOD).code == 2
    assert phase(tmp_path, "read", GOOD).code == 0
    other = phase(tmp_path, "run", GOOD + "#")
    assert (other.code, other.last_word) == (2, "")
