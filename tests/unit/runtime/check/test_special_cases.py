"""Code that knows an example by its input is refused, in whatever words; ordinary constants are not."""

import time
from textwrap import dedent

import pytest

from skill_runtime.check import special_cases
from tests.unit.runtime.check.impossible_skills import SKILLS, SPELLINGS, UNREADABLE
from tests.unit.runtime.check.test_check import behave
from tests.unit.runtime.harness import check as run_check


def examples_of(skill):
    return [(one["name"], one["input"]) for one in skill.examples()]


def run_of(source):
    space = {"Input": dict, "Output": dict}
    exec(source.replace("from skill_types import Input, Output\n", ""), space)  # noqa: S102
    return space["run"]


@pytest.mark.parametrize("spelling", SPELLINGS | UNREADABLE)
def test_each_way_passes_all_examples(spelling):
    """Or else there would be nothing to refuse."""
    for skill in SKILLS:
        run = run_of((SPELLINGS | UNREADABLE)[spelling](skill))
        assert [run(one["input"]) == one["output"] for one in skill.examples()] == [True] * 6, skill.name


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_knowing_an_example_is_refused(spelling):
    for skill in SKILLS:
        source = SPELLINGS[spelling](skill)
        finding = special_cases.check(source, examples_of(skill))
        assert finding is not None, source
        assert finding.gate == "examples"
        assert "to treat it apart" in finding.message
        assert finding.message.startswith(f"line {finding.line}: ")


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
def test_the_right_program_is_not(skill):
    source = f"import re\ndef run(input):\n    return {{'r': {skill.expression}}}\n"
    assert special_cases.check(source, examples_of(skill)) is None


# An ordinary program, and the input of an example that has the constants of the program.
ORDINARY = {
    "nothing": ("if not input['xs']:\n        return 0\n    if input['xs'] == []:\n        return 0", {"xs": []}),
    "an empty text": ("if input['text'] == '':\n        return ''", {"text": ""}),
    "no input at all": ("if input == {}:\n        return 0", {}),
    "zero and one": ("if input['n'] == 0:\n        return 0\n    if input['n'] == 1:\n        return 1", {"n": 1}),
    "the origin": ("if (input['x'], input['y']) == (0, 0):\n        return 0", {"x": 0, "y": 0}),
    "a currency": ("if input['currency'] == 'EUR':\n        return 1", {"currency": "EUR"}),
    "a table of currencies": ("return {'EUR': 1, 'USD': 2}[input['currency']]", {"currency": "USD"}),
    "a status": ("if input['code'] == 404:\n        return 'Not Found'", {"code": 404}),
    "a year": ("if input['year'] == 1582:\n        return 'short'", {"year": 1582}),
    "a unit and its factor": ("return {'km': 1000, 'm': 1}[input['unit']] * input['n']", {"unit": "km", "n": 1000}),
    "two words": (
        "if (input['a'], input['b']) in {('rock', 'scissors'), ('paper', 'rock'), ('scissors', 'paper')}:\n        return 'a'",
        {"a": "rock", "b": "scissors"},
    ),
    "an operation by match": (
        "match input['op']:\n        case 'add':\n            return 1\n        case 'sub' | 'minus':\n            return 2",
        {"op": "add"},
    ),
    "letters": ("return all(c in 'abcdefghijklmnopqrstuvwxyz' for c in input['text'])", {"text": "hi"}),
    "roman digits": ("return sum({'I': 1, 'V': 5, 'X': 10}[c] for c in input['text'])", {"text": "X"}),
    "planets": (
        "names = ('Mercury', 'Venus', 'Earth', 'Mars')\n    if input['a'] not in names or input['b'] not in names:\n        return []\n    return [names.index(input['a']), names.index(input['b'])]",
        {"a": "Venus", "b": "Mars"},
    ),
    "defaults": ("return {**{'width': 80, 'indent': 24}, **input}['width']", {"width": 80, "indent": 24}),
    "defaults that are set": (
        "for name, value in {'width': 80, 'indent': 24}.items():\n        input.setdefault(name, value)",
        {"width": 80, "indent": 24},
    ),
    "a boundary": ("return 'high' if input['n'] > 1234567 else 'low'", {"n": 250}),
    "brackets": ("for limit, rate in [(11925, 0.1), (48475, 0.12)]:\n        if input['n'] <= limit:\n            return rate", {"n": 9525}),
    "a format": ("if len(input['day']) == 10 and input['day'][4] == '-':\n        return 1", {"day": "2024-02-29"}),
    "a pattern": ("import re\n    return bool(re.fullmatch(r'[A-Z]{3}-[0-9]{4}', input['text']))", {"text": "ABC-1234"}),
    "an alphabet to encode by": ("return 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.index(input['text'])", {"text": "Q"}),
    "weekdays": ("return ['Monday', 'Tuesday', 'Wednesday'].index(input['day'])", {"day": "Wednesday"}),
    "leap years": ("return input['y'] % 4 == 0 and (input['y'] % 100 != 0 or input['y'] % 400 == 0)", {"y": 2000}),
    "a digest as the answer": ("import hashlib\n    return hashlib.sha256(input['text'].encode()).hexdigest()", {"text": "a secret text"}),
    "a sign": ("if input['flag'] is True and input['n'] == -1:\n        return 1", {"flag": True, "n": -1}),
    "its own checks": ("return 1\n\n\nif __name__ == '__main__':\n    assert run({'w': 17, 'h': 23}) == {'w': 17, 'h': 23}", {"w": 17, "h": 23}),
    "its own test function": (
        "return 1\n\n\ndef test_run():\n    for case in [{'w': 17, 'h': 23}]:\n        assert run(case) == case",
        {"w": 17, "h": 23},
    ),
    "a docstring with the example": ('"""For {"w": 17, "h": 23} the answer is 391."""\n    return 1', {"w": 17, "h": 23}),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_constants_are_left_alone(name):
    body, value = ORDINARY[name]
    assert special_cases.check(f"def run(input):\n    {body}\n", [("one", value)]) is None
    nested = dedent(f"""
        def help(input):
            {body.replace(chr(10), chr(10) + "        ")}

        def run(input):
            return help(input)
        """)
    assert special_cases.check(nested, [("one", value)]) is None


TASK_TABLE = (
    "{'ERR_TIMED_OUT': 1, 'ERR_NAME_NOT_RESOLVED': 2, 'ERR_CONNECTION_REFUSED': 3, 'ERR_FAILED': 4, 'ERR_ABORTED': 5}"
)
CODES = ("ERR_TIMED_OUT", "ERR_NAME_NOT_RESOLVED", "ERR_CONNECTION_REFUSED")
# A program with a table or a bound of its task, and the inputs of visible examples that show some of it.
TASKS = {
    "a table by get": (f"return {TASK_TABLE}.get(input['code'])", [{"code": code} for code in CODES[:2]]),
    "a table, and an input that it lacks": (f"return {TASK_TABLE}[input['code']]", [{"code": "ERR_FAILED"}, {"code": "ERR_OTHER"}]),
    "members of a set": (
        "return input['domain'].lower() in {'gmail.com', 'outlook.com', 'yahoo.com', 'gmx.de'}",
        [{"domain": "gmail.com"}, {"domain": "example.org"}, {"domain": "GMX.de"}],
    ),
    "days by month and day": (
        "return {(1, 1): 'a', (5, 1): 'b', (10, 3): 'c', (12, 25): 'd', (12, 26): 'e'}.get((input['month'], input['day']))",
        [{"month": 12, "day": 25}, {"month": 10, "day": 3}, {"month": 2, "day": 2}],
    ),
    "states by match": (
        "match (input['state'], input['event']):\n        case ('pending', 'pay'):\n            return 1\n        case ('paid', 'ship'):\n            return 2\n        case ('pending' | 'paid', 'cancel'):\n            return 3",
        [{"state": "pending", "event": "pay"}, {"state": "paid", "event": "ship"}],
    ),
    "media types by match": (
        "match input['type']:\n        case 'application/json':\n            return 1\n        case 'image/png':\n            return 2\n        case 'text/plain':\n            return 3",
        [{"type": "application/json"}],
    ),
    "media types one by one": (
        "if input['type'] == 'application/json':\n        return 1\n    elif input['type'] == 'image/png':\n        return 2\n    if 'text/plain' == input['type']:\n        return 3",
        [{"type": "application/json"}],
    ),
    "pairs that are gone through": (
        "for name, code in [('Not Found', 404), ('Internal Server Error', 500), ('Bad Request', 400)]:\n        if name == input['reason']:\n            return code",
        [{"reason": "Internal Server Error"}],
    ),
    "the greatest number": (
        "if input['n'] > 2147483647:\n        return 2\n    if input['n'] < -2147483648:\n        return 1",
        [{"n": 2147483647}, {"n": -2147483648}],
    ),
    "a range": ("return -2147483648 <= input['n'] <= 2147483647", [{"n": 2147483647}, {"n": -2147483648}]),
    "a bound, and what is beyond it": ("if input['n'] <= 277825:\n        return 1\n    return input['n'] > 277825", [{"n": 277825}]),
    "a bound that is compared twice": ("if input['n'] > 277825:\n        return input['n'] > 277825 and 2", [{"n": 277825}]),
    "a first and a last day": ("return '2024-01-01' <= input['day'] <= '2024-12-31'", [{"day": "2024-12-31"}, {"day": "2024-01-01"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_a_table_and_a_bound_of_the_task_are_left_alone(name):
    body, inputs = TASKS[name]
    examples = [(f"e{number}", value) for number, value in enumerate(inputs)]
    assert special_cases.check(f"def run(input):\n    {body}\n", examples) is None


# Code that is made like that, and knows its examples all the same.
TABLES_OF_EXAMPLES = {
    "one row": ("return {'ERR_TIMED_OUT': 1}.get(input['code'])", [{"code": CODES[0]}]),
    "the examples alone": (f"return {dict.fromkeys(CODES, 1)}.get(input['code'])", [{"code": code} for code in CODES]),
    "the examples and one row more": (
        f"return {dict.fromkeys((*CODES, 'ERR_FAILED'), 1)}.get(input['code'])",
        [{"code": code} for code in CODES],
    ),
    "all examples and fewer other rows": (f"return {TASK_TABLE}[input['code']]", [{"code": code} for code in CODES]),
    "objects, and others that were made up": (
        "for given, answer in [({'w': 17, 'h': 23}, 1), ({'w': 3, 'h': 5}, 2), ({'w': 8, 'h': 9}, 3)]:\n        if given == input:\n            return answer",
        [{"w": 17, "h": 23}],
    ),
    "texts of objects, and others that were made up": (
        "return {'{\"w\": 17, \"h\": 23}': 1, '{\"w\": 1, \"h\": 2}': 2, '{\"w\": 3, \"h\": 4}': 3}.get(json.dumps(input))",
        [{"w": 17, "h": 23}],
    ),
    "one case after the other": (
        "if input['n'] == 123456:\n        return 1\n    if input['n'] == 234567:\n        return 2\n    if input['n'] == 345678:\n        return 3",
        [{"n": 123456}, {"n": 234567}, {"n": 345678}],
    ),
    "the same bound from both sides": ("return 1 if 1234567 <= input['n'] <= 1234567 else 2", [{"n": 1234567}]),
    "the same bound in two comparisons": ("return 1 if input['n'] >= 1234567 and 1234567 >= input['n'] else 2", [{"n": 1234567}]),
    "neither less nor more": (
        "if input['n'] < 1234567:\n        return 2\n    elif input['n'] > 1234567:\n        return 2\n    return 1",
        [{"n": 1234567}],
    ),
    "at most, and not less": ("return 1 if input['n'] <= 1234567 and not input['n'] < 1234567 else 2", [{"n": 1234567}]),
    "no distance from it": ("return 1 if abs(input['n'] - 1234567) < 1 else 2", [{"n": 1234567}]),
    "bounds of two fields": (
        "return 1 if 1700 <= input['w'] <= 1700 and 2300 <= input['h'] <= 2300 else 2",
        [{"w": 1700, "h": 2300}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES_OF_EXAMPLES)
def test_a_table_of_examples_and_a_bound_from_both_sides_are_refused(name):
    body, inputs = TABLES_OF_EXAMPLES[name]
    examples = [(f"e{number}", value) for number, value in enumerate(inputs)]
    assert special_cases.check(f"def run(input):\n    {body}\n", examples) is not None


PUT_TOGETHER = {
    "joined": "t == ' '.join(['The', 'quick', 'brown', 'fox'])",
    "a format": "t == 'The {} fox'.format('quick brown')",
    "a format by percent": "t == 'The %s fox' % 'quick brown'",
    "a slice": "t == 'xxThe quick brown foxxx'[2:-2]",
    "backwards": "t == 'xof nworb kciuq ehT'[::-1]",
    "replaced": "t == 'The_quick_brown_fox'.replace('_', ' ')",
    "in hexadecimal": "t == bytes.fromhex('54686520717569636b2062726f776e20666f78').decode()",
    "in base64": "t == base64.b64decode('VGhlIHF1aWNrIGJyb3duIGZveA==').decode()",
    "characters by number": "t == ''.join(chr(n + 1) for n in [83, 103, 100, 31, 112, 116, 104, 98, 106, 31, 97, 113, 110, 118, 109, 31, 101, 110, 119])",
    "characters mapped": "t == ''.join(map(chr, [84, 104, 101, 32, 113, 117, 105, 99, 107, 32, 98, 114, 111, 119, 110, 32, 102, 111, 120]))",
    "a difference": "n == 2000000 - 765433",
    "a number of a text": "n == int('1234567')",
    "a number of another base": "n == int('12d687', 16)",
    "names of a tuple": "t == first + last",
    "a product of comparisons": "(t == 'The quick brown fox') * (n == 1234567)",
}


@pytest.mark.parametrize("condition", PUT_TOGETHER.values(), ids=PUT_TOGETHER)
def test_constants_that_are_put_together_are_refused_like_written_ones(condition):
    value = {key: given for key, given in (("t", "The quick brown fox"), ("n", 1234567)) if f"{key} ==" in condition}
    source = f"def run(input):\n    t, n = input.get('t'), input.get('n')\n    first, last = 'The quick ', 'brown fox'\n    return [2, 1][{condition}]\n"
    assert run_of("import base64\n" + source)(value) == 1
    assert special_cases.check(source, [("one", value)]) is not None


@pytest.mark.parametrize(
    "table",
    [
        "{(t, n): 0, ('The quick brown fox', 1234567): 1}",
        "({(t, n): 0} | {('The quick brown fox', 1234567): 1})",
        "ChainMap({('The quick brown fox', 1234567): 1}, {(t, n): 0})",
    ],
)
def test_a_key_that_replaces_the_answer_of_its_input_is_refused(table):
    source = f"from collections import ChainMap\n\ndef run(input):\n    t, n = input['t'], input['n']\n    return {table}[t, n]\n"
    value = {"t": "The quick brown fox", "n": 1234567}
    assert (run_of(source)(value), run_of(source)(value | {"n": 1})) == (1, 0)
    assert special_cases.check(source, [("one", value)]) is not None


LISTED = {
    "type": "object",
    "properties": {"code": {"enum": list(CODES)}, "kind": {"const": "certificate error"}, "n": {"type": "integer"}},
}


def test_values_that_the_schema_lists_are_no_sign_alone():
    examples = [(f"e{number}", {"code": code}) for number, code in enumerate(CODES)]
    table = f"def run(input):\n    return {dict.fromkeys(CODES, 1)}[input['code']]\n"
    both = "def run(input):\n    return input['code'] == 'ERR_TIMED_OUT' and input['kind'] == 'certificate error'\n"
    of_both = [("one", {"code": CODES[0], "kind": "certificate error"})]
    assert special_cases.check(table, examples, LISTED) is None
    assert special_cases.check(both, of_both, LISTED) is None
    assert special_cases.check(both, of_both) is not None


@pytest.mark.parametrize(
    "condition",
    ["input == {'code': 'ERR_TIMED_OUT', 'n': 4711}", "input['code'] == 'ERR_TIMED_OUT' and input['n'] == 4711"],
)
def test_values_that_the_schema_lists_are_one_beside_others(condition):
    source = f"def run(input):\n    return 1 if {condition} else 2\n"
    assert special_cases.check(source, [("one", {"code": CODES[0], "n": 4711})], LISTED) is not None


def test_the_check_gives_the_schema(tmp_path):
    codes = {"type": "object", "properties": {"code": {"enum": list(CODES)}}, "required": ["code"]}
    source = f"def run(input):\n    return {dict.fromkeys(CODES, 1)}[input['code']]\n"
    examples = [{"name": code, "input": {"code": code}, "output": 1} for code in CODES]
    report = run_check(tmp_path, source, input=codes, output={}, types=TYPES_OF_ANYTHING, examples=examples).report
    assert report["passed"], report


TYPES_OF_ANYTHING = "from typing import Any\nInput = dict[str, Any]\nOutput = Any\n"
HOSTILE = (
    "a = b\nb = a\ndef run(input):\n    return a == input\n",
    "def run(input):\n    x = 1\n" + "    x = x + x == x\n" * 900 + "    return x\n",
    "T = [" + "[1, 2], " * 4000 + "]\ndef run(input):\n" + "    [1 for a in T if a == input]\n" * 200,
    "def run(input):\n    if " + " and ".join(f"input[{n}] == {n}" for n in range(900)) + ":\n        pass\n",
    "def run(input):\n" + "".join(f"    if hash(input) == {n}: pass\n" for n in range(700)),
    "def run(input):\n    return input in {" + ", ".join(repr("[" * 40 + str(n)) for n in range(1000)) + "}\n",
    "T = {" + ", ".join(f"{n}: {n}" for n in range(5000)) + "}\ndef run(input):\n" + "    T[input]\n" * 100,
    "def run(input):\n" + "".join(f"    input == {n} * 'x' * 99999 * 99999\n" for n in range(900)),
    "def run(input):\n    input == '%99999999d' % 1 or input == '{:>99999999}'.format(1) or input == 9**9**9 or input == 1 << 1 << 99\n",
    "def run(input):\n" + "    input == ''.join(chr(n) for n in [m for m in range(10**9)])\n" * 500,
    "a = 'x' * 99\n"
    + "".join(f"{chr(n + 1)} = {chr(n)}.replace('x', {chr(n)})\n" for n in range(97, 115))
    + "def run(input):\n"
    + "    input == s\n" * 99,
)
RECORD = {"type": "object", "properties": {"any": {}}}


def behaviour(folder, source, examples, given=RECORD):
    """What the gates say that run the candidate: those that read it are blind to all of these."""
    return behave(folder, source, input=given, output={}, examples=examples).finding


@pytest.mark.parametrize("spelling", UNREADABLE)
@pytest.mark.parametrize("number", [0, 6, 12, 20, 29])
def test_knowing_a_whole_input_shows_in_what_the_code_does(spelling, number, tmp_path):
    skill = SKILLS[number]
    source = UNREADABLE[spelling](skill)
    finding = behaviour(tmp_path, source, skill.examples())
    assert finding is not None, source
    assert finding.gate == "examples"
    assert f"'e{skill.changed}'" in finding.message
    assert "a field that no schema names" in finding.message


@pytest.mark.parametrize(
    ("expression", "given"),
    [
        ("input['n'] + 1", RECORD),
        ("len(input)", RECORD),
        ("{**input, 'm': 1}", RECORD),
        ("sum(v for v in input.values() if v)", RECORD),
        ("max(map(str, input.values()))", RECORD),
        ("sorted(input)", {"type": "object", "properties": {"n": {}}, "additionalProperties": {"type": "number"}}),
        ("input['n'] if input.keys() <= {'n', 'm'} else 1 / 0", RECORD),
        ("'one' if len(input) == 1 else 'more'", {"type": "object", "additionalProperties": {"type": "number"}}),
        ("'one' if len(input) == 1 else 'more'", {"type": "object"}),
    ],
)
def test_ordinary_programs_may_look_at_all_fields(expression, given, tmp_path):
    source = f"def run(input):\n    return {{'r': {expression}}}\n"
    examples = [
        {"name": f"e{n}", "input": value, "output": run_of(source)(value)}
        for n, value in enumerate(({"n": 1}, {"n": 2, "m": 3}, {"n": 4, "m": 1}, {"n": 9, "m": 9}))
    ]
    assert behaviour(tmp_path, source, examples, given) is None


def test_a_check_says_what_it_is(tmp_path):
    skill = SKILLS[7]
    schema = {"type": "object", "properties": {"w": {"type": "integer"}, "h": {"type": "integer"}}}
    source = SPELLINGS["fields"](skill)
    report = run_check(
        tmp_path, source, input=schema, output={}, types=TYPES_OF_ANYTHING, examples=skill.examples()
    ).report
    assert (report["passed"], report["gate"], report["line"]) == (False, "examples", 6)
    assert "the code compares its input with the input of the example 'e4', to treat it apart" in report["message"]
    assert ">    6 |     if input['w'] == 17 and input['h'] == 23:" in report["message"]


def test_held_out_inputs_are_not_looked_for(tmp_path):
    """Or else a model could ask for them, one comparison after the other."""
    skill = SKILLS[7]
    hidden = [one | {"hidden": one["name"] == "e4"} for one in skill.examples()]
    source = SPELLINGS["literal"](skill)
    assert run_check(tmp_path, source, input={}, output={}, types=TYPES_OF_ANYTHING, examples=hidden).report["passed"]


@pytest.mark.parametrize("source", HOSTILE)
def test_hostile_text_costs_little(source):
    began = time.process_time()
    special_cases.check(source, [(f"e{n}", {"xs": list(range(2, 300)), "t": "x" * 2000}) for n in range(64)])
    assert time.process_time() - began < 8, "the time that its program has"
